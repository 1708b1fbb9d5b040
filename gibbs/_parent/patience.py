"""Wait for news of a worker for so long and no longer, and forgive this loop's own pause, once.

A loop that stood still finds its timers over and the worker's words unread, and Trio does not say who is woken first: a worker
must not be killed for what the hub was too slow to read.
"""

from __future__ import annotations

import anyio

from .waiter import Alarm

STOOD_STILL = 0.05  # a wait that ends so many seconds late was held up by this loop, and not by the worker


class PatientAlarm(Alarm):
    """An alarm with a deadline for what is waited for."""

    __slots__ = ("_reprieved",)

    def __init__(self) -> None:
        super().__init__()
        self._reprieved = False  # whether what is waited for now was given more time once

    def renew(self) -> None:
        """From now on something else is waited for."""
        self._reprieved = False

    async def wait_until(self, until: float, *, deadline: float) -> float:
        """Wait until then at most. Returns for how much longer than the deadline is to be waited, if this loop stood still meanwhile; or 0."""
        with anyio.CancelScope(deadline=until):
            await self.wait()
        now = anyio.current_time()
        if now < deadline or now - until < STOOD_STILL or self._reprieved:
            return 0.0
        self._reprieved = True  # once: a loop that is always late must not keep a worker for ever
        return now + (now - until) - deadline
