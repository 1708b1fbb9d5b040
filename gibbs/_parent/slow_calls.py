"""Says once of each call that takes long where it is.

Knows which request is at the head of a seat, and since when.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

import anyio

from .stacks import stacks_of

if TYPE_CHECKING:
    from .._core.seat import Seat
    from .crew import Crew

logger = logging.getLogger("gibbs")

LOOKS = 10  # in the time after which a call is slow: one is seen a look late at most, and told of another one later
_NOTHING = (0, math.inf)


class SlowCalls:
    """Those of one hub.

    Invariant: `_heads` has the request at the head of each seat as it was seen last, and when it was seen first, infinity once it was told of.
    """

    def __init__(self, crew: Crew, after: float) -> None:
        self._crew = crew
        self._after = after
        self._heads: dict[Seat, tuple[int, float]] = {}

    async def look(self) -> None:
        """Tell of those that have become slow, and note what is at the head of each seat."""
        await self._tell()
        now = anyio.current_time()
        seen = {supervisor.seat: _head_of(supervisor.seat) for supervisor in self._crew.supervisors}
        before = self._heads
        self._heads = {
            seat: before[seat] if seat in before and before[seat][0] == head else (head, now)
            for seat, head in seen.items()
            if head
        }

    async def _tell(self) -> None:
        """Say where those are that have become slow, and have not ended while they were asked."""
        limit = anyio.current_time() - self._after
        slow = {
            supervisor.worker.whereabouts: supervisor.seat
            for supervisor in self._crew.supervisors
            if supervisor.worker is not None and self._heads.get(supervisor.seat, _NOTHING)[1] <= limit
        }
        for stack, seat in zip(await stacks_of(slow), slow.values(), strict=True):
            head, since = self._heads[seat]
            if _head_of(seat) != head:
                continue
            self._heads[seat] = head, math.inf
            took = anyio.current_time() - since
            if self._crew.observers is not None:
                self._crew.observers.call_is_slow(seat, seat.held[head], took, stack)
            logger.warning(
                "worker %d of the hub %r (pid %s) has been in %r for %.3g seconds, and %s",
                seat.index,
                self._crew.options.name,
                stack.pid,
                stack.method,
                took,
                f"is at {stack.place}" if stack.place else "does not say where it is",
            )


def _head_of(seat: Seat) -> int:
    """The link id of what its worker runs, or begins next; 0 if there is nothing."""
    return next(iter(seat.held), 0)
