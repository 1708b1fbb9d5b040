"""Models with methods that take many items in one call, for workers: they write down what they were given."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import gibbs
from tests.end_to_end.models_that_block import LONG, wait_for_file
from tests.end_to_end.models_that_yield import Unpicklable, say


class Batches:
    """Squares, in batches of at most eight."""

    def __init__(self):
        self.ran = []
        self.calls = 0

    @gibbs.batched(max_size=8)
    def __call__(self, numbers: list[int]) -> list[int]:
        self.ran.append([*numbers])
        return [x * x for x in numbers]

    def sizes(self):
        return [len(batch) for batch in self.ran]

    def batches(self):
        return self.ran

    def pid(self):
        return os.getpid()

    def holds(self, path):
        """Until there is such a file."""
        say("holds")
        wait_for_file(Path(path))

    @gibbs.batched(max_size=4)
    def blocks(self, items):
        try:
            say("blocks")
            time.sleep(LONG)
        except gibbs.Interrupted:
            say("interrupted")
            raise

    @gibbs.batched(max_size=4)
    def waits(self, paths):
        self.ran.append([Path(path).name for path in paths])
        say("waits")
        for path in paths:
            wait_for_file(Path(path))
        return [Path(path).name for path in paths]

    @gibbs.batched(max_size=4)
    def fails(self, items):
        raise LookupError(f"a batch of {len(items)}")

    @gibbs.batched(max_size=4)
    def exits(self, items):
        raise SystemExit(4)

    @gibbs.batched(max_size=8)
    def some_fail(self, items):
        return [gibbs.Failed(LookupError(item)) if item % 2 else item for item in items]

    @gibbs.batched(max_size=8, on_error="split")
    def splits(self, items):
        self.calls += 1
        self.ran.append([*items])
        if any(item < 0 for item in items):
            raise ValueError(f"below zero: {items}")
        return [item + 1 for item in items]

    @gibbs.batched(max_size=8)
    def too_few(self, items):
        return items[1:]

    @gibbs.batched(max_size=8)
    def no_list(self, items):
        return 3

    @gibbs.batched(max_size=10, size_of=len)
    def measured(self, texts):
        self.ran.append([*texts])
        return [len(text) for text in texts]

    @gibbs.batched(max_size=8)
    def unpicklable(self, items):
        return [Unpicklable() if item == 1 else item for item in items]

    @gibbs.batched(max_size=8)
    def dies(self, items):
        os.kill(os.getpid(), signal.SIGKILL)

    @gibbs.batched(max_size=4, max_wait=LONG)
    def patient(self, items):
        self.ran.append([*items])
        return items

    @gibbs.batched(max_size=4, max_wait=0.02)
    def hardly_patient(self, items):
        self.ran.append([*items])
        return items

    @staticmethod
    @gibbs.batched(max_size=3)
    def static(items):
        return [-item for item in items]

    @classmethod
    @gibbs.batched(max_size=3)
    def of_class(cls, items):
        return [(cls.__name__, item) for item in items]

    @gibbs.batched(max_size=10, size_of=len)
    def measured_waits(self, paths):
        say("measured")
        for path in paths:
            wait_for_file(Path(path))
        return paths

    @gibbs.batched(max_size=2, size_of=lambda item: 2)
    def blocks_one_by_one(self, items):
        """Each in a call of its own; those that are "free" do not block."""
        if items != ["free"]:
            self.blocks("x")
        return items

    @gibbs.batched(max_size=8, size_of=lambda item: None)
    def unmeasurable(self, items):
        return items

    @gibbs.batched(max_size=8, on_error="split")
    def drops(self, items):
        self.calls += 1
        return items[1:]

    @gibbs.batched(max_size=8)
    def _hidden(self, items):
        return [item + 1 for item in items]

    def uses_its_own(self, item):
        return self._hidden(item)

    def how_many_calls(self):
        return self.calls

    @gibbs.batched(max_size=2, size_of=lambda item: 2)
    def returns_much_and_blocks(self, items):
        """An array that goes aside; and the next item is not answered."""
        import numpy

        if items == ["blocks"]:
            self.blocks("x")
        return [numpy.zeros(100_000) for _ in items]


class Bears(Batches):
    interruptible = True


class Overrides(Batches):
    """One that is not batched in the place of one that is."""

    def static(self, item):
        return item


@gibbs.batched(max_size=5)
def double(items: list[int]) -> list[int]:
    """Of numbers."""
    return [2 * item for item in items]


class Unloadable:
    def __reduce__(self):
        return exec, ("raise ValueError('an argument')",)
