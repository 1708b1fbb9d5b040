"""Until when those that wait must have been taken: the next one is found at once, and who is taken earlier costs nothing.

Knows tickets and times, and no clock.
"""

from __future__ import annotations

import math
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

from .ticket import TicketState

if TYPE_CHECKING:
    from .ticket import Ticket

_FEW = 64


class Deadlines:
    """A heap. Invariant: every ticket that is QUEUED and whose terms have a `max_wait` is in it, but for one that has begun before.

    Others that were are left in it until they come to its top, or are too many.
    """

    __slots__ = ("_heap", "_many")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Ticket]] = []
        self._many = _FEW

    def add(self, ticket: Ticket) -> None:
        """It waits from now on, or again."""
        if len(self._heap) >= self._many:
            self._heap = [entry for entry in self._heap if entry[2].state is TicketState.QUEUED]
            heapify(self._heap)
            self._many = 2 * len(self._heap) + _FEW
        heappush(self._heap, (ticket.created + ticket.terms.max_wait, ticket.number, ticket))

    @property
    def next_at(self) -> float:
        """When the next of those that wait must have been taken."""
        heap = self._heap
        while heap and heap[0][2].state is not TicketState.QUEUED:
            heappop(heap)
        return heap[0][0] if heap else math.inf

    def missed(self, now: float) -> list[Ticket]:
        """Those that wait, and should have been taken by now. They are asked about once."""
        tickets: list[Ticket] = []
        while self.next_at <= now:
            ticket = heappop(self._heap)[2]
            if ticket not in tickets[-1:]:  # it came back, and was here twice
                tickets.append(ticket)
        return tickets
