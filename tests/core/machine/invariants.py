"""What must be true after every step, whatever it was: of requests, of seats, of the queue, of the numbers.

Compares every detail of the real dispatcher with the plain lists beside it. Knows no rule.
"""

import math

from hypothesis.stateful import RuleBasedStateMachine, invariant

from gibbs._core.dispatch import LARGE, Tally
from gibbs._core.pace import WINDOW
from gibbs._core.ticket import Ticket
from tests.core.machine.model import Request
from tests.core.machine.plain_hub import PlainHub

FRESH = Request(0, None, Ticket(b""))  # one that any seat with room may take


class AfterEachStep(RuleBasedStateMachine):
    hub: PlainHub
    steps = 0  # of all runs

    @invariant()
    def tickets_are_where_they_must_be(self):
        AfterEachStep.steps += 1
        for request in self.hub.requests:
            ticket = request.ticket
            assert ticket.number == request.number
            assert ticket.state == request.state
            assert ticket.ended == (not request.live)
            assert ticket.payload == (b"" if request.forgotten else request.payload)
            assert ticket.outcome == request.outcome
            assert request.wakes == request.wakes_due == (not request.live)
            assert request.releases == request.releases_due <= 1
            places = [place for place in self.hub.places if request in place.held.values()]
            waits = (request in self.hub.queue) + (request in self.hub.gathering) + (request in self.hub.aside)
            waits += request in self.hub.waiting_on_leases
            assert len(places) + waits == 1 if request.live else len(places) <= 1
            assert ticket.seat is (places[0].seat if places else None)
            assert ticket.link_id == (next(i for i, r in places[0].held.items() if r is request) if places else 0)

    @invariant()
    def who_reads_what_is_written_down_knows_where_everything_is(self):
        reader = self.hub.reader
        if reader is None:
            return
        reader.read_on()
        for request in self.hub.requests:
            ticket = request.ticket
            assert (ticket in reader.ended) == ticket.ended
            assert ticket.ended or reader.seats[ticket] is ticket.seat
        for seat, state in reader.states.items():
            assert seat.state == state
        assert reader.leased == {place.seat for place in self.hub.places if place.seat.lease is not None}

    @invariant()
    def a_history_knows_what_each_worker_has_and_how_many_wait(self):
        reader = self.hub.reader
        if reader is None:
            return
        reader.read_on()
        if not reader.history.hubs:  # nothing has happened
            return
        status = reader.history.of("m", self.hub.now)
        assert status.queued == list(reader.seats.values()).count(None)
        assert status.queued + status.running == len(reader.seats)
        for seen in status.seats:
            seat = self.hub.places[seen.seat].seat
            held = [ticket.number for ticket in seat.held.values() if not ticket.ended]
            assert seen.state == seat.state
            assert (seen.leased is not None) == (seat.lease is not None)
            assert seen.ahead == len(held) - (seen.call is not None and not seen.call.left)
            assert seen.call is None or seen.call.left or seen.call.number == held[0]

    @invariant()
    def no_worker_is_further_ahead_of_a_reader_than_it_may_be(self):
        for request in self.hub.requests:
            flow = request.ticket.flow
            assert (flow is not None) == bool(request.window)
            if flow is None:
                continue
            assert (flow.window, flow.credit) == (request.window, request.credit)
            assert min(flow.credit, flow.here, flow.taken) >= 0
            assert (flow.here, flow.taken) == (request.here, request.taken)
            assert sum(count for count, _ in flow.runs) >= flow.here, "of what came nothing is lost"
            if request.live:
                assert flow.credit + flow.here + flow.taken == flow.window
            if request.state == "queued":
                assert flow.credit == flow.window, "sent again, it would give its items twice"

    @invariant()
    def the_last_word_is_kept_and_no_other(self):
        for request in self.hub.requests:
            progress = request.ticket.progress
            assert (progress is not None) == request.tracked
            assert progress is None or progress.word == request.word

    @invariant()
    def seats_are_as_they_must_be(self):
        for place in self.hub.places:
            seat = place.seat
            assert (seat.state, seat.in_service) == (place.state, place.in_service)
            assert seat.dismissed == place.dismissed
            assert seat.incarnation == place.incarnation
            assert [*seat.held] == [*place.held] == sorted(place.held), "in the order of sending"
            assert [*seat.held.values()] == [request.ticket for request in place.held.values()]
            assert len(seat.held) <= WINDOW
            assert seat.together == place.together <= bool(seat.held)
            assert (seat.window, seat.service_time) == (place.window, place.service_time)
            assert seat.begun == place.known_begun
            assert seat.seen_at_its_head == place.seen_at_its_head
            assert seat.has_room == place.could_take(FRESH)
            assert not (seat.held or seat.recalled) or seat.state in ("serving", "interrupting", "dying")
            assert seat.last_link_id == max(place.ids, default=0)
            assert (seat.state == "interrupting") <= (place.to_clean_up == place.target == seat.target)

    @invariant()
    def what_was_recalled_is_what_was_sent_last(self):
        for place in self.hub.places:
            assert place.seat.recalled == place.recalled
            assert max(place.held, default=0) < min(place.recalled, default=math.inf), "sent before it was skipped"
            assert not place.recalled & place.held.keys()
            assert place.recalled <= {*place.ids}

    @invariant()
    def nobody_runs_what_was_abandoned_before_it_was_claimed(self):
        """Where it can be had back. What is at the head of an INTERRUPTING seat is aimed at, and skipped."""
        for place in self.hub.places:
            if place.state in ("serving", "interrupting"):
                aimed_at = place.target if place.state == "interrupting" else None
                for link_id in place.can_be_had_back:
                    assert place.held[link_id].live or link_id == aimed_at

    @invariant()
    def the_queue_is_in_the_order_of_arrival_and_within_its_bound(self):
        hub, dispatcher = self.hub, self.hub.dispatcher
        assert [ticket.number for ticket in dispatcher._queue] == [request.number for request in hub.queue]
        assert [*dispatcher._queue] == [request.ticket for request in hub.queue]
        ahead = hub.ahead
        assert dispatcher.waiting == hub.waiting == len(hub.queue) + len(hub.gathering) + ahead
        for company in hub.companies:
            assert [*company.group.gathering.values()] == [request.ticket for request in company.gathering]
            assert len(company.gathering) < company.most, "they could run"
        assert dispatcher.sends_ahead == (ahead > 0)
        held = [request for place in hub.places for request in place.held.values()]
        large = any(len(request.ticket.payload) > LARGE and not request.terms.keeps for request in held)
        assert dispatcher.wants_ticks == (ahead > 0 or large)
        waiting = sorted(
            hub.queue + hub.gathering + hub.aside + hub.waiting_on_leases, key=lambda request: request.number
        )
        assert dispatcher.expires_at == min((request.give_up_at for request in waiting), default=math.inf)
        assert hub.queue == sorted(hub.queue, key=lambda request: request.turn)
        assert dispatcher.oldest is (waiting[0].ticket if waiting else None)
        running = [
            request for place in hub.places for request in [*place.held.values()][: None if place.together else 1]
        ]
        assert dispatcher.running == sum(request.live for request in running)
        # What a worker gave back, or did not begin before it died, was accepted long ago: it may stand beyond the bound.
        # So may one that asks for a lease, and stood aside meanwhile.
        assert sum(not request.sent and not request.stood_aside for request in hub.queue) <= hub.max_pending
        elsewhere = len(hub.aside) + len(hub.waiting_on_leases) + sum(request.stood_aside for request in hub.queue)
        assert dispatcher.live - elsewhere <= hub.max_pending + WINDOW * len(hub.places)

    @invariant()
    def leases_are_held_by_one_seat_each_and_leave_one_to_others(self):
        hub, leases = self.hub, self.hub.dispatcher.leases
        assert [*leases.held] == [lease.lease for lease in hub.held_leases]
        assert leases.most == hub.quota - 1
        assert len(leases.held) <= max(leases.most, hub.leased_before)
        for place in hub.places:
            assert place.seat.lease is (place.lease.lease if place.lease is not None else None)
            if place.lease is not None:
                assert place.lease.state == "held"
                assert place.lease.place is place
                assert all(request.lease is place.lease for request in place.held.values()), "of somebody else"
                assert len(place.held) <= 1
        for lease in {request.lease for request in hub.requests if request.lease is not None}:
            assert lease.lease.state == lease.state
            assert lease.lease.seat is (lease.place.seat if lease.place is not None else None)
            assert lease.lease.incarnation == lease.incarnation
            assert lease.lease.death is lease.death
            assert [*lease.lease.line.values()] == [request.ticket for request in lease.line]
            assert not lease.line or lease.state == "held"
        assert [*leases.aside] == [request.ticket for request in hub.aside]
        in_the_queue = sum(request.asks for request in hub.queue)
        assert in_the_queue >= min(hub.may_lease, in_the_queue + len(hub.aside)), "it stands aside for nothing"

    @invariant()
    def the_numbers_add_up(self):
        live = sum(request.live for request in self.hub.requests)
        assert self.hub.dispatcher.live == live
        assert self.hub.dispatcher.tally == Tally(**self.hub.tally)
        assert self.hub.dispatcher.retried == sum(request.tried for request in self.hub.requests)
        assert sum(self.hub.tally.values()) == len(self.hub.requests) - live
        assert self.hub.dispatcher.closed == self.hub.closed
        assert not (self.hub.closed and live), "live after the close"

    def assert_all(self) -> None:
        self.tickets_are_where_they_must_be()
        self.no_worker_is_further_ahead_of_a_reader_than_it_may_be()
        self.seats_are_as_they_must_be()
        self.what_was_recalled_is_what_was_sent_last()
        self.nobody_runs_what_was_abandoned_before_it_was_claimed()
        self.the_queue_is_in_the_order_of_arrival_and_within_its_bound()
        self.leases_are_held_by_one_seat_each_and_leave_one_to_others()
        self.the_numbers_add_up()
