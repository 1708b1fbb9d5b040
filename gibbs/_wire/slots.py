"""Which part of an arena is taken: slots whose lengths are powers of two, split and joined in pairs.

Knows numbers only. Promises that no two slots that are taken overlap, that none goes beyond the end, and that what was given back
can be taken again, as a whole too. The lowest free slot is taken first: memory that was used before is warm, and what was never used
costs nothing.
"""

from __future__ import annotations

SMALLEST = 1 << 17  # bytes of a slot: what is shorter travels in the stream, which is as quick


class Slots:
    """The slots of one arena of `size` bytes, a power of two.

    Invariant: the free slots, and those that are taken, cover the arena, each byte once; no two free slots are halves of one.
    """

    __slots__ = ("_free", "_taken", "size")

    def __init__(self, size: int) -> None:
        if size < SMALLEST or size & (size - 1):
            raise ValueError(f"the size of an arena is a power of two, {SMALLEST} at least, not {size}")
        self.size = size
        self._free: dict[int, set[int]] = {size: {0}}  # length → offsets
        self._taken: dict[int, int] = {}  # offset → length

    @property
    def held(self) -> int:
        """How many bytes are taken, as slots."""
        return sum(self._taken.values())

    def take(self, length: int) -> int | None:
        """The offset of a slot for so many bytes; None if there is none."""
        wanted = max(SMALLEST, 1 << (length - 1).bit_length())
        found = [(min(offsets), size) for size, offsets in self._free.items() if size >= wanted and offsets]
        if not found:
            return None
        offset, size = min(found)
        self._free[size].remove(offset)
        while size > wanted:
            size //= 2
            self._free.setdefault(size, set()).add(offset + size)
        self._taken[offset] = size
        return offset

    def give_back(self, offset: int) -> None:
        """This slot is free. Raises KeyError if it is not taken."""
        size = self._taken.pop(offset)
        while size < self.size and offset ^ size in self._free.get(size, ()):
            self._free[size].remove(offset ^ size)
            offset &= ~size
            size *= 2
        self._free.setdefault(size, set()).add(offset)
