"""Several items of a stream in one message, as runs: how many items each is, how long it is, and all of them.

A run is one item, or several that are small and cannot change, as a tuple: those share a payload, which takes a tenth of the time. Knows
counts and lengths, and nothing of what an item means: a run that cannot be opened hurts no other. Promises that what is cut is
what was packed, and that a body which says of itself what is not so is refused whole.
"""

from __future__ import annotations

from struct import Struct, error, pack, unpack_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Run = tuple[int, bytes]  # how many items, and the payload of one item, or of a tuple of so many

_COUNT = Struct("<I")
_ENTRY = 16  # bytes for each run
OVERHEAD = _COUNT.size + _ENTRY  # bytes of a message with one run beside that run

_SHORT = 1 << 10  # characters or bytes
_BIG = 1 << 63
_SOME = 16  # bytes; more than pickle needs beside the characters


class NoItems(Exception):
    """The body is not what it says it is."""


def share_of(item: object) -> int:
    """How many bytes of a payload it may take at most, if it may be in a run with others: it is small, and is then what it is now. Else 0."""
    kind = type(item)
    if kind is int:
        return _SOME if -_BIG < item < _BIG else 0  # type: ignore[operator]
    if kind is str:
        length = len(item)  # type: ignore[arg-type]
        return 4 * length + _SOME if length < _SHORT else 0
    if kind is bytes:
        length = len(item)  # type: ignore[arg-type]
        return length + _SOME if length < _SHORT else 0
    return _SOME if item is None or kind is float or kind is bool else 0


def pack_items(runs: Sequence[Run]) -> bytes:
    """These runs as one body."""
    numbers = [number for count, body in runs for number in (count, len(body))]
    return b"".join((pack(f"<I{len(numbers)}Q", len(runs), *numbers), *(body for _, body in runs)))


def cut_items(body: bytes) -> list[Run]:
    """The runs of a body. Raises NoItems."""
    try:
        (count,) = _COUNT.unpack_from(body)
        start = _COUNT.size + count * _ENTRY
        if start > len(body):
            raise NoItems("its table is longer than it is")
        table = unpack_from(f"<{2 * count}Q", body, _COUNT.size)
    except error as wrong:
        raise NoItems("it has no table") from wrong
    counts, lengths = table[::2], table[1::2]
    if start + sum(lengths) != len(body) or 0 in counts:
        raise NoItems("its items are not as long as it says")
    runs = []
    for number, length in zip(counts, lengths, strict=True):
        runs.append((number, body[start : start + length]))
        start += length
    return runs
