"""What a request brings of its caller's context: what the hub was told to propagate.

Knows context variables and propagators. Promises that a value which cannot travel is refused by the name of what it is of, and an argument
by its own error.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

from ._options import UNSET
from ._wire import payload

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .abc import Propagator

T = TypeVar("T")


class Propagation:
    """What one hub propagates, which its workers know by its place."""

    def __init__(self, hub: str, propagate: Sequence[ContextVar[Any] | Propagator]) -> None:
        self._hub = hub
        self._all = tuple(propagate)

    def __bool__(self) -> bool:
        return bool(self._all)

    def captured(self, method: str) -> dict[str, Any]:
        """What is set here, by its name. Raises what a propagator raises."""
        return self._named(self._capture(method))

    def pack(self, dumps: Callable[[object], T], asked: tuple[Any, ...]) -> tuple[T, dict[str, Any]]:
        """What is asked of a method, with what is set here, which is also given by its name.

        Raises the pickler's own error, or TypeError; or what a propagator raises.
        """
        values = self._capture(asked[0] or "__call__")
        try:
            return dumps((*asked, values)), self._named(values)
        except Exception:
            for place, value in values.items():
                try:
                    payload.dumps(value)
                except Exception as error:
                    one = self._all[place]
                    what = "the context variable" if isinstance(one, ContextVar) else "what comes of the propagator"
                    raise TypeError(f"{what} {one.name!r} is propagated, and cannot be pickled: {error}") from error
            raise

    def _capture(self, method: str) -> dict[int, Any]:
        found = {}
        for place, one in enumerate(self._all):
            if isinstance(one, ContextVar):
                if (value := one.get(UNSET)) is not UNSET:
                    found[place] = value
            elif (value := one.capture(self._hub, method)) is not None:
                found[place] = value
        return found

    def _named(self, values: dict[int, Any]) -> dict[str, Any]:
        return {self._all[place].name: value for place, value in values.items()}


def travelling(propagate: Sequence[ContextVar[Any] | Propagator]) -> tuple[Any, ...]:
    """What workers must have of it, in its order: the variables, and the propagators' other halves."""
    return tuple(one if isinstance(one, ContextVar) else one.around for one in propagate)
