"""Memory that hub and workers share for what is large: a memfd, sealed before anybody else has it, mapped as a whole.

It is sparse: it takes memory where it was written, and keeps that to be used again, since fresh memory costs ten times what a
copy does. Before a part is written for the first time the kernel is asked for it: if it has none, that is an OSError here, and
not a SIGBUS in the middle of a copy.

Who owns what: the memory lives as long as any mapping of it. `Arena` holds one mapping; each view that it hands out holds it too, so
a view outlives the arena, its hub and the worker. What a view *is* decides when its slot is free: a slice of a memoryview dies
at once while the array made of it lives. So it is an object of ctypes, which lives as long as anything that looks at its memory.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Buffer  # type: ignore[attr-defined,unused-ignore]
    from mmap import mmap
    from typing import Any

SIZE = 1 << 31  # bytes: what may be held at once of one arena; beyond that things travel in the stream
_GRAIN = 1 << 17


class Arena:
    """One process's mapping of an arena. Owns the descriptor. Raises OSError if it cannot be mapped."""

    def __init__(self, fd: int) -> None:
        from mmap import mmap

        self.fd = fd
        about = os.fstat(fd)
        self.size = about.st_size
        self._file = about.st_dev, about.st_ino
        self._map: mmap | None = mmap(fd, self.size)
        self._backed = 0  # a bit for each grain that the kernel has given us memory for

    def write(self, offset: int, raw: Buffer, length: int) -> None:
        """Copy this into the arena. Raises OSError when there is no memory for it."""
        if self._map is None:
            raise OSError("the arena is closed")
        start, end = offset // _GRAIN, -(-(offset + length) // _GRAIN)
        grains = (1 << end) - (1 << start)
        if grains & ~self._backed:
            about = os.fstat(self.fd)
            if (about.st_dev, about.st_ino) != self._file:  # a model has closed what is not its own, and opened another
                raise OSError("the arena's descriptor is another file's now")
            os.posix_fallocate(self.fd, start * _GRAIN, (end - start) * _GRAIN)
            self._backed |= grains
        self._map[offset : offset + length] = raw  # type: ignore[assignment,unused-ignore]

    def view(self, offset: int, length: int) -> Any:
        """An object that is this part of the arena, and lives as long as whatever looks at it."""
        from ctypes import c_ubyte  # here: no program needs it that has nothing large

        if self._map is None:
            raise OSError("the arena is closed")
        return (c_ubyte * length).from_buffer(self._map, offset)

    def close(self) -> None:
        """Let go of the descriptor and the mapping, which lives on while there are views. Idempotent."""
        self._map = None
        self.close_descriptor()

    def close_descriptor(self) -> None:
        """Keep the mapping alone: nothing is written from here."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def give_descriptor(self) -> int:
        """As `close_descriptor`, but it is another's to close."""
        fd, self.fd = self.fd, -1
        return fd


def create_arena(size: int = SIZE) -> int:
    """The descriptor of a new arena, which nobody can make larger or smaller. Linux. Raises OSError."""
    import fcntl

    fd = os.memfd_create("gibbs-arena", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
    except BaseException:
        os.close(fd)
        raise
    return fd
