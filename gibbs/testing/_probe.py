"""The model that `check_launcher` sends: it can be slow, fail, die and count, in a process and in memory.

It travels to a worker by reference, so this module is light. A model in memory shares its hub's event loop and must not
block it: `in_memory` tells it which worker it is in, and what it returns there may be an awaitable that the worker awaits. In a
thread it must not end the process: `in_thread` ends its worker.
"""

from __future__ import annotations

import os
import time
from contextvars import ContextVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from ._scripted_worker import ScriptedWorker

in_memory: ContextVar[ScriptedWorker | None] = ContextVar("gibbs_in_memory", default=None)
in_thread: ContextVar[Callable[[int], NoReturn] | None] = ContextVar("gibbs_in_thread", default=None)


class ProbeError(Exception):
    """What the probe raises when it is asked to."""


class Probe:
    """A model of five methods. The test says how it begins: with a count, or not at all."""

    interruptible = True

    def __init__(self, count: int | None = 0) -> None:
        if count is None:
            raise ProbeError("not this time")
        self._count = count

    def __call__(self, value: Any) -> Any:
        """The same value."""
        return value

    def count(self) -> int:
        """How many times this was called."""
        self._count += 1
        return self._count

    def fail(self, *args: Any) -> None:
        """Raise a ProbeError with these arguments."""
        raise ProbeError(*args)

    def hang(self) -> Any:
        """Never return: the call ends with an interrupt, or its worker."""
        if in_memory.get() is not None:
            import anyio

            return anyio.sleep_forever()
        while True:
            time.sleep(60 if in_thread.get() is None else 0.002)  # where nothing wakes it an interrupt comes after that

    def exit(self, code: int) -> None:
        """End the process at once, with this status."""
        if (end := in_thread.get()) is not None:
            end(code)
        worker = in_memory.get()
        if worker is None:
            os._exit(code)
        worker.die(code=code)
