"""Wait for one wake-up with the event loop's own means: the cheapest way for one task to wait for one answer.

A twin per loop, since `anyio.Event` costs 3 µs more per request (a third of the hub's whole work). A wake-up that comes
after a cancellation, or twice, is ignored.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import anyio
from anyio.lowlevel import current_token

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Generator


class Waiter(Protocol):
    """One task waits, anybody on the same loop wakes it."""

    def wait(self) -> Awaitable[None]:
        """Return once `wake` was called. One task only; cancellable."""
        ...

    def wake(self) -> None:
        """Let the task go on. Does nothing if it does not wait any more."""
        ...


class AsyncioWaiter:
    """The twin for asyncio and uvloop: a future of the loop."""

    __slots__ = ("_future",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._future: asyncio.Future[None] = loop.create_future()

    def wait(self) -> asyncio.Future[None]:
        return self._future

    def wake(self) -> None:
        if not self._future.done():
            self._future.set_result(None)


class _AtOnce:
    """What is over before it is waited for."""

    def __await__(self) -> Generator[None]:
        return
        yield


_AT_ONCE = _AtOnce()


class TrioWaiter:
    """The twin for Trio: the task itself is rescheduled.

    Invariant: `_task` is set exactly while a task waits and may be rescheduled; a reschedule after an abort would be a crash.
    """

    __slots__ = ("_lowlevel", "_task", "_woken")

    def __init__(self, lowlevel: Any) -> None:
        self._lowlevel = lowlevel
        self._task: Any = None
        self._woken = False

    def wait(self) -> Awaitable[None]:
        if self._woken:
            return _AT_ONCE
        self._task = self._lowlevel.current_task()
        waiting: Awaitable[None] = self._lowlevel.wait_task_rescheduled(self._abort)
        return waiting

    def _abort(self, _raise_cancel: object) -> Any:
        self._task = None
        return self._lowlevel.Abort.SUCCEEDED

    def wake(self) -> None:
        self._woken = True
        task, self._task = self._task, None
        if task is not None:
            self._lowlevel.reschedule(task)


class Loop(NamedTuple):
    """What a request needs of the running event loop, found once: AnyIO looks for the loop in each of its functions."""

    new_waiter: Callable[[], Waiter]
    now: Callable[[], float]
    checkpoint_if_cancelled: Callable[[], Awaitable[None]]


def running_loop() -> Loop:
    """The loop that runs now."""
    token = current_token()
    native: Any = token.native_token
    if hasattr(native, "create_future"):
        return Loop(partial(AsyncioWaiter, native), native.time, token.backend_class.checkpoint_if_cancelled)
    import trio

    now = trio.lowlevel.current_clock().current_time  # which `trio.current_time` asks, through two functions more
    return Loop(partial(TrioWaiter, trio.lowlevel), now, trio.lowlevel.checkpoint_if_cancelled)


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
