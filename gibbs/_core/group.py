"""Requests that may run in one call: how many, and how long the first of them waits for company.

Knows counts and seconds. Must never know of seats, nor what a request asks.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .ticket import Ticket


class Group:
    """The requests of one method that takes many at once.

    Invariants: `gathering` is by arrival number, and in its order; what is in it is QUEUED, and in no queue yet. `ripe_at` is when
    one of them has waited for long enough: as long as is usual, or as it will at most; infinity if there is none.
    """

    __slots__ = ("gathering", "most", "patience", "ripe_at")

    def __init__(self, most: int, patience: float = 0.0) -> None:
        self.most = most  # requests in one call
        self.patience = patience  # seconds that the first may wait for others
        self.gathering: dict[int, Ticket] = {}
        self.ripe_at = math.inf

    @property
    def is_full(self) -> bool:
        """Whether there are enough for a call."""
        return len(self.gathering) >= self.most

    def gather(self, ticket: Ticket) -> None:
        """One more waits for company."""
        self.gathering[ticket.number] = ticket
        self.ripe_at = min(self.ripe_at, self._ripens(ticket))

    def leave(self, ticket: Ticket) -> bool:
        """It waits no longer. False if it did not."""
        if self.gathering.pop(ticket.number, None) is None:
            return False
        if self._ripens(ticket) == self.ripe_at:
            self.ripe_at = min(map(self._ripens, self.gathering.values()), default=math.inf)
        return True

    def give(self) -> list[Ticket]:
        """All that gathered, in their order; they gather no longer."""
        tickets = list(self.gathering.values())
        self.gathering.clear()
        self.ripe_at = math.inf
        return tickets

    def _ripens(self, ticket: Ticket) -> float:
        return min(ticket.created + self.patience, ticket.give_up_at)
