"""Messages ⇄ bytes, incremental, header first.

Knows the header: magic, version, kind, link id, length of the body. Must never know what a body means: it is opened in the
task that asked for it (a peer that unpickled in its reader handed answers to the wrong callers). Promises: any split of
the same bytes gives the same messages; bytes that are no message raise FrameError and nothing else; nothing is allocated
on the word of a header, since a body is collected as it comes, and one that claims more than the limit is refused at once.
"""

from __future__ import annotations

from struct import Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_HEADER = Struct("<4sQQ")  # magic, version and kind; link id; length
_MAGIC = b"gB"
_VERSION = 1
_STARTS = {kind: _MAGIC + bytes((_VERSION, kind)) for kind in range(256)}
HEADER_SIZE = _HEADER.size
_NO_LIMIT = (1 << 64) - 1  # what a header can say


class FrameError(Exception):
    """The bytes are not a message of this protocol. The stream is out of step and cannot be used any more."""


def encode(kind: int, link_id: int, body: bytes = b"") -> bytes:
    """One small message as one piece of bytes."""
    return _HEADER.pack(_STARTS[kind], link_id, len(body)) + body


def encode_all(messages: Iterable[tuple[int, int, bytes]]) -> bytes:
    """Some small messages as one piece of bytes."""
    pack = _HEADER.pack
    return b"".join(
        [part for kind, link_id, body in messages for part in (pack(_STARTS[kind], link_id, len(body)), body)]
    )


def encode_header(kind: int, link_id: int, length: int) -> bytes:
    """The header alone, for a body that is too large to be copied behind it."""
    return _HEADER.pack(_STARTS[kind], link_id, length)


class FrameReader:
    """Collects bytes and gives whole messages back: `(kind, link_id, body)`.

    `kinds` are those that may come from the other side, `limit` is how many bytes a body may have; all else is a FrameError.
    Invariant: `_buffer` is what came of a message that is not whole, of its body when `_head` is set, else of its header.
    """

    __slots__ = ("_buffer", "_head", "_kinds", "_limit", "_missing", "broken")

    def __init__(self, kinds: frozenset[int], *, limit: float = _NO_LIMIT) -> None:
        self._kinds = {_STARTS[kind]: kind for kind in kinds}
        self._limit = limit
        self._buffer: list[bytes] = []
        self._head: tuple[int, int] | None = None
        self._missing = 0  # bytes of the body that are still to come
        self.broken: FrameError | None = None  # what stands behind the last whole message; nothing can follow it

    def feed(self, data: bytes) -> list[tuple[int, int, bytes]]:
        """Take what arrived; return the messages that are now whole.

        Raises FrameError when what follows is no message. What was whole before it is returned first: then `broken` is set,
        and the next call raises it.
        """
        if self.broken is not None:
            raise self.broken
        if type(data) is not bytes:
            data = bytes(data)  # bodies are bytes, whatever a stream gives
        messages: list[tuple[int, int, bytes]] = []
        start = 0
        if self._head is not None:
            if len(data) < self._missing:
                self._buffer.append(data)
                self._missing -= len(data)
                return messages
            start = self._missing
            body = b"".join((*self._buffer, data[:start]))  # the only copy of a large one
            messages.append((*self._head, body))
            self._head = None
            self._buffer = []
        elif self._buffer:
            data = self._buffer.pop() + data
        end = len(data)
        while start + HEADER_SIZE <= end:
            beginning, link_id, length = _HEADER.unpack_from(data, start)
            kind = self._kinds.get(beginning)
            if kind is None or length > self._limit:
                self.broken = FrameError(f"not a message: {data[start : start + HEADER_SIZE]!r}")
                if not messages:
                    raise self.broken
                return messages
            start += HEADER_SIZE
            if start + length > end:
                self._head = kind, link_id
                self._missing = length - (end - start)
                break
            messages.append((kind, link_id, data[start : start + length]))
            start += length
        if start < end or self._head is not None:
            self._buffer.append(data[start:])
        return messages
