"""The cancellation sweep: run a scenario once for each of its checkpoints, and cancel it there.

Knows what every event loop has in common: an awaited coroutine yields once per checkpoint, to whoever runs the task. So a
wrapper that forwards `send` and `throw` can count the yields and cancel at the k-th. It works on asyncio, uvloop and Trio
alike and needs no clock. Promises that every checkpoint of the scenario's own task is hit, once each, in order.
"""

from __future__ import annotations

import types
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Generator

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Step(Generic[T]):
    """One run of a swept scenario.

    Attributes:
        k: it was to be cancelled at its k-th checkpoint.
        cancelled: whether the cancellation came out of it. If not, it ended all the same.
        value: what it returned then; None if it was cancelled.
        complete: whether it ended before the k-th checkpoint: the sweep's last run, and the only one without a cancel.
    """

    k: int
    cancelled: bool
    value: T | None
    complete: bool


async def sweep(scenario: Callable[[], Coroutine[Any, Any, T]], *, most: int = 10_000) -> AsyncIterator[Step[T]]:
    """Run `scenario()` again and again, cancelled at its first checkpoint, its second, …, until one run is not cancelled.

    Only checkpoints of its own task count, not those of tasks that it starts. An exception that is no cancellation leaves
    the sweep, with a note that says at which checkpoint it was.

    Raises:
        AssertionError: after `most` runs: the scenario takes more and more checkpoints and would never end.

    Cancellation:
        A cancellation from outside goes through, as from the scenario itself.

    Example:
        ```python
        async for step in sweep(lambda: hub.request(3)):
            assert step.cancelled or step.value == 9
            assert await hub.request(2) == 4  # whatever was cancelled, the next one is answered
        ```
    """
    for k in count(1):
        value: T | None = None
        with anyio.CancelScope() as scope:
            try:
                value = await _cancelling_at(k, scope.cancel, scenario())
            except Exception as error:
                error.add_note(f"in a sweep, cancelled at checkpoint {k}" if scope.cancel_called else "in a sweep")
                raise
        yield Step(k, scope.cancelled_caught, value, not scope.cancel_called)
        if not scope.cancel_called:
            return
        if k >= most:
            raise AssertionError(f"the scenario has more than {most} checkpoints")


@types.coroutine
def _cancelling_at(k: int, cancel: Callable[[], None], coro: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
    """Await a coroutine, and call `cancel` when it yields for the k-th time."""
    step: Callable[[Any], Any] = coro.send
    what: Any = None
    for yields in count(1):
        try:
            to_the_loop = step(what)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        if yields == k:
            cancel()
        try:
            what = yield to_the_loop
            step = coro.send
        except BaseException as thrown:  # noqa: BLE001 - forwarded
            what, step = thrown, coro.throw
    raise AssertionError("count() has an end")


for _public in (Step, sweep):
    _public.__module__ = "gibbs.testing"
