"""What a history makes of events: what is now, what the last minutes were, and what stands out. That no order of events confuses it is the dispatcher machine's."""

from __future__ import annotations

import json
import tracemalloc

import pytest

import gibbs
from gibbs import events
from gibbs.history import as_data
from tests.told import GONE, KILLED, SEGV, Told


@pytest.fixture
def hub():
    return Told()


# ---------------------------------------------------------------------------------------------------------------------- now


def test_a_seat_says_what_it_runs_and_since_when_and_what_was_sent_ahead(hub):
    first, second = hub.sends(hub.asks()), hub.sends(hub.asks("render"))
    hub.now += 3
    [seat, idle] = hub.status.seats
    assert (seat.call.number, seat.call.method, seat.call.seconds, seat.ahead) == (first, "embed", 3.0, 1)
    assert (seat.pid, seat.age, idle.call) == (100, 3.0, None)
    hub.ends(first)
    hub.now += 2
    [seat, _] = hub.status.seats
    assert (seat.call.number, seat.call.seconds, seat.ahead) == (second, 2.0, 0), (
        "it could begin when the first was over"
    )


def test_the_oldest_of_the_queue_may_be_one_that_had_been_sent(hub):
    first = hub.sends(hub.asks())
    hub.now += 1
    hub.asks()
    hub.say(events.RequestReturned, number=first, seat=0, incarnation=1)
    hub.now += 1
    status = hub.status
    assert (status.queued, status.running, status.oldest_wait) == (2, 0, 2.0)
    assert max(status.minutes.queued) == 2


def test_a_call_whose_caller_has_left_is_shown_until_its_worker_is_free(hub):
    number = hub.sends(hub.asks())
    hub.ends(number, "cancelled")
    hub.moves(0, "serving", "interrupting")
    hub.now += 1
    [seat, _] = hub.status.seats
    assert (seat.call.number, seat.call.left, seat.ahead) == (number, True, 0)
    hub.moves(0, "interrupting", "serving")
    assert hub.status.seats[0].call is None
    hub.say(events.CleanedUp, seat=0, incarnation=1, number=number, kept=True)
    assert hub.status.counts["kept"] == 1


def test_one_that_was_told_to_be_slow_says_at_which_line_it_is(hub):
    number = hub.sends(hub.asks())
    hub.now += 5
    frame = gibbs.Frame(file="model.py", line=12, function="Model.embed")
    stack = gibbs.WorkerStack(seat=0, incarnation=1, pid=100, method="embed", seconds=5.0, threads=((frame,),))
    hub.say(events.CallIsSlow, number=number, method="embed", seat=0, incarnation=1, took=5.0, stack=stack)
    call = hub.status.seats[0].call
    assert (call.overdue, call.where) == (True, "model.py:12 in Model.embed")
    assert "line 12" in call.stack
    assert "model.py:12" in hub.remarks("overdue")[0]
    assert hub.remarks("slow") == [], "it is not over"


def test_a_hang_that_comes_and_goes_is_told_to_who_looks_in_between(hub):
    frame = gibbs.Frame(file="model.py", line=12, function="Model.embed")
    for threads in (((frame,),), ()):
        number = hub.sends(hub.asks())
        hub.now += 30
        stack = gibbs.WorkerStack(seat=0, incarnation=1, pid=100, method="embed", seconds=30.0, threads=threads)
        hub.say(events.CallIsSlow, number=number, method="embed", seat=0, incarnation=1, took=30.0, stack=stack)
        hub.ends(number, "cancelled")
        hub.moves(0, "serving", "interrupting", "serving")
        hub.now += 12
        [text] = hub.remarks("slow")
        assert ("12 s ago, was in embed" in text, hub.remarks("overdue")) == (True, [])
        if threads:
            assert text.startswith("1 call that is over ran for longer")
            assert text.endswith("at model.py:12 in Model.embed")
            assert hub.status.last_slow.number == number
    assert text.startswith("2 calls that are over ran for longer")
    assert text.endswith("; it does not say where it is.")
    hub.now += 600
    assert hub.status.remarks == ()


# --------------------------------------------------------------------------------------------------------- the last minutes


def test_quantiles_are_within_an_eighth_and_the_last_minute_is_apart_from_what_is_usual(hub):
    hub.answers(took=0.1, many=98, waited=0.002)
    hub.answers(took=7.0, many=2)
    hub.now += 90
    hub.answers(took=3.0, many=30)
    [method] = hub.status.methods
    assert method.usually_took.count == 100
    assert method.usually_took.p50 == pytest.approx(0.1, rel=1 / 8)
    assert method.usually_took.p99 == pytest.approx(7.0, rel=1 / 8)
    assert method.took.p50 == pytest.approx(3.0, rel=1 / 8)
    assert (method.usually_waited.count, method.ended) == (100, {"done": 30})


def test_minutes_are_columns_of_equal_length_that_end_now(hub):
    hub.answers(took=0.1, many=4)
    hub.ends(hub.sends(hub.asks()), "failed")
    hub.now += 20
    hub.ends(hub.asks(), "expired", seat=None)
    minutes = hub.status.minutes
    assert {outcome: [count for count in column if count] for outcome, column in minutes.ended.items()} == {
        "done": [4],
        "failed": [1],
        "expired": [1],
    }
    assert minutes.ended["expired"][-1] == 1
    assert minutes.ended["done"][-5] == 4
    assert {len(column) for column in (minutes.queued, minutes.died, minutes.took_p50, *minutes.ended.values())} == {
        120
    }
    assert minutes.took_p50[-1] is None, "nothing was answered there"


def test_a_queue_that_stands_still_is_drawn_through_all_the_time(hub):
    hub.asks()
    hub.now += 60
    assert hub.status.minutes.queued[-13:] == (1,) * 13


def test_it_stays_small_whatever_happens(hub):
    def much():
        for n in range(3000):
            hub.now += 1
            hub.ends(hub.sends(hub.asks(f"method {n}")), method=f"method {n}", took=n, waited=n)
            if not n % 10:
                hub.gone(0, gibbs.Ending(how="exited", code=1, tail="x" * 9_000))

    much()
    tracemalloc.start()
    much()
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    status = hub.status
    assert len(status.ended) == 50
    assert all(len(worker.tail) <= 4000 for worker in status.ended)
    assert len(status.methods) == 31
    assert kept < 1 << 20


def test_it_is_data_that_json_takes(hub):
    hub.sends(hub.asks())
    hub.gone(0, SEGV, lost=[1])
    hub.now += 1
    hub.gone(1, reason="dismissed")
    data = json.loads(json.dumps(as_data(hub.status), allow_nan=False))
    assert data["seats"][0]["state"] == "serving"
    assert [worker["kind"] for worker in data["ended"]] == ["dismissed", "died"]


# ------------------------------------------------------------------------------------------------------------ who is gone


def test_a_death_tells_its_cause_its_last_lines_and_what_it_had(hub):
    number = hub.sends(hub.asks())
    hub.now += 2
    hub.gone(0, SEGV, cause="a fault", lost=[number])
    hub.now += 4
    [worker] = hub.status.ended
    assert (worker.kind, worker.ago, worker.how, worker.why) == ("died", 4.0, "was ended by SIGSEGV", "a fault")
    assert (worker.number, worker.method, worker.ran, worker.lived) == (number, "embed", 2.0, 2.0)
    assert (worker.tail, worker.pid, worker.incarnation) == ("last words", 100, 1)
    assert hub.status.seats[0].call is None


def test_those_who_leave_with_their_hub_are_not_among_them(hub):
    hub.say(events.HubChanged, state="closed", error=None)
    hub.moves(0, "serving", "dying", "vacant", "retired")
    hub.say(
        events.WorkerEnded, seat=1, incarnation=1, pid=1, host="", ending=GONE, probable_cause="", reason="dismissed"
    )
    assert hub.status.ended == ()
    assert [seat.seat for seat in hub.status.seats] == [1]


def test_a_hub_that_is_opened_again_by_its_name_begins_anew(hub):
    hub.asks()
    hub.say(events.HubChanged, state="closed", error=None)
    hub.now = 3.0  # another loop, whose clock is another
    hub.incarnations[0] = 0
    hub.serves(0)
    status = hub.status
    assert (status.state, status.queued, len(status.seats)) == ("opening", 0, 1)


def test_of_hubs_that_are_over_the_last_few_are_kept(hub):
    for n in range(100):
        for state in ("open", "closed"):
            hub.history(events.HubChanged(hub=f"job {n}", at=hub.now, state=state, error=None))
    assert hub.history.hubs == ("m", *(f"job {n}" for n in range(80, 100)))


# ------------------------------------------------------------------------------------------------- four nights of somebody


def test_nothing_stands_out_where_all_is_well(hub):
    hub.answers(took=0.1, many=100)
    hub.sends(hub.asks())
    hub.asks()
    hub.now += 0.4
    assert hub.status.remarks == ()


def test_a_leak_is_workers_that_go_by_plan_for_their_memory(hub):
    for _ in range(3):
        hub.gone(0, reason="recycled", cause="it takes 512 MiB of memory")
    assert hub.remarks("memory") == [
        "3 workers were recycled in the last 10 minutes. The last, since it takes 512 MiB of memory"
    ]
    hub.now += 601
    assert hub.status.remarks == ()


def test_a_leak_is_seen_before_that_by_what_a_worker_takes(hub):
    for size in (80, 90, 400):
        hub.say(events.WorkerMeasured, seat=1, incarnation=1, rss=size << 20)
    hub.now += 60
    assert (hub.status.seats[1].memory, hub.status.seats[1].memory_at_first) == (400 << 20, 80 << 20)
    assert hub.remarks("memory") == [
        "Worker 1 (pid 101) takes 400 MiB, and took 80 MiB at first; it has served for 1 min 0 s."
    ]
    hub.gone(1, reason="dismissed")
    assert hub.status.seats[1].memory is None


def test_exceptions_are_told_apart_and_many_kinds_are_not(hub):
    for n in range(20):
        for _ in range(2):
            facts = {"number": hub.sends(hub.asks()), "method": "embed", "seat": 0, "waited": 0.0, "took": 0.0}
            hub.say(events.RequestEnded, **facts, outcome="failed", error=f"Error{n}" * (1 + 99 * (n == 4)))
    [method] = hub.status.methods
    assert method.errors == {**{f"Error{n}": 2 for n in range(4)}, ("Error4" * 99)[:100]: 2, "…": 30}


def test_a_hang_is_one_call_that_takes_far_longer_than_others(hub):
    hub.answers(took=0.1, many=100)
    number = hub.sends(hub.asks(), seat=1)
    hub.now += 200
    hub.answers(took=0.1)
    assert hub.remarks("overdue") == [
        f"Worker 1 (pid 101) has been in embed, request {number}, for 3 min 20 s; 99 of 100 such calls take 0.11 s at most."
    ]
    assert hub.remarks("full") == []


def test_a_poison_request_has_killed_more_than_one_worker(hub):
    number = hub.asks()
    for seat in (0, 1):
        hub.sends(number, seat)
        hub.moves(seat, "serving", "dying")
        if seat == 0:
            hub.say(events.RequestReturned, number=number, seat=seat, incarnation=1)
        else:
            hub.ends(number, "crashed", seat)
        hub.say(
            events.WorkerEnded,
            **{"seat": seat, "incarnation": 1, "pid": 1, "host": ""},
            **{"ending": KILLED, "probable_cause": "", "reason": "died"},
        )
    assert hub.remarks("poison") == ["Request 1, of embed, has killed 2 workers: it is poison."]
    assert [worker.deaths for worker in hub.status.ended] == [2, 1]
    assert hub.remarks("deaths") == [
        "2 workers died in the last 10 minutes, all in embed. The last one was ended by SIGKILL"
    ]


def test_a_slow_downstream_is_busy_workers_whose_calls_take_longer_than_ever(hub):
    hub.answers(took=0.1, many=100)
    hub.now += 90
    for seat in (0, 1):
        hub.sends(hub.asks(), seat)
    for _ in range(7):
        hub.asks()
    hub.now += 4
    [text] = hub.remarks("full")
    assert text.startswith("All 2 workers are busy, and 7 requests wait, the first for 4 s.")
    assert "usually it is 0.11 s" in text
    assert "slow" in text


def test_a_seat_that_is_leased_is_as_good_as_busy_for_all_others(hub):
    for seat in (0, 1):
        hub.say(events.SeatLeased, seat=seat, incarnation=1, held=True)
    hub.asks()
    hub.now += 2
    assert [seat.leased for seat in hub.status.seats] == [2.0, 2.0]
    assert "leases" in hub.remarks("full")[0]
    hub.say(events.SeatLeased, seat=0, incarnation=1, held=False)
    assert hub.status.seats[0].leased is None
    assert hub.remarks("full") == []


def test_what_has_been_slow_for_long_is_not_taken_for_more_than_can_be_done(hub):
    hub.answers(took=0.1, many=100)
    hub.now += 10
    for _ in range(20):
        hub.answers(took=2.0, many=30)
        hub.now += 10
    for seat in (0, 1):
        hub.sends(hub.asks(), seat)
    hub.asks()
    hub.now += 1.5
    assert "as they have for a while; they have taken 0.11 s" in hub.remarks("full")[0]


def test_too_little_for_too_many_is_told_apart_from_it(hub):
    hub.overrun(usual=2.0, wait=1.5)
    assert "more is asked than the workers can do" in hub.remarks("full")[0]


def test_who_is_turned_away_is_counted_and_told_for_a_minute(hub):
    assert hub.remarks("turned away") == []
    for _ in range(3):
        hub.say(events.RequestTurnedAway, method="embed", pending=100, needed=None)
    hub.now += 50
    assert "3 requests were turned away in the last minute" in hub.remarks("turned away")[0]
    hub.now += 20
    status = hub.status
    assert hub.remarks("turned away") == []
    assert (sum(status.minutes.turned_away), status.counts["turned away"], status.queued) == (3, 3, 0)


def test_what_becomes_of_the_hub_is_told_first(hub):
    error = gibbs.WorkerStartFailed("m", 0, "model", detail="no weights")
    hub.moves(0, "serving", "dying", "vacant", "starting")
    hub.say(events.StartFailed, seat=0, incarnation=2, error=error)
    hub.say(events.HubChanged, state="failed", error=error)
    first, second = hub.status.remarks
    assert (first.about, second.about) == ("hub", "starts")
    assert "no weights" in first.text
    assert "no weights" in second.text
    assert "no weights" in hub.status.ended[0].why
