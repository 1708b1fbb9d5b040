"""The verbs: everything that can happen to a request, or to a seat, is one of them, and only they move anything.

No await, no clock, no I/O: each verb changes tickets and seats in one go and *returns* the orders that are to be carried
out, so whoever called it does. Each verb that leaves a seat alive ends in `_changed(seat)`, the one place that decides what
follows from it; a room that is freed and offered to nobody is thereby impossible. Who gets which seat is `placement`'s.

What a seat was sent ahead and has not begun can be taken back, by a `Recall` that is answered with `given_back`: when a call takes long, or
when somebody leaves whose request is among them. Where there is no page the answer comes later, as a word of the worker's.

Invariants, checked by a state machine after every verb: each live ticket is in exactly one place: the queue, a group, the
line of a lease, aside, or one seat's `held`; nothing is assigned to a seat that is not SERVING, that holds its `window` or that has
not read what was recalled; while a ticket is queued, no seat could take the first of the queue, or enough is sent ahead; no seat is
SPARE while fewer serve than are wanted; no seat is INTERRUPTING with nothing to interrupt; no abandoned request waits for its turn
unless a Recall was ordered; a seat that is leased is sent nothing but what was asked on that lease, and one seat is never leased; first
come, first served, but those that can run in one call with the first of the queue come along; a ticket ends once; after `close` none is
live.
"""

from __future__ import annotations

import math
from itertools import islice
from typing import TYPE_CHECKING

from .lease import LeaseMove, LeaseState
from .orders import Dismiss, Grant, Interrupt, Order, Recall
from .pace import UNKNOWN, window_for
from .placement import Placement
from .placement import Tally as Tally
from .placement import Violation as Violation
from .seat import SeatMove, SeatState
from .ticket import POISON, Lost, TicketMove

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from .lease import Lease
    from .seat import Seat
    from .ticket import Answer, Ticket


LARGE = 1 << 16  # bytes of a payload that is worth letting go before its outcome

# On the way of every request; an enum looks its members up, which takes as long as a move does.
_SERVING, _INTERRUPTING = SeatState.SERVING, SeatState.INTERRUPTING
_ANSWER = TicketMove.ANSWER


class Dispatcher(Placement):
    """The verbs: what can happen, and what follows from it."""

    closed = False  # set when the hub closes: no ticket is live from then on

    # ---- what the hub sees

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
            len(ticket.payload) > LARGE and not ticket.terms.keeps
            for seat in self.seats
            if seat.has_page
            for ticket in seat.held.values()
        )

    # ---- the verbs: a request

    def submit(self, ticket: Ticket, *, alone: bool = False) -> list[Order]:
        """A caller asks. The ticket is QUEUED, or SENT to a seat; with `alone` to one that holds nothing."""
        self._accept(ticket)
        if ticket.lease is not None:
            return self._submit_leased(ticket, ticket.lease)
        group = ticket.group
        if group is not None and group.patience and not alone:
            group.gather(ticket)
            if ticket.give_up_at < math.inf:
                self._deadlines.add(ticket)
            return self._ripe(group) if group.is_full else []
        if not self._queue.count and (seat := self._seat_for(ticket, alone=alone)) is not None:
            return [self._send([ticket], seat, together=group is not None)]
        if ticket.give_up_at < math.inf:
            self._deadlines.add(ticket)
        if self._queue.append(ticket):
            return self._assign()
        return []  # behind others that wait no seat could take it either, or need not

    def submit_all(self, tickets: Sequence[Ticket]) -> list[Order]:
        """One caller asks for several on the same terms, each of which may run alone: as many as a seat has room for are sent in one go."""
        assert not tickets or (tickets[0].group is None and tickets[0].lease is None)
        self._accept_all(tickets)
        for ticket in tickets:
            self._queue.append(ticket)
        orders = self._assign()
        if tickets and tickets[0].give_up_at < math.inf:
            for ticket in tickets:
                if ticket.seat is None:
                    self._deadlines.add(ticket)
        return orders

    def turn_away(self, method: str, pending: int, needed: float | None) -> list[Order]:
        """Somebody has asked for whom there is no room, while so many wait, or no time, since so many seconds are needed. There is no ticket."""
        self.turned_away += 1
        return []

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

    def launch(self, seat: Seat) -> list[Order]:
        """A worker is being started for the seat."""
        seat.move(SeatMove.LAUNCH)
        seat.begun = 0
        return []

    def ready(self, seat: Seat, *, on_cancel: str) -> list[Order]:
        """The worker has built its model, which bears a cancelled call so. It serves, or is a spare if enough do."""
        seat.on_cancel = on_cancel
        seat.service_time = UNKNOWN
        seat.window = 1
        if self.in_service >= self.quota:
            seat.move(SeatMove.STAND_BY)
            return []
        seat.move(SeatMove.READY)
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
            if not ticket.terms.keeps:
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
            elif seat.state is not _INTERRUPTING:
                self._ran_out(seat, ticket)
        return self._changed(seat)

    def _ran_out(self, seat: Seat, ticket: Ticket) -> None:
        """A call that its caller had left came to its end by itself; for who writes it down."""

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
        orders = self._relieve(seat) + self._assign()
        return [*orders, Dismiss(seat)] if seat.dismissed else orders

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

    def retire(self, seat: Seat) -> list[Order]:
        """No further worker will sit here, unless it is revived."""
        seat.move(SeatMove.RETIRE)
        return []

    # ---- the verbs: how many serve

    def resize(self, quota: int) -> list[Order]:
        """So many are to serve from now on. Spares are called; who is too many stands by, or goes on until it holds nothing.

        Those that are leased go first, as soon as they are not any more: or none would be left for who asks without a lease.
        """
        self.quota = quota
        self.leases.most = quota - 1
        for _ in range(self.leases.most - len(self.leases.held)):  # first: they came before others that wait
            self._call_from_aside()
        orders = self._enlist()
        for seat in sorted(self.seats, key=lambda seat: (seat.lease is None, len(seat.held), -seat.index)):
            if self.in_service > quota and seat.in_service:
                seat.in_service = False
                self.in_service -= 1
                orders += self._settle(seat)
        return orders + self._assign()

    def add(self, seat: Seat) -> list[Order]:
        """One more seat, or one that was retired: it is VACANT."""
        if seat.state is SeatState.RETIRED:
            seat.move(SeatMove.REVIVE)
            seat.dismissed = False
        else:
            self.seats.append(seat)
        return []

    def dismiss(self, seat: Seat) -> list[Order]:
        """Its worker is to go, as soon as it holds nothing and is not leased. A spare takes its place at once."""
        seat.dismissed = True
        orders = self._relieve(seat)
        if seat.state is _SERVING:
            return orders + self._changed(seat) + self._assign()
        return orders + self._assign() + ([] if seat.state is _INTERRUPTING else [Dismiss(seat)])

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

    def _changed(self, seat: Seat) -> list[Order]:
        """Something about this seat is different: settle what it does next, and who has room."""
        orders = self._settle(seat)
        return orders + self._assign() if self._queue.count else orders

    def _settle(self, seat: Seat) -> list[Order]:
        """What it does next, and offer its room; of several seats all must be settled before one is given anything."""
        orders: list[Order] = []
        unwanted = seat.unwanted
        if seat.state is _INTERRUPTING and (unwanted is None or unwanted.link_id != seat.target):
            seat.move(SeatMove.UNWIND)
        if seat.state is _SERVING and unwanted is not None:
            seat.move(SeatMove.INTERRUPT)
            seat.target = unwanted.link_id
            orders.append(Interrupt(seat, unwanted.link_id, how := seat.cleaning_of(unwanted)))
            if len(seat.held) > 1:
                orders.append(Recall(seat))
            if how == "kill" and self._spares:  # which need not wait until it is dead
                orders += self._relieve(seat)
        if not seat.in_service and seat.state is _SERVING:
            orders += self._enter_or_leave(seat)
        if seat.lease is not None:
            return orders + self._go_on(seat, seat.lease)
        self._roster.offer(seat)
        return orders

    def _relieve(self, seat: Seat) -> list[Order]:
        """It is of no use any more, or will not be for long: a spare takes its place at once."""
        if seat.in_service:
            seat.in_service = False
            self.in_service -= 1
        return self._enlist()

    def _enlist(self) -> list[Order]:
        """Call back who was sent away and is at work still, and spares, as long as fewer serve than are wanted."""
        orders: list[Order] = []
        for seat in self.seats:
            if seat.state is _SERVING and not seat.in_service and self.in_service < self.quota:
                orders += self._settle(seat)
        while self.in_service < self.quota and (spares := self._spares):
            spares[0].move(SeatMove.ENLIST)
            orders += self._settle(spares[0])
        return orders

    @property
    def _spares(self) -> list[Seat]:
        """Those that could serve, and are not needed; of a hub that closes none is called any more."""
        if self.closed:
            return []
        return [seat for seat in self.seats if seat.state is SeatState.SPARE and not seat.dismissed]

    def _enter_or_leave(self, seat: Seat) -> list[Order]:
        """It could serve. If it is not wanted it goes, or stands by, as soon as it holds nothing and is not leased."""
        if self.in_service < self.quota and not seat.dismissed:
            seat.in_service = True
            self.in_service += 1
        elif seat.is_ready and seat.lease is None:
            seat.move(SeatMove.STAND_BY)
            return [Dismiss(seat)] if seat.dismissed else []
        return []

    def _abandoned(self, seat: Seat) -> list[Order]:
        """A request that it holds has ended: it is cleaned up if it runs, and must not begin if it does not."""
        if seat.held and seat.state is _SERVING and seat.unwanted is None:
            return [Recall(seat)]  # all else follows when that is answered
        return self._changed(seat)
