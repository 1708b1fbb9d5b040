"""The tickets that no seat holds: first come, first served, and whoever comes back has its old place.

Knows arrival numbers. Must never know of seats.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .ticket import Ticket


class Queue:
    """A line of tickets. Invariant: `tickets` is by arrival number, and always in its order; others only read it."""

    __slots__ = ("tickets",)

    def __init__(self) -> None:
        self.tickets: OrderedDict[int, Ticket] = OrderedDict()

    def __len__(self) -> int:
        return len(self.tickets)

    def __iter__(self) -> Iterator[Ticket]:
        return iter(self.tickets.values())

    @property
    def first(self) -> Ticket | None:
        """The ticket that has been in the queue for longest."""
        return next(iter(self.tickets.values()), None)

    def append(self, ticket: Ticket) -> None:
        """A new one, whose arrival number is the highest so far."""
        self.tickets[ticket.number] = ticket

    def take(self, at_most: int) -> list[Ticket]:
        """Remove the first, and those behind it up to one that was returned: that must not be sent behind another."""
        tickets: list[Ticket] = []
        for ticket in islice(self.tickets.values(), at_most):
            if ticket.returned and tickets:
                break
            tickets.append(ticket)
        for ticket in tickets:
            del self.tickets[ticket.number]
        return tickets

    def take_group(self, at_most: int) -> list[Ticket]:
        """Remove the first, and those that may run together with it, wherever they stand. One that was returned runs alone."""
        first = next(iter(self.tickets.values()))
        if first.returned or at_most == 1:
            return self.take(1)
        alike = (ticket for ticket in self.tickets.values() if ticket.group is first.group and not ticket.returned)
        tickets = list(islice(alike, at_most))
        for ticket in tickets:
            del self.tickets[ticket.number]
        return tickets

    def insert(self, tickets: Iterable[Ticket]) -> None:
        """To the places that their numbers give them: some that waited elsewhere."""
        last = next(reversed(self.tickets), 0)
        in_order = True
        for ticket in tickets:
            in_order = in_order and ticket.number > last
            self.tickets[ticket.number] = ticket
            last = ticket.number
        if not in_order:
            self.tickets = OrderedDict(sorted(self.tickets.items()))

    def remove(self, ticket: Ticket) -> None:
        """Its caller has left."""
        del self.tickets[ticket.number]

    def put_back(self, ticket: Ticket) -> None:
        """To its old place: nearly always the very front. Of several, the youngest goes first, which keeps it so."""
        oldest = next(iter(self.tickets), ticket.number)
        self.tickets[ticket.number] = ticket
        self.tickets.move_to_end(ticket.number, last=False)
        if oldest < ticket.number:
            self.tickets = OrderedDict(sorted(self.tickets.items()))

    def clear(self) -> None:
        """The hub closes."""
        self.tickets.clear()
