"""What a request brings of its caller's context: the values of the variables that the hub was told to propagate.

Knows the variables. Promises that a value which cannot travel is refused by its variable's name, and an argument by its own error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from ._options import UNSET
from ._wire import payload

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextvars import ContextVar

T = TypeVar("T")


class Propagation:
    """The variables of one hub, which its workers know by their place."""

    def __init__(self, variables: Sequence[ContextVar[Any]]) -> None:
        self._variables = tuple(variables)

    def __bool__(self) -> bool:
        return bool(self._variables)

    def dumps(self, dumps: Callable[[object], T], asked: tuple[Any, ...]) -> T:
        """What is asked, with the values that are set here. Raises the pickler's own error, or TypeError."""
        values = {
            place: value
            for place, variable in enumerate(self._variables)
            if (value := variable.get(UNSET)) is not UNSET
        }
        try:
            return dumps((*asked, values))
        except Exception:
            for place, value in values.items():
                try:
                    payload.dumps(value)
                except Exception as error:
                    name = self._variables[place].name
                    raise TypeError(
                        f"the context variable {name!r} is propagated, and cannot be pickled: {error}"
                    ) from error
            raise
