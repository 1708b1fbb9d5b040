"""Looks at what runs again and again, and sleeps while nothing does: a hub that is idle is not woken.

Knows whether any worker has a request. Must never be in the way of one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from .waiter import Alarm

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .crew import Crew


class Rounds:
    """Those that one look is for: a task of the hub's own. The last one comes when nothing runs any more.

    Invariant: `sleeps` while nobody looks.
    """

    def __init__(self, crew: Crew, every: float, look: Callable[[], Awaitable[None]]) -> None:
        self.sleeps = True
        self._crew = crew
        self._every = every
        self._look = look
        self._alarm = Alarm()
        self._scope = anyio.CancelScope(shield=True)

    def wake(self) -> None:
        """Something was sent."""
        self.sleeps = False
        self._alarm.ring()

    def close(self) -> None:
        """Nobody looks any more."""
        self._scope.cancel()

    async def run(self) -> None:
        """Look, until `close`."""
        with self._scope:
            while True:
                await self._alarm.wait()
                while not self.sleeps:
                    await anyio.sleep(self._every)
                    self.sleeps = not any(supervisor.seat.held for supervisor in self._crew.supervisors)
                    await self._look()
