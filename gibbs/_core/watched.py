"""A dispatcher that writes down what it does: each transition of a ticket and of a seat, in their order.

Decides nothing. Promises that who reads it all knows where each ticket is: accepted once, then sent and returned in turn, then ended once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from .dispatch import Dispatcher
from .lease import LeaseState
from .ticket import TicketState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .lease import Lease
    from .orders import Order, Send
    from .seat import Seat, SeatState
    from .ticket import Ticket, TicketMove


class Accepted(NamedTuple):
    """It has its number."""

    ticket: Ticket


class TurnedAway(NamedTuple):
    """Somebody asked for this method while so many waited, and has no ticket: there was no room, or less time than is needed."""

    method: str
    pending: int
    needed: float | None


class Sent(NamedTuple):
    """That seat's worker has it."""

    ticket: Ticket
    seat: Seat


class Returned(NamedTuple):
    """It is QUEUED again."""

    ticket: Ticket


class Ended(NamedTuple):
    """Its state is an end; whoever asked may have taken the outcome away from it since."""

    ticket: Ticket
    outcome: object


class RanOut(NamedTuple):
    """A call whose caller was cancelled came to its end: its seat, whose incarnation that is, is free of it."""

    ticket: Ticket
    seat: Seat


class Moved(NamedTuple):
    """A seat is in another state; its incarnation is that of the worker which it has, or had."""

    seat: Seat
    incarnation: int
    before: SeatState
    after: SeatState


class Leased(NamedTuple):
    """A seat is held for a lease, or is not any more."""

    seat: Seat
    incarnation: int
    held: bool


Transition: TypeAlias = Accepted | TurnedAway | Sent | Returned | Ended | RanOut | Moved | Leased


class WatchedDispatcher(Dispatcher):
    """What happened since somebody has last taken it is `happened`."""

    def __init__(self, seats: Iterable[Seat], **options: Any) -> None:
        self.happened: list[Transition] = []
        super().__init__(seats, **options)
        self.leases.watch = self._leased
        for seat in self.seats:
            seat.watch = self._moved

    def take(self) -> list[Transition]:
        """What happened since the last time."""
        happened, self.happened = self.happened, []
        return happened

    def add(self, seat: Seat) -> list[Order]:
        seat.watch = self._moved
        return super().add(seat)

    def _moved(self, seat: Seat, before: SeatState) -> None:
        self.happened.append(Moved(seat, seat.incarnation, before, seat.state))

    def _leased(self, lease: Lease) -> None:
        assert lease.seat is not None
        self.happened.append(Leased(lease.seat, lease.incarnation, lease.state is LeaseState.HELD))

    def _accept(self, ticket: Ticket) -> None:
        super()._accept(ticket)
        self.happened.append(Accepted(ticket))

    def _accept_all(self, tickets: Sequence[Ticket]) -> None:
        super()._accept_all(tickets)
        self.happened += map(Accepted, tickets)

    def turn_away(self, method: str, pending: int, needed: float | None) -> list[Order]:
        self.happened.append(TurnedAway(method, pending, needed))
        return super().turn_away(method, pending, needed)

    def _send(self, tickets: list[Ticket], seat: Seat, *, together: bool = False) -> Send:
        self.happened += [Sent(ticket, seat) for ticket in tickets]
        return super()._send(tickets, seat, together=together)

    def _requeue(self, ticket: Ticket) -> None:
        self.happened.append(Returned(ticket))
        super()._requeue(ticket)

    def _ran_out(self, seat: Seat, ticket: Ticket) -> None:
        if ticket.state is TicketState.CANCELLED:
            self.happened.append(RanOut(ticket, seat))

    def _end(self, ticket: Ticket, move: TicketMove, outcome: object = None) -> None:
        super()._end(ticket, move, outcome)
        self.happened.append(Ended(ticket, outcome))
