"""A payload whose large buffers are elsewhere: in an arena, or behind it in the same message.

Knows the form: a first byte, how many buffers, a table of their places, the pickle. Promises that a table is looked at before it is
believed: whatever it says, what comes of it lies within the arena.
"""

from __future__ import annotations

from struct import Struct, error

try:
    from _pickle import PickleBuffer
except ImportError:  # an interpreter without the C pickler
    from pickle import PickleBuffer

from . import payload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

ASIDE = 0x02  # the buffers are in the arena; a first byte, as those in `payload`
_BEHIND = 0x03  # the buffers follow
_PLAIN = bytes((payload.PLAIN,))
_HEAD = Struct("<BI")
_PLACE = Struct("<QQ")  # offset, length


class Forged(Exception):
    """The table speaks of what is not there."""


def write_aside(pickle: bytes, places: Iterable[tuple[int, int]]) -> bytes:
    """The letter whose buffers lie at these places of the arena."""
    table = [_PLACE.pack(*place) for place in places]
    return b"".join((_HEAD.pack(ASIDE, len(table)), *table, pickle))


def write_behind(pickle: bytes, buffers: list[Any]) -> bytes:
    """The letter that brings its buffers along."""
    table = [_PLACE.pack(0, memoryview(buffer).nbytes) for buffer in buffers]
    head = _HEAD.pack(_BEHIND, len(table))
    return b"".join((head, *table, *buffers, pickle))


def read_table(body: bytes, size: int, longest: float) -> list[tuple[int, int]]:
    """The places that it speaks of, all of them within an arena of this size. Raises Forged."""
    try:
        _, count = _HEAD.unpack_from(body)
        places: list[tuple[int, int]] = [_PLACE.unpack_from(body, at) for at in _entries(body, count)]
    except error as wrong:
        raise Forged("it has no table") from wrong
    total = len(body)
    for offset, length in places:
        if not length or offset + length > size:
            raise Forged(f"it speaks of {length} bytes at {offset}, in an arena of {size}")
        total += length
    if total - _HEAD.size - count * _PLACE.size > longest:
        raise Forged(f"it brings {total} bytes, which is more than may be sent")
    return places


def loads(body: Any) -> Any:
    """The object again, of a body that came in one piece or of an `Opened`. May raise anything at all, as `payload.loads`."""
    if type(body) is bytes and body[:1] == _PLAIN:  # nearly all of them
        return payload.loads_plain(body)
    if type(body) is Opened:
        return payload.loads(body.pickle, body.buffers)
    if body and body[0] == _BEHIND:
        _, count = _HEAD.unpack_from(body)
        start = _HEAD.size + count * _PLACE.size
        buffers = []
        for at in _entries(body, count):
            _, length = _PLACE.unpack_from(body, at)
            buffers.append(bytearray(memoryview(body)[start : start + length]))
            start += length
        return payload.loads(memoryview(body)[start:], buffers)
    return payload.loads(body)


class Opened:
    """A letter with views of its buffers, not unpickled yet. Whoever drops it, unread, lets go of its slots."""

    __slots__ = ("buffers", "pickle")

    def __init__(self, body: bytes, views: list[Any]) -> None:
        self.pickle = memoryview(body)[_HEAD.size + len(views) * _PLACE.size :]
        # As plain bytes: what looks at them meets no format of ctypes. Each still is the view's own memory.
        self.buffers = [PickleBuffer(view).raw() for view in views]

    def __len__(self) -> int:
        return len(self.pickle) + sum(len(buffer) for buffer in self.buffers)


def _entries(body: bytes, count: int) -> range:
    if _HEAD.size + count * _PLACE.size > len(body):
        raise Forged("its table is longer than it is")
    return range(_HEAD.size, _HEAD.size + count * _PLACE.size, _PLACE.size)
