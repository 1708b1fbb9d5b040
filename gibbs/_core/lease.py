"""One seat held for a conversation: its states, its legal moves, what waits for its worker; and how many there may be at once.

A lease is asked for by a ticket that stands in the queue like any other, and is not sent to a seat but given one that holds nothing.
From then on that seat takes only the tickets of the lease, each when the one before is over. One seat at least is never given: so
whoever asks for no lease is served, however long the others last. Who asks when as many are held as may be stands aside, and holds
up nobody behind him.

Knows tickets and seats. Must never know how a seat is found, nor who is sent what.

| from | move | to |
| --- | --- | --- |
| WAITING | a seat is held for it | HELD |
| HELD | the worker of its seat is gone | BROKEN |
| WAITING, HELD, BROKEN | who asked for it leaves, or the hub closes | OVER |
"""

from __future__ import annotations

from collections import OrderedDict
from enum import StrEnum
from typing import TYPE_CHECKING

from .queue import Queue
from .ticket import IllegalMove

if TYPE_CHECKING:
    from collections.abc import Callable

    from .seat import Seat
    from .ticket import Ticket


class LeaseState(StrEnum):
    """What a lease is worth."""

    WAITING = "waiting"
    HELD = "held"
    BROKEN = "broken"
    OVER = "over"


class LeaseMove(StrEnum):
    """What can happen to a lease."""

    HOLD = "hold"
    BREAK = "break"
    LEAVE = "leave"


MOVES: dict[LeaseState, dict[LeaseMove, LeaseState]] = {
    LeaseState.WAITING: {LeaseMove.HOLD: LeaseState.HELD, LeaseMove.LEAVE: LeaseState.OVER},
    LeaseState.HELD: {LeaseMove.BREAK: LeaseState.BROKEN, LeaseMove.LEAVE: LeaseState.OVER},
    LeaseState.BROKEN: {LeaseMove.LEAVE: LeaseState.OVER},
    LeaseState.OVER: {},
}


class Lease:
    """One conversation with one worker.

    Invariants: while the state is HELD, `seat.lease` is this one, and of no other seat; what that seat holds was asked on it, and
    `line` is what was asked and is not sent, by arrival number and in its order. Otherwise `line` is empty. `seat` and `incarnation`
    are set when it is HELD, and stay; `death` is set when it is BROKEN.
    """

    __slots__ = ("death", "incarnation", "line", "seat", "state")

    def __init__(self) -> None:
        self.state = LeaseState.WAITING
        self.seat: Seat | None = None
        self.incarnation = 0  # which worker of the seat it is
        self.line: OrderedDict[int, Ticket] = OrderedDict()
        self.death: object = None  # how that worker ended

    def move(self, move: LeaseMove) -> None:
        """The only writer of `state`. Raises IllegalMove, and then nothing has changed."""
        state = MOVES[self.state].get(move)
        if state is None:
            raise IllegalMove(f"a lease that is {self.state} cannot {move}")
        self.state = state

    @property
    def first(self) -> Ticket | None:
        """What is sent next."""
        return next(iter(self.line.values()), None)

    def take(self) -> Ticket:
        """Remove the first of the line, which is sent."""
        return self.line.popitem(last=False)[1]

    def put_back(self, ticket: Ticket) -> None:
        """To its old place: it was sent, so it came before all that wait."""
        self.line[ticket.number] = ticket
        self.line.move_to_end(ticket.number, last=False)

    def give(self) -> list[Ticket]:
        """All that wait, in their order; they wait no longer."""
        tickets = list(self.line.values())
        self.line.clear()
        return tickets

    def has_room(self, max_pending: float) -> bool:
        """Whether one more that is asked on it would be run at once, or be one of so many that wait."""
        assert self.seat is not None
        return len(self.line) < max_pending or self.seat.is_ready  # which it is not while something waits for it

    def __repr__(self) -> str:
        place = f" at seat {self.seat.index}.{self.incarnation}" if self.seat is not None else ""
        return f"<Lease {self.state}{place}>"


class Leases:
    """Those of one hub. The only writer of `Seat.lease`.

    Invariants: `held` are those that are HELD, `most` at most, which is one less than serve (those that were given stay, when fewer do). `aside` are tickets that ask for
    one and came to the head of the queue when as many were held; while fewer are, as many of those that ask as could be given one
    stand in the queue.
    """

    __slots__ = ("aside", "held", "most", "watch")

    def __init__(self, seats: int) -> None:
        self.most = seats - 1
        self.held: dict[Lease, None] = {}
        self.aside = Queue()
        self.watch: Callable[[Lease], None] | None = None  # told of each that is held, or is not any more

    @property
    def is_full(self) -> bool:
        """Whether as many are held as may be."""
        return len(self.held) >= self.most

    def hold(self, lease: Lease, seat: Seat) -> None:
        """Give it a seat, which holds nothing."""
        assert not seat.held
        assert not self.is_full
        lease.move(LeaseMove.HOLD)
        lease.seat, lease.incarnation = seat, seat.incarnation
        seat.lease = lease
        self.held[lease] = None
        if self.watch is not None:
            self.watch(lease)

    def leave_line(self, ticket: Ticket) -> bool:
        """It waits no longer. False if it asks for a lease and stands in the queue."""
        lease = ticket.lease
        assert lease is not None
        if lease.state is LeaseState.HELD:
            del lease.line[ticket.number]
            return True
        lease.move(LeaseMove.LEAVE)
        stood_aside = ticket in self.aside
        if stood_aside:
            self.aside.remove(ticket)
        return stood_aside

    def break_at(self, seat: Seat, death: object) -> list[Ticket]:
        """The seat's worker is gone. Returns what waited for it and will never be sent."""
        lease = seat.lease
        assert lease is not None
        self._let_go(lease, LeaseMove.BREAK)
        lease.death = death
        return lease.give()

    def leave(self, lease: Lease) -> list[Ticket]:
        """Nobody asks on it any more. Returns what waited for its worker."""
        if lease.state is LeaseState.HELD:
            self._let_go(lease, LeaseMove.LEAVE)
        elif lease.state is LeaseState.BROKEN:
            lease.move(LeaseMove.LEAVE)
        return lease.give()

    def close(self) -> list[Ticket]:
        """The hub closes. Returns all that stood aside, or waited for the worker of a lease."""
        aside = list(self.aside)
        self.aside.clear()
        return aside + [ticket for lease in [*self.held] for ticket in self.leave(lease)]

    def _let_go(self, lease: Lease, move: LeaseMove) -> None:
        assert lease.seat is not None
        lease.move(move)
        lease.seat.lease = None
        del self.held[lease]
        if self.watch is not None:
            self.watch(lease)
