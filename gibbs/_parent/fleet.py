"""Where each seat of a hub has its workers: one launcher for all, or several that fill some seats each.

Knows launchers and their sessions. Must never know what becomes of a worker. Promises that sessions are left in the reverse order in
which they were entered, and that a launcher which is slow to start workers holds up nobody else's.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Any

    from .._options import HubOptions
    from ..abc import LaunchSession, Traits


class Post(NamedTuple):
    """What a seat has of the launcher that fills it, and shares with the other seats of that one."""

    session: LaunchSession
    traits: Traits
    seats: int  # how many it fills
    start_slots: anyio.Semaphore | None  # how many of them may be at their start; None: all
    lends: bool  # whether the hub puts arguments where its workers see them


class Fleet:
    """The posts of all seats, by index."""

    def __init__(self, posts: list[Post], arguments: Any) -> None:
        self.posts = posts
        self.arguments = arguments  # the arena for large ones, of the first launcher that has one; or None


@asynccontextmanager
async def open_fleet(options: HubOptions) -> AsyncIterator[Fleet]:
    """Enter the session of each launcher, in the order of the seats."""
    posts: list[Post] = []
    arguments = None
    problem: Exception | None = None
    async with AsyncExitStack() as stack:
        for launcher, seats in options.crews:
            try:
                session = await stack.enter_async_context(launcher.session())
            except Exception as error:  # noqa: BLE001 - raised below: in here the other sessions' tasks would make a group of it
                problem = error
                break
            offered = getattr(session, "arguments", None) if options.results is None else None
            arguments = arguments or offered
            slots = None if options.start_concurrency is None else anyio.Semaphore(options.start_concurrency)
            lends = offered is not None and offered is arguments
            posts += seats * [Post(session, launcher.traits, seats, slots, lends)]
        posts += options.spares * posts[-1:]
        if problem is None:
            yield Fleet(posts, arguments)
    if problem is not None:
        raise problem
