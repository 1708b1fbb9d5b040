"""The queue and the seats: everything that can happen to a request is one of the verbs below, and only they move anything.

No await, no clock, no I/O: each verb changes tickets and seats in one go and *returns* the orders that are to be carried
out, so whoever called it does. Each verb that leaves a seat alive ends in `_changed(seat)`, the one place that decides what
follows from it; a room that is freed and offered to nobody is thereby impossible. Assignment is synchronous: a seat is
reserved in the same breath in which it is seen to be free (a peer leaks a slot for want of this).

A seat whose worker is quick is *sent ahead*: it holds more than one request. What it has not begun can be taken back at once,
by a `Recall` that is answered with `given_back`: when a call takes long, or when somebody leaves whose request is among them.

Invariants, checked by a state machine after every verb: each live ticket is in exactly one place: the queue, a group, the
line of a lease, aside, or one seat's `held`; nothing is assigned to a seat that is not SERVING, that holds its `window` or that has
not read what was recalled; while a ticket is queued, no seat could take the first of the queue, or enough is sent ahead; no seat is
INTERRUPTING with nothing to interrupt; no abandoned request waits for its turn unless a Recall was ordered; a seat that is leased is
sent nothing but what was asked on that lease, and one seat is never leased; first come, first served, but those that can run in one
call with the first of the queue come along; a ticket ends once; after `close` none is live.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from .affinity import liking
from .deadlines import Deadlines
from .lease import LeaseMove, Leases, LeaseState
from .orders import Grant, Interrupt, Order, Recall, Send
from .pace import ENOUGH, SHORT, UNKNOWN, window_for
from .queue import Queue
from .roster import Roster
from .seat import SeatMove, SeatState
from .ticket import POISON, Lost, TicketMove

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from .group import Group
    from .lease import Lease
    from .seat import Seat
    from .ticket import Answer, Ticket


LARGE = 1 << 16  # bytes of a payload that is worth letting go before its outcome

# On the way of every request; an enum looks its members up, which takes as long as a move does.
_SERVING, _INTERRUPTING = SeatState.SERVING, SeatState.INTERRUPTING
_TAKE, _ANSWER = TicketMove.TAKE, TicketMove.ANSWER


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


class Dispatcher:
    """Matches tickets and seats."""

    def __init__(self, seats: Iterable[Seat], *, enough: int = ENOUGH) -> None:
        self.seats = tuple(seats)
        self.tally = Tally()
        self.closed = False
        self._queue = Queue()
        self._arrivals = 0
        self._live = 0  # tickets that have not ended
        self._ahead = 0  # tickets that some seat holds behind another
        self._enough = enough  # of those, that quick seats do not run dry
        self.groups: tuple[Group, ...] = ()  # those whose requests may wait for company
        self._roster = Roster()
        self._deadlines = Deadlines()
        self.leases = Leases(len(self.seats))
        self.retried = 0  # tickets that were sent again after a worker died that may have begun them

    # ---- what the hub sees

    @property
    def waiting(self) -> int:
        """How many tickets wait for their turn: in the queue, or for company, or sent ahead to a seat that runs another."""
        waiting = self._queue.count + self._ahead
        return waiting + sum(len(group.gathering) for group in self.groups) if self.groups else waiting

    def must_wait(self, ticket: Ticket) -> bool:
        """Whether others are held by no seat that a new one has to wait behind: those of its own priority. On a lease it need not."""
        return ticket.terms.priority in self._queue.lines and ticket.lease is None

    @property
    def running(self) -> int:
        """How many tickets that have not ended are at the head of a seat, or run together."""
        heads = (ticket for seat in self.seats for ticket in islice(seat.held.values(), None if seat.together else 1))
        return sum(not ticket.ended for ticket in heads)

    @property
    def sends_ahead(self) -> bool:
        """Whether some seat holds a ticket behind another."""
        return self._ahead > 0

    @property
    def wants_ticks(self) -> bool:
        """Whether something waits behind a request that may take long, or a large payload is kept that may have begun."""
        return self.sends_ahead or any(
            len(ticket.payload) > LARGE and not ticket.terms.retries
            for seat in self.seats
            if seat.shows_begun
            for ticket in seat.held.values()
        )

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

    def has_room(self, max_pending: float) -> bool:
        """Whether a new ticket would be run at once, or be one of so many that wait."""
        return self.waiting < max_pending or (not self._queue.count and self._roster.find(alone=True) is not None)

    def has_room_for_lease(self, max_pending: float) -> bool:
        """The same of one that asks for a lease: those that ask and stand aside count too, for nobody else."""
        if self.waiting + self.leases.aside.count < max_pending:
            return True
        return not self.leases.is_full and self._roster.find(alone=True) is not None  # then nobody is queued

    # ---- the verbs: a request

    def submit(self, ticket: Ticket, *, alone: bool = False) -> list[Order]:
        """A caller asks. The ticket is QUEUED, or SENT to a seat; with `alone` to one that holds nothing."""
        self._accept(ticket)
        if ticket.lease is not None:
            return self._submit_leased(ticket, ticket.lease)
        group = ticket.group
        if group is not None and group.patience and not alone:
            group.gather(ticket)
            if ticket.terms.max_wait < math.inf:
                self._deadlines.add(ticket)
            return self._ripe(group) if group.is_full else []
        if not self._queue.count and (seat := self._seat_for(ticket, alone=alone)) is not None:
            return [self._send([ticket], seat, together=group is not None)]
        if ticket.terms.max_wait < math.inf:
            self._deadlines.add(ticket)
        if self._queue.append(ticket):
            return self._assign()
        return []  # behind others that wait no seat could take it either, or need not

    def submit_all(self, tickets: Sequence[Ticket]) -> list[Order]:
        """One caller asks for several on the same terms, each of which may run alone: as many as a seat has room for are sent in one go."""
        assert not tickets or (tickets[0].group is None and tickets[0].lease is None)
        queue = self._queue
        for number, ticket in enumerate(tickets, self._arrivals + 1):
            ticket.number = number
            queue.append(ticket)
        self._arrivals += len(tickets)
        self._live += len(tickets)
        orders = self._assign()
        if tickets and tickets[0].terms.max_wait < math.inf:
            for ticket in tickets:
                if ticket.seat is None:
                    self._deadlines.add(ticket)
        return orders

    def ripen(self, now: float) -> list[Order]:
        """Time has passed: those that have waited for company for long enough wait for it no longer."""
        return self._ripe(*(group for group in self.groups if group.ripe_at <= now))

    def expire(self, now: float) -> list[Order]:
        """Time has passed: those that no worker has taken in the time that their callers give are EXPIRED."""
        for ticket in self._deadlines.missed(now):
            self._leave_line(ticket)
            self._end(ticket, TicketMove.EXPIRE)
            self.tally.expired += 1
        return self._assign()

    def withdraw(self, ticket: Ticket) -> list[Order]:
        """The caller is cancelled. A ticket that has ended already is left as it is."""
        if ticket.ended:
            return []
        seat = ticket.seat
        if seat is None:
            self._leave_line(ticket)
        self._end(ticket, TicketMove.CANCEL)
        self.tally.cancelled += 1
        return self._assign() if seat is None else self._abandoned(seat)

    def leave(self, lease: Lease) -> list[Order]:
        """Nobody asks on the lease any more: what is on its way is CANCELLED, and the seat is anybody's, as soon as it holds nothing."""
        seat = lease.seat if lease.state is LeaseState.HELD else None
        sent = [ticket for ticket in seat.held.values() if not ticket.ended] if seat is not None else []
        for ticket in sent + self.leases.leave(lease):
            self._end(ticket, TicketMove.CANCEL)
            self.tally.cancelled += 1
        if seat is None:
            return []
        self._call_from_aside()
        return self._abandoned(seat)

    def granted(self, ticket: Ticket) -> list[Order]:
        """The reader of a stream has taken what is worth telling the worker, if that is still at it."""
        assert ticket.flow is not None
        count = ticket.flow.grant()
        return [] if ticket.ended or ticket.seat is None else [Grant(ticket.seat, ticket.link_id, count)]

    # ---- the verbs: a seat's worker

    def launch(self, seat: Seat) -> None:
        """A worker is being started for the seat."""
        seat.move(SeatMove.LAUNCH)
        seat.incarnation += 1
        seat.begun = 0

    def ready(self, seat: Seat, *, on_cancel: str) -> list[Order]:
        """The worker has built its model, which bears a cancelled call so."""
        seat.move(SeatMove.READY)
        seat.on_cancel = on_cancel
        seat.service_time = UNKNOWN
        seat.window = 1
        return self._changed(seat)

    def paced(self, seat: Seat, service_time: float) -> list[Order]:
        """The worker takes so many seconds for a request: that is how far it is sent ahead."""
        seat.service_time = service_time
        seat.window = window_for(service_time)
        return self._changed(seat)

    def tick(self) -> list[Order]:
        """Some time has passed, more than calls take that are worth sending ahead.

        A seat with the same request at its head as at the last tick is held up by it: what waits behind is taken back, and
        nothing is sent ahead to it until it has been measured again.
        """
        orders: list[Order] = []
        for seat in self.seats:
            head = next(iter(seat.held), 0)
            held_up = head == seat.seen_at_its_head and len(seat.held) > 1 and not seat.together
            if held_up and seat.state is _SERVING:
                seat.service_time = UNKNOWN
                seat.window = 1
                orders.append(Recall(seat))
            seat.seen_at_its_head = head
        return orders

    def begun(self, seat: Seat, link_id: int) -> None:
        """The worker has begun all until this one. Their payloads are not needed any more, unless they may be tried again."""
        seat.begun = max(seat.begun, link_id)
        for held_id, ticket in seat.held.items():
            if held_id > link_id:
                break
            if not ticket.terms.retries:
                ticket.payload = b""

    def arrived(self, seat: Seat, link_id: int, runs: Sequence[tuple[int, Any]]) -> None:
        """The worker sent items of a stream: how many, and these. What comes after its end is dropped. Raises Violation."""
        ticket = self._held(seat, link_id)
        if ticket.flow is None or not ticket.flow.arrive(runs, wanted=not ticket.ended):
            raise Violation(f"worker {seat.index} sent items of {link_id}, which may not")
        seat.begun = max(seat.begun, link_id)  # whatever its page says: sent again, it would give them twice

    def reported(self, seat: Seat, link_id: int, word: Any) -> None:
        """The worker says how far it has come with a request whose caller wants to know. Raises Violation."""
        ticket = self._held(seat, link_id)
        if ticket.progress is None:
            raise Violation(f"worker {seat.index} spoke of how {link_id} is getting on, and was not asked")
        seat.begun = max(seat.begun, link_id)
        if not ticket.ended:
            ticket.progress.tell(word)

    def answered(self, seat: Seat, link_id: int, answer: Answer) -> list[Order]:
        """The worker answered: the ticket ends, or an abandoned one is let go. Raises Violation."""
        return self.answered_all(seat, ((link_id, answer),))

    def answered_all(self, seat: Seat, answers: Iterable[tuple[int, Answer]]) -> list[Order]:
        """The worker answered several requests; its room is offered once, when all are settled. Raises Violation."""
        tally, held = self.tally, seat.held
        for link_id, answer in answers:
            ticket = held.get(link_id) or self._held(seat, link_id)  # which then raises
            self._let_go(seat, ticket)
            if not ticket.ended:
                self._end(ticket, _ANSWER, answer)
                if answer.failed:
                    tally.failed += 1
                else:
                    tally.done += 1
        return self._changed(seat)

    def skipped(self, seat: Seat, link_id: int) -> list[Order]:
        """The worker did not run, or did not finish, a request that was recalled or abandoned.

        Raises Violation if somebody waits for it there.
        """
        if link_id in seat.recalled:
            seat.recalled.remove(link_id)
            return self._changed(seat)
        ticket = self._held(seat, link_id)
        if not ticket.ended:
            raise Violation(f"request {link_id} was skipped, but nobody had cancelled it")
        self._let_go(seat, ticket)
        return self._changed(seat)

    def given_back(self, seat: Seat, link_ids: Iterable[int]) -> list[Order]:
        """What was taken back from the worker, which will skip it. No death, and not counted as one. Raises Violation."""
        tickets = {link_id: self._held(seat, link_id) for link_id in link_ids}  # all are looked at before one is moved
        for link_id, ticket in reversed(tickets.items()):
            self._let_go(seat, ticket)
            seat.recalled.add(link_id)
            if not ticket.ended:
                self._requeue(ticket)
        return self._changed(seat)

    def condemn(self, seat: Seat) -> list[Order]:
        """The worker is dead, or must die: nothing more is assigned to it. What it holds waits for the evidence.

        A lie of it may stand behind answers that were settled, whose room was not offered yet.
        """
        if seat.state is SeatState.DYING:
            return []
        seat.move(SeatMove.CONDEMN)
        return self._assign()

    def lost(self, seat: Seat, begun: int | None, death: object, *, certain: bool = True) -> list[Order]:
        """The worker is gone and its last words are read. `begun` is the last id that it began; None: nobody knows.

        What had begun is LOST, or goes back if its caller lets it be tried again. What had not begun goes back to its old place in the
        queue, once; if that worker too dies before it begins, it is as if it had begun, with the promise that it has not run. A worker
        whose death is not `certain` may still run what it had.
        """
        seat.move(SeatMove.BURY)
        seat.recalled.clear()
        together = seat.together and len(seat.held) > 1
        for link_id, ticket in reversed(list(seat.held.items())):
            self._let_go(seat, ticket)
            if ticket.ended:
                continue
            may_have_run = begun is None or link_id <= max(begun, seat.begun)
            # Only the last that it began was running. Those before had been run, and their answers were about to leave.
            ticket.kills += not together and (begun is None or link_id == max(begun, seat.begun))
            if not may_have_run and not ticket.returned:
                ticket.returned = ticket.apart = True
                self._requeue(ticket)
            elif ticket.may_be_retried(certain=certain):
                ticket.returned = ticket.apart = True
                ticket.deaths += (death,)
                self.retried += 1
                self._requeue(ticket)
            else:
                self._end(ticket, TicketMove.LOSE, Lost(death, may_have_run, ticket.deaths, ticket.kills >= POISON))
                self.tally.lost += 1
        if seat.lease is not None:
            for ticket in self.leases.break_at(seat, death):
                self._end(ticket, TicketMove.LOSE, Lost(death, may_have_run=False))
                self.tally.lost += 1
            self._call_from_aside()
        return self._assign()

    def retire(self, seat: Seat) -> None:
        """No further worker will sit here."""
        seat.move(SeatMove.RETIRE)

    # ---- the verbs: the hub

    def drain(self) -> list[Order]:
        """No more requests come. Those that ask for a lease are REFUSED: nothing could be asked on it."""
        for ticket in [ticket for ticket in (*self._queue, *self.leases.aside) if ticket.lease is not None]:
            self._leave_line(ticket)
            self._end(ticket, TicketMove.REFUSE)
            self.tally.refused += 1
        return self._assign()

    def close(self) -> list[Order]:
        """The hub closes: every live ticket is REFUSED, and running calls are cleaned up as for a cancel."""
        self.closed = True
        queued = [*self._queue, *(ticket for group in self.groups for ticket in group.give())]
        queued += self.leases.close()
        self._queue.clear()
        for ticket in queued:
            if ticket.lease is not None and ticket.lease.state is LeaseState.WAITING:
                ticket.lease.move(LeaseMove.LEAVE)
        running = [ticket for seat in self.seats for ticket in seat.held.values() if not ticket.ended]
        for ticket in queued + running:
            self._end(ticket, TicketMove.REFUSE)
            self.tally.refused += 1
        return [order for seat in self.seats for order in self._abandoned(seat)]

    # ---- what they are made of

    def _accept(self, ticket: Ticket) -> None:
        self._arrivals += 1
        ticket.number = self._arrivals
        self._live += 1

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
        if ticket.terms.max_wait < math.inf and not ticket.returned:  # one whose worker died had been taken in time
            self._deadlines.add(ticket)

    def _changed(self, seat: Seat) -> list[Order]:
        """Something about this seat is different: settle what it does next, and offer its room."""
        orders: list[Order] = []
        unwanted = seat.unwanted
        if seat.state is _INTERRUPTING and (unwanted is None or unwanted.link_id != seat.target):
            seat.move(SeatMove.UNWIND)
        if seat.state is _SERVING and unwanted is not None:
            seat.move(SeatMove.INTERRUPT)
            seat.target = unwanted.link_id
            orders.append(Interrupt(seat, unwanted.link_id, seat.cleaning_of(unwanted)))
            if len(seat.held) > 1:
                orders.append(Recall(seat))
        if seat.lease is not None:
            return orders + self._go_on(seat, seat.lease)
        self._roster.offer(seat)
        return orders + self._assign() if self._queue.count else orders

    def _abandoned(self, seat: Seat) -> list[Order]:
        """A request that it holds has ended: it is cleaned up if it runs, and must not begin if it does not."""
        if seat.held and seat.state is _SERVING and seat.unwanted is None:
            return [Recall(seat)]  # all else follows when that is answered
        return self._changed(seat)

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
        if ticket.terms.max_wait < math.inf:
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
