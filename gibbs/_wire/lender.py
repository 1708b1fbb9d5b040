"""The owner's side of an arena: what is large is copied into slots once, and they are lent to whoever reads it.

The hub is the owner of the arena of arguments, each worker of the one of its results. A `Parcel` is the slots' life: they are free when
nobody holds it any more. Who holds it: a ticket until its request has ended, or its call has begun; and `lent`, of each worker that was
sent it, until that one says that no view of it is left, or is gone. So no end of a request can forget a slot, nor free one twice.

Promises that whatever cannot be had, room, memory or a descriptor, is no error: then the buffer stays in the pickle.
"""

from __future__ import annotations

from _weakref import ref

from . import letter, payload
from .slots import SMALLEST, Slots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .arena import Arena


class Parcel:
    """A payload with buffers in an arena; `len` counts all of it."""

    __slots__ = ("__weakref__", "_length", "_pickle", "_places", "_reader", "body")

    def __init__(
        self, pickle: bytes, places: list[tuple[int, int]], length: int, reader: Callable[[int, int], Any]
    ) -> None:
        self.body = letter.write_aside(pickle, places)
        self._pickle = pickle
        self._places = places
        self._length = length
        self._reader = reader

    def __len__(self) -> int:
        return self._length

    def in_one_piece(self) -> bytes:
        """The same for a reader who cannot see the arena."""
        return letter.write_behind(self._pickle, [self._reader(*place) for place in self._places])


class Lender:
    """Packs payloads, and knows which slots are taken. Weak references only note that a parcel is gone, whoever's thread that is in."""

    def __init__(self, arena: Arena, limit: float) -> None:
        self._arena = arena
        self._slots = Slots(arena.size)
        self._limit = limit
        self._parcels: dict[ref[Parcel], list[int]] = {}
        self._gone: list[ref[Parcel]] = []
        self._note = self._gone.append
        self._aside = self._put_aside
        self._places: list[tuple[int, int]] = []  # of the payload that is being packed
        self._length = 0

    @property
    def held(self) -> int:
        """How many bytes of slots are taken now."""
        self._collect()
        return self._slots.held

    def pack(self, value: object) -> bytes | Parcel:
        """As `payload.dumps`, with what is large put aside. What is longer than the limit is not copied, only measured."""
        if self._length > 0:  # an object's own code asks, while it is packed with others: one at a time
            return payload.dumps(value)
        try:
            pickle = payload.dumps(value, self._aside)
            return self._parcel(pickle) if self._length > 0 else pickle
        finally:
            if self._length > 0:
                self._drop()

    def _parcel(self, pickle: bytes) -> bytes | Parcel:
        if pickle[0] != payload.PLAIN:  # the second pickler has done it all again, and puts nothing aside
            return pickle
        length = self._length + len(pickle)
        if length > self._limit:
            return Parcel(b"", [], length, self._arena.view)
        parcel = Parcel(pickle, self._places, length, self._arena.view)
        self._parcels[ref(parcel, self._note)] = [offset for offset, _ in self._places]
        self._places, self._length = [], 0
        return parcel

    def _drop(self) -> None:
        """Nothing comes of what was put aside."""
        places, self._places, self._length = self._places, [], 0
        for offset, _ in places:
            self._slots.give_back(offset)

    def _put_aside(self, buffer: Any) -> bool:
        """The pickler's question: whether this buffer stays in the pickle."""
        try:
            raw = buffer.raw()
        except BufferError:  # it is not in one piece
            return True
        length = raw.nbytes
        if length < SMALLEST:
            return True
        if self._length + length > self._limit:
            self._length += length
            return False
        self._collect()
        offset = self._slots.take(length)
        if offset is None:
            return True
        try:
            self._arena.write(offset, raw, length)
        except BaseException as error:
            self._slots.give_back(offset)
            if isinstance(error, OSError):
                return True
            raise
        self._places.append((offset, length))
        self._length += length
        return False

    def _collect(self) -> None:
        """Take back the slots of parcels that nobody holds."""
        while self._gone:
            for offset in self._parcels.pop(self._gone.pop()):
                self._slots.give_back(offset)
