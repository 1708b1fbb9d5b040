"""The queue and the seats: everything that can happen to a request is one of the verbs below, and only they move anything.

No await, no clock, no I/O: each verb changes tickets and seats in one go and *returns* the orders that are to be carried
out, so whoever called it does. Each verb that leaves a seat alive ends in `_changed(seat)`, the one place that decides what
follows from it; a room that is freed and offered to nobody is thereby impossible. Assignment is synchronous: a seat is
reserved in the same breath in which it is seen to be free (a peer leaks a slot for want of this).

Invariants, checked by a state machine after every verb: each live ticket is in exactly one place, the queue or one seat's
`held`; nothing is assigned to a seat that is not SERVING; no seat holds more than `window`; while a ticket is queued, no
seat could take the first of the queue; no seat is INTERRUPTING with nothing to interrupt; first come, first served; a
ticket ends once; after `close` none is live.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from .seat import SeatMove, SeatState
from .ticket import Lost, TicketMove

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .seat import Seat
    from .ticket import Answer, Ticket


class Send(NamedTuple):
    """Write the ticket's payload to the seat's worker, under this link id."""

    seat: Seat
    link_id: int
    ticket: Ticket


class Interrupt(NamedTuple):
    """Clean up the abandoned request at the seat's head: `how` is "interrupt" or "kill"."""

    seat: Seat
    link_id: int
    how: str


class Recall(NamedTuple):
    """Ask the seat's worker to give back what it has not begun."""

    seat: Seat


Order = Send | Interrupt | Recall


class Violation(Exception):
    """A worker spoke of a request that it does not hold. It cannot be trusted any more."""


@dataclass(slots=True)
class Tally:
    """How requests ended so far."""

    done: int = 0
    failed: int = 0
    cancelled: int = 0
    refused: int = 0
    lost: int = 0


class Dispatcher:
    """Matches tickets and seats. `window` is how many requests a seat may hold at once."""

    def __init__(self, seats: Iterable[Seat], *, window: int = 1) -> None:
        self.seats = tuple(seats)
        self.window = window
        self.tally = Tally()
        self.closed = False
        self._queue: OrderedDict[int, Ticket] = OrderedDict()  # by arrival number, always in its order
        self._arrivals = 0
        self._live = 0  # tickets that have not ended
        # Two stacks of seats with room, the one used last on top, whose caches are warm; dicts, so that none is twice on
        # one. Deletion is lazy: a seat is looked at again before it is used.
        self._idle: dict[Seat, None] = {}  # hold nothing
        self._roomy: dict[Seat, None] = {}  # hold something, less than the window

    # ---- what the hub sees

    @property
    def queued(self) -> int:
        """How many tickets wait for a seat."""
        return len(self._queue)

    @property
    def live(self) -> int:
        """How many tickets have not ended."""
        return self._live

    @property
    def oldest(self) -> Ticket | None:
        """The ticket that has been in the queue for longest."""
        return next(iter(self._queue.values()), None)

    def has_room(self, max_pending: float) -> bool:
        """Whether a new ticket would be sent at once, or find room in a queue of this length."""
        return len(self._queue) < max_pending or (not self._queue and self._find_seat(alone=False) is not None)

    # ---- the verbs: a request

    def submit(self, ticket: Ticket) -> list[Order]:
        """A caller asks. The ticket is QUEUED, or SENT to a seat."""
        self._arrivals += 1
        ticket.number = self._arrivals
        self._live += 1
        self._queue[ticket.number] = ticket
        return self._assign()

    def withdraw(self, ticket: Ticket) -> list[Order]:
        """The caller is cancelled. A ticket that has ended already is left as it is."""
        if ticket.ended:
            return []
        seat = ticket.seat
        if seat is None:
            del self._queue[ticket.number]
        self._end(ticket, TicketMove.CANCEL)
        self.tally.cancelled += 1
        return self._assign() if seat is None else self._changed(seat)

    # ---- the verbs: a seat's worker

    def launch(self, seat: Seat) -> None:
        """A worker is being started for the seat."""
        seat.move(SeatMove.LAUNCH)
        seat.incarnation += 1

    def ready(self, seat: Seat, *, on_cancel: str) -> list[Order]:
        """The worker has built its model, which bears a cancelled call so."""
        seat.move(SeatMove.READY)
        seat.on_cancel = on_cancel
        return self._changed(seat)

    def answered(self, seat: Seat, link_id: int, answer: Answer) -> list[Order]:
        """The worker answered: the ticket ends, or an abandoned one is let go. Raises Violation."""
        ticket = self._held(seat, link_id)
        self._let_go(seat, ticket)
        if not ticket.ended:
            self._end(ticket, TicketMove.ANSWER, answer)
            if answer.failed:
                self.tally.failed += 1
            else:
                self.tally.done += 1
        return self._changed(seat)

    def skipped(self, seat: Seat, link_id: int) -> list[Order]:
        """The worker did not run, or did not finish, an abandoned request. Raises Violation if somebody waits for it."""
        ticket = self._held(seat, link_id)
        if not ticket.ended:
            raise Violation(f"request {link_id} was skipped, but nobody had cancelled it")
        self._let_go(seat, ticket)
        return self._changed(seat)

    def given_back(self, seat: Seat, link_ids: Iterable[int]) -> list[Order]:
        """The worker gives back what it has not begun. It is no death and does not count as one. Raises Violation."""
        tickets = {link_id: self._held(seat, link_id) for link_id in link_ids}  # all are looked at before one is moved
        for ticket in reversed(tickets.values()):
            self._let_go(seat, ticket)
            if not ticket.ended:
                self._requeue(ticket)
        return self._changed(seat) + self._assign()

    def condemn(self, seat: Seat) -> None:
        """The worker is dead, or must die: nothing more is assigned. What it holds waits for the evidence."""
        if seat.state is not SeatState.DYING:
            seat.move(SeatMove.CONDEMN)

    def lost(self, seat: Seat, begun: int | None, death: object) -> list[Order]:
        """The worker is gone and its last words are read. `begun` is the last id that it began; None: nobody knows.

        What had begun is LOST. What had not goes back to its old place in the queue, once; if that worker too dies before
        it begins, it is LOST with the promise that it has not run.
        """
        seat.move(SeatMove.BURY)
        for link_id, ticket in reversed(list(seat.held.items())):
            self._let_go(seat, ticket)
            if ticket.ended:
                continue
            may_have_run = begun is None or link_id <= begun
            if may_have_run or ticket.returned:
                self._end(ticket, TicketMove.LOSE, Lost(death, may_have_run))
                self.tally.lost += 1
            else:
                ticket.returned = True
                self._requeue(ticket)
        return self._assign()

    def retire(self, seat: Seat) -> None:
        """No further worker will sit here."""
        seat.move(SeatMove.RETIRE)

    # ---- the verbs: the hub

    def close(self) -> list[Order]:
        """The hub closes: every live ticket is REFUSED, and running calls are cleaned up as for a cancel."""
        self.closed = True
        queued = list(self._queue.values())
        self._queue.clear()
        running = [ticket for seat in self.seats for ticket in seat.held.values() if not ticket.ended]
        for ticket in queued + running:
            self._end(ticket, TicketMove.REFUSE)
            self.tally.refused += 1
        return [order for seat in self.seats for order in self._changed(seat)]

    # ---- what they are made of

    def _end(self, ticket: Ticket, move: TicketMove, outcome: object = None) -> None:
        ticket.move(move, outcome)
        self._live -= 1

    def _held(self, seat: Seat, link_id: int) -> Ticket:
        ticket = seat.held.get(link_id)
        if ticket is None:
            raise Violation(f"worker {seat.index} spoke of request {link_id}, which it does not hold")
        return ticket

    def _let_go(self, seat: Seat, ticket: Ticket) -> None:
        del seat.held[ticket.link_id]
        ticket.seat = None
        ticket.link_id = 0
        if ticket.released is not None:
            ticket.released()

    def _requeue(self, ticket: Ticket) -> None:
        """Back to its old place: nearly always the very front. Of several, the youngest goes first, which keeps it so."""
        ticket.move(TicketMove.RETURN)
        oldest = next(iter(self._queue), ticket.number)
        self._queue[ticket.number] = ticket
        self._queue.move_to_end(ticket.number, last=False)
        if oldest < ticket.number:
            self._queue = OrderedDict(sorted(self._queue.items()))

    def _changed(self, seat: Seat) -> list[Order]:
        """Something about this seat is different: settle what it does next, and offer its room."""
        orders: list[Order] = []
        unwanted = seat.unwanted
        if seat.state is SeatState.INTERRUPTING and (unwanted is None or unwanted.link_id != seat.target):
            seat.move(SeatMove.UNWIND)
        if seat.state is SeatState.SERVING and unwanted is not None:
            seat.move(SeatMove.INTERRUPT)
            seat.target = unwanted.link_id
            orders.append(Interrupt(seat, unwanted.link_id, seat.cleaning_of(unwanted)))
            if len(seat.held) > 1:
                orders.append(Recall(seat))
        if seat.state is SeatState.SERVING:
            self._offer(seat)
            orders += self._assign()
        return orders

    def _offer(self, seat: Seat) -> None:
        stack = self._roomy if seat.held else self._idle
        if len(seat.held) < self.window:
            stack.pop(seat, None)  # or it would keep its old place
            stack[seat] = None

    def _assign(self) -> list[Order]:
        """Give the first of the queue to a seat, as long as one can take it. Strictly in order of arrival.

        A ticket that was returned waits for a seat that holds nothing, and the others wait behind it: passed by younger
        ones it might wait for ever, since no seat would ever be empty.
        """
        orders: list[Order] = []
        while self._queue:
            ticket = next(iter(self._queue.values()))
            seat = self._find_seat(alone=ticket.returned)
            if seat is None:
                break
            del self._queue[ticket.number]
            ticket.move(TicketMove.TAKE)
            seat.last_link_id += 1
            ticket.seat = seat
            ticket.link_id = seat.last_link_id
            seat.held[ticket.link_id] = ticket
            self._offer(seat)
            orders.append(Send(seat, ticket.link_id, ticket))
        return orders

    def _find_seat(self, *, alone: bool) -> Seat | None:
        while self._idle:
            seat = next(reversed(self._idle))
            if seat.state is SeatState.SERVING and not seat.held:
                return seat
            self._idle.popitem()
        if alone:
            return None
        while self._roomy:
            seat = next(reversed(self._roomy))
            if seat.state is SeatState.SERVING and len(seat.held) < self.window:
                return seat
            self._roomy.popitem()
        return None
