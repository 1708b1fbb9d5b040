"""Models that take long to build, that grow, and that are of a version."""

from __future__ import annotations

import os
import time
from pathlib import Path


class Versioned:
    """Says which version it is. With a file it is built when that is there."""

    def __init__(self, version, gate=None):
        self.version = version
        self.memory = []
        print("building", flush=True)
        while gate is not None and not Path(gate).exists():
            time.sleep(0.002)

    def __call__(self, x=None):
        return self.version, x

    def pid(self):
        return os.getpid()

    def grow(self, mebibytes):
        self.memory.append(bytearray(os.urandom(1 << 20) * mebibytes))
        return os.getpid()

    def sleeps(self):
        print("begun", flush=True)
        time.sleep(600)

    def dies(self):
        os._exit(3)


class SomethingElse:
    def __init__(self):
        raise ValueError("no such weights")
