"""How many workers are wanted: by hand, and in simulated hubs whose load is known."""

from __future__ import annotations

import heapq
import math
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gibbs import Elastic
from gibbs._core.elastic import Size, Use

IDLE = Use(7, busy=False)
BUSY = Use(7, busy=True)


def look(size, now, *, queued=0, waited=0.0, service_time=math.inf, uses=()):
    return size.look(now, queued=queued, waited=waited, service_time=service_time, uses=dict(enumerate(uses)))


def test_a_hub_begins_with_the_least_and_is_not_looked_at():
    size = Size(Elastic(2, 8))
    assert (size.wanted, size.next_at) == (2, math.inf)
    assert look(size, 0.0, uses=[IDLE, IDLE]) == 2
    assert size.next_at == math.inf


def test_what_has_not_waited_for_long_is_looked_at_when_it_will_have():
    size = Size(Elastic(1, 8, target_wait=0.5))
    assert look(size, 10.0, queued=3, waited=0.2, uses=[BUSY]) == 1
    assert size.next_at == pytest.approx(10.3)


@pytest.mark.parametrize(
    ("queued", "service_time", "wanted"),
    [(3, 1.0, 4), (3, math.inf, 4), (30, 1.0, 8), (30, 0.001, 2), (300, 0.001, 4), (1, 1.0, 2), (1, 0.0, 2)],
)
def test_it_grows_by_what_would_work_off_the_queue_in_time(queued, service_time, wanted):
    size = Size(Elastic(1, 8, target_wait=0.1))
    assert look(size, 0.0, queued=queued, waited=0.1, service_time=service_time, uses=[BUSY]) == wanted


def test_it_does_not_grow_again_before_those_serve_that_are_wanted():
    size = Size(Elastic(1, 8, target_wait=0.1))
    assert look(size, 0.0, queued=2, waited=0.1, uses=[BUSY]) == 3
    assert look(size, 1.0, queued=9, waited=1.1, uses=[BUSY]) == 3
    assert look(size, 2.0, queued=9, waited=2.1, uses=[BUSY, BUSY]) == 3
    assert look(size, 3.0, queued=9, waited=3.1, uses=[BUSY] * 3) == 8


def test_with_no_worker_the_first_request_asks_for_one_at_once():
    size = Size(Elastic(0, 8, target_wait=5))
    assert look(size, 0.0, queued=1, waited=0.0) == 1


def test_a_worker_that_had_nothing_to_do_for_long_goes_and_the_least_stay():
    size = Size(Elastic(1, 8, idle=60))
    look(size, 0.0, queued=3, waited=1.0, uses=[BUSY])
    assert look(size, 10.0, uses=[BUSY, IDLE, IDLE, IDLE]) == 4
    assert size.next_at == 70
    assert look(size, 69.0, uses=[IDLE] * 4) == 4
    assert look(size, 70.0, uses=[BUSY, IDLE, IDLE, IDLE]) == 1
    assert look(size, 700.0, uses=[IDLE]) == 1
    assert size.next_at == math.inf


def test_one_that_was_sent_something_meanwhile_was_not_idle():
    size = Size(Elastic(1, 2, idle=60))
    look(size, 0.0, queued=1, waited=1.0, uses=[BUSY])
    assert look(size, 0.0, uses=[IDLE, IDLE]) == 2
    assert look(size, 60.0, uses=[Use(8, busy=False), Use(9, busy=False)]) == 2
    assert look(size, 120.0, uses=[Use(9, busy=False), Use(9, busy=False)]) == 1


def simulate(elastic, every, takes, *, start, seconds):
    """A hub that is sent a request each `every` seconds that `takes` so long; a start takes `start`. The numbers, as they changed."""
    size = Size(elastic)
    serving = {number: [0, False] for number in range(size.wanted)}  # sent, busy
    changes, queue, born = [(0.0, size.wanted)], [], len(serving)
    events = [(0.0, 0, "request", None)]
    order = 1
    alarm = math.inf

    def note(at, what, about):
        nonlocal order
        heapq.heappush(events, (at, order, what, about))
        order += 1

    while True:
        now, what, about = (alarm, "look", None) if alarm <= events[0][0] else (events[0][0], *events[0][2:])
        if now > seconds:
            return changes
        if what != "look" or alarm > now:
            heapq.heappop(events)
        if what == "request":
            queue.append(now)
            note(now + every, "request", None)
        elif what == "done" and about in serving:
            serving[about][1] = False
        elif what == "started":
            serving[about] = [0, False]
        # Those used last come first, so that others can be idle.
        for number, state in sorted(serving.items(), key=lambda item: -item[1][0]):
            if queue and not state[1]:
                queue.pop(0)
                state[0], state[1] = order, True
                note(now + takes, "done", number)
        if what == "look" or queue:
            wanted = size.look(
                now,
                queued=len(queue),
                waited=now - queue[0] if queue else 0.0,
                service_time=takes,
                uses={number: Use(sent, busy) for number, (sent, busy) in serving.items()},
            )
            alarm = size.next_at
            if wanted != changes[-1][1]:
                for _ in range(wanted - changes[-1][1]):
                    note(now + start, "started", born)
                    born += 1
                idle = sorted(
                    (number for number, state in serving.items() if not state[1]), key=lambda n: serving[n][0]
                )
                for number in idle[: max(0, changes[-1][1] - wanted)]:
                    del serving[number]
                changes.append((now, wanted))


LOADS = st.tuples(st.sampled_from([0.05, 0.1, 0.25, 1.0]), st.sampled_from([0.01, 0.2, 0.5, 1.0, 3.0]))


@given(load=LOADS, least=st.integers(0, 3), start=st.sampled_from([0.1, 2.0, 20.0]))
def test_under_a_load_that_stays_the_same_it_comes_to_rest_at_what_the_load_needs(load, least, start):
    every, takes = load
    needed = math.ceil(takes / every - 1e-9)
    elastic = Elastic(least, max(least, needed + 8, 1), idle=20, target_wait=0.5)
    changes = simulate(elastic, every, takes, start=start, seconds=400)
    assert all(elastic.least <= wanted <= elastic.most for _, wanted in changes)
    grown = [at for (_, before), (at, wanted) in pairwise(changes) if wanted > before]
    shrunk = [at for (_, before), (at, wanted) in pairwise(changes) if wanted < before]
    assert not grown or not shrunk or max(grown) < min(shrunk), f"it flaps: {changes}"
    assert max(grown, default=0) < 200, f"it does not come to rest: {changes}"
    assert changes[-1][1] >= min(needed, elastic.most) or changes[-1][1] * every * 1.001 >= takes


@given(least=st.integers(0, 3), idle=st.sampled_from([1.0, 60.0]))
def test_without_load_it_comes_to_rest_at_the_least(least, idle):
    size = Size(Elastic(least, 8, idle=idle))
    look(size, 0.0, queued=8, waited=9.0, uses=[BUSY] * least)
    now, serving = 1.0, size.wanted
    for _ in range(20):
        wanted = look(size, now, uses=[IDLE] * serving)
        serving = wanted
        if size.next_at == math.inf:
            break
        now = size.next_at
    assert (size.wanted, size.next_at) == (least, math.inf)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "words"),
    [
        ((-1, 2), {}, ValueError, "0 ≤ least ≤ most"),
        ((3, 2), {}, ValueError, "0 ≤ least ≤ most"),
        ((0, 0), {}, ValueError, "most 1 or more"),
        ((1.0, 2), {}, TypeError, "least must be a whole number of workers"),
        ((1, True), {}, TypeError, "most must be a whole number of workers"),
        ((1, 2), {"idle": 0}, ValueError, "idle must be more than 0 seconds"),
        ((1, 2), {"target_wait": math.inf}, ValueError, "target_wait must be more than 0 seconds, and finite"),
        ((1, 2), {"idle": "1 min"}, TypeError, "idle must be a number of seconds"),
    ],
)
def test_bounds_that_make_no_sense_are_refused(arguments, options, error, words):
    with pytest.raises(error, match=re.escape(words)):
        Elastic(*arguments, **options)
