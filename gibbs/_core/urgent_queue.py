"""The twin of `queue` for hubs that serve first whose caller's time is over first.

Within a priority the earliest deadline comes first. Who gives none is served as if he had given a minute, or urgent ones would pass him
for ever; and a level of priority is worth as much time as in `queue`. Whoever comes back has its old place.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING

from .lines import Lines
from .queue import AGEING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .ticket import Ticket

PATIENCE = 60.0  # seconds that who gives no deadline is taken to have

Entry = tuple[float, int, "Ticket"]


def due_of(ticket: Ticket) -> float:
    """Until when it is to be served, as far as the order goes."""
    deadline = math.inf if ticket.deadline is None else ticket.deadline
    return min(deadline, ticket.created + PATIENCE)


def _entry_of(ticket: Ticket) -> Entry:
    return due_of(ticket), ticket.number, ticket


def _turn_of(entry: Entry) -> tuple[float, int]:
    return entry[0] - AGEING * entry[2].terms.priority, entry[1]


class UrgentQueue(Lines["list[Entry]"]):
    """By due time. Invariant: each of `lines` is by due time, and by number where that is the same."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__({})

    def __iter__(self) -> Iterator[Ticket]:
        return (entry[2] for entry in merge(*self.lines.values(), key=_turn_of))

    def __contains__(self, ticket: Ticket) -> bool:
        return self._find(ticket) is not None

    @property
    def first(self) -> Ticket | None:
        """The ticket whose turn is next."""
        entry = min((line[0] for line in self.lines.values()), key=_turn_of, default=None)
        return None if entry is None else entry[2]

    @property
    def oldest(self) -> Ticket | None:
        """The ticket that has been here for longest."""
        return min(self, key=lambda ticket: ticket.number, default=None)

    def append(self, ticket: Ticket) -> bool:
        """A new one. Whether it goes before others that wait."""
        self.put_back(ticket)
        return self.count > 1 and self.first is ticket

    def put_back(self, ticket: Ticket) -> None:
        """To its place."""
        insort(self.lines.setdefault(ticket.terms.priority, []), _entry_of(ticket))
        self.count += 1

    def insert(self, tickets: Iterable[Ticket]) -> None:
        """To their places: some that waited elsewhere."""
        for ticket in tickets:
            self.put_back(ticket)

    def take(self, at_most: int) -> list[Ticket]:
        """Remove the first, and those whose turns follow and that may be sent behind it."""
        tickets: list[Ticket] = []
        for ticket in islice(self, at_most):
            if tickets and (ticket.apart or ticket.terms.priority != tickets[0].terms.priority):
                break
            tickets.append(ticket)
        self._remove(tickets)
        return tickets

    def _find(self, ticket: Ticket) -> int | None:
        line = self.lines.get(ticket.terms.priority, [])
        at = bisect_left(line, (due_of(ticket), ticket.number), key=lambda entry: entry[:2])
        return at if at < len(line) and line[at][2] is ticket else None

    def _remove(self, tickets: list[Ticket]) -> None:
        for ticket in tickets:
            at = self._find(ticket)
            assert at is not None
            priority = ticket.terms.priority
            del self.lines[priority][at]
            if not self.lines[priority]:
                del self.lines[priority]
        self.count -= len(tickets)
