"""What the workers of a soak run: work of many lengths and sizes, and the misdeeds that only a model can do.

Imported in workers and in the program, which compares: the right answer follows from the request alone. Promises that each
execution is written down by `WorkerHalf`, in whatever way it ends.
"""

from __future__ import annotations

import ctypes
import os
import random
import stat
import time
from pickle import PickleBuffer
from typing import Any, NamedTuple

import gibbs
from tests.histories.history import f
from tests.histories.worker_half import WorkerHalf


class Task(NamedTuple):
    """One request, as its caller drew it. `size` is the bytes of its argument and of its result, each.

    With `aside` they travel as a buffer: where they are large that is an arena, else the stream, as without.
    """

    n: int
    seconds: float
    size: int
    deed: str = ""
    aside: bool = False

    def blob(self) -> bytes:
        """Bytes that no other request has."""
        word = b"%016x" % self.n
        return (word * (self.size // len(word) + 1))[: self.size]

    def as_it_travels(self, blob: Any) -> Any:
        return PickleBuffer(blob) if self.aside else blob


class StartFails(Exception):
    """What a model raises that cannot be built."""


def drawn_start(seed: int, number: int, sure: int, failing: float) -> str:
    """How the start of this number goes: "" for well."""
    dice = random.Random(f"{seed}: start {number}")
    fails = number > sure and dice.random() < failing
    return dice.choice(["raises", "exits"]) if fails else ""


class Model:
    """Interruptible: it keeps nothing but its file."""

    interruptible = True

    def __init__(self, path: str, seed: int, sure: int, failing: float, model: int) -> None:
        """The first `sure` starts succeed; of the later ones a part fails, drawn by seed and number of the start.

        `model` is which of those that the hub was given this is: it comes with every answer.
        """
        number = self._number_of_this_start(path + ".starts")
        how = drawn_start(seed, number, sure, failing)
        if how == "exits":
            os._exit(3)
        if how == "raises":
            raise StartFails(f"start {number}")
        self.half = WorkerHalf(path)
        self.model = model

    @staticmethod
    def _number_of_this_start(path: str) -> int:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(fd, b".")
            return os.lseek(fd, 0, os.SEEK_CUR)  # where this write ended, whoever else has written since
        finally:
            os.close(fd)

    def __call__(self, n: int, task: Task, blob: Any) -> tuple[int, int, Any]:
        return self.half.execution(n, lambda: self.work(task, blob))

    def work(self, task: Task, blob: Any) -> tuple[int, int, Any]:
        if blob != task.blob():
            raise AssertionError(f"request {task.n} was given the argument of another")
        if task.seconds:
            time.sleep(task.seconds)
        if task.deed:
            self.misbehave(task)
        return f(task.n), self.model, task.as_it_travels(blob)

    def misbehave(self, task: Task) -> None:
        if task.deed == "raises":
            raise FloatingPointError(task.n, self.model)
        with gibbs.uninterruptible():
            self.half.write("fault", task.n)
        if task.deed == "os._exit(0)":
            os._exit(0)
        if task.deed == "segfault":
            ctypes.string_at(0)
        if task.deed == "garbage":
            os.write(the_stream(), b"?" * 64)


class Broken(Model):
    """One that cannot be built."""

    def __init__(self, *_: object) -> None:
        raise StartFails("always")


class Refused(Exception):
    """What the check of a model raises that is not to serve."""


def is_what_it_should_be(model: Model) -> None:
    assert model.work(Task(7, 0.0, 10), Task(7, 0.0, 10).blob())[0] == f(7)


def refuses(model: Model) -> None:
    raise Refused(f"model {model.model}")


def the_stream() -> int:
    """The descriptor by which this worker speaks: the only socket that it has."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                return int(name)
        except OSError:  # the descriptor of this listing
            continue
    raise AssertionError("a worker without a stream")


def answers_rightly(task: Task, answer: Any) -> bool:
    number, _, blob = answer
    return bool((number, blob) == (f(task.n), task.blob()))
