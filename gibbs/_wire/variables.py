"""Context variables as both sides know them: the same variable is the same object again, whatever module it lives in.

Knows names and modules, and no value of any variable. A variable that an importable module has is found there; one of `__main__`, or of a
function, is made anew where it arrives, once: its name, and a number that is its own in the process that it is of, tell it from others.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import ContextVar
    from typing import Any

# Those that went or came so, by the name, the process that they are of, and their number there.
_known: dict[tuple[str, int, int], ContextVar[Any]] = {}


def parts_of(variable: ContextVar[Any]) -> tuple[Callable[..., ContextVar[Any]], tuple[Any, ...]]:
    """How a pickle brings it along."""
    for module_name, module in list(sys.modules.items()):
        try:
            namespace = object.__getattribute__(module, "__dict__")  # without waking a lazy module
        except AttributeError:  # anything may be in `sys.modules`
            continue
        if module_name != "__main__":
            for name, value in list(namespace.items()):
                if value is variable:
                    return found, (module_name, name)
                if issubclass(type(value), type):  # what it says of itself may be anything
                    of_class = type.__getattribute__(value, "__dict__")
                    own_name = next((own for own, one in list(of_class.items()) if one is variable), None)
                    if own_name is not None and of_class.get("__module__") == module_name:
                        return found, (module_name, name, own_name)
    from contextvars import Context

    default: tuple[Any, ...] = ()
    try:
        default = (Context().run(variable.get),)  # in an empty context there is nothing else
    except LookupError:
        pass
    key = next((key for key, one in _known.items() if one is variable), (variable.name, os.getpid(), id(variable)))
    _known[key] = variable
    return made, (*key, *default)


def found(module_name: str, *names: str) -> ContextVar[Any]:
    """The one that the module, or a class of it, has. Raises what importing it raises."""
    from importlib import import_module

    place: Any = import_module(module_name)
    for name in names:
        place = getattr(place, name)
    variable: ContextVar[Any] = place
    return variable


def made(name: str, process: int, number: int, *default: Any) -> ContextVar[Any]:
    """The one that it is here, or the one that came for it before, or a new one."""
    known = _known.get((name, process, number))
    if known is None:
        from contextvars import ContextVar

        known = ContextVar(name, default=default[0]) if default else ContextVar(name)
        _known[name, process, number] = known
    return known
