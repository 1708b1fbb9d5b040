"""Every order of events that Hypothesis can think of, against the dispatcher and, beside it, a model that is as plain as can be.

The model knows nothing of how seats are found or orders made. It knows what each verb does to the tickets that it names,
and then follows the orders that came back, checking that each was allowed. At last nothing may be left to order, and the
dispatcher must look in every detail as the model does. So a missing order is found as well as a wrong one.
"""

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gibbs._core.dispatch import Dispatcher, Interrupt, Recall, Send, Tally, Violation
from gibbs._core.seat import Seat
from gibbs._core.ticket import Answer, Lost, Ticket

ON_CANCEL = st.sampled_from(["interrupt", "kill", "finish"])


@dataclass
class Request:
    """What must be true of one ticket."""

    number: int
    on_cancel: str | None
    ticket: Ticket
    state: str = "queued"
    outcome: object = None
    deaths: int = 0  # workers that died with it unbegun
    begun: bool = False
    cleanable: bool = False  # somebody wants to know when it has left its seat
    wakes: int = 0  # counted by the ticket's callbacks
    releases: int = 0
    wakes_due: int = 0
    releases_due: int = 0

    @property
    def live(self) -> bool:
        return self.state in ("queued", "sent")


@dataclass
class Place:
    """What must be true of one seat."""

    seat: Seat
    state: str = "vacant"
    held: dict[int, Request] = field(default_factory=dict)
    on_cancel: str = "kill"
    target: int = 0  # what is being cleaned up
    begun: int = 0  # the last id that this worker began
    ids: list[int] = field(default_factory=list)  # all that were ever used here
    incarnation: int = 0

    @property
    def to_clean_up(self) -> int | None:
        """The id at the head, if it is abandoned and must not just run out."""
        for link_id, head in self.held.items():
            return link_id if not head.live and (head.on_cancel or self.on_cancel) != "finish" else None
        return None

    def could_take(self, request: Request, window: int) -> bool:
        room = 1 if request.deaths else window
        return self.state == "serving" and self.to_clean_up is None and len(self.held) < room


class DispatcherMachine(RuleBasedStateMachine):
    @initialize(
        window=st.integers(1, 8),
        models=st.lists(st.none() | ON_CANCEL, min_size=1, max_size=5),  # None: no worker yet
    )
    def open(self, window, models):
        self.window = window
        self.places = [Place(Seat(index)) for index in range(len(models))]
        self.dispatcher = Dispatcher([place.seat for place in self.places], window=window)
        self.requests: list[Request] = []
        self.queue: list[Request] = []  # sorted by number
        self.tally = Counter()
        self.closed = False
        for place, on_cancel in zip(self.places, models, strict=True):
            if on_cancel is not None:
                self.begin_launch(place)
                self.become_ready(place, on_cancel)

    # ---- the verbs: a request

    @precondition(lambda self: not self.closed)
    @rule(on_cancel=st.none() | ON_CANCEL, count=st.integers(1, 4))
    def submit(self, on_cancel, count):
        for _ in range(count):
            self.do_submit(on_cancel)

    def do_submit(self, on_cancel):
        has_room = self.dispatcher.has_room(0)
        request = Request(len(self.requests) + 1, on_cancel, None)
        request.ticket = Ticket(b"payload", on_cancel=on_cancel, wake=lambda: self.count_wake(request))
        could_be_sent = not self.queue and any(place.could_take(request, self.window) for place in self.places)
        assert has_room == could_be_sent
        assert self.dispatcher.has_room(len(self.queue)) == could_be_sent
        assert self.dispatcher.has_room(len(self.queue) + 1)
        self.requests.append(request)
        self.queue.append(request)
        self.follow(self.dispatcher.submit(request.ticket))
        assert (request.state == "sent") == could_be_sent

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def withdraw(self, data):
        self.do_withdraw(data.draw(st.sampled_from(self.requests)))

    @precondition(lambda self: any(request.live for request in self.requests))
    @rule(data=st.data())
    def withdraw_one_that_lives(self, data):
        self.do_withdraw(data.draw(st.sampled_from([request for request in self.requests if request.live])))

    @precondition(lambda self: self.holding())
    @rule(data=st.data())
    def withdraw_what_a_seat_holds(self, data):
        place, _ = self.draw_held(data)
        for request in list(place.held.values()):
            self.do_withdraw(request)

    @precondition(lambda self: self.queue)
    @rule()
    def withdraw_the_first_of_the_queue(self):
        self.do_withdraw(self.queue[0])

    def do_withdraw(self, request):
        if request.live:
            if request.state == "queued":
                self.queue.remove(request)
            else:
                request.cleanable = True
            self.end(request, "cancelled", None, "cancelled")
        self.follow(self.dispatcher.withdraw(request.ticket))
        if request.cleanable and request.ticket.released is None and request.ticket.seat is not None:
            request.ticket.released = lambda: self.count_release(request)

    # ---- the verbs: a seat's worker

    @precondition(lambda self: self.some("vacant"))
    @rule(data=st.data())
    def launch(self, data):
        self.begin_launch(self.draw_place(data, "vacant"))

    @precondition(lambda self: self.some("vacant"))
    @rule(data=st.data(), on_cancel=ON_CANCEL)
    def launch_and_ready(self, data, on_cancel):
        place = self.draw_place(data, "vacant")
        self.begin_launch(place)
        self.become_ready(place, on_cancel)

    @precondition(lambda self: self.some("starting"))
    @rule(data=st.data(), on_cancel=ON_CANCEL)
    def ready(self, data, on_cancel):
        self.become_ready(self.draw_place(data, "starting"), on_cancel)

    def begin_launch(self, place):
        place.state = "starting"
        place.incarnation += 1
        place.begun = 0
        self.dispatcher.launch(place.seat)

    def become_ready(self, place, on_cancel):
        place.state = "serving"
        place.on_cancel = on_cancel
        self.follow(self.dispatcher.ready(place.seat, on_cancel=on_cancel))

    @precondition(lambda self: self.holding())
    @rule(data=st.data())
    def begin(self, data):
        """No verb: the worker writes into its page, and the dispatcher does not hear of it before its death."""
        place, link_id = self.draw_held(data)
        self.mark_begun(place, link_id)

    @precondition(lambda self: self.holding())
    @rule(data=st.data(), failed=st.booleans(), at_the_head=st.booleans())
    def answered(self, data, failed, at_the_head):
        """Also late, when the caller or the worker is gone; also, though no worker does, out of order."""
        place, link_id = self.draw_held(data, at_the_head=at_the_head)
        self.mark_begun(place, link_id)
        answer = Answer(failed, b"body")
        request = self.let_go(place, link_id)
        if request.live:
            self.end(request, "answered", answer, "failed" if failed else "done")
        self.follow(self.dispatcher.answered(place.seat, link_id, answer))

    @precondition(lambda self: self.holding(abandoned=True))
    @rule(data=st.data())
    def skipped(self, data):
        place, link_id = self.draw_held(data, abandoned=True)
        self.let_go(place, link_id)
        self.follow(self.dispatcher.skipped(place.seat, link_id))

    @precondition(lambda self: any(self.not_begun(place) for place in self.places))
    @rule(data=st.data())
    def given_back(self, data):
        place = data.draw(st.sampled_from([place for place in self.places if self.not_begun(place)]))
        link_ids = data.draw(st.lists(st.sampled_from(self.not_begun(place)), unique=True))
        for link_id in link_ids:
            request = self.let_go(place, link_id)
            if request.live:
                self.back_to_the_queue(request)
        self.follow(self.dispatcher.given_back(place.seat, link_ids))

    @precondition(lambda self: self.some("starting", "serving", "interrupting", "dying"))
    @rule(data=st.data())
    def condemn(self, data):
        place = self.draw_place(data, "starting", "serving", "interrupting", "dying")
        place.state = "dying"
        self.dispatcher.condemn(place.seat)

    @precondition(lambda self: self.some("dying"))
    @rule(data=st.data(), evidence=st.sampled_from(["page", "page", "page", "later", "none"]))
    def lost(self, data, evidence):
        """What has begun: as the page said all along, as it says now that it is read again, or there is no page."""
        place = self.draw_place(data, "dying")
        if evidence == "later" and place.held:
            self.mark_begun(place, data.draw(st.sampled_from([*place.held])))
        self.bury(place, None if evidence == "none" else place.begun)

    @precondition(lambda self: self.holding())
    @rule(data=st.data())
    def crash(self, data):
        """Condemned and lost in one, and nothing more has begun."""
        place, _ = self.draw_held(data)
        self.dispatcher.condemn(place.seat)
        self.bury(place, place.begun)

    def bury(self, place, begun):
        place.state = "vacant"
        death = object()
        for link_id in list(place.held):
            request = self.let_go(place, link_id)
            request.begun = request.begun or begun is None or link_id <= begun
            if not request.live:
                continue
            if request.begun or request.deaths:
                self.end(request, "lost", Lost(death, request.begun), "lost")
            else:
                request.deaths += 1
                self.back_to_the_queue(request)
        self.follow(self.dispatcher.lost(place.seat, begun, death))

    @precondition(lambda self: self.some("vacant"))
    @rule(data=st.data(), really=st.sampled_from([False, False, False, True]))
    def retire(self, data, really):
        if really or self.closed:
            place = self.draw_place(data, "vacant")
            place.state = "retired"
            self.dispatcher.retire(place.seat)

    @rule(data=st.data(), verb=st.sampled_from(["answered", "skipped", "given_back"]))
    def forged(self, data, verb):
        """A worker speaks of what it does not hold, or skips what somebody waits for. Nothing may come of it."""
        place = data.draw(st.sampled_from(self.places))
        elsewhere = [i for other in self.places if other is not place for i in other.held]
        numbers = [request.number for request in self.requests]
        ids = {0, 1, 1 << 63, *place.ids, *elsewhere, *numbers} - place.held.keys()
        if verb == "skipped":
            ids |= {link_id for link_id, request in place.held.items() if request.live}
        link_id = data.draw(st.sampled_from(sorted(ids)))
        arguments = {
            "answered": (link_id, Answer(False, b"forged")),
            "skipped": (link_id,),
            "given_back": ([*self.not_begun(place), link_id],),
        }[verb]
        with pytest.raises(Violation, match=str(link_id)):
            getattr(self.dispatcher, verb)(place.seat, *arguments)

    # ---- the verbs: the hub

    @rule(really=st.sampled_from([False] * 19 + [True]))
    def close(self, really):
        if really and not self.closed:
            self.closed = True
            self.queue.clear()
            for request in self.requests:
                if request.live:
                    self.end(request, "refused", None, "refused")
            self.follow(self.dispatcher.close())

    # ---- what the model does

    def end(self, request, state, outcome, counted_as):
        request.state = state
        request.outcome = outcome
        request.wakes_due += 1
        self.tally[counted_as] += 1

    def let_go(self, place, link_id):
        request = place.held.pop(link_id)
        request.releases_due += request.cleanable
        return request

    def back_to_the_queue(self, request):
        request.state = "queued"
        self.queue = sorted([*self.queue, request], key=lambda request: request.number)

    def mark_begun(self, place, link_id):
        """A worker begins in the order of sending, so what came before has begun, or was skipped."""
        place.begun = max(place.begun, link_id)
        for other, request in place.held.items():
            request.begun = request.begun or other <= place.begun

    def follow(self, orders):
        """Check each order and do it; then nothing must be left that should have been ordered."""
        interrupted = None
        for place in self.places:
            if place.state == "interrupting" and place.to_clean_up != place.target:
                place.state = "serving"
        for order in orders:
            place = self.places[order.seat.index]
            assert place.seat is order.seat
            if isinstance(order, Send):
                request = self.queue.pop(0)
                assert order.ticket is request.ticket, "not the first of the queue"
                assert not request.begun, "sent again after it had begun"
                assert request.deaths < 2, "sent a third time"
                assert place.could_take(request, self.window)
                assert order.link_id > max(place.ids, default=0)
                place.ids.append(order.link_id)
                place.held[order.link_id] = request
                request.state = "sent"
            elif isinstance(order, Interrupt):
                assert place.state == "serving"
                assert order.link_id == place.to_clean_up
                assert order.how == (place.held[order.link_id].on_cancel or place.on_cancel)
                assert order.how in ("interrupt", "kill")
                place.state = "interrupting"
                place.target = order.link_id
                interrupted = place if len(place.held) > 1 else None
                continue
            else:
                assert isinstance(order, Recall)
                assert place is interrupted, "recalled without an interrupt, or twice"
            assert interrupted in (None, place), "what waits behind an interrupted call is recalled at once"
            interrupted = None
        assert interrupted is None
        for place in self.places:
            assert place.state != "serving" or place.to_clean_up is None, "nobody cleans up"
        if self.queue:
            assert not any(place.could_take(self.queue[0], self.window) for place in self.places), "room was not used"

    def count_wake(self, request):
        request.wakes += 1
        assert request.ticket.ended
        assert request.ticket.outcome == request.outcome

    def count_release(self, request):
        request.releases += 1
        assert request.ticket.ended
        assert request.ticket.seat is None

    # ---- what the rules choose from

    def some(self, *states):
        return any(place.state in states for place in self.places)

    def draw_place(self, data, *states):
        return data.draw(st.sampled_from([place for place in self.places if place.state in states]))

    def holding(self, *, abandoned=False):
        return [
            (place, link_id)
            for place in self.places
            for link_id, request in place.held.items()
            if not (abandoned and request.live)
        ]

    def draw_held(self, data, *, abandoned=False, at_the_head=False):
        place, link_id = data.draw(st.sampled_from(self.holding(abandoned=abandoned)))
        return (place, next(iter(place.held))) if at_the_head else (place, link_id)

    def not_begun(self, place):
        return [link_id for link_id in place.held if link_id > place.begun]

    # ---- after each step

    @invariant()
    def tickets_are_where_they_must_be(self):
        for request in self.requests:
            ticket = request.ticket
            assert ticket.number == request.number
            assert ticket.state == request.state
            assert ticket.ended == (not request.live)
            assert ticket.outcome == request.outcome
            assert request.wakes == request.wakes_due == (not request.live)
            assert request.releases == request.releases_due <= 1
            places = [place for place in self.places if request in place.held.values()]
            assert len(places) + (request in self.queue) == 1 if request.live else len(places) <= 1
            assert ticket.seat is (places[0].seat if places else None)
            assert ticket.link_id == (next(i for i, r in places[0].held.items() if r is request) if places else 0)

    @invariant()
    def seats_are_as_they_must_be(self):
        for place in self.places:
            seat = place.seat
            assert seat.state == place.state
            assert seat.incarnation == place.incarnation
            assert [*seat.held] == [*place.held] == sorted(place.held), "in the order of sending"
            assert [*seat.held.values()] == [request.ticket for request in place.held.values()]
            assert len(seat.held) <= self.window
            assert not seat.held or seat.state in ("serving", "interrupting", "dying")
            assert seat.last_link_id == max(place.ids, default=0)
            assert (seat.state == "interrupting") <= (place.to_clean_up == place.target == seat.target)

    @invariant()
    def the_queue_is_in_the_order_of_arrival(self):
        assert [*self.dispatcher._queue] == [request.number for request in self.queue]
        assert [*self.dispatcher._queue.values()] == [request.ticket for request in self.queue]
        assert self.dispatcher.queued == len(self.queue)
        assert self.dispatcher.oldest is (self.queue[0].ticket if self.queue else None)

    @invariant()
    def the_numbers_add_up(self):
        live = sum(request.live for request in self.requests)
        assert self.dispatcher.live == live
        assert self.dispatcher.tally == Tally(**self.tally)
        assert sum(self.tally.values()) == len(self.requests) - live
        assert self.dispatcher.closed == self.closed
        assert not (self.closed and live), "live after the close"

    def teardown(self):
        """Whatever happened before: close, bury all, and each request has ended once and left its seat."""
        if not hasattr(self, "dispatcher"):
            return
        self.close(True)
        for place in self.places:
            if place.state not in ("vacant", "retired"):
                self.dispatcher.condemn(place.seat)
                self.bury(place, place.begun)
        self.tickets_are_where_they_must_be()
        self.seats_are_as_they_must_be()
        self.the_queue_is_in_the_order_of_arrival()
        self.the_numbers_add_up()
        assert not any(place.held for place in self.places)


# A failure shrinks for longer than it takes to find; what it shrinks to is worth the wait.
@pytest.mark.timeout(400)
def test_whatever_happens_in_whatever_order_each_request_is_in_one_place_and_ends_once():
    thorough = settings(
        max_examples=max(200, settings.default.max_examples),
        stateful_step_count=max(60, settings.default.stateful_step_count),
        phases=set(Phase) - {Phase.explain},
        report_multiple_bugs=False,
    )
    run_state_machine_as_test(DispatcherMachine, settings=thorough)
