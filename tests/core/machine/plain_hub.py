"""Every verb of the dispatcher done twice: by the real one, and on plain lists; then the two are compared.

The plain half knows nothing of how seats are found or orders made. It knows what each verb does to the tickets that it names,
and then follows the orders that came back, checking that each was allowed. At last nothing may be left to order, and the
dispatcher must look in every detail as the lists do. So a missing order is found as well as a wrong one.

The clock, the gate for new requests, what a dead worker is read for and who asks the restart policy are the crew's and not the
core's. They are here as small as they can be, so that the core is driven as the crew drives it.
"""

from collections import Counter

import pytest

from gibbs import RestartPolicy
from gibbs._core.dispatch import Dispatcher, Interrupt, Recall, Send, Violation
from gibbs._core.restarts import Restarts
from gibbs._core.seat import Seat
from gibbs._core.ticket import Answer, Lost, Ticket
from gibbs._wire.messages import ANSWER, FAILURE, SKIPPED
from tests.core.machine.failures import FailureLog
from tests.core.machine.model import Place, Request, Stream


class PlainHub:
    def __init__(
        self, seats: int, *, window: int, max_pending: float, policy: RestartPolicy, chance: float = 0.0
    ) -> None:
        self.window = window
        self.max_pending = max_pending
        self.chance = chance
        self.places = [Place(Seat(index)) for index in range(seats)]
        self.dispatcher = Dispatcher([place.seat for place in self.places], window=window)
        self.restarts = Restarts(policy)
        self.failures = FailureLog(policy)
        self.requests: list[Request] = []
        self.queue: list[Request] = []  # sorted by number
        self.tally = Counter()
        self.draining = False
        self.closed = False
        self.now = 1000.0

    # ---- the verbs: a request

    def submit(self, on_cancel: str | None) -> None:
        assert not self.closed
        request = Request(len(self.requests) + 1, on_cancel, None)
        request.ticket = Ticket(b"payload", on_cancel=on_cancel, wake=lambda: self._count_wake(request))
        could_be_sent = not self.queue and any(place.could_take(request, self.window) for place in self.places)
        for length in {0, len(self.queue), len(self.queue) + 1, self.max_pending}:
            assert self.dispatcher.has_room(length) == (could_be_sent or len(self.queue) < length)
        if self.draining or not self.dispatcher.has_room(self.max_pending):
            return  # refused: nobody ever hears of it
        self.requests.append(request)
        self.queue.append(request)
        self._follow(self.dispatcher.submit(request.ticket))
        assert (request.state == "sent") == could_be_sent

    def withdraw(self, request: Request) -> None:
        if request.live:
            if request.state == "queued":
                self.queue.remove(request)
            else:
                request.cleanable = True
            self._end(request, "cancelled", None, "cancelled")
        self._follow(self.dispatcher.withdraw(request.ticket))
        if request.cleanable and request.ticket.released is None and request.ticket.seat is not None:
            request.ticket.released = lambda: self._count_release(request)

    # ---- the verbs: a seat's worker

    def launch(self, place: Place) -> None:
        """Not before its time: if it must be waited for, it is."""
        self.now = max(self.now, place.launch_at)
        place.state = "starting"
        place.incarnation += 1
        place.begun = 0
        place.stream = Stream()
        place.dead = place.distrusted = place.excused = False
        place.ready_at = None
        self.dispatcher.launch(place.seat)

    def ready(self, place: Place, on_cancel: str) -> None:
        place.state = "serving"
        place.on_cancel = on_cancel
        place.ready_at = self.now
        self.restarts.ready(place.seat.index)
        self.failures.step("ready", place.seat.index, self.now)
        self._follow(self.dispatcher.ready(place.seat, on_cancel=on_cancel))

    def begin(self, place: Place, link_id: int) -> None:
        """No verb: the worker writes into its page, and the dispatcher does not hear of it before its death.

        A worker begins in the order of sending, so what came before has begun, or was skipped.
        """
        place.begun = max(place.begun, link_id)
        for other, request in place.held.items():
            request.begun = request.begun or other <= place.begun

    def answered(self, place: Place, link_id: int, answer: Answer) -> None:
        request = self._let_go(place, link_id)
        if request.live:
            self._end(request, "answered", answer, "failed" if answer.failed else "done")
        self._follow(self.dispatcher.answered(place.seat, link_id, answer))

    def skipped(self, place: Place, link_id: int) -> None:
        self._let_go(place, link_id)
        self._follow(self.dispatcher.skipped(place.seat, link_id))

    def given_back(self, place: Place, link_ids: list[int]) -> None:
        for link_id in link_ids:
            request = self._let_go(place, link_id)
            if request.live:
                self._back_to_the_queue(request)
        self._follow(self.dispatcher.given_back(place.seat, link_ids))

    def hear(self, place: Place, size: int) -> None:
        """The hub reads some of what the worker wrote. A lie or nonsense, and it listens no longer."""
        if place.distrusted:
            return
        for kind, link_id, body in place.stream.read(size):
            request = place.held.get(link_id)
            if request is None or (kind == SKIPPED and request.live):
                self.refuse_to_believe(place, kind, link_id, body)
                place.distrusted = True
                break
            if kind == SKIPPED:
                self.skipped(place, link_id)
            else:
                self.answered(place, link_id, Answer(kind == FAILURE, body))
        if place.stream.broken or place.distrusted:
            place.distrusted = True
            self.condemn(place)

    def serve(self, place: Place) -> None:
        """The worker runs what is at the head, or skips it if nobody wants it, and is heard."""
        for link_id, request in list(place.held.items())[:1]:
            self.begin(place, link_id)
            place.stream.write(ANSWER if request.live else SKIPPED, link_id)
        self.hear(place, len(place.stream.unread))

    def refuse_to_believe(self, place: Place, kind: int, link_id: int, body: bytes = b"") -> None:
        """A worker speaks of what it does not hold, or skips what somebody waits for. Nothing may come of it."""
        with pytest.raises(Violation, match=str(link_id)):
            if kind == SKIPPED:
                self.dispatcher.skipped(place.seat, link_id)
            else:
                self.dispatcher.answered(place.seat, link_id, Answer(kind != ANSWER, body))

    def condemn(self, place: Place) -> None:
        place.excused = place.excused or place.state == "interrupting"
        place.state = "dying"
        self.dispatcher.condemn(place.seat)

    def bury(self, place: Place, *, page: bool = True) -> None:
        """It has said all that it ever will: that is heard first, and then its page is read, if there is one."""
        assert place.state == "dying"
        self.hear(place, len(place.stream.unread))
        begun = place.begun if page else None
        place.state = "vacant"
        death = object()
        for link_id in list(place.held):
            request = self._let_go(place, link_id)
            request.begun = request.begun or begun is None or link_id <= begun
            if not request.live:
                continue
            if request.begun or request.deaths:
                self._end(request, "lost", Lost(death, request.begun), "lost")
            else:
                request.deaths += 1
                self._back_to_the_queue(request)
        self._follow(self.dispatcher.lost(place.seat, begun, death))
        self._ask_for_another(place)

    def _ask_for_another(self, place: Place) -> None:
        """When may the next one be started here? If the policy says never, the hub fails."""
        if self.closed or place.excused:
            place.launch_at = self.now
            return
        index = place.seat.index
        if place.ready_at is None:
            expected = self.failures.step("failed", index, self.now)
            wait = self.restarts.failed_start(index, self.now, self.chance)
        else:
            expected = self.failures.step("crashed", index, self.now, self.now - place.ready_at)
            wait = self.restarts.crashed(index, self.now, place.ready_at, self.chance)
        if expected is None:
            assert wait is None
            self.close()
        else:
            assert wait == pytest.approx(expected * (1 - 0.2 * self.chance))
            place.launch_at = self.now + wait

    def retire(self, place: Place) -> None:
        place.state = "retired"
        self.dispatcher.retire(place.seat)

    # ---- the verbs: the hub

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self.queue.clear()
        for request in self.requests:
            if request.live:
                self._end(request, "refused", None, "refused")
        self._follow(self.dispatcher.close())

    def work_off(self) -> None:
        """All workers do what they should, and new ones are started: everything comes to its end, in so many rounds."""
        assert any(place.state != "retired" for place in self.places)
        for _ in range(2 * len(self.requests) + 2):
            if not self.dispatcher.live:
                return
            for place in self.places:
                if place.state == "dying":
                    self.bury(place)
                if place.state == "vacant":
                    self.launch(place)
                if place.state == "starting":
                    self.ready(place, "interrupt")
                self.serve(place)
        assert not self.dispatcher.live, "what was accepted does not come to an end"

    # ---- what they are made of

    def _end(self, request, state, outcome, counted_as):
        request.state = state
        request.outcome = outcome
        request.wakes_due += 1
        self.tally[counted_as] += 1

    def _let_go(self, place, link_id):
        request = place.held.pop(link_id)
        request.releases_due += request.cleanable
        return request

    def _back_to_the_queue(self, request):
        request.state = "queued"
        self.queue = sorted([*self.queue, request], key=lambda request: request.number)

    def _count_wake(self, request):
        request.wakes += 1
        assert request.ticket.ended
        assert request.ticket.outcome == request.outcome

    def _count_release(self, request):
        request.releases += 1
        assert request.ticket.ended
        assert request.ticket.seat is None

    def _follow(self, orders):
        """Check each order and do it; then nothing must be left that should have been ordered."""
        interrupted = None
        for place in self.places:
            if place.state == "interrupting" and place.to_clean_up != place.target:
                place.state = "serving"
        for order in orders:
            place = self.places[order.seat.index]
            assert place.seat is order.seat
            if isinstance(order, Send):
                self._sent(place, order)
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

    def _sent(self, place, order):
        request = self.queue.pop(0)
        assert order.ticket is request.ticket, "not the first of the queue"
        assert not request.begun, "sent again after it had begun"
        assert request.deaths < 2, "sent a third time"
        assert place.could_take(request, self.window)
        assert order.link_id > max(place.ids, default=0)
        place.ids.append(order.link_id)
        place.held[order.link_id] = request
        request.state = "sent"
        request.sent += 1
