"""Every verb of the dispatcher done twice: by the real one, and on plain lists; then the two are compared.

The plain half knows nothing of how seats are found or orders made. It knows what each verb does to the tickets that it names,
and then follows the orders that came back (`follower.py`). At last the dispatcher must look in every detail as the lists do.

The clock, the gate for new requests, what a dead worker is read for and who asks the restart policy are the crew's and not the
core's. They are here as small as they can be, so that the core is driven as the crew drives it.
"""

import math
from collections import Counter
from functools import partial
from typing import Any

import pytest

from gibbs import RestartPolicy
from gibbs._core.dispatch import Dispatcher, Violation
from gibbs._core.flow import Flow
from gibbs._core.group import Group
from gibbs._core.lease import Lease
from gibbs._core.orders import Recall
from gibbs._core.pace import ENOUGH, SHORT, UNKNOWN
from gibbs._core.progress import Progress
from gibbs._core.restarts import Restarts
from gibbs._core.seat import Seat
from gibbs._core.terms import Terms
from gibbs._core.ticket import Answer, Lost, Ticket
from gibbs._core.watched import WatchedDispatcher
from gibbs._wire.items import cut_items
from gibbs._wire.messages import ANSWER, FAILURE, ITEMS, SKIPPED
from tests.core.machine.failures import FailureLog
from tests.core.machine.follower import Follower
from tests.core.machine.model import Company, Place, PlainLease, Request, Stream, seconds_for
from tests.core.machine.reader import Reader


class PlainHub(Follower):
    def __init__(
        self,
        in_band: list[bool],
        *,
        max_pending: float,
        policy: RestartPolicy,
        chance: float = 0.0,
        spares: int = 0,
        enough: int = ENOUGH,
        watched: bool = False,
    ) -> None:
        self.max_pending = max_pending
        self.enough = enough
        self.chance = chance
        self.places = [Place(Seat(index, is_far=one), in_band=one) for index, one in enumerate(in_band)]
        self.quota = max(1, len(in_band) - spares)
        self.shrinks = False  # fewer than before are to serve, in this moment
        self.leased_before = 0  # when fewer were to serve than before
        kind = WatchedDispatcher if watched else Dispatcher
        self.dispatcher = kind((place.seat for place in self.places), quota=self.quota, enough=enough)
        self.reader = Reader(self.dispatcher, lambda: self.now) if watched else None
        self.restarts = Restarts(policy)
        self.failures = FailureLog(policy)
        self.requests: list[Request] = []
        self.queue: list[Request] = []  # in the order of their turns
        self._aside = {}
        self.companies: list[Company] = []
        self.leases: list[PlainLease] = []  # that were given, and are not over
        self.aside: list[Request] = []  # those that ask for one too many, in the order of their turns
        self.tally = Counter()
        self.draining = False
        self.closed = False
        self.now = 1000.0

    @property
    def waiting(self) -> int:
        return len(self.queue) + self.ahead + len(self.gathering)

    @property
    def gathering(self) -> list[Request]:
        return [request for company in self.companies for request in company.gathering]

    @property
    def waiting_on_leases(self) -> list[Request]:
        return [request for lease in self.leases for request in lease.line]

    @property
    def held_leases(self) -> list[PlainLease]:
        return [lease for lease in self.leases if lease.state == "held"]

    @property
    def may_lease(self) -> int:
        """How many leases more there may be now."""
        return self.quota - 1 - len(self.held_leases)

    def meet(self, companies: list[tuple[int, float]]) -> None:
        """There are methods that run so many requests at once, the first of which waits so long for others."""
        self.companies = [Company(Group(*told), *told) for told in companies]
        self.dispatcher.groups = tuple(company.group for company in self.companies if company.patience)

    # ---- the verbs: how many serve

    def resize(self, quota: int) -> None:
        self.shrinks = quota < self.quota
        self.quota = quota
        self.leased_before = len(self.held_leases)
        for _ in range(self.may_lease):
            self._call_from_aside()
        self._follow(self.dispatcher.resize(quota))
        self.shrinks = False

    def dismiss(self, place: Place) -> None:
        place.dismissed = True
        self._follow(self.dispatcher.dismiss(place.seat))

    def revive(self, place: Place) -> None:
        place.state, place.dismissed, place.let_go = "vacant", False, False
        self.dispatcher.add(place.seat)

    # ---- the verbs: a request

    def submit(
        self,
        on_cancel: str | None,
        payload: bytes = b"payload",
        window: int = 0,
        company: Company | None = None,
        tracked: bool = False,
        **asked: Any,
    ) -> None:
        assert not self.closed
        request = Request(len(self.requests) + 1, on_cancel, None, payload, window=window, credit=window)
        request.company = company
        request.tracked = tracked
        request.created = self.now
        request.terms = Terms(on_cancel=on_cancel, **asked)
        request.ticket = Ticket(
            payload,
            request.terms,
            flow=Flow(window) if window else None,
            group=company.group if company else None,
            wake=partial(self._wake_of, request),
            created=self.now,
            progress=Progress() if tracked else None,
        )
        waiting = self.waiting
        request.may_not_wait = waiting >= self.max_pending
        could_be_run = not self.queue and any(place.could_take(None) for place in self.places)
        comes_first = not self.queue or request.turn < self.queue[0].turn
        could = [place for place in self.places if comes_first and place.could_take(request)]
        awake = [place for place in could if place.held and place.service_time < SHORT]
        must_be_sent = bool(could) and not (awake and self.ahead >= self.enough)
        must_be_sent = must_be_sent or (request.terms.affinity is not None and could != awake)
        for length in {0, waiting, waiting + 1, self.max_pending}:
            assert self.dispatcher.has_room(length) == (could_be_run or waiting < length)
        if self.draining or not self.dispatcher.has_room(self.max_pending):
            return  # refused: nobody ever hears of it
        self.requests.append(request)
        if company and company.patience and not request.may_not_wait:
            company.gathering.append(request)
            if len(company.gathering) == company.most:
                self._ripe(company)
            orders = self.dispatcher.submit(request.ticket)
            assert not orders or not company.gathering
            self._follow(orders)
            return
        assert self.dispatcher.must_wait(request.ticket) <= (not comes_first)
        self._wait_in_line(request)
        self._follow(self.dispatcher.submit(request.ticket, alone=request.may_not_wait))
        assert self.waiting <= max(waiting, self.max_pending), "it waits, and may not"
        assert must_be_sent <= (request.state == "sent") <= bool(could)

    def submit_all(self, count: int, on_cancel: str | None, payload: bytes, **asked: Any) -> None:
        """Several at once of one caller: as one by one, but sent in as few orders as can be."""
        assert not self.closed
        assert math.inf == self.max_pending
        if self.draining:
            return
        requests = [Request(len(self.requests) + n, on_cancel, None, payload) for n in range(1, count + 1)]
        for request in requests:
            request.created = self.now
            request.terms = Terms(on_cancel=on_cancel, **asked)
            request.ticket = Ticket(payload, request.terms, created=self.now)
            request.ticket.wake = partial(self._wake_of, request)
        self.requests += requests
        self._wait_in_line(*requests)
        self._follow(self.dispatcher.submit_all([request.ticket for request in requests]))

    def ask_for_lease(self, **asked: Any) -> None:
        """It is given at once if it can be, and may wait as any request; more than may be held wait for nobody else."""
        assert not self.closed
        request = self._asked(PlainLease(Lease()), b"", **asked)
        request.asks = True
        waiting = self.waiting + len(self.aside)
        idle = any(place.could_take(None) for place in self.places)
        could_be_given = not self.queue and self.may_lease > 0 and idle
        for length in {0, waiting, waiting + 1, self.max_pending}:
            assert self.dispatcher.has_room_for_lease(length) == (could_be_given or waiting < length)
        if self.draining or not self.dispatcher.has_room_for_lease(self.max_pending):
            return
        request.may_not_wait = waiting >= self.max_pending
        self.requests.append(request)
        assert not self.dispatcher.must_wait(request.ticket)
        self._wait_in_line(request)
        self._follow(self.dispatcher.submit(request.ticket))
        assert could_be_given <= (request.state == "leased")
        assert request.may_not_wait <= (request.state == "leased"), "it waits, and may not"

    def ask_on_lease(
        self,
        lease: PlainLease,
        payload: bytes = b"payload",
        window: int = 0,
        company: Company | None = None,
        **asked: Any,
    ) -> None:
        request = self._asked(lease, payload, window, company, **asked)
        for length in {0, len(lease.line), len(lease.line) + 1, self.max_pending}:
            assert lease.lease.has_room(length) == lease.has_room(length)
        if self.draining or lease.state != "held" or not lease.has_room(self.max_pending):
            return
        self.requests.append(request)
        assert not self.dispatcher.must_wait(request.ticket)
        lease.line.append(request)
        self._follow(self.dispatcher.submit(request.ticket))

    def _asked(self, lease, payload, window=0, company=None, **asked):
        request = Request(len(self.requests) + 1, asked.get("on_cancel"), None, payload, window=window, credit=window)
        request.company, request.created, request.lease = company, self.now, lease
        request.terms = Terms(**asked)
        request.ticket = Ticket(
            payload,
            request.terms,
            flow=Flow(window) if window else None,
            group=company.group if company else None,
            wake=partial(self._wake_of, request),
            created=self.now,
            lease=lease.lease,
        )
        return request

    def leave(self, lease: PlainLease) -> None:
        """Its block is left: what is on its way is withdrawn. Also of one that is broken; also twice."""
        sent = []
        if lease.state == "held":
            sent = [request for request in lease.place.held.values() if request.live]
            for request in sent + lease.line:
                self._end(request, "cancelled", None, "cancelled")
            self._lease_ends(lease, "over")
        lease.state = "over"
        if lease in self.leases:
            self.leases.remove(lease)
        self._follow(self.dispatcher.leave(lease.lease))
        for request in sent:
            if any(request in place.held.values() for place in self.places):
                request.cleanable = True
                request.ticket.released = partial(self._count_release, request)

    def _lease_ends(self, lease, state):
        lease.state = state
        lease.line.clear()
        lease.place.lease = None
        self._call_from_aside()

    def _call_from_aside(self):
        if self.aside and self.may_lease > 0:
            self._wait_in_line(self.aside.pop(0))

    def _leave_line(self, request):
        """It is queued, and waits no longer, wherever that was."""
        if request.lease is not None and not request.asks:
            request.lease.line.remove(request)
        elif request in self.aside:
            self.aside.remove(request)
        elif request in self.gathering:
            request.company.gathering.remove(request)
        else:
            self.queue.remove(request)
            if request.asks:
                self._call_from_aside()
        if request.asks:
            request.lease.state = "over"

    def _wake_of(self, request: Request, ticket: Ticket) -> None:
        assert ticket is request.ticket
        self._count_wake(request)

    def withdraw(self, request: Request) -> None:
        if request.live:
            if request.state == "queued":
                self._leave_line(request)
            self._end(request, "cancelled", None, "cancelled")
        self._follow(self.dispatcher.withdraw(request.ticket))
        if any(request in place.held.values() for place in self.places) and not request.cleanable:
            request.cleanable = True
            request.ticket.released = lambda: self._count_release(request)

    def take(self, request: Request, count: int) -> None:
        """The reader of a stream takes so many items, and has the worker told when that is due."""
        flow = request.ticket.flow
        for _ in range(count):
            flow.take()
            request.here -= 1
            request.taken += 1
            assert flow.is_due == (2 * request.taken >= request.window)
            if flow.is_due:
                orders = self.dispatcher.granted(request.ticket)
                assert bool(orders) == (request.state == "sent")
                self._follow(orders)
                request.credit += request.taken
                request.taken = 0

    def expire(self) -> None:
        """Those that no worker has taken in time wait no longer."""
        waiting = [*self.queue, *self.gathering, *self.aside, *self.waiting_on_leases]
        # One that goes may bring back one that stood aside, so the order counts: by when they give up.
        for request in sorted(waiting, key=lambda request: (request.give_up_at, request.number)):
            if request.give_up_at <= self.now:
                self._leave_line(request)
                self._end(request, "expired", None, "expired")
        self._follow(self.dispatcher.expire(self.now))

    def ripen(self) -> None:
        """Those whose first has waited for long enough wait no longer."""
        ripe_at = {
            company: min(one.created + min(company.patience, one.terms.max_wait) for one in company.gathering)
            for company in self.companies
            if company.gathering
        }
        ripe = [company for company, at in ripe_at.items() if at <= self.now]
        assert self.dispatcher.ripe_at == min(ripe_at.values(), default=math.inf)
        for company in ripe:
            self._ripe(company)
        self._follow(self.dispatcher.ripen(self.now))

    def _ripe(self, company: Company) -> None:
        self._wait_in_line(*company.gathering)
        company.gathering.clear()

    # ---- the verbs: a seat's worker

    def launch(self, place: Place) -> None:
        """Not before its time: if it must be waited for, it is."""
        self.now = max(self.now, place.launch_at)
        place.state = "starting"
        place.incarnation += 1
        place.begun = place.claimed = place.known_begun = 0
        place.stream = Stream()
        place.dead = place.distrusted = place.excused = False
        place.ready_at = None
        self.dispatcher.launch(place.seat)

    def ready(self, place: Place, on_cancel: str) -> None:
        place.state = "serving" if self.dispatcher.in_service < self.quota else "spare"
        place.on_cancel = on_cancel
        place.window, place.service_time = 1, UNKNOWN
        place.ready_at = self.now
        self.restarts.ready(place.seat.index)
        self.failures.step("ready", place.seat.index, self.now)
        self._follow(self.dispatcher.ready(place.seat, on_cancel=on_cancel))

    def paced(self, place: Place, window: int | None) -> None:
        """The worker has said how long it takes: so long that it may be sent so many; None: that it does not know."""
        place.service_time = UNKNOWN if window is None else seconds_for(window)
        place.window = window or 1
        self._follow(self.dispatcher.paced(place.seat, place.service_time))

    def tick(self) -> None:
        held_up = []
        for place in self.places:
            head = min(place.held, default=0)
            if place.state == "serving" and place.ahead and head == place.seen_at_its_head:
                place.window, place.service_time = 1, UNKNOWN
                held_up.append(place.seat)
            place.seen_at_its_head = head
        orders = self.dispatcher.tick()
        assert orders == [Recall(seat) for seat in held_up]
        self._follow(orders, ticks=True)

    def look_at_the_pages(self) -> None:
        """The dispatcher hears what has begun."""
        for place in self.places:
            if not place.in_band:
                self.dispatcher.begun(place.seat, place.begun)
                place.known_begun = place.begun
                for link_id, request in place.held.items():
                    request.forgotten = request.forgotten or (link_id <= place.begun and not request.terms.keeps)

    def claim(self, place: Place) -> None:
        """No verb: the worker has done with what it had claimed before, and takes the claim of the next."""
        if place.claimed in place.held:
            self.begin(place, place.claimed)
        place.claimed = place.can_be_had_back[0]

    def begin(self, place: Place, link_id: int) -> None:
        """No verb: the worker writes into its page, and the dispatcher does not hear of it before its death.

        A worker begins in the order of sending, so what came before has begun, or was skipped.
        """
        place.begun = max(place.begun, link_id)
        for other, request in place.held.items():
            request.begun = request.begun or other <= place.begun

    def answered(self, place: Place, link_id: int, answer: Answer) -> None:
        self._settle(place, link_id, answer)
        self._follow(self.dispatcher.answered(place.seat, link_id, answer))

    def answered_all(self, place: Place, answers: list[tuple[int, Answer]]) -> bool:
        """False if one was a lie: what was before it counts."""
        for link_id, answer in answers:
            if link_id not in place.held:
                with pytest.raises(Violation, match=str(link_id)):
                    self.dispatcher.answered_all(place.seat, answers)
                return False
            self._settle(place, link_id, answer)
        self._follow(self.dispatcher.answered_all(place.seat, answers))
        return True

    def arrived(self, place: Place, link_id: int, count: int) -> bool:
        """So many items of a stream; False, and nothing has changed, if they may not be sent."""
        request = place.held.get(link_id)
        items = [(2, b"items")] * (count // 2) + [(1, b"item")] * (count % 2)
        if request is None or not 0 < count <= request.credit:
            with pytest.raises(Violation, match=str(link_id)):
                self.dispatcher.arrived(place.seat, link_id, items)
            return False
        self.begin(place, link_id)
        place.known_begun = max(place.known_begun, link_id)
        request.credit -= count
        request.here += count if request.live else 0
        request.came = True
        self.dispatcher.arrived(place.seat, link_id, items)
        return True

    def reported(self, place: Place, link_id: int, word: bytes) -> bool:
        """How far a request has come; False, and nothing has changed, if nobody had asked."""
        request = place.held.get(link_id)
        if request is None or not request.tracked:
            with pytest.raises(Violation, match=str(link_id)):
                self.dispatcher.reported(place.seat, link_id, word)
            return False
        self.begin(place, link_id)
        place.known_begun = max(place.known_begun, link_id)
        if request.live:
            request.word = word
        self.dispatcher.reported(place.seat, link_id, word)
        return True

    def skipped(self, place: Place, link_id: int) -> None:
        if link_id in place.recalled:
            place.recalled.remove(link_id)
        else:
            self._let_go(place, link_id)
        self._follow(self.dispatcher.skipped(place.seat, link_id))

    def given_back(self, place: Place, link_ids: list[int]) -> None:
        self._follow(self._give_back(place, link_ids))

    def hear(self, place: Place, size: int) -> None:
        """The hub reads some of what the worker wrote. A lie or nonsense, and it listens no longer.

        As the crew does it: while nothing is cleaned up, all answers of a piece are settled together, after the rest.
        """
        if place.distrusted:
            return
        together = place.state == "serving"
        answers = []
        for kind, link_id, body in place.stream.read(size):
            request = place.held.get(link_id)
            if kind == ITEMS:
                if not self.arrived(place, link_id, sum(count for count, _ in cut_items(body))):
                    place.distrusted = True
                    break
            elif kind != SKIPPED and together:
                answers.append((link_id, Answer(kind == FAILURE, body)))
            elif kind != SKIPPED and request is not None:
                self.answered(place, link_id, Answer(kind == FAILURE, body))
            elif kind == SKIPPED and (link_id in place.recalled or (request is not None and not request.live)):
                self.skipped(place, link_id)
            else:
                self.refuse_to_believe(place, kind, link_id, body)
                place.distrusted = True
                break
        if answers and not self.answered_all(place, answers):
            place.distrusted = True
        if place.stream.broken or place.distrusted:
            place.distrusted = True
            self.condemn(place)

    def serve(self, place: Place) -> None:
        """The worker runs what is at the head, or skips it if nobody wants it; then what was taken back; and is heard."""
        for link_id, request in list(place.held.items())[:1]:
            self.begin(place, link_id)
            place.stream.write(ANSWER if request.live else SKIPPED, link_id)
        if len(place.held) <= 1:
            for link_id in sorted(place.recalled):
                place.stream.write(SKIPPED, link_id)
        self.hear(place, len(place.stream.unread))

    def refuse_to_believe(self, place: Place, kind: int, link_id: int, body: bytes = b"") -> None:
        """A worker speaks of what it does not hold, or skips what somebody waits for. Nothing may come of it."""
        with pytest.raises(Violation, match=str(link_id)):
            if kind == SKIPPED:
                self.dispatcher.skipped(place.seat, link_id)
            elif kind == ITEMS:
                self.dispatcher.arrived(place.seat, link_id, [(1, b"item")])
            else:
                self.dispatcher.answered(place.seat, link_id, Answer(kind != ANSWER, body))

    def condemn(self, place: Place) -> None:
        place.excused = place.excused or place.state == "interrupting"
        place.state = "dying"
        place.in_service = False
        self._follow(self.dispatcher.condemn(place.seat))

    def bury(self, place: Place, *, page: bool = True, wiped: bool = False, certain: bool = True) -> None:
        """It has said all that it ever will: that is heard first, and then its page is read, if there is one.

        A page that was wiped tells nothing any more; what it had told before stands. One whose end is not certain may run on.
        """
        assert place.state == "dying"
        self.hear(place, len(place.stream.unread))
        read = (0 if wiped else place.begun) if page else None
        begun = max(read, place.known_begun) if read is not None else None
        place.state = "vacant"
        place.recalled.clear()
        death = object()
        together = place.together and len(place.held) > 1
        for link_id in list(place.held):
            request = self._let_go(place, link_id)
            request.begun = begun is None or link_id <= begun
            if not request.live:
                continue
            request.kills += begun in (None, link_id) and not together  # what began before it had an answer that waited
            again = request.tried < request.terms.retries and request.kills < 2 and not request.came
            again = again and (certain or request.terms.retry_uncertain)
            if request.lease is not None:
                self._end(request, "lost", Lost(death, request.begun), "lost")
            elif not request.begun and not request.came_back:
                request.came_back = True
                self._back_to_the_queue(request)
            elif again:
                request.tried += 1
                request.deaths += (death,)
                request.came_back, request.begun = True, False
                self._back_to_the_queue(request)
            else:
                lost = Lost(death, request.begun, request.deaths, request.kills >= 2)
                self._end(request, "lost", lost, "lost")
        if (lease := place.lease) is not None:
            for request in lease.line:
                self._end(request, "lost", Lost(death, may_have_run=False), "lost")
            lease.death = death
            self._lease_ends(lease, "broken")
        self._follow(self.dispatcher.lost(place.seat, read, death, certain=certain))
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

    def drain(self) -> None:
        """Those that ask for a lease are refused, since they could ask for nothing on it."""
        if self.draining or self.closed:
            return
        self.draining = True
        for request in [request for request in self.queue + self.aside if request.asks]:
            self._leave_line(request)
            self._end(request, "refused", None, "refused")
        self._follow(self.dispatcher.drain())

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        asking = [request for request in self.queue + self.aside if request.asks]
        for lease in self.held_leases + [request.lease for request in asking]:
            lease.state = "over"
            lease.line.clear()
            if lease.place is not None:
                lease.place.lease = None
                self.leases.remove(lease)
        self.aside.clear()
        self.queue.clear()
        for company in self.companies:
            company.gathering.clear()
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
            self.now += max([0.0, *(company.patience for company in self.companies)])
            self.ripen()
            for place in self.places:
                if place.state == "dying":
                    self.bury(place)
                if place.state == "vacant" and place.dismissed:
                    self.retire(place)
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

    def _settle(self, place, link_id, answer):
        request = self._let_go(place, link_id)
        if request.live:
            self._end(request, "answered", answer, "failed" if answer.failed else "done")

    def _count_wake(self, request):
        request.wakes += 1
        assert request.ticket.ended
        assert request.ticket.outcome == request.outcome

    def _count_release(self, request):
        request.releases += 1
        assert request.ticket.ended
        assert request.ticket.seat is None
