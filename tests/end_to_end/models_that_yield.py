"""Models whose methods are generators, for workers: they say on descriptor 1 how far they have come."""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager
from pathlib import Path

import gibbs
from tests.end_to_end.models_that_block import LONG, wait_for_file


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


class Unpicklable:
    def __reduce__(self):
        raise ZeroDivisionError("no item of mine")


class Unloadable:
    def __reduce__(self):
        return exec, ("raise SystemExit('from an item')",)


class Yields:
    """All its generators at once. Not interruptible."""

    def __call__(self, count, start=0):
        yield from range(start, start + count)

    def pid(self):
        return os.getpid()

    def plain(self, x):
        return x

    async def later(self):
        raise NotImplementedError

    async def later_items(self):
        yield 1

    def says(self, count):
        """Says each item before it yields it, and how it ended."""
        try:
            for item in range(count):
                say(f"{item}")
                yield item
            say("ended")
        except GeneratorExit:
            say("left")
            raise
        except gibbs.Interrupted:
            say("interrupted")
            raise
        finally:
            say("cleaned up")

    def then(self, count, do, *args):
        """Some items, and then something else."""
        yield from range(count)
        yield from getattr(self, do)(*args)

    def fails(self):
        raise LookupError("after the items")
        yield

    def dies(self):
        os.kill(os.getpid(), signal.SIGKILL)
        yield

    def exits(self):
        raise SystemExit(3)
        yield

    def unpicklable(self):
        try:
            yield Unpicklable()
        finally:
            say("cleaned up")

    def unloadable(self):
        yield Unloadable()

    def large(self, size):
        try:
            yield bytes(size)
        finally:
            say("cleaned up")

    def small_then_large(self, size):
        yield from range(8)
        yield "x" * size

    def blocks(self):
        """Never comes to its next item."""
        try:
            say("blocks")
            time.sleep(LONG)
            yield
        except gibbs.Interrupted:
            say("interrupted")
            raise
        finally:
            say("cleaned up")

    def waits(self, path):
        """Comes to its next item when there is such a file."""
        try:
            say("waits")
            wait_for_file(Path(path))
            yield "waited"
        finally:
            say("cleaned up")

    def quick_then_waits(self, count, path):
        """Items that come at once, and then none for as long as there is no such file."""
        yield from range(count)
        wait_for_file(Path(path))

    def one_list(self, count):
        """The same list each time, longer by one."""
        items = []
        for item in range(count):
            items.append(item)
            yield items

    def stubborn(self):
        """Goes on when it is closed."""
        say("yields")
        while True:
            try:
                yield "again"
            except GeneratorExit:
                say("stubborn")

    def fails_on_leaving(self):
        say("yields")
        try:
            yield 1
        finally:
            raise LookupError("while it was left")

    def hangs_on_leaving(self):
        try:
            yield 1
        finally:
            say("hangs")
            time.sleep(LONG)

    def swallows(self):
        """Takes the interrupt for nothing, and yields."""
        try:
            say("blocks")
            time.sleep(LONG)
        except gibbs.Interrupted:
            say("swallowed")
        try:
            yield 1
        finally:
            say("cleaned up")

    def shielded(self, count):
        with self.open():
            for item in range(count):
                with gibbs.uninterruptible():
                    yield item

    @contextmanager
    def open(self):
        say("opened")
        try:
            yield
        finally:
            say("closed")


class Bears(Yields):
    """The same, and may be interrupted."""

    interruptible = True
    repaired = 0

    def after_interrupt(self):
        self.repaired += 1

    def repairs(self):
        return self.repaired
