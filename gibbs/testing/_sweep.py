"""The sweep: run a scenario once for each of its checkpoints, and do something to it there. By default it is cancelled.

Knows what every event loop has in common: an awaited coroutine yields once per checkpoint, to whoever runs the task. So a
wrapper that forwards `send` and `throw` can count the yields and act at the k-th. It works on asyncio, uvloop and Trio
alike and needs no clock. Promises that every checkpoint of the scenario's own task is hit, once each, in order, and with
several acts every combination of checkpoints.
"""

from __future__ import annotations

import types
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

import anyio
from anyio.lowlevel import current_token

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Sequence

    Act: TypeAlias = Callable[[anyio.CancelScope], object]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Step(Generic[T]):
    """One run of a swept scenario.

    Attributes:
        k: it was to be disturbed at its k-th checkpoint; with several acts, the first of them was to come there.
        cancelled: whether a cancellation of this run came out of it. If not, it ended all the same.
        value: what it returned then; None if it was cancelled.
        complete: whether it ended before the k-th checkpoint: the sweep's last run, and the only one that was not disturbed.
        acted: at which checkpoints something was done to it: one number for each act, as far as the scenario came.
    """

    k: int
    cancelled: bool
    value: T | None
    complete: bool
    acted: tuple[int, ...] = ()


def _cancel(scope: anyio.CancelScope) -> None:
    scope.cancel()


def sweep(
    scenario: Callable[[], Coroutine[Any, Any, T]],
    *,
    at: Act | Sequence[Act] = _cancel,
    most: int = 10_000,
) -> AsyncIterator[Step[T]]:
    """Run `scenario()` again and again, cancelled at its first checkpoint, its second, …, until one run is not cancelled.

    Only checkpoints of its own task count, not those of tasks that it starts. An exception that is no cancellation leaves
    the sweep, with a note that says at which checkpoint it was. Between two steps nothing is open: a loop over them may be
    left at any time.

    Args:
        scenario: makes the coroutine of one run.
        at: what is done at the k-th checkpoint in the place of a cancellation: a plain function, called once the task has
            yielded and before anything else runs. It is given a cancel scope around the run, and need not use it. Several
            come one after the other, at the same checkpoint or a later one, in every combination; each is given a scope of
            its own, around that of the one before.
        most: how many checkpoints the scenario may have.

    Raises:
        AssertionError: it has more, or takes more and more of them and would never end.
        Exception: what `at` raised; the run is cancelled first.

    Cancellation:
        A cancellation from outside goes through, as from the scenario itself.

    Example:
        ```python
        async for step in sweep(lambda: hub.request(3)):
            assert step.cancelled or step.value == 9
            assert await hub.request(2) == 4  # whatever was cancelled, the next one is answered
        ```

        A deadline that passes at each checkpoint, and a cancellation from further out while that is cleaned up after:

        ```python
        def deadline(scope):
            scope.deadline = anyio.current_time()


        def cancel(scope):
            scope.cancel()


        async for step in sweep(lambda: hub.request(3), at=[deadline, cancel]):
            assert step.cancelled or step.value == 9
        ```
    """
    return _Sweep(scenario, (at,) if callable(at) else tuple(at), most)


class _Sweep(Generic[T]):
    """The runs of one scenario. No async generator: on Trio those must not be left before their end."""

    def __init__(self, scenario: Callable[[], Coroutine[Any, Any, T]], acts: Sequence[Act], most: int) -> None:
        self._scenario = scenario
        self._acts = acts
        self._most = most
        self._planned: list[int] | None = [1] * len(acts)  # at which checkpoints of the next run; None: there is none

    def __aiter__(self) -> AsyncIterator[Step[T]]:
        return self

    async def __anext__(self) -> Step[T]:
        planned = self._planned
        if planned is None:
            raise StopAsyncIteration
        if any(k > self._most for k in planned):
            raise AssertionError(f"the scenario has more than {self._most} checkpoints")
        run = _Run(self._acts, planned)
        value: T | None = None
        with ExitStack() as stack:
            for scope in reversed(run.scopes):
                stack.enter_context(scope)
            try:
                value = await run.watch(self._scenario())
            except Exception as error:
                error.add_note(f"in a sweep{run}")
                if run.broken is None:
                    raise
        if run.broken is not None:
            run.broken.add_note(f"in a sweep, raised by what was to be done{run}")
            raise run.broken
        acted = tuple(planned[: run.acted])
        self._planned = None
        if acted:  # the last act that came is to come one checkpoint later, and those that follow it no earlier
            self._planned = [*acted[:-1], *[acted[-1] + 1] * (len(planned) - len(acted) + 1)]
        cancelled = any(scope.cancelled_caught for scope in run.scopes)
        return Step(planned[0] if planned else 1, cancelled, value, not acted, acted)


class _Run:
    """One run: what is to be done to it at which of its checkpoints, and how much of that was done."""

    def __init__(self, acts: Sequence[Act], planned: Sequence[int]) -> None:
        self.scopes = [anyio.CancelScope() for _ in acts]
        self.acted = 0
        self.broken: BaseException | None = None
        self._acts = acts
        self._planned = planned
        self._yields = 0

    @types.coroutine
    def watch(self, coro: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
        """Await a coroutine, and act as often as it has come to a checkpoint that is due."""
        after_this_step = _what_calls_after_this_step()
        step: Callable[[Any], Any] = coro.send
        what: Any = None
        while True:
            try:
                to_the_loop = step(what)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            self._yields += 1
            if self._is_due():
                after_this_step(self._act)
            try:
                what = yield to_the_loop
                step = coro.send
            except BaseException as thrown:  # noqa: BLE001 - forwarded
                what, step = thrown, coro.throw

    def _is_due(self) -> bool:
        return self.acted < len(self._acts) and self._planned[self.acted] == self._yields

    def _act(self) -> None:
        while self._is_due():
            act, scope = self._acts[self.acted], self.scopes[self.acted]
            self.acted += 1
            try:
                act(scope)
            except BaseException as error:  # noqa: BLE001 - raised when the run has ended
                self.broken = error
                self.scopes[-1].cancel()
                return

    def __str__(self) -> str:
        where = " and ".join(map(str, self._planned[: self.acted]))
        return f", disturbed at checkpoint {where}" if where else ""


def _what_calls_after_this_step() -> Callable[[Callable[[], None]], None]:
    """What calls a function as soon as the running task has yielded.

    An act may wake the very task that it disturbs. A future of asyncio can be done before the task waits for it. A task of
    Trio must not be rescheduled until the loop knows that it waits, so there an instrument calls.
    """
    if hasattr(current_token().native_token, "create_future"):
        return lambda act: act()
    import trio

    return lambda act: trio.lowlevel.add_instrument(_AfterThisStep(act))  # type: ignore[arg-type]  # it has what is called


class _AfterThisStep:
    """An instrument of Trio that calls once, after the step in which it was added."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._act = act

    def after_task_step(self, _task: object) -> None:
        import trio

        trio.lowlevel.remove_instrument(self)  # type: ignore[arg-type]  # as above
        self._act()


for _public in (Step, sweep):
    _public.__module__ = "gibbs.testing"
