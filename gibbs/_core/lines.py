"""What a queue of tickets can do whatever its order: lines by priority, of which the first is found, and others along with it.

Knows who may run together. Must never know whose turn comes when: that is for its kinds, `queue` and `urgent_queue`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import islice
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .ticket import Ticket

LineT = TypeVar("LineT")


class Lines(ABC, Generic[LineT]):
    """Tickets that wait, in lines by priority. Invariants: none of `lines` is empty; `count` is how many tickets are in all."""

    __slots__ = ("count", "lines")

    def __init__(self, lines: dict[int, LineT]) -> None:
        self.lines = lines
        self.count = 0

    @abstractmethod
    def __iter__(self) -> Iterator[Ticket]:
        """In the order of their turns."""

    @abstractmethod
    def __contains__(self, ticket: Ticket) -> bool: ...

    @property
    @abstractmethod
    def first(self) -> Ticket | None:
        """The ticket whose turn is next."""

    @property
    @abstractmethod
    def oldest(self) -> Ticket | None:
        """The ticket that has been here for longest."""

    @abstractmethod
    def append(self, ticket: Ticket) -> bool:
        """A new one, whose arrival number is the highest so far. Whether it goes before others that wait."""

    @abstractmethod
    def insert(self, tickets: Iterable[Ticket]) -> None:
        """To their places: some that waited elsewhere."""

    @abstractmethod
    def put_back(self, ticket: Ticket) -> None:
        """To its old place."""

    @abstractmethod
    def take(self, at_most: int) -> list[Ticket]:
        """Remove the first, and those whose turns follow and that may be sent behind it."""

    @abstractmethod
    def _remove(self, tickets: list[Ticket]) -> None: ...

    def take_group(self, at_most: int) -> list[Ticket]:
        """Remove the first, and those that may run together with it, wherever they stand. One that came back runs alone."""
        first = self.first
        assert first is not None
        if first.returned or at_most == 1:
            return self.take(1)
        alike = (ticket for ticket in self if ticket.group is first.group and not ticket.returned)
        tickets = list(islice(alike, at_most))
        self._remove(tickets)
        return tickets

    def remove(self, ticket: Ticket) -> None:
        """Its caller has left."""
        self._remove([ticket])

    def clear(self) -> None:
        """The hub closes."""
        self.lines.clear()
        self.count = 0
