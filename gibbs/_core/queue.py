"""The tickets that no seat holds: first come, first served, and whoever comes back has its old place.

Knows arrival numbers. Must never know of seats.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .ticket import Ticket


class Queue:
    """A line of tickets. Invariant: `_tickets` is by arrival number, and always in its order."""

    __slots__ = ("_tickets",)

    def __init__(self) -> None:
        self._tickets: OrderedDict[int, Ticket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._tickets)

    def __iter__(self) -> Iterator[Ticket]:
        return iter(self._tickets.values())

    @property
    def first(self) -> Ticket | None:
        """The ticket that has been in the queue for longest."""
        return next(iter(self._tickets.values()), None)

    def append(self, ticket: Ticket) -> None:
        """A new one, whose arrival number is the highest so far."""
        self._tickets[ticket.number] = ticket

    def remove(self, ticket: Ticket) -> None:
        """It is sent, or its caller has left."""
        del self._tickets[ticket.number]

    def put_back(self, ticket: Ticket) -> None:
        """To its old place: nearly always the very front. Of several, the youngest goes first, which keeps it so."""
        oldest = next(iter(self._tickets), ticket.number)
        self._tickets[ticket.number] = ticket
        self._tickets.move_to_end(ticket.number, last=False)
        if oldest < ticket.number:
            self._tickets = OrderedDict(sorted(self._tickets.items()))

    def clear(self) -> None:
        """The hub closes."""
        self._tickets.clear()
