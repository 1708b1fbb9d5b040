"""The shared page: four words that hub and worker can read while the other is busy, or dead.

`begun` is written by the worker only: the link id of the last request that it began, stored before the arguments are
opened, so that after a death it is evidence of what may have run. `target` is written by the hub only: the request
that is to be skipped or interrupted. `pace` is written by the worker only: the nanoseconds that it takes for a request, as far
as it knows, 0 when it does not; and so is `since`: when it took up the last request, in nanoseconds of `time.perf_counter_ns`, 0 if it
took none. Each is one aligned eight-byte store, whole for any reader, and needs no lock.

The page is a memfd that is sealed before anybody maps it: a worker that could shrink it would kill the hub by SIGBUS.
"""

from __future__ import annotations

from time import perf_counter_ns

_SIZE = 4096
_BEGUN = 0
_TARGET = 1
_PACE = 2
_SINCE = 3
_WORDS = 4


class Page:
    """The four words, over any writable buffer that has room for them. Link ids start at 1; 0 means none."""

    __slots__ = ("_words",)

    def __init__(self, buffer: bytearray | memoryview) -> None:
        self._words = memoryview(buffer).cast("B").cast("Q")

    @property
    def begun(self) -> int:
        return self._words[_BEGUN]

    @begun.setter
    def begun(self, link_id: int) -> None:
        self._words[_BEGUN] = link_id

    @property
    def target(self) -> int:
        return self._words[_TARGET]

    @target.setter
    def target(self, link_id: int) -> None:
        self._words[_TARGET] = link_id

    @property
    def pace(self) -> int:
        return self._words[_PACE]

    @pace.setter
    def pace(self, nanoseconds: int) -> None:
        self._words[_PACE] = nanoseconds

    @property
    def since(self) -> int:
        return self._words[_SINCE]

    @since.setter
    def since(self, nanoseconds: int) -> None:
        self._words[_SINCE] = nanoseconds

    @property
    def running_for(self) -> float:
        """Seconds since the last request was taken up; 0.0 if none was."""
        since = self.since
        return (perf_counter_ns() - since) / 1e9 if since else 0.0

    def close(self) -> None:
        """Let go of memory that is shared; what it said last can still be read. Idempotent."""
        words = self._words
        shared = words.obj
        self._words = memoryview(bytearray(words[:_WORDS])).cast("Q")
        words.release()
        if not isinstance(shared, bytearray):
            shared.close()  # type: ignore[attr-defined]  # a mapping, which holds a descriptor of its own


def private_page() -> Page:
    """A page that nobody shares: what a worker uses when the hub can reach it by the stream alone."""
    return Page(bytearray(8 * _WORDS))


def create_page() -> tuple[Page, int]:
    """Make and map a sealed page; return it and the descriptor that the other process maps. Linux. Raises OSError."""
    import fcntl
    import os

    fd = os.memfd_create("gibbs-page", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, _SIZE)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
        return map_page(fd), fd
    except BaseException:
        os.close(fd)
        raise


def map_page(fd: int) -> Page:
    """Map a page that `create_page` made. The descriptor may be closed afterwards."""
    from mmap import mmap

    return Page(memoryview(mmap(fd, _SIZE)))
