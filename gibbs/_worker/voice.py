"""How a worker puts results and exceptions into messages: as its hub said that it will open them.

Knows what the hub said in SETUP: how long a message may be, and whether it opens pickles. Promises that nothing is longer, and that
neither a result nor an exception, whatever their own code does, makes it raise.
"""

from __future__ import annotations

import os

from .._wire import failure, items, payload, plain
from .._wire.arena import Arena
from .._wire.lender import Lender, Parcel
from .._wire.messages import ANSWER, FAILURE, ITEMS, SIZE, TOO_LARGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Voice:
    """One worker's way of answering."""

    __slots__ = ("_dumps", "_dumps_whole", "_lent", "_limit", "_longest", "_where")

    def __init__(self, setup: dict[str, Any], results: int = -1) -> None:
        self._where = f"{setup['name']!r}, worker {setup['seat']} (pid {os.getpid()})"
        self._limit = setup["max_message"]
        self._longest = 0 if setup["safe"] else self._limit - failure.WORDS
        self._dumps_whole: Callable[[object], bytes] = plain.dumps if setup["safe"] else payload.dumps
        self._dumps: Callable[[object], bytes | Parcel] = self._dumps_whole
        self._lent: dict[int, Parcel] = {}  # by link id: what the hub may look at
        if results >= 0 and setup.get("arenas"):
            try:
                self._dumps = Lender(Arena(results), self._limit).pack
            except OSError:  # it must do without
                pass

    def result(self, link_id: int, value: object) -> tuple[int, int, bytes]:
        """The message with this result, or with the reason why it cannot be brought back."""
        try:
            body = self._dumps(value)
        except BaseException as exc:  # noqa: BLE001 - a result's __reduce__ may raise anything
            return FAILURE, link_id, self.failure(exc, "result")
        if len(body) > self._limit:
            return TOO_LARGE, link_id, len(body).to_bytes(SIZE, "little")
        if type(body) is Parcel:
            self._lent[link_id] = body
            return ANSWER, link_id, body.body
        assert type(body) is bytes
        return ANSWER, link_id, body

    def run(self, values: list[Any]) -> bytes:
        """Items that may share a payload, as one: a tuple, or the only one itself."""
        return self._dumps_whole(tuple(values) if len(values) > 1 else values[0])

    def item(self, link_id: int, value: object) -> tuple[int, int, bytes]:
        """ITEMS with one item of a stream, not packed yet; or the message that ends the stream, since it cannot be brought back."""
        try:
            body = self._dumps_whole(value)
        except BaseException as exc:  # noqa: BLE001 - as above
            return FAILURE, link_id, self.failure(exc, "result")
        if (length := len(body) + items.OVERHEAD) > self._limit:
            return TOO_LARGE, link_id, length.to_bytes(SIZE, "little")
        return ITEMS, link_id, body

    def word(self, value: object) -> bytes:
        """How far a call has come. Raises what pickling it raises, or ValueError."""
        body = self._dumps_whole(value)
        if len(body) > self._limit:
            raise ValueError(f"its pickle has {len(body)} bytes, more than max_message allows")
        return body

    def freed(self, link_id: int) -> None:
        """The hub has no view of this result any more."""
        self._lent.pop(link_id, None)

    def failure(self, error: BaseException, stage: str) -> bytes:
        """The exception as bytes."""
        return failure.dump_failure(error, stage=stage, where=self._where, longest=self._longest)
