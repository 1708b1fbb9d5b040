"""Run a call in the context of its caller: with what the hub's program propagates.

Knows the hub's context variables, and what is put around calls. Promises that the model's call, and a generator's every step, sees what
its caller saw, and that nothing of it is left for the next call, whatever the model sets; and that whatever was entered for a call is
left behind it.
"""

from __future__ import annotations

import sys
from contextvars import Context, ContextVar, copy_context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from typing import Any

    from .interrupt import Interrupter

    Enter = Callable[[str, list[Any]], AbstractContextManager[object]]  # `gibbs.abc.Propagator.around`


class Contexts:
    """What callers bring, by its place in what each of them sends; what else is set was set when the model was built."""

    __slots__ = ("_built", "_propagators", "_variables")

    def __init__(self, propagated: Sequence[ContextVar[Any] | Enter]) -> None:
        self._variables = {place: one for place, one in enumerate(propagated) if isinstance(one, ContextVar)}
        self._propagators = {place: one for place, one in enumerate(propagated) if not isinstance(one, ContextVar)}
        self._built = copy_context()

    def __bool__(self) -> bool:
        return bool(self._variables or self._propagators)

    def of(self, values: dict[int, Any]) -> Context:
        """The context of a caller with these values; what it has not set is not set."""
        context = self._built.copy()
        context.run(self._set, values)
        return context

    def of_nobody(self) -> Context:
        """A context in which what is set is gone with it."""
        return self._built.copy()

    def around(self, method: str, brought: list[dict[int, Any]], *, alone: bool = True) -> Around:
        """What a call is put in, of a caller who has brought this, or of several."""
        context = self.of(*brought) if alone else self.of_nobody()
        entered = []
        for place, enter in self._propagators.items():
            if values := [one[place] for one in brought if place in one]:
                entered.append((enter, values))
        return Around(context, method or "__call__", entered)

    def _set(self, values: dict[int, Any]) -> None:
        for place, variable in self._variables.items():
            if place in values:
                variable.set(values[place])


class Around:
    """One call's context, and what it is put in there.

    Invariant: `_entered` are those that were entered and not left.
    """

    __slots__ = ("_entered", "_method", "_to_enter", "context")

    def __init__(self, context: Context, method: str, to_enter: list[tuple[Enter, list[Any]]]) -> None:
        self.context = context
        self._method = method
        self._to_enter = to_enter
        self._entered: list[AbstractContextManager[object]] = []

    def enter(self, interrupter: Interrupter) -> None:
        """In the interruptible part of a call, but not cut. Raises what a propagator raises, or Interrupted behind it."""
        if self._to_enter:
            interrupter.undisturbed(lambda: self.context.run(self._enter))

    def _enter(self) -> None:
        for enter, values in self._to_enter:
            manager = enter(self._method, values)
            manager.__enter__()
            self._entered.append(manager)

    def leave(self, error: BaseException | None) -> None:
        """The call is over. What a propagator raises is nobody's: it is told as an exception that nobody caught is."""
        while self._entered:
            manager = self._entered.pop()
            try:
                traceback = None if error is None else error.__traceback__
                self.context.run(manager.__exit__, None if error is None else type(error), error, traceback)
            except BaseException as exc:  # noqa: BLE001 - a propagator may raise anything
                sys.excepthook(type(exc), exc, exc.__traceback__)


class GeneratorIn:
    """A generator each of whose steps runs in that context."""

    __slots__ = ("_context", "_generator")

    def __init__(self, context: Context, generator: Any) -> None:
        self._context = context
        self._generator = generator

    def __iter__(self) -> GeneratorIn:
        return self

    def __next__(self) -> Any:
        return self._context.run(next, self._generator)

    def close(self) -> None:
        """As a generator's."""
        close: Callable[[], None] = self._generator.close
        self._context.run(close)
