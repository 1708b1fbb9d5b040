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

    Invariant: `gathering` is by arrival number, and in its order; what is in it is QUEUED, and in no queue yet.
    """

    __slots__ = ("gathering", "most", "patience")

    def __init__(self, most: int, patience: float = 0.0) -> None:
        self.most = most  # requests in one call
        self.patience = patience  # seconds that the first may wait for others
        self.gathering: dict[int, Ticket] = {}

    @property
    def is_full(self) -> bool:
        """Whether there are enough for a call."""
        return len(self.gathering) >= self.most

    @property
    def ripe_at(self) -> float:
        """When one of them has waited for long enough: as long as is usual, or as it will at most."""
        return min(
            (one.created + min(self.patience, one.terms.max_wait) for one in self.gathering.values()), default=math.inf
        )

    def give(self) -> list[Ticket]:
        """All that gathered, in their order; they gather no longer."""
        tickets = list(self.gathering.values())
        self.gathering.clear()
        return tickets
