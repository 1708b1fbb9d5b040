"""What a process has, measured again and again while it does the same thing, and whether that grows.

Knows `/proc/self`. Promises to tell a leak from noise: what is counted (descriptors, threads, children) must come back exactly;
memory is what Python's own allocator holds, which moves by bytes and not by pages, and beside it the resident set. Growth is the
median of the last third of the measurements less that of the middle third: the first third is for what is built once.
"""

from __future__ import annotations

import ctypes
import gc
import os
import re
import statistics
import sys
import threading
from pathlib import Path
from typing import NamedTuple


class Figures(NamedTuple):
    """All of it at one moment, when the garbage is gone. The first four are to be the same after as before."""

    descriptors: int
    threads: int
    children: int
    memfds: int  # that are mapped
    blocks: int  # of Python's allocator
    rss: int  # bytes
    shared: int  # bytes of them that are mapped: code, and arenas

    @classmethod
    def take(cls) -> Figures:
        for _ in range(2):
            gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what is free goes back to the system: else a peak looks like a leak
        tasks = Path("/proc/self/task").iterdir()
        rss, shared = (int(pages) for pages in Path("/proc/self/statm").read_text().split()[1:3])
        return cls(
            descriptors=len(os.listdir("/proc/self/fd")) - 1,  # without the one of the listing
            # Trio, run as a guest (by AnyIO's plugin), waits in threads of its own and keeps them a while.
            threads=sum(not re.fullmatch(r"Trio thread \d+", thread.name) for thread in threading.enumerate()),
            children=sum(len((task / "children").read_text().split()) for task in tasks),
            memfds=Path("/proc/self/maps").read_text().count("/memfd:"),
            blocks=sys.getallocatedblocks(),
            rss=rss * os.sysconf("SC_PAGE_SIZE"),
            shared=shared * os.sysconf("SC_PAGE_SIZE"),
        )

    @property
    def counted(self) -> tuple[int, ...]:
        return self[:4]

    def __str__(self) -> str:
        return (
            f"{self.rss / 1e6:.1f} MB, {self.shared / 1e6:.1f} of them mapped, {self.blocks} blocks, "
            f"{self.descriptors} descriptors, {self.threads} threads, {self.children} children, {self.memfds} memfds"
        )


class Course:
    """Measurements, each after so many cycles more."""

    def __init__(self) -> None:
        self.seen: list[Figures] = []
        self.cycles = 0

    def measure(self, cycles: int) -> None:
        self.cycles = cycles  # between two measurements
        self.seen.append(Figures.take())

    def growth(self, what: str) -> float:
        """Of one figure, by a cycle."""
        values = [getattr(one, what) for one in self.seen]
        third = len(values) // 3
        middle, last = values[third : 2 * third], values[-third:]
        between = (len(values) - third / 2) - 1.5 * third  # measurements from the one middle to the other
        return (statistics.median(last) - statistics.median(middle)) / (between * self.cycles)

    def accuse(self, *, blocks: float, bytes_: float) -> list[str]:
        """What grew, in words. `blocks` and `bytes_` may come by a cycle."""
        first, last = self.seen[0], self.seen[-1]
        found = [
            f"{what}: {getattr(first, what)} at first, {getattr(last, what)} at last"
            for what in Figures._fields[:4]
            if getattr(last, what) > getattr(first, what)
        ]
        if (grew := self.growth("blocks")) > blocks:
            found.append(f"{grew:.2f} blocks of memory by a cycle: {[one.blocks for one in self.seen]}")
        if (grew := self.growth("rss")) > bytes_:
            found.append(f"{grew:.0f} bytes of memory by a cycle: {[one.rss for one in self.seen]}")
        return found

    def __str__(self) -> str:
        first, last = self.seen[0], self.seen[-1]
        return (
            f"{len(self.seen)} measurements of {self.cycles} cycles: {first} … {last}; by a cycle "
            f"{self.growth('blocks'):+.3f} blocks, {self.growth('rss'):+.0f} bytes"
        )
