"""Every order of events that Hypothesis can think of, against the core and, beside it, a model that is as plain as can be.

`machine/plain_hub.py` does each verb twice and compares, `machine/invariants.py` says what must be true after each step;
here are the rules, which say what can happen next. `GIBBS_STEPS=1000000` goes on until that many steps were taken; with
`-s` their number is printed.
"""

import math
import os
import time

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule, run_state_machine_as_test

from gibbs import RestartPolicy
from gibbs._core.affinity import affinity_of
from gibbs._core.dispatch import LARGE, Violation
from gibbs._core.pace import ENOUGH, WINDOW
from gibbs._core.ticket import Answer
from gibbs._wire.frames import HEADER_SIZE, encode_header
from gibbs._wire.items import pack_items
from gibbs._wire.messages import ANSWER, CALL, FAILURE, ITEMS, SKIPPED
from tests.core.machine.invariants import AfterEachStep
from tests.core.machine.model import LONGEST_BODY
from tests.core.machine.plain_hub import PlainHub

STEPS = int(os.environ.get("GIBBS_STEPS", "0"))
ON_CANCEL = st.sampled_from(["interrupt", "kill", "finish"])
IN_BAND = st.sampled_from([False, False, False, True])
WINDOWS = st.sampled_from([None, 1, 2, 3, 4, 6, 9, 10, WINDOW])  # of 10 and more calls are short
STREAMS = st.sampled_from([0, 0, 0, 1, 2, 5])  # windows; 0: a request
VERBS = STREAMS | st.none()  # None: one that is tracked
COMPANIES = st.lists(st.tuples(st.sampled_from([1, 2, 3, 5]), st.sampled_from([0.0, 0.0, 0.125, 1.0])), max_size=2)
ASKED = st.just({}) | st.fixed_dictionaries(
    {},
    optional={
        "priority": st.sampled_from([-1, 0, 1, 2]),
        "retries": st.sampled_from([0, 1, 2, 3]),
        "retry_uncertain": st.booleans(),
        "affinity": st.sampled_from([affinity_of(key) for key in range(5)]),
        "max_wait": st.sampled_from([0.0, 0.125, 1.0, math.inf]),
        "keeps": st.booleans(),
    },
).map(lambda asked: asked | {"keeps": True} if asked.get("retries") else asked)  # or it could not be tried again
PAYLOADS = st.sampled_from([b"payload", b"payload", bytes(LARGE), bytes(LARGE + 1)])
FEW_OR_NO_LIMIT = st.sampled_from([0, 1, 2, 5, math.inf, math.inf, math.inf])
# Whole eighths of a second, so that "exactly the period" happens.
EIGHTHS = st.integers(0, 80).map(lambda n: n / 8)
POLICIES = st.just(RestartPolicy(max_failures=math.inf)) | st.builds(
    RestartPolicy,
    max_failures=FEW_OR_NO_LIMIT,
    period=EIGHTHS.filter(bool),
    max_crashes=st.none() | FEW_OR_NO_LIMIT,
)
NONSENSE = [
    b"X" * HEADER_SIZE,
    encode_header(CALL, 1, 0),  # the hub's own way of speaking
    encode_header(ANSWER, 1, LONGEST_BODY + 1) + b"too long",
    encode_header(ANSWER, 1, (1 << 64) - 1),
    encode_header(ANSWER, 1, 0).replace(b"\1", b"\2", 1),  # another version
]


class DispatcherMachine(AfterEachStep):
    @initialize(
        models=st.lists(st.tuples(st.none() | ON_CANCEL, IN_BAND), min_size=1, max_size=5),  # None: no worker yet
        window=WINDOWS,
        max_pending=FEW_OR_NO_LIMIT,
        policy=POLICIES,
        chance=st.sampled_from([0.0, 0.25, 0.99]),
        enough=st.sampled_from([1, 3, 10, ENOUGH, ENOUGH]),
        companies=COMPANIES,
        spares=st.sampled_from([0, 0, 1, 2]),
        watched=st.booleans(),
    )
    def open(self, models, window, max_pending, policy, chance, enough, companies, spares, watched):
        in_band = [one for _, one in models]
        self.hub = PlainHub(
            in_band,
            max_pending=max_pending,
            policy=policy,
            chance=chance,
            spares=spares,
            enough=enough,
            watched=watched,
        )
        self.hub.meet(companies)
        for place, (on_cancel, _) in zip(self.hub.places, models, strict=True):
            if on_cancel is not None:
                self.hub.launch(place)
                self.hub.ready(place, on_cancel)
                self.hub.paced(place, window)

    # ---- a request

    @precondition(lambda self: not self.hub.closed)
    @rule(on_cancel=st.none() | ON_CANCEL, count=st.integers(1, 6), payload=PAYLOADS, window=VERBS, asked=ASKED)
    def submit(self, on_cancel, count, payload, window, asked):
        """Also more than find room, and also while the hub drains: those are refused."""
        for _ in range(count):
            if window is None:
                self.hub.submit(on_cancel, payload, tracked=True, **asked)
            else:
                self.hub.submit(on_cancel, payload, window, **asked)

    @precondition(lambda self: not self.hub.closed and self.hub.max_pending == math.inf)
    @rule(on_cancel=st.none() | ON_CANCEL, count=st.integers(0, 12), payload=PAYLOADS, asked=ASKED)
    def submit_all(self, on_cancel, count, payload, asked):
        self.hub.submit_all(count, on_cancel, payload, **asked)

    @precondition(lambda self: not self.hub.closed and self.hub.companies)
    @rule(data=st.data(), on_cancel=st.none() | ON_CANCEL, count=st.integers(1, 6), payload=PAYLOADS, asked=ASKED)
    def submit_in_company(self, data, on_cancel, count, payload, asked):
        company = data.draw(st.sampled_from(self.hub.companies))
        for _ in range(count):
            self.hub.submit(on_cancel, payload, company=company, **asked)

    # ---- a lease

    @precondition(lambda self: not self.hub.closed)
    @rule(asked=ASKED, count=st.integers(1, 3))
    def ask_for_a_lease(self, asked, count):
        """Also for more than there may be, and where there is one seat only."""
        for _ in range(count):
            self.hub.ask_for_lease(**asked)

    @precondition(lambda self: self.hub.held_leases)
    @rule(
        data=st.data(),
        on_cancel=st.none() | ON_CANCEL,
        count=st.integers(1, 4),
        payload=PAYLOADS,
        window=STREAMS,
        asked=ASKED,
    )
    def ask_on_a_lease(self, data, on_cancel, count, payload, window, asked):
        lease = data.draw(st.sampled_from(self.hub.held_leases))
        company = data.draw(st.sampled_from([None, *self.hub.companies])) if not window else None
        for _ in range(count):
            self.hub.ask_on_lease(lease, payload, window, company, on_cancel=on_cancel, **asked)

    @precondition(lambda self: self.hub.leases)
    @rule(data=st.data())
    def leave_a_lease(self, data):
        self.hub.leave(data.draw(st.sampled_from(self.hub.leases)))

    @precondition(lambda self: self.hub.held_leases)
    @rule(data=st.data(), while_it_dies=st.booleans())
    def its_worker_dies(self, data, while_it_dies):
        """Perhaps it is left before that is known."""
        lease = data.draw(st.sampled_from(self.hub.held_leases))
        self.hub.condemn(lease.place)
        if while_it_dies:
            self.hub.leave(lease)
        else:
            self.hub.bury(lease.place)

    @rule()
    def ripen(self):
        self.hub.ripen()

    @rule()
    def expire(self):
        self.hub.expire()

    @precondition(lambda self: any(request.here for request in self.hub.requests))
    @rule(data=st.data())
    def take(self, data):
        """Also what came before the stream was lost, or had ended."""
        request = data.draw(st.sampled_from([request for request in self.hub.requests if request.here]))
        self.hub.take(request, data.draw(st.integers(1, request.here)))

    @precondition(lambda self: self.hub.requests)
    @rule(data=st.data())
    def withdraw(self, data):
        self.hub.withdraw(data.draw(st.sampled_from(self.hub.requests)))

    @precondition(lambda self: any(request.live for request in self.hub.requests))
    @rule(data=st.data())
    def withdraw_one_that_lives(self, data):
        self.hub.withdraw(data.draw(st.sampled_from([request for request in self.hub.requests if request.live])))

    @precondition(lambda self: self.holding())
    @rule(data=st.data())
    def withdraw_what_a_seat_holds(self, data):
        place, _ = self.draw_held(data)
        for request in list(place.held.values()):
            self.hub.withdraw(request)

    @precondition(lambda self: self.hub.queue)
    @rule()
    def withdraw_the_first_of_the_queue(self):
        self.hub.withdraw(self.hub.queue[0])

    # ---- a seat and its worker

    @precondition(lambda self: self.some("vacant"))
    @rule(data=st.data())
    def launch(self, data):
        self.hub.launch(self.draw_place(data, "vacant"))

    @precondition(lambda self: self.some("vacant"))
    @rule(data=st.data(), on_cancel=ON_CANCEL)
    def launch_and_ready(self, data, on_cancel):
        place = self.draw_place(data, "vacant")
        self.hub.launch(place)
        self.hub.ready(place, on_cancel)

    @precondition(lambda self: self.some("starting"))
    @rule(data=st.data(), on_cancel=ON_CANCEL)
    def ready(self, data, on_cancel):
        self.hub.ready(self.draw_place(data, "starting"), on_cancel)

    @rule(data=st.data(), window=WINDOWS)
    def paced(self, data, window):
        """Also of a worker that is not ready, or gone: the page says what it says."""
        place = data.draw(st.sampled_from(self.hub.places))
        self.hub.paced(place, window)

    @rule(count=st.integers(1, 2))
    def tick(self, count):
        for _ in range(count):
            self.hub.tick()

    @rule()
    def look_at_the_pages(self):
        self.hub.look_at_the_pages()

    @precondition(lambda self: self.claiming())
    @rule(data=st.data())
    def claim(self, data):
        """The worker is about to begin the next, and the page does not say so yet."""
        self.hub.claim(data.draw(st.sampled_from(self.claiming())))

    @precondition(lambda self: self.holding())
    @rule(data=st.data())
    def begin(self, data):
        self.hub.begin(*self.draw_held(data))

    @precondition(lambda self: self.holding())
    @rule(data=st.data(), failed=st.booleans(), at_the_head=st.booleans())
    def answered(self, data, failed, at_the_head):
        """Also late, when the caller or the worker is gone; also, though no worker does, out of order."""
        place, link_id = self.draw_held(data, at_the_head=at_the_head)
        self.hub.begin(place, link_id)
        self.hub.answered(place, link_id, Answer(failed, b"body"))

    @precondition(lambda self: self.holding())
    @rule(data=st.data(), word=st.binary(min_size=1, max_size=1))
    def reported(self, data, word):
        """Also of what nobody tracks: a lie of which nothing comes. Also when the caller is gone."""
        tracked = [(place, link_id) for place, link_id in self.holding() if place.held[link_id].tracked]
        place, link_id = data.draw(st.sampled_from(tracked)) if tracked else self.draw_held(data)
        self.hub.reported(place, link_id, word)

    @precondition(lambda self: any(request.word for request in self.hub.requests))
    @rule(data=st.data())
    def take_a_word(self, data):
        """Also when its call is over."""
        request = data.draw(st.sampled_from([request for request in self.hub.requests if request.word]))
        assert request.ticket.progress.take() == request.word
        request.word = None

    @precondition(lambda self: self.streaming())
    @rule(data=st.data(), count=st.integers(0, 6))
    def arrived(self, data, count):
        """Also none, and more than may be: a lie of which nothing comes."""
        self.hub.arrived(*data.draw(st.sampled_from(self.streaming())), count)

    @precondition(lambda self: self.holding())
    @rule(data=st.data(), failed=st.booleans())
    def answered_all(self, data, failed):
        """Several at once; one that is named twice is a lie, and what comes behind it is not heard."""
        place, _ = self.draw_held(data)
        ids = data.draw(st.lists(st.sampled_from([*place.held]), max_size=4))
        for link_id in ids:
            self.hub.begin(place, link_id)
        if not self.hub.answered_all(place, [(link_id, Answer(failed, b"body")) for link_id in ids]):
            place.distrusted = True
            self.hub.condemn(place)

    @precondition(lambda self: self.holding(abandoned=True))
    @rule(data=st.data())
    def skipped(self, data):
        self.hub.skipped(*self.draw_held(data, abandoned=True))

    @precondition(lambda self: any(place.recalled for place in self.hub.places))
    @rule(data=st.data(), all_of_them=st.booleans())
    def skipped_what_was_recalled(self, data, all_of_them):
        """In whatever order; also when it must die."""
        place = data.draw(st.sampled_from([place for place in self.hub.places if place.recalled]))
        for link_id in data.draw(st.permutations(sorted(place.recalled)))[: None if all_of_them else 1]:
            self.hub.skipped(place, link_id)

    @precondition(lambda self: any(place.can_be_had_back for place in self.hub.places))
    @rule(data=st.data())
    def given_back(self, data):
        """Unasked, and not all that could be."""
        place = data.draw(st.sampled_from([place for place in self.hub.places if place.can_be_had_back]))
        self.hub.given_back(place, place.can_be_had_back[data.draw(st.integers(0, len(place.can_be_had_back))) :])

    # ---- what a worker writes, and the hub reads some time later

    @precondition(lambda self: self.holding(talking=True))
    @rule(data=st.data(), kind=st.sampled_from([ANSWER, FAILURE, SKIPPED]), body=st.binary(max_size=LONGEST_BODY))
    def say(self, data, kind, body):
        """An answer, which is late if the caller leaves before it is read, and is the second if it was given before."""
        place, link_id = self.draw_held(data, talking=True)
        if kind == SKIPPED and place.held[link_id].live:
            kind = ANSWER
        if kind != SKIPPED:
            self.hub.begin(place, link_id)
        place.stream.write(kind, link_id, body if kind != SKIPPED else b"")

    @precondition(lambda self: self.streaming(talking=True))
    @rule(data=st.data(), count=st.integers(1, 3))
    def say_items(self, data, count):
        place, link_id = data.draw(st.sampled_from(self.streaming(talking=True)))
        self.hub.begin(place, link_id)
        place.stream.write(ITEMS, link_id, pack_items([(1, b"item")] * count))

    @precondition(lambda self: any(place.recalled and not place.dead for place in self.hub.places))
    @rule(data=st.data(), kind=st.sampled_from([SKIPPED, SKIPPED, SKIPPED, ANSWER]))
    def say_of_what_was_recalled(self, data, kind):
        """That it is skipped; or it has run, which is a lie."""
        place = data.draw(st.sampled_from([p for p in self.hub.places if p.recalled and not p.dead]))
        place.stream.write(kind, min(place.recalled))

    @precondition(lambda self: self.holding(talking=True))
    @rule(data=st.data(), count=st.integers(1, 3))
    def serve(self, data, count):
        """A worker does what it should."""
        place, _ = self.draw_held(data, talking=True)
        for _ in range(count):
            self.hub.serve(place)

    @precondition(lambda self: self.talkers())
    @rule(data=st.data(), kind=st.sampled_from([ANSWER, FAILURE, SKIPPED, ITEMS, None]))
    def lie(self, data, kind):
        """Of what was answered long ago, of what a neighbour holds, of what was never sent; or no message at all."""
        place = data.draw(st.sampled_from(self.talkers()))
        if kind is None:
            place.stream.write_nonsense(data.draw(st.sampled_from(NONSENSE)))
        else:
            body = pack_items([(1, b"forged")]) if kind == ITEMS else b"forged"
            place.stream.write(kind, data.draw(st.sampled_from(self.ids_not_held(place))), body)

    @precondition(lambda self: any(place.stream.unread for place in self.hub.places if place.state != "vacant"))
    @rule(data=st.data(), all_of_it=st.booleans())
    def hear(self, data, all_of_it):
        """Some of the bytes, wherever that cuts them."""
        place = data.draw(st.sampled_from([p for p in self.hub.places if p.stream.unread and p.state != "vacant"]))
        size = len(place.stream.unread)
        self.hub.hear(place, size if all_of_it else data.draw(st.integers(1, size)))

    @rule(data=st.data(), verb=st.sampled_from(["answered", "skipped", "given_back", "arrived"]))
    def forged(self, data, verb):
        """The same lies told to the dispatcher alone: nothing may come of them."""
        place = data.draw(st.sampled_from(self.hub.places))
        ids = self.ids_not_held(place)
        if verb == "skipped":
            live = {link_id for link_id, request in place.held.items() if request.live}
            ids = sorted(({*ids} | live) - place.recalled)
        link_id = data.draw(st.sampled_from(ids))
        if verb != "given_back":
            kind = {"answered": ANSWER, "skipped": SKIPPED, "arrived": ITEMS}[verb]
            self.hub.refuse_to_believe(place, kind, link_id)
            return
        with pytest.raises(Violation, match=str(link_id)):
            self.hub.dispatcher.given_back(place.seat, [*place.can_be_had_back, link_id])

    # ---- a worker's death

    @precondition(lambda self: self.some("starting", "spare", "serving", "interrupting", "dying"))
    @rule(data=st.data())
    def condemn(self, data):
        """It must go. It may speak until it is gone."""
        self.hub.condemn(self.draw_place(data, "starting", "spare", "serving", "interrupting", "dying"))

    @precondition(lambda self: self.some("starting", "spare", "serving", "interrupting", "dying"))
    @rule(data=st.data(), missing=st.just(0) | st.integers(1, HEADER_SIZE + LONGEST_BODY))
    def die(self, data, missing):
        """It is dead, and its last frame complete or not."""
        place = self.draw_place(data, "starting", "spare", "serving", "interrupting", "dying")
        self.hub.condemn(place)
        place.dead = True
        place.stream.cut(missing)

    @precondition(lambda self: self.some("dying"))
    @rule(data=st.data(), evidence=st.sampled_from(["page", "page", "page", "later", "wiped", "none", "uncertain"]))
    def lost(self, data, evidence):
        """What has begun: as the page said all along, as it says now that it is read again, or there is no page, or nobody can say
        that the process is gone.

        Or the worker, before it died, took back its word.
        """
        place = self.draw_place(data, "dying")
        if evidence == "later" and place.held:
            self.hub.begin(place, data.draw(st.sampled_from([*place.held])))
        certain = evidence != "uncertain"
        self.hub.bury(place, page=certain and evidence != "none", wiped=evidence == "wiped", certain=certain)

    @precondition(lambda self: self.holding())
    @rule(data=st.data())
    def crash(self, data):
        """Condemned and lost in one, and nothing more has begun."""
        place, _ = self.draw_held(data)
        self.hub.condemn(place)
        self.hub.bury(place)

    @precondition(lambda self: self.some("vacant"))
    @rule(data=st.data(), really=st.sampled_from([False, False, False, True]))
    def retire(self, data, really):
        if really or self.hub.closed:
            self.hub.retire(self.draw_place(data, "vacant"))

    # ---- how many serve

    @precondition(lambda self: not self.hub.closed)
    @rule(quota=st.integers(0, 6))
    def resize(self, quota):
        self.hub.resize(quota)

    @precondition(lambda self: any(not place.dismissed and place.state != "retired" for place in self.hub.places))
    @rule(data=st.data(), really=st.sampled_from([False, True]))
    def dismiss(self, data, really):
        places = [place for place in self.hub.places if not place.dismissed and place.state != "retired"]
        if really or self.hub.closed:
            self.hub.dismiss(data.draw(st.sampled_from(places)))

    @precondition(lambda self: self.some("retired") and not self.hub.closed)
    @rule(data=st.data())
    def revive(self, data):
        self.hub.revive(self.draw_place(data, "retired"))

    # ---- the hub

    @rule(seconds=EIGHTHS)
    def time_passes(self, seconds):
        self.hub.now += seconds

    @rule(really=st.sampled_from([False] * 19 + [True]))
    def drain(self, really):
        if really:
            self.hub.drain()

    @rule(really=st.sampled_from([False] * 19 + [True]))
    def close(self, really):
        if really:
            self.hub.close()

    # ---- what the rules choose from

    def some(self, *states):
        return any(place.state in states for place in self.hub.places)

    def draw_place(self, data, *states):
        return data.draw(st.sampled_from([place for place in self.hub.places if place.state in states]))

    def holding(self, *, abandoned=False, talking=False):
        return [
            (place, link_id)
            for place in self.hub.places
            for link_id, request in place.held.items()
            if not (abandoned and request.live) and not (talking and place.dead)
        ]

    def draw_held(self, data, *, at_the_head=False, **which):
        place, link_id = data.draw(st.sampled_from(self.holding(**which)))
        return (place, next(iter(place.held))) if at_the_head else (place, link_id)

    def streaming(self, **which):
        return [(place, link_id) for place, link_id in self.holding(**which) if place.held[link_id].window]

    def claiming(self):
        return [place for place in self.hub.places if place.can_be_had_back and not place.dead]

    def talkers(self):
        return [place for place in self.hub.places if place.state not in ("vacant", "retired") and not place.dead]

    def ids_not_held(self, place):
        elsewhere = [link_id for other in self.hub.places if other is not place for link_id in other.held]
        numbers = [request.number for request in self.hub.requests]
        return sorted({0, 1, 1 << 63, *place.ids, *elsewhere, *numbers} - place.held.keys())

    def teardown(self):
        """A hub that drains works off what it has. Then close, bury all: each request has ended once and left its seat."""
        if not hasattr(self, "hub"):
            return
        hub = self.hub
        staying = [place for place in hub.places if place.state != "retired" and not place.dismissed]
        if hub.draining and not hub.closed and staying:
            if hub.quota == 0:
                hub.resize(1)
            for (
                lease
            ) in hub.held_leases:  # in a hub that has not become smaller one seat is always left for those without
                if len(hub.held_leases) >= min(hub.quota, len(staying)):
                    hub.leave(lease)
            hub.work_off()
            refused = [request for request in hub.requests if request.state == "refused"]
            assert hub.closed or all(request.asks for request in refused), "refused, though nobody closed"
        hub.close()
        for place in hub.places:
            if place.state not in ("vacant", "retired"):
                hub.condemn(place)
                hub.bury(place)
        self.assert_all()
        assert not any(place.held for place in hub.places)
        assert sum(hub.tally.values()) == sum(request.wakes for request in hub.requests) == len(hub.requests)
        hub.failures.assert_no_window_saw_too_many()


# A failure shrinks for longer than it takes to find; what it shrinks to is worth the wait.
@pytest.mark.timeout(400 + STEPS // 100)
def test_whatever_happens_in_whatever_order_each_request_is_in_one_place_and_ends_once():
    usual = settings.default
    thorough = settings(
        # Hypothesis remembers all that it tried: many rounds take less memory than a long one.
        max_examples=500 if STEPS else max(200, usual.max_examples),
        stateful_step_count=max(60, usual.stateful_step_count),
        phases=set(usual.phases) - {Phase.explain},
        derandomize=usual.derandomize and not STEPS,  # or each round would be the same
        database=None if STEPS else usual.database,
        report_multiple_bugs=False,
    )
    started = time.monotonic()
    AfterEachStep.steps = 0
    while True:
        run_state_machine_as_test(DispatcherMachine, settings=thorough)
        print(f"{AfterEachStep.steps:,} steps of the core in {time.monotonic() - started:.0f} s")
        if AfterEachStep.steps >= STEPS:
            break
