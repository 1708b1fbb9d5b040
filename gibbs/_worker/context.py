"""Run a call in the context of its caller: with the values that the hub's variables have there.

Knows the hub's variables. Promises that the model's call, and a generator's every step, sees what its caller saw, and that nothing of it
is left for the next call, whatever the model sets.
"""

from __future__ import annotations

from contextvars import Context, copy_context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import ContextVar
    from typing import Any


class Contexts:
    """The variables that callers bring, by their place in what each of them sends; what else is set was set when the model was built."""

    __slots__ = ("_built", "_variables")

    def __init__(self, variables: tuple[ContextVar[Any], ...]) -> None:
        self._variables = variables
        self._built = copy_context()

    def __bool__(self) -> bool:
        return bool(self._variables)

    def of(self, values: dict[int, Any]) -> Context:
        """The context of a caller with these values; what it has not set is not set."""
        context = self._built.copy()
        context.run(self._set, values)
        return context

    def _set(self, values: dict[int, Any]) -> None:
        for place, value in values.items():
            self._variables[place].set(value)


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
