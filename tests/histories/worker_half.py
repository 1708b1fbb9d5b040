"""The worker's half of a history: what it began and how that ended, in a file that survives its death.

Knows a file and the machine's clock, and nothing of gibbs but the shield that a model may hold: it is imported in workers. Each record
is one line, and one write to a descriptor that appends, so that the lines of many workers never mix and what was written before
a SIGKILL stays written. Promises that an execution which said that it began says also how it ended, unless its process dies,
wherever between two bytecodes an interrupt comes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

from gibbs import uninterruptible

T = TypeVar("T")


class Line(NamedTuple):
    """One record: by which process, at what time in nanoseconds, what, of which request."""

    ns: int
    pid: int
    what: str
    n: int


class WorkerHalf:
    """Where one worker writes. Made in the worker."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._pid = os.getpid()

    def close(self) -> None:
        os.close(self._fd)

    def write(self, what: str, n: int) -> None:
        os.write(self._fd, b"%d %d %s %d\n" % (time.monotonic_ns(), self._pid, what.encode(), n))

    def execution(self, n: int, work: Callable[[], T]) -> T:
        """Run the work of request `n`, and write down that it begins and how it ends.

        An interrupt comes once in a call. If it comes between a `finally` and its shield, the outer one is left to do it.
        """
        has_begun = False
        how = "skips"
        try:
            try:
                with uninterruptible():
                    self.write("begun", n)
                    has_begun = True
                value = work()
                how = "answers"
            except Exception:
                how = "fails"
                raise
            finally:
                with uninterruptible():
                    if has_begun:
                        has_begun = False
                        self.write(how, n)
        finally:
            with uninterruptible():
                if has_begun:
                    has_begun = False
                    self.write(how, n)
        return value


def read_lines(path: Path) -> Iterator[Line]:
    """What all workers wrote, in the order of the file. Raises ValueError for a line that is none."""
    for line in path.read_text().splitlines():
        ns, pid, what, n = line.split(" ")
        yield Line(int(ns), int(pid), what, int(n))
