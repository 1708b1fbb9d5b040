"""What a model may use, in a worker and outside one. Standard library only, and little of it.

Knows nothing of hubs, streams or processes: the worker tells it what is running. Promises that a model which uses these
names runs unchanged, and without effect, in a plain program.
"""

from __future__ import annotations

from _thread import get_ident

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

    __slots__ = ("deliver", "depth", "pending", "thread")

    def __init__(self) -> None:
        self.depth = 0
        self.pending = False
        self.thread = 0  # the worker's main thread; 0 outside a worker
        self.deliver: Callable[[], None] = lambda: None


interrupts = _Interrupts()


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


function.__module__ = "gibbs"
