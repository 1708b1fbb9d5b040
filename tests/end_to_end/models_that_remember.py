"""A model that keeps in mind what it was asked, and dies when it is told to."""

from __future__ import annotations

import os
import time

import gibbs
from tests.end_to_end.models_that_block import LONG


class Remembers:
    interruptible = True

    def __init__(self):
        self.said = []
        self.well = True

    def __call__(self, x):
        self.said.append(x)
        return list(self.said)

    def clear(self):
        self.said.clear()
        return os.getpid()

    def counts(self, count):
        for n in range(count):
            self.said.append(n)
            yield n

    @gibbs.batched(max_size=8, max_wait=LONG)
    def together(self, xs):
        self.said.append(len(xs))
        return xs

    def sleeps(self):
        print("begun", flush=True)
        time.sleep(LONG)

    def cannot_be_stopped(self):
        with gibbs.uninterruptible():
            print("begun", flush=True)
            time.sleep(LONG)


class FallsIll(Remembers):
    health_interval = 0.2

    def falls_ill(self):
        self.well = False

    def healthy(self):
        return self.well
