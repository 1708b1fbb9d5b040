"""Cut an async function off at each of its steps, as other code of a program does: natively, on asyncio.

`asyncio.Task.cancel()` is no scope: AnyIO's shields do not stop it, it comes once, and it may come again. `asyncio.run` does
it on Ctrl-C, uvicorn when it ends. Trio has no such thing; there a scope around the task stands for it, which a shield does
stop. Knows nothing of hubs.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from itertools import count
from typing import Any, Literal

import anyio

WATCHDOG = 20.0
CUT = "cut"  # what comes of a run that ended in its cancellation

When = Literal["at once", "a tick later", "again and again"]


def on_asyncio() -> bool:
    return anyio.get_cancelled_exc_class() is asyncio.CancelledError


async def cut_at_every_step(
    scenario: Callable[[], Awaitable[Any]], when: When = "at once", *, most: int = 500
) -> AsyncIterator[Any]:
    """Run `scenario()` cut off at its first step, its second, …; yields what came of each run. The last one is not cut."""
    for k in count(1):
        cut = False
        assert k < most, "the scenario has more and more steps"
        outcome: Any

        def note() -> None:
            nonlocal cut
            cut = True

        run = _natively(scenario, k, when, note) if on_asyncio() else _by_a_scope(scenario, k, when, note)
        try:
            outcome = await run
        except BaseException as error:
            error.add_note(f"cut {when} at step {k}")
            raise
        yield outcome
        if not cut:
            return


async def _natively(scenario: Callable[[], Awaitable[Any]], k: int, when: When, note: Callable[[], None]) -> Any:
    loop = asyncio.get_running_loop()
    left = 25 if when == "again and again" else 1
    task: asyncio.Task[Any]

    def cut() -> None:
        nonlocal left
        note()
        if when == "at once":
            task.cancel()
        elif left and not task.done():
            left -= 1
            loop.call_soon(task.cancel)
            loop.call_soon(loop.call_soon, cut)

    async def run() -> Any:
        nonlocal task
        task = asyncio.current_task()  # type: ignore[assignment]  # here: an eager one runs before anybody is given it
        return await _cutting_at(k, cut, _coroutine(scenario))

    task = asyncio.ensure_future(run())
    await asyncio.wait([task], timeout=WATCHDOG)
    assert task.done(), f"it does not end: {task}"
    return CUT if task.cancelled() else task.result()


async def _by_a_scope(scenario: Callable[[], Awaitable[Any]], k: int, when: When, note: Callable[[], None]) -> Any:
    import trio

    soon = trio.lowlevel.current_trio_token().run_sync_soon

    def cut() -> None:
        note()
        if when == "at once":
            scope.cancel()
        else:
            soon(scope.cancel)

    with anyio.CancelScope() as scope:
        return await _cutting_at(k, cut, _coroutine(scenario))
    return CUT


async def _coroutine(scenario: Callable[[], Awaitable[Any]]) -> Any:
    return await scenario()


@types.coroutine
def _cutting_at(k: int, cut: Callable[[], None], coro: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """Await a coroutine, and call `cut` when it yields for the k-th time."""
    step: Callable[[Any], Any] = coro.send
    what: Any = None
    for yields in count(1):
        try:
            to_the_loop = step(what)
        except StopIteration as end:
            return end.value
        if yields == k:
            cut()
        try:
            what, step = (yield to_the_loop), coro.send
        except BaseException as thrown:  # noqa: BLE001 - forwarded
            what, step = thrown, coro.throw
    raise AssertionError("count() has an end")
