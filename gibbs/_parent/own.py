"""Where no Ctrl-C may land: in the tasks of the hub's own, and between two lines that belong together.

Trio raises KeyboardInterrupt in whatever task happens to run, between any two lines, also between one that takes and the one that
gives back. It belongs to the program, whose main task gets it from Trio when it cannot be raised here. asyncio cancels the main task
instead; only a second Ctrl-C is raised where it comes, and then the loop itself ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from anyio.lowlevel import current_token

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    F = TypeVar("F", bound=Callable[..., Awaitable[object]])
    G = TypeVar("G", bound=Callable[..., object])


def own(function: F) -> F:
    """The same async function, to be started as a task: on Trio no KeyboardInterrupt is raised in it."""
    if _on_asyncio():
        return function
    import trio

    async def protected(*args: object) -> None:
        await function(*args)

    protected.__qualname__ = getattr(function, "__qualname__", "protected")  # the task's name
    return trio.lowlevel.enable_ki_protection(protected)  # type: ignore[return-value]


def whole(function: G) -> G:
    """The same plain function: on Trio a Ctrl-C that comes while it runs is raised when it is over."""
    if _on_asyncio():
        return function
    import trio

    def protected(*args: object) -> object:
        return function(*args)

    return trio.lowlevel.enable_ki_protection(protected)  # type: ignore[return-value]


def _on_asyncio() -> bool:
    return hasattr(current_token().native_token, "create_future")
