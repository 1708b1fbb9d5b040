"""What a model may use, in a worker and outside one. Standard library only, and little of it.

Knows nothing of hubs, streams or processes: the worker tells it what is running. Promises that a model which uses these
names runs unchanged, and without effect, in a plain program.
"""

from __future__ import annotations

import math
from _thread import get_ident
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, ParamSpec, TypeVar

    P = ParamSpec("P")
    R = TypeVar("R")


class Interrupted(BaseException):
    """Raised in a model whose caller is gone, between two bytecodes of the running call. Only in a worker.

    A BaseException, so that `except Exception` does not swallow it. Clean up and let it pass; a model that swallows it and
    goes on is killed after `cancel_grace` seconds.
    """

    __module__ = "gibbs"


class _Interrupts:
    """What the worker's signal handler and the model's shields tell each other. One per process, used by its main thread.

    Invariant: `depth` shields are open in the main thread; `pending` only while `depth` > 0.
    """

    __slots__ = ("deliver", "depth", "is_unwanted", "pending", "thread")

    def __init__(self) -> None:
        self.depth = 0
        self.pending = False
        self.thread = 0  # the worker's main thread; 0 outside a worker
        self.deliver: Callable[[], None] = lambda: None
        self.is_unwanted: Callable[[], bool] = lambda: False


interrupts = _Interrupts()


class CurrentWorker:
    """Which worker this is, as `gibbs.current_worker()` tells.

    Attributes:
        name: the hub's name; "" outside a worker.
        seat: the seat's index, from 0 to `workers` - 1. The worker that takes the place of one that died has the same.
        incarnation: the how-manieth worker of that seat, from 1; 0 outside a worker.
        device: what the launcher's `devices` has for this seat, or None.
    """

    __module__ = "gibbs"
    __slots__ = ("device", "incarnation", "name", "seat")

    def __init__(self, name: str = "", seat: int = 0, incarnation: int = 0, device: str | None = None) -> None:
        self.name: str = name
        self.seat: int = seat
        self.incarnation: int = incarnation
        self.device: str | None = device

    def __repr__(self) -> str:
        return f"<gibbs.CurrentWorker {self.seat} of {self.name!r}, incarnation {self.incarnation}, device {self.device!r}>"


class _Here:
    """What the worker tells its model, and nobody tells elsewhere. One per process; written by its main thread.

    Invariant: `deadline` is None only while a call runs, and nobody has asked its caller yet.
    """

    __slots__ = ("ask", "deadline", "report", "worker")

    def __init__(self) -> None:
        self.worker = CurrentWorker()
        self.deadline: float | None = math.inf  # of the running call, by this process's `monotonic`
        self.ask: Callable[[], float] = lambda: math.inf  # the hub, in the main thread
        self.report: Callable[[object], None] = lambda _: None  # to whoever tracks the running call


here = _Here()


def current_worker() -> CurrentWorker:
    """Which worker this is; from its first import on, also while the model is built, and in any thread.

    Outside a worker it is seat 0, of no name, incarnation 0, without a device: a model that asks runs there too.

    Example:
        ```python
        class Model:
            def __init__(self):
                self.device = gibbs.current_worker().device or "cpu"
        ```
    """
    return here.worker


def checkpoint() -> None:
    """Raise `Interrupted` if the caller of the running call is gone; for places where it is a good moment to stop.

    A call is interrupted between any two lines anyway, if the model or the caller says so; this is for code that cannot be: threads of
    the model's own, and long stretches inside C. Does nothing in a `uninterruptible` block, nor outside a worker.

    Raises:
        Interrupted: nobody waits for the call any more.
    """
    if get_ident() != interrupts.thread:
        if interrupts.is_unwanted():
            raise Interrupted
    elif not interrupts.depth:
        interrupts.deliver()
        if interrupts.is_unwanted():  # it was raised before, and swallowed
            raise Interrupted


def cancelled() -> bool:
    """Whether the caller of the running call is gone, and it is to end. From any thread. False outside a worker.

    With on_cancel="finish" nobody tells, and with "kill" nobody is left to be told.
    """
    return interrupts.is_unwanted()


def remaining() -> float:
    """Seconds until the deadline of the caller's scopes (`anyio.fail_after` and the like); `math.inf` if there is none.

    So a model can give the best answer that it has found in time: leave what the way back takes. Negative when the time is over, and
    when the caller has left. The first question of a call goes to the hub and back; what is answered is kept for the rest of it. `math.inf` in a batch, whose callers each have their own, between calls, and outside a worker. A thread of the
    model's own knows it when the call's own thread has asked.

    Example:
        ```python
        def __call__(self, problem):
            best = guess(problem)
            while gibbs.remaining() > 0.05:
                best = improve(best)
            return best
        ```
    """
    if here.deadline is None and get_ident() == interrupts.thread:
        here.deadline = here.ask()
    return math.inf if here.deadline is None else here.deadline - monotonic()


def report(value: object) -> None:
    """Tell the caller how far the running call has come: any value that can be pickled, as often as you like, from any thread.

    Whoever called it with `hub.track` gets the last word that there is when it looks; earlier ones are dropped. The model never waits for
    a reader. Nothing happens, and nothing is pickled, in a call that nobody tracks, in a stream or a batch, between calls, and outside a
    worker. A value that cannot be sent is dropped too; the first of them is told on stderr.

    Example:
        ```python
        def __call__(self, pages):
            for number, page in enumerate(pages, 1):
                self.read(page)
                gibbs.report(number / len(pages))
        ```
    """
    here.report(value)


class uninterruptible:
    """Delay an interrupt to the end of a `with` block: `with gibbs.uninterruptible(): save()`.

    For the lines that must not be left half done. Nests. `cancel_grace` goes on counting: a block that lasts longer is
    killed with its worker. Without effect outside a worker and in threads other than its main one, which are never
    interrupted.

    Example:
        ```python
        def __call__(self, x):
            result = solve(x)
            with gibbs.uninterruptible():
                self.lock.acquire()
                self.cache[x] = result
                self.lock.release()
            return result
        ```
    """

    __module__ = "gibbs"
    __slots__ = ("_entered",)

    def __init__(self) -> None:
        self._entered = 0  # times, by the main thread: one object may be entered again inside its own block

    def __enter__(self) -> None:
        if get_ident() == interrupts.thread:
            interrupts.depth += 1
            self._entered += 1

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._entered or get_ident() != interrupts.thread:
            return
        self._entered -= 1
        interrupts.depth -= 1
        if interrupts.depth == 0 and interrupts.pending:
            interrupts.pending = False
            interrupts.deliver()


class _Function:
    """A factory whose model is a function. It pickles as the function does and bears its name."""

    def __init__(self, function: Any) -> None:
        self._function = function
        self.__qualname__ = str(getattr(function, "__qualname__", repr(function)))

    def __call__(self) -> Any:
        return self._function

    def __reduce__(self) -> tuple[type[_Function], tuple[Any]]:
        return _Function, (self._function,)


class Checked:
    """A factory whose model is shown to somebody before it serves."""

    def __init__(self, factory: Callable[..., Any], check: Callable[[Any], object]) -> None:
        self._factory = factory
        self._check = check
        self.__qualname__ = str(getattr(factory, "__qualname__", repr(factory)))

    def __call__(self, *args: Any) -> Any:
        model = self._factory(*args)
        self._check(model)
        return model

    def __reduce__(self) -> tuple[type[Checked], tuple[Any, Any]]:
        return Checked, (self._factory, self._check)


def function(f: Callable[P, R], /) -> Callable[[], Callable[P, R]]:
    """Make a factory of a plain function, so that a hub serves the function itself.

    `open_hub(f)` would call `f()` once in each worker to build a model; `open_hub(gibbs.function(f))` makes `f` the model.
    Set `f.interruptible = True` if a cancelled call may be interrupted.

    Raises:
        TypeError: `f` is not callable.

    Example:
        ```python
        async with gibbs.open_hub(gibbs.function(predict), workers=2) as hub:
            label = await hub.request(image)
        ```
    """
    if not callable(f):
        raise TypeError(f"gibbs.function() serves a function, not {f!r}")
    return _Function(f)


for _public in (function, current_worker, checkpoint, cancelled, remaining, report):
    _public.__module__ = "gibbs"
