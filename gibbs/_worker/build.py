"""Follow the recipe, build the model, and say what it offers.

Promises that whatever the user's code does here (raises, exits, opens a hub at import) becomes one report with a reason,
and that the report tells the kind of every public method, so that a wrong call is refused in the caller.
"""

from __future__ import annotations

import sys
from functools import partial
from types import FunctionType, MethodType

from .._batched import batches_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .._wire.recipe import Recipe

_KINDS = ((0x200, "async generator"), (0x80 | 0x100, "async"), (0x20, "generator"))


class Unfit(Exception):
    """No model came of it. `reason` is one of WorkerStartFailed's; the error is what the user's code raised, if it did."""

    def __init__(self, reason: str, error: BaseException) -> None:
        super().__init__(reason)
        self.reason = reason
        self.error = error


def build(recipe: Recipe) -> tuple[Any, tuple[Any, ...]]:
    """Import and build the model; return it, and what its calls get of their callers. Raises Unfit."""
    try:
        factory, args, propagated = recipe.load()
    except BaseException as error:  # noqa: BLE001 - importing the user's code may raise anything, SystemExit too
        raise _unfit("import", error) from None
    try:
        model = factory(*args)
    except BaseException as error:  # noqa: BLE001 - as above
        raise _unfit("model", error) from None
    name = getattr(factory, "__qualname__", None) or repr(factory)
    if kind_of(model) in ("async", "async generator"):
        raise Unfit("refused", TypeError(f"{name} builds an async model: a worker runs plain functions, one at a time"))
    if isinstance(factory, FunctionType) and not callable(model) and type(model).__module__ == "builtins":
        raise Unfit(
            "refused",
            TypeError(
                f"{name}() returned {type(model).__name__!r}, which cannot be called. A hub's factory builds the model; "
                f"to serve the function itself write gibbs.function({getattr(factory, '__name__', name)})"
            ),
        )
    return model, propagated


def describe(model: Any) -> dict[str, Any]:
    """What the hub must know of a model: its methods with their kinds, and how it bears an interrupt. Raises Unfit."""
    try:
        methods = methods_of(model)
        return {
            "methods": methods,
            "batched": {
                name: (batch.max_size, float(batch.max_wait))
                for name, batch in batches_of(model).items()
                if methods.get(name) == "plain"  # not the private ones, nor what the model itself has hidden
            },
            "interruptible": bool(getattr(model, "interruptible", False)),
        }
    except BaseException as error:  # noqa: BLE001 - a property, or a metaclass, of the user's
        raise Unfit("model", error) from None


def methods_of(model: Any) -> dict[str, str]:
    """Public callable names of a model, each with its kind, `__call__` included. Looks without running properties."""
    found: dict[str, str] = {}
    for namespace in [vars(cls) for cls in reversed(type(model).__mro__)] + [getattr(model, "__dict__", {})]:
        for name, value in list(namespace.items()):
            if name.startswith("_") and name != "__call__":
                continue
            if callable(value) or isinstance(value, staticmethod | classmethod):
                found[name] = kind_of(value)
            else:
                found.pop(name, None)
    if "__call__" in found:
        found["__call__"] = kind_of(model)
    return found


def kind_of(f: Any) -> str:
    """One of "plain", "async", "generator", "async generator": what calling it gives. Looks behind the usual wrappers."""
    while isinstance(f, partial | staticmethod | classmethod | MethodType):
        f = f.func if isinstance(f, partial) else f.__func__
    function = f if isinstance(f, FunctionType) else getattr(type(f), "__call__", None)  # noqa: B004 - the function itself
    flags = function.__code__.co_flags if isinstance(function, FunctionType) else 0
    return next((kind for flag, kind in _KINDS if flags & flag), "plain")


def _unfit(reason: str, error: BaseException) -> Unfit:
    recursive = recursive_start_in(error)
    return Unfit(reason, error) if recursive is None else Unfit("recursive", recursive)


def recursive_start_in(error: BaseException) -> BaseException | None:
    """What refused the user's module that opened a hub while it was being imported here; None if that is not the story.

    It may be in a task group's exception, or be the cause of what the module made of it (`except Exception: sys.exit(1)`).
    """
    errors = sys.modules.get("gibbs._errors")
    if errors is None:
        return None
    seen: set[int] = set()
    todo: list[object] = [error]
    while todo:
        one = todo.pop()
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        if issubclass(type(one), errors.RecursiveStart):
            return one
        seen.add(id(one))
        todo += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]
    return None
