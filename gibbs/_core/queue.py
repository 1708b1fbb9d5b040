"""The tickets that no seat holds: first come, first served among equals, and whoever comes back has its old place.

A level of priority is worth so many seconds of waiting: a ticket stands where one without would stand that came so much earlier. So
everybody's turn comes, whatever comes behind: nobody waits longer for others' priority than that is worth. Each level has a line of
its own, and the turns of their firsts are compared.

Knows arrival numbers, times and priorities. Must never know of seats.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING

from .lines import Lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .ticket import Ticket

AGEING = 10.0  # seconds of waiting that a level of priority is worth


def turn_of(ticket: Ticket) -> tuple[float, int]:
    """Whose is lower comes first."""
    return ticket.created - AGEING * ticket.terms.priority, ticket.number


class Queue(Lines["OrderedDict[int, Ticket]"]):
    """By arrival. Invariant: each of `lines` is by arrival number, and always in its order."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(defaultdict(OrderedDict))

    def __iter__(self) -> Iterator[Ticket]:
        return merge(*(line.values() for line in self.lines.values()), key=turn_of)

    def __contains__(self, ticket: Ticket) -> bool:
        return ticket.number in self.lines.get(ticket.terms.priority, ())

    @property
    def first(self) -> Ticket | None:
        """The ticket whose turn is next."""
        lines = self.lines
        if len(lines) > 1:
            return min((next(iter(line.values())) for line in lines.values()), key=turn_of)
        for line in lines.values():
            return next(iter(line.values()))
        return None

    @property
    def oldest(self) -> Ticket | None:
        """The ticket that has been here for longest."""
        firsts = (next(iter(line.values())) for line in self.lines.values())
        return min(firsts, key=lambda ticket: ticket.number, default=None)

    def append(self, ticket: Ticket) -> bool:
        """A new one, whose arrival number is the highest so far. Whether it goes before others that wait."""
        self.lines[ticket.terms.priority][ticket.number] = ticket
        self.count += 1
        return len(self.lines) > 1 and self.first is ticket

    def take(self, at_most: int) -> list[Ticket]:
        """Remove the first, and those whose turns follow and that may be sent behind it."""
        first = self.first
        assert first is not None
        priority = first.terms.priority
        line = self.lines[priority]
        until = None
        if len(self.lines) > 1:
            until = min(turn_of(next(iter(other.values()))) for other in self.lines.values() if other is not line)
        tickets = [first]
        for ticket in islice(line.values(), 1, at_most):
            if ticket.apart or (until is not None and turn_of(ticket) > until):
                break
            tickets.append(ticket)
        for ticket in tickets:
            del line[ticket.number]
        if not line:
            del self.lines[priority]
        self.count -= len(tickets)
        return tickets

    def insert(self, tickets: Iterable[Ticket]) -> None:
        """To the places that their numbers give them: some that waited elsewhere."""
        disordered: set[int] = set()
        for ticket in tickets:
            line = self.lines[ticket.terms.priority]
            if ticket.number < next(reversed(line), 0):
                disordered.add(ticket.terms.priority)
            line[ticket.number] = ticket
            self.count += 1
        for priority in disordered:
            self.lines[priority] = OrderedDict(sorted(self.lines[priority].items()))

    def put_back(self, ticket: Ticket) -> None:
        """To its old place: nearly always the very front. Of several, the youngest goes first, which keeps it so."""
        line = self.lines[ticket.terms.priority]
        oldest = next(iter(line), ticket.number)
        line[ticket.number] = ticket
        line.move_to_end(ticket.number, last=False)
        self.count += 1
        if oldest < ticket.number:
            self.lines[ticket.terms.priority] = OrderedDict(sorted(line.items()))

    def _remove(self, tickets: list[Ticket]) -> None:
        for ticket in tickets:
            line = self.lines[ticket.terms.priority]
            del line[ticket.number]
            if not line:
                del self.lines[ticket.terms.priority]
        self.count -= len(tickets)
