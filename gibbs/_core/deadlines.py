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
    """A heap. Invariant: every ticket that waits, as `_waits` says, and that may have to give up is in it.

    Others that did are left in it until they come to its top, or are too many.
    """

    __slots__ = ("_heap", "_many")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Ticket]] = []
        self._many = _FEW

    def add(self, ticket: Ticket) -> None:
        """It waits from now on, or again."""
        if len(self._heap) >= self._many:
            self._heap = [entry for entry in self._heap if _waits(entry[2])]
            heapify(self._heap)
            self._many = 2 * len(self._heap) + _FEW
        heappush(self._heap, (ticket.give_up_at, ticket.number, ticket))

    @property
    def next_at(self) -> float:
        """When the next of those that wait must have been taken."""
        heap = self._heap
        while heap and not _waits(heap[0][2]):
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


def _waits(ticket: Ticket) -> bool:
    """Whether no worker has taken it yet. One whose worker died was taken in time, however long it waits now."""
    return ticket.state is TicketState.QUEUED and not ticket.returned
