"""Models that were given shared arrays."""

from __future__ import annotations

import os
from pathlib import Path


class Shares:
    def __init__(self, arrays):
        self.arrays = arrays

    def kind(self):
        return type(self.arrays).__name__

    def total(self, name=None):
        array = self.arrays if name is None else self.arrays[name]
        return float(array.sum()), array.dtype.str, array.shape

    def content(self):
        return self.arrays

    def write(self):
        self.arrays[...] = 0

    def unlock(self):
        self.arrays.flags.writeable = True

    def touch(self):
        self.arrays.sum()
        rollup = Path("/proc/self/smaps_rollup").read_text()
        return next(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:"))

    def dies(self):
        os._exit(1)
