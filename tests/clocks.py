"""Clocks that jump: an event loop of asyncio in virtual time, and the loops for tests whose every wait is in memory.

Trio has `MockClock`. asyncio's loop asks its own `time()`, so a subclass can jump to the next timer when nothing is ready. uvloop
has neither: what waits for grace periods is slow there, and tests on it are given short ones.
"""

from __future__ import annotations

import asyncio
import importlib.util
import selectors
import time
from typing import Any

import pytest


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """asyncio whose clock jumps to the next timer when nothing is ready, and whose tasks are equal from run to run."""

    def __init__(self) -> None:
        self._now = 0.0
        self._tasks_made = 0
        self.complaints: list[str] = []
        super().__init__(_JumpingSelector(self))
        self.set_task_factory(self._make_task)
        self.set_exception_handler(lambda _, context: self.complaints.append(str(context)))

    def time(self) -> float:
        return self._now

    def jump(self, seconds: float) -> None:
        self._now += seconds

    def _make_task(self, loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
        self._tasks_made += 1
        task = _Task(coro, loop=loop, **options)
        task.ordinal = self._tasks_made
        return task


class _Task(asyncio.Task):  # type: ignore[type-arg]
    ordinal = 0

    def __hash__(self) -> int:
        return self.ordinal


class _JumpingSelector(selectors.DefaultSelector):  # type: ignore[valid-type,misc]
    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise RuntimeError("every task waits, and no timer is set: this world has stopped")
        if timeout > 0:
            self._loop.jump(timeout)
        return super().select(0)


def stand_still(seconds: float) -> None:
    """Block the running loop for so long; where time is virtual it is as much later."""
    try:
        clock: Any = asyncio.get_running_loop()
    except RuntimeError:
        from trio.lowlevel import current_clock

        clock = current_clock()
    clock.jump(seconds) if hasattr(clock, "jump") else time.sleep(seconds)


def jumping_loops() -> list[Any]:
    """Parameters for `anyio_backend`: the three loops, those that can in virtual time."""
    loops = [pytest.param(("asyncio", {"loop_factory": VirtualTimeLoop}), id="asyncio")]
    if importlib.util.find_spec("uvloop"):
        import uvloop

        uvloop.new_event_loop().close()  # libuv keeps a pipe from the first loop on: it shall be no test's fault
        loops.append(pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"))
    if importlib.util.find_spec("trio"):
        from trio.testing import MockClock

        loops.append(pytest.param(("trio", {"clock": MockClock(autojump_threshold=0)}), id="trio"))
    return loops
