"""Arrays that a hub's program and all its workers see in one place: how a reference to them travels, and what a worker makes of it.

Knows one file in memory, sealed before anybody else has it, and where each array lies in it. Promises that a reference is written only while
a recipe is, since elsewhere nobody would keep the memory; that a worker maps what was meant, or is told in words why it cannot; and
that what it maps cannot be written, by it or by anybody.
"""

from __future__ import annotations

import os
from contextvars import ContextVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    # Data type in numpy's words, shape and offset of each array; and how they were given: alone, in a list, or by name.
    Layout = tuple[list[tuple[Any, tuple[int, ...], int]], list[Any] | bool | None]

_kept: ContextVar[list[Any] | None] = ContextVar("kept", default=None)


class Keeping:
    """While its block runs references may be written; `found` are the owners of what they refer to."""

    __slots__ = ("_token", "found")

    def __enter__(self) -> Keeping:
        self.found: list[Any] = []
        self._token = _kept.set(self.found)
        return self

    def __exit__(self, *_: object) -> None:
        _kept.reset(self._token)


def reference(owner: Any, fd: int, size: int, layout: Layout) -> tuple[Any, tuple[Any, ...]]:
    """What a pickler writes for the owner. Raises TypeError where no recipe is being written."""
    kept = _kept.get()
    if kept is None:
        raise TypeError(
            "shared arrays travel as arguments of a hub's factory, and nowhere else: give them to open_hub(), or send the arrays themselves"
        )
    if owner not in kept:
        kept.append(owner)
    return open_shared, (os.getpid(), fd, os.fstat(fd).st_ino, size, layout)


def open_shared(pid: int, fd: int, inode: int, size: int, layout: Layout) -> Any:
    """The arrays, read-only, as they were given. Raises RuntimeError if this process cannot have them."""
    import mmap

    try:
        mine = os.open(f"/proc/{pid}/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise RuntimeError(_CANNOT.format(error)) from error
    try:
        if os.fstat(mine).st_ino != inode:
            raise RuntimeError(_CANNOT.format("it is another machine's, or was freed"))
        memory = mmap.mmap(mine, size, prot=mmap.PROT_READ) if size else b""
    finally:
        os.close(mine)
    return arrays_in(memory, layout)


_CANNOT = (
    "shared arrays cannot be reached from here ({}): they are in the memory of the machine on which the hub is, for workers of the "
    "same user there; give workers elsewhere the arrays themselves, or the name of a file"
)


def arrays_in(memory: Any, layout: Layout) -> Any:
    """The arrays that lie there, as views, as they were given."""
    import numpy

    places, how = layout
    arrays = []
    for words, shape, offset in places:
        dtype = numpy.lib.format.descr_to_dtype(words)
        count = 1
        for length in shape:
            count *= length
        array = numpy.frombuffer(memory, dtype=dtype, count=count, offset=offset) if count else numpy.empty(0, dtype)
        array = array.reshape(shape)
        array.flags.writeable = False
        arrays.append(array)
    if how is None:
        return arrays[0]
    return arrays if isinstance(how, bool) else dict(zip(how, arrays, strict=True))
