"""What builds a model, as `open_hub` is given it: what it is called, what it tells of the model, and whether it can be one at all.

Knows functions and classes, and builds nothing. Promises that what can never be a model is refused before any process is started.
"""

from __future__ import annotations

from typing import Any

from ._batched import batches_of
from ._model import _Function


def check_factory(factory: Any) -> None:
    """Refuse what can never build a model, before any process is started."""
    import inspect
    from functools import partial

    if not callable(factory):
        raise TypeError(
            f"the factory must be callable, such as the model's class, not {factory!r}: "
            f"each worker builds a model of its own by calling it"
        )
    target = factory
    while isinstance(target, partial):
        target = target.func
    served = target() if isinstance(target, _Function) else None  # that builds nothing, it names the function
    call = getattr(target if inspect.isclass(target) else type(target), "__call__", None)  # noqa: B004 - the function itself
    call_is_async = any(inspect.iscoroutinefunction(f) or inspect.isasyncgenfunction(f) for f in (call, served))
    if inspect.isclass(target) or served is not None:
        if call_is_async:
            what = name_of(factory) if served is not None else f"{name_of(factory)}.__call__"
            raise TypeError(
                f"{what} is async: a worker runs plain functions, one at a time. "
                f"What awaits needs no worker; call it from your own program"
            )
    elif call_is_async or inspect.iscoroutinefunction(target) or inspect.isasyncgenfunction(target):
        raise TypeError(f"the factory {name_of(factory)!r} is async: a worker builds its model in a plain call")


def batched_by(factory: Any) -> dict[str, tuple[int, float]]:
    """What the class, or the function, that is served says of methods that take many items: how many, and the wait."""
    served = factory() if isinstance(factory, _Function) else factory
    if served is factory and not isinstance(factory, type):
        return {}  # a function that builds the model: the first worker will tell
    return {
        name: (batch.max_size, float(batch.max_wait))
        for name, batch in batches_of(served).items()
        if name == "__call__" or not name.startswith("_")
    }


def name_of(factory: Any) -> str:
    """What a factory is called in logs and errors."""
    while hasattr(factory, "func") and not hasattr(factory, "__qualname__"):
        factory = factory.func
    return str(getattr(factory, "__qualname__", None) or type(factory).__qualname__)
