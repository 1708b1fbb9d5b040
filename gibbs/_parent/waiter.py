"""Wait for one wake-up with the event loop's own means: the cheapest way for one task to wait for one answer.

A twin per loop, since `anyio.Event` costs 3 µs more per request (a third of the hub's whole work). A wake-up that comes
after a cancellation, or twice, is ignored.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import anyio
from anyio.lowlevel import current_token

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Generator


Waiter: TypeAlias = "Awaitable[None]"
"""What one task awaits, once, until `Loop.wake` is called with it; cancellable."""


class TrioWaiter:
    """The twin for Trio: the task itself is rescheduled. The one for asyncio and uvloop is a future of the loop.

    Invariant: `_task` is set exactly while a task waits and may be rescheduled; a reschedule after an abort would be a crash.
    """

    __slots__ = ("_lowlevel", "_task", "_woken")

    def __init__(self, lowlevel: Any) -> None:
        self._lowlevel = lowlevel
        self._task: Any = None
        self._woken = False

    def __await__(self) -> Generator[Any, Any, None]:
        if not self._woken:
            self._task = self._lowlevel.current_task()
            yield from self._lowlevel.wait_task_rescheduled(self._abort).__await__()

    def _abort(self, _raise_cancel: object) -> Any:
        self._task = None
        return self._lowlevel.Abort.SUCCEEDED

    def wake(self) -> None:
        self._woken = True
        task, self._task = self._task, None
        if task is not None:
            self._lowlevel.reschedule(task)


def _wake_future(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Loop(NamedTuple):
    """What a request needs of the running event loop, found once: AnyIO looks for the loop in each of its functions."""

    new_waiter: Callable[[], Waiter]
    wake: Callable[[Any], None]  # let the task that awaits this waiter go on, if it still does
    now: Callable[[], float]
    deadline: Callable[[], float]  # of the scopes around the running task
    checkpoint_if_cancelled: Callable[[], Awaitable[None]]


def running_loop() -> Loop:
    """The loop that runs now."""
    token = current_token()
    native: Any = token.native_token
    if hasattr(native, "create_future"):
        backend = token.backend_class
        deadline, checkpoint_if_cancelled = backend.current_effective_deadline, backend.checkpoint_if_cancelled
        return Loop(native.create_future, _wake_future, native.time, deadline, checkpoint_if_cancelled)
    import trio

    now = trio.lowlevel.current_clock().current_time  # which `trio.current_time` asks, through two functions more
    new_waiter = partial(TrioWaiter, trio.lowlevel)
    checkpoint_if_cancelled = trio.lowlevel.checkpoint_if_cancelled
    return Loop(new_waiter, TrioWaiter.wake, now, trio.current_effective_deadline, checkpoint_if_cancelled)


class Alarm:
    """Something a long-lived task waits for again and again. A ring that comes while it does not wait is kept."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = anyio.Event()

    def ring(self) -> None:
        self._event.set()

    async def wait(self) -> None:
        await self._event.wait()
        self._event = anyio.Event()


class News:
    """Something any number of tasks wait for: each `announce` wakes all who wait at that moment."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = anyio.Event()

    def announce(self) -> None:
        event, self._event = self._event, anyio.Event()
        event.set()

    async def wait(self) -> None:
        await self._event.wait()
