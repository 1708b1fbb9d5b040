"""Where a hub lives: the process and the thread that opened it. A fork of the process is another one, also where C code made it.

To ask the kernel for the number of this process is a fiftieth of what a request costs. So the kernel is asked to leave a mark out of
every fork (madvise(2), MADV_WIPEONFORK, Linux 4.14), and a look at the mark is enough. Elsewhere the number is compared.
"""

from __future__ import annotations

import mmap
import os
import sys
import threading

_WIPE_ON_FORK = 18


class Home:
    """Invariant: `_mark[0]` is true in the process that made it, and false in its forks."""

    __slots__ = ("_mark", "_thread", "process")

    def __init__(self) -> None:
        self.process = os.getpid()
        self._thread = threading.get_ident()
        self._mark = _wiped_mark() or _Number(self.process)

    @property
    def is_here(self) -> bool:
        """Whether this is that thread of that process."""
        return bool(self._mark[0]) and threading.get_ident() == self._thread

    @property
    def is_fork(self) -> bool:
        """Whether this is another process."""
        return not self._mark[0]

    def elsewhere(self, name: str) -> RuntimeError:
        """What is told to who asks the hub of that name somewhere else."""
        if self.is_fork:
            return RuntimeError(
                f"the hub {name!r} belongs to process {self.process}; this is a fork of it. Open a hub here"
            )
        return RuntimeError(
            f"the hub {name!r} belongs to the event loop of another thread. From a thread that AnyIO started, use "
            f"anyio.from_thread.run(hub.request, x)"
        )


def _wiped_mark() -> mmap.mmap | None:
    """A page of memory, 1 here and 0 in a fork; None where there is no such thing."""
    if sys.platform != "linux":
        return None
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        page.madvise(_WIPE_ON_FORK)
    except OSError:  # an old kernel, or no memory
        return None
    page[0] = 1
    return page


class _Number:
    """The same by the number of the process."""

    __slots__ = ("_process",)

    def __init__(self, process: int) -> None:
        self._process = process

    def __getitem__(self, _index: int) -> bool:
        return os.getpid() == self._process
