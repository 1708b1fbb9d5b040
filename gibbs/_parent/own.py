"""Tasks of the hub's own: a Ctrl-C never lands in one of them.

Trio raises KeyboardInterrupt in whatever task happens to run, between any two lines, also between one that takes and the one that
gives back. It belongs to the program, whose main task gets it from Trio when it cannot be raised here. asyncio raises it in no task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from anyio.lowlevel import current_token

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    F = TypeVar("F", bound=Callable[..., Awaitable[object]])


def own(function: F) -> F:
    """The same function, to be started as a task."""
    if hasattr(current_token().native_token, "create_future"):  # an event loop of asyncio
        return function
    import trio

    async def protected(*args: object) -> None:
        await function(*args)

    protected.__qualname__ = getattr(function, "__qualname__", "protected")  # the task's name
    return trio.lowlevel.enable_ki_protection(protected)  # type: ignore[return-value]
