"""What waits, what has room, and who gets which: the queue and the seats, before and after every verb.

No await, no clock, no I/O. Assignment is synchronous: a seat is reserved in the same breath in which it is seen to be free (a peer leaks a
slot for want of this). Knows nothing of what has happened: that is for the verbs, in `dispatch`, which say what is to be moved. Promises
that turns are kept: what is given a seat was first in the queue, or comes along with it into one call.

A seat whose worker is quick is *sent ahead*: it holds more than one request.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .affinity import liking
from .deadlines import Deadlines
from .lease import Leases, LeaseState
from .orders import Order, Send
from .pace import ENOUGH, SHORT
from .queue import Queue
from .roster import Roster
from .ticket import TicketMove
from .urgent_queue import UrgentQueue

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .group import Group
    from .lease import Lease
    from .lines import Lines
    from .seat import Seat
    from .ticket import Ticket

_TAKE = TicketMove.TAKE  # on the way of every request; an enum looks its members up, which takes as long as a move does


class Violation(Exception):
    """A worker spoke of a request that it does not hold. It cannot be trusted any more."""


@dataclass(slots=True)
class Tally:
    """How requests ended so far."""

    done: int = 0
    failed: int = 0
    cancelled: int = 0
    expired: int = 0
    refused: int = 0
    lost: int = 0
    leased: int = 0  # asked for a lease, and were given one


class Placement:
    """Tickets that wait, and seats that can take them."""

    def __init__(
        self, seats: Iterable[Seat], *, quota: int | None = None, enough: int = ENOUGH, urgent: bool = False
    ) -> None:
        self.seats = [*seats]  # grows, and those that were retired come back
        self.quota = len(self.seats) if quota is None else quota  # how many serve at most; further ones are spare
        self.in_service = 0
        self.tally = Tally()
        self._queue: Lines[Any] = UrgentQueue() if urgent else Queue()
        self._arrivals = 0
        self._live = 0  # tickets that have not ended
        self._ahead = 0  # tickets that some seat holds behind another
        self._enough = enough  # of those, that quick seats do not run dry
        self.groups: tuple[Group, ...] = ()  # those whose requests may wait for company
        self._roster = Roster()
        self._deadlines = Deadlines()
        self.leases = Leases(self.quota)
        self.turned_away = 0  # who asked and was not accepted, for want of room or of time
        self.retried = 0  # tickets that were sent again after a worker died that may have begun them

    # ---- what waits, and whether one more may

    @property
    def waiting(self) -> int:
        """How many tickets wait for their turn: in the queue, or for company, or sent ahead to a seat that runs another."""
        waiting = self._queue.count + self._ahead
        return waiting + sum(len(group.gathering) for group in self.groups) if self.groups else waiting

    @property
    def queued(self) -> int:
        """How many wait for some worker, whichever: those that ask for a lease and stand aside too."""
        return self._queue.count + self.leases.aside.count

    @property
    def longest_queued(self) -> Ticket | None:
        """Who of them has waited for longest."""
        firsts = [ticket for ticket in (self._queue.oldest, self.leases.aside.oldest) if ticket is not None]
        return min(firsts, key=lambda ticket: ticket.number, default=None)

    @property
    def quickest(self) -> float:
        """Seconds that a request takes at least, by the measure of workers that serve; 0.0 if there is none."""
        times = [seat.service_time for seat in self.seats if seat.in_service and seat.service_time < math.inf]
        return min(times, default=0.0)

    @property
    def live(self) -> int:
        """How many tickets have not ended."""
        return self._live

    @property
    def oldest(self) -> Ticket | None:
        """The ticket that has waited for longest."""
        firsts = [self._queue.oldest, *(next(iter(group.gathering.values()), None) for group in self.groups)]
        firsts += [self.leases.aside.oldest, *(lease.first for lease in self.leases.held)]
        return min((ticket for ticket in firsts if ticket is not None), key=lambda ticket: ticket.number, default=None)

    @property
    def ripe_at(self) -> float:
        """When `ripen` has something to do."""
        return min((group.ripe_at for group in self.groups), default=math.inf)

    @property
    def expires_at(self) -> float:
        """When `expire` has something to do."""
        return self._deadlines.next_at

    def must_wait(self, ticket: Ticket) -> bool:
        """Whether others are held by no seat that a new one has to wait behind: those of its own priority. On a lease it need not."""
        return ticket.terms.priority in self._queue.lines and ticket.lease is None

    def has_room(self, max_pending: float) -> bool:
        """Whether a new ticket would be run at once, or be one of so many that wait."""
        return self.waiting < max_pending or (not self._queue.count and self._roster.find(alone=True) is not None)

    def has_room_for_lease(self, max_pending: float) -> bool:
        """The same of one that asks for a lease: those that ask and stand aside count too, for nobody else."""
        if self.waiting + self.leases.aside.count < max_pending:
            return True
        return not self.leases.is_full and not self._queue.count and self._roster.find(alone=True) is not None

    # ---- tickets that come, move and end

    def _accept(self, ticket: Ticket) -> None:
        self._arrivals += 1
        ticket.number = self._arrivals
        self._live += 1

    def _accept_all(self, tickets: Sequence[Ticket]) -> None:
        for number, ticket in enumerate(tickets, self._arrivals + 1):
            ticket.number = number
        self._arrivals += len(tickets)
        self._live += len(tickets)

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
        if not seat.held:
            seat.together = False
        elif not seat.together:
            self._ahead -= 1
        ticket.seat = None
        ticket.link_id = 0
        if ticket.released is not None:
            ticket.released()

    def _leave_line(self, ticket: Ticket) -> None:
        """It is QUEUED, and waits no longer: in the queue, for company, or for the worker of its lease."""
        if ticket.lease is not None:
            if not self.leases.leave_line(ticket):
                self._queue.remove(ticket)
                self._call_from_aside()
            return
        if ticket.group is None or not ticket.group.leave(ticket):
            self._queue.remove(ticket)

    def _ripe(self, *groups: Group) -> list[Order]:
        for group in groups:
            self._queue.insert(group.give())
        return self._assign()

    def _requeue(self, ticket: Ticket) -> None:
        ticket.move(TicketMove.RETURN)
        (self._queue if ticket.lease is None else ticket.lease).put_back(ticket)
        if ticket.give_up_at < math.inf and not ticket.returned:  # one whose worker died had been taken in time
            self._deadlines.add(ticket)

    def _assign(self) -> list[Order]:
        """Give the first of the queue to a seat, as long as one can take it. Strictly in the order of their turns.

        A ticket that was returned, that may run together with others, or that asks for a lease waits for a seat that holds nothing, and
        the others wait behind it: passed by younger ones it might wait for ever, since no seat would ever be empty.
        """
        orders: list[Order] = []
        while (ticket := self._queue.first) is not None:
            if ticket.lease is not None and self.leases.is_full:
                self.leases.aside.insert(self._queue.take(1))
                continue
            group = ticket.group
            seat = self._seat_for(ticket)
            if seat is None:
                break
            if ticket.lease is not None:
                self._queue.remove(ticket)
                self._hold(seat, ticket, ticket.lease)
                continue
            if group is not None:
                orders.append(self._send(self._queue.take_group(group.most), seat, together=True))
                continue
            share = 1
            if seat.service_time < SHORT and not ticket.apart:  # the same seat would be found again and again
                share = max(1, min(seat.window - len(seat.held), self._enough - self._ahead))
            orders.append(self._send(self._queue.take(share), seat))
        return orders

    def _seat_for(self, ticket: Ticket, *, alone: bool = False) -> Seat | None:
        """Which seat takes it now, with `alone` only one that holds nothing."""
        enough = self._ahead >= self._enough
        if not ticket.apart:
            return self._roster.find(alone=alone, enough=enough)
        alone = alone or ticket.returned or ticket.group is not None or ticket.lease is not None
        affinity = ticket.terms.affinity
        if affinity is None:
            return self._roster.find(alone=alone, enough=enough)
        free = [
            seat
            for seat in self.seats
            if seat.has_room and (not seat.held or not (alone or (enough and seat.service_time < SHORT)))
        ]
        at_once = [seat for seat in free if not seat.held or seat.service_time < SHORT]
        return max(at_once or free, key=lambda seat: liking(affinity, seat.index), default=None)

    def _submit_leased(self, ticket: Ticket, lease: Lease) -> list[Order]:
        """It asks for a lease, which waits in the queue; or it is asked on one, whose worker is free for it, or not yet."""
        if ticket.give_up_at < math.inf:
            self._deadlines.add(ticket)
        if lease.state is LeaseState.WAITING:
            self._queue.append(ticket)
            return self._assign()
        assert lease.state is LeaseState.HELD
        assert lease.seat is not None
        lease.line[ticket.number] = ticket
        return self._go_on(lease.seat, lease)

    def _hold(self, seat: Seat, ticket: Ticket, lease: Lease) -> None:
        self.leases.hold(lease, seat)
        self._end(ticket, TicketMove.LEASE)
        self.tally.leased += 1

    def _go_on(self, seat: Seat, lease: Lease) -> list[Order]:
        """Send the next that was asked on the lease, if the one before is over."""
        if not lease.line or not seat.is_ready:
            return []
        ticket = lease.take()
        return [self._send([ticket], seat, together=ticket.group is not None)]

    def _call_from_aside(self) -> None:
        """A lease is not held any more, or one that asks is gone from the queue: who stood aside first has his old place there again."""
        if self.leases.aside.count and not self.leases.is_full:
            for ticket in self.leases.aside.take(1):
                self._queue.put_back(ticket)

    def _send(self, tickets: list[Ticket], seat: Seat, *, together: bool = False) -> Send:
        was_idle = not seat.held
        first = seat.last_link_id + 1
        for link_id, ticket in enumerate(tickets, first):
            ticket.move(_TAKE)
            ticket.seat = seat
            ticket.link_id = link_id
            seat.held[link_id] = ticket
        seat.last_link_id += len(tickets)
        if together:
            seat.together = True
        else:
            self._ahead += len(tickets) - was_idle
        if was_idle:
            self._roster.offer(seat)  # from now on among those that hold something
        return Send(seat, first, tickets, together)
