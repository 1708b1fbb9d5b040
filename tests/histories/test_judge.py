"""The judge accuses: one forged history, at least, for each promise; and he has nothing to say of the true one."""

from __future__ import annotations

import math

import pytest

from gibbs._core.pace import WINDOW
from tests.histories.history import Event, History
from tests.histories.judge import Judge
from tests.simulation.history import WorldJudge

PLAIN = {"abandon": True, "on_cancel": None}
SURE = {"abandon": False, "on_cancel": None}
STATISTICS = {"done": 3, "failed": 1, "cancelled": 1, "crashed": 2, "refused": 0, "queued": 0, "running": 0}
DIED = {"pid": 10, "may_have_run": True, "may_still_run": False, "gone": True}

# Worker 0.1 answers 1, raises for 2, and dies with 4; 9 is sent ahead to it and taken back. Worker 1.1 answers 9, is interrupted over 3, and
# dies with 5 before it begins; 0.2 dies with 5 again; 1.2 answers 6. 7 waits when the hub is left. Meanwhile the hub is reloaded: 1.2 has
# another model, and 2.1, which is to have it too, is not wanted any more.
TRUE = """
models - - {0}
launching - 0.1
launched - 0.1 10
ready - 0.1
launched - 1.1 11
ready - 1.1
entered
asked 1 - PLAIN
accepted 1
sent 1 0.1
asked 9 - SURE
accepted 9
sent 9 0.1
asked 2 - PLAIN
accepted 2
begun 1 0.1
recalled 9 0.1
returned 9
sent 9 1.1
begun 9 1.1
answers 1 0.1
settled 1 - "done"
answers 9 1.1
settled 9 - "done"
skips 9 0.1
answer 9 - 82
sent 2 0.1
answer 1 - 2
by_model 1 - 0
begun 2 0.1
fails 2 0.1
settled 2 - "failed"
model_error 2 - (2,)
by_model 2 - 0
models - - {0,1}
launched - 2.1 15
ready - 2.1
dismissed - 2.1
ended - 2.1
asked 3 - SURE
accepted 3
sent 3 1.1
begun 3 1.1
cancels 3
settled 3 - "cancelled"
ordered - 1.1 "interrupt"
skips 3 1.1
cancelled 3
asked 4 - PLAIN
accepted 4
sent 4 0.1
begun 4 0.1
fault 4 0.1
condemned - 0.1
ended - 0.1
settled 4 - "crashed"
crashed 4 0.1 DIED
launched - 0.2 12
asked 5 - PLAIN
accepted 5
sent 5 1.1
fault - 1.1
condemned - 1.1
ended - 1.1
returned 5
ready - 0.2
sent 5 0.2
launched - 1.2 13
ready - 1.2
fault - 0.2
condemned - 0.2
ended - 0.2
settled 5 - "crashed"
crashed 5 0.2 DIED|{"may_have_run":False,"pid":12}
models - - {1}
asked 6 - PLAIN
accepted 6
sent 6 1.2
begun 6 1.2
answers 6 1.2
settled 6 - "done"
answer 6 - 37
by_model 6 - 1
launched - 0.3 14
draining
drained - - 0
asked 7 - PLAIN
refused 7 - "draining"
asked 8 - PLAIN
leaving
closing
refused 8 - "closed"
condemned - 0.3
ended - 0.3
condemned - 1.2
ended - 1.2
session_over
closed
statistics - - STATISTICS|{"seats":{"retired":2}}
""".strip().splitlines()


def history_of(lines, **facts):
    history = History(
        {"workers": 2, "max_pending": math.inf, "close_timeout": 5.0, "may_raise": set(), "side": True} | facts
    )
    names = {"PLAIN": PLAIN, "SURE": SURE, "DIED": DIED, "STATISTICS": STATISTICS}
    at = 0.0
    for line in lines:
        what, n, who, detail, *_ = [*line.split(" ", 3), "-", "-", "-"]
        if what == "after":  # seconds
            at += float(n)
            continue
        at += 0.01
        history.events.append(
            Event(
                at,
                what.replace("_", " "),
                0 if n == "-" else int(n),
                "" if who == "-" else who,
                None if detail == "-" else eval(detail, names),
            )
        )
    return history


def without(*gone):
    assert {*gone} <= {*TRUE}
    return [line for line in TRUE if line not in gone]


def put(line, *, after, lines=TRUE):
    assert after in lines
    return [new for old in lines for new in ([old, line] if old == after else [old])]


def instead(old, *new):
    assert old in TRUE
    return [line for one in TRUE for line in (new if one == old else [one])]


def moved(line, *, after):
    return put(line, after=after, lines=without(line))


FINISHES_3 = instead("asked 3 - SURE", 'asked 3 - SURE|{"on_cancel":"finish"}')
REFUSED_5 = instead('crashed 5 0.2 DIED|{"may_have_run":False,"pid":12}', 'refused 5 - "closed"')

FORGED = {
    "each_request_ends_once": [
        ("request 1 ended 0 times", without("answer 1 - 2")),
        ("request 1 ended 2 times", put("answer 1 - 2", after="answer 1 - 2")),
        ("request 3 ended 2 times", put("answer 3 - 10", after="cancelled 3")),
    ],
    "each_request_was_asked": [("request 6 was accepted, and nobody", without("asked 6 - PLAIN"))],
    "each_answer_is_right": [
        ("request 1 was answered 37, not 2", instead("answer 1 - 2", "answer 1 - 37")),
        ("request 2 got the error of another", instead("model_error 2 - (2,)", "model_error 2 - (4,)")),
        ("request 1 ended by answer, which no worker gave", without("answers 1 0.1")),
        ("request 2 ended by model error, which no worker", moved("fails 2 0.1", after="model_error 2 - (2,)")),
    ],
    "each_answer_is_of_a_model_that_served": [
        ("request 6 was answered by model 0", instead("by_model 6 - 1", "by_model 6 - 0")),
        ("request 1 was answered by model 1", instead("by_model 1 - 0", "by_model 1 - 1")),
    ],
    "no_worker_has_two_models": [
        ("worker 0.1 answered by model 0, and request 2 by model 1", instead("by_model 2 - 0", "by_model 2 - 1"))
    ],
    "no_request_is_cancelled_by_nobody": [("request 3 was cancelled, and nobody", without("cancels 3"))],
    "no_request_begins_twice": [("request 5 began 2", [*put("begun 5 1.1", after="sent 5 1.1"), "begun 5 0.2"])],
    "no_request_begins_where_it_was_not_sent": [
        ("request 6 began in worker 1.2", moved("sent 6 1.2", after="begun 6 1.2")),
        ("request 6 began in worker 0.2", instead("begun 6 1.2", "begun 6 0.2")),
    ],
    "no_request_is_sent_a_third_time": [("request 5 was sent 3 times", put("sent 5 1.2", after="ready - 1.2"))],
    "no_request_is_sent_after_its_end": [
        ("request 3 was sent after it was cancelled", put("sent 3 0.1", after="cancelled 3"))
    ],
    "no_cancel_is_confirmed_while_a_worker_has_the_request": [
        ("request 3 began after its cancel was confirmed", moved("begun 3 1.1", after="cancelled 3")),
        ("confirmed while worker 1.1 had it", moved("skips 3 1.1", after="cancelled 3")),
    ],
    "no_request_is_accepted_sent_or_begun_after_the_end": [
        ("request 7 was accepted", put("accepted 7", after="asked 7 - PLAIN")),
        ("request 8 was sent 1.2 after the hub closed", put("sent 8 1.2", after="closing")),
        ("request 8 was begun 1.2 after the hub closed", put("begun 8 1.2", after="closed")),
    ],
    "no_refusal_is_early": [
        ("request 8 was told that the hub is closed before", moved('refused 8 - "closed"', after="asked 8 - PLAIN")),
        ("request 7 was told that the hub is draining before", moved("draining", after='refused 7 - "draining"')),
        ("request 7 had been accepted and was refused", put("accepted 7", after="asked 7 - PLAIN")),
        ("request 6 was refused by a queue without limit", instead("answer 6 - 37", "overloaded 6")),
    ],
    "no_younger_request_is_sent_first": [
        ("request 5 was sent before 6", moved("accepted 6", after="asked 5 - PLAIN")),
        (
            "request 6 was sent before 5",
            put("sent 6 0.3", after="returned 5", lines=moved("accepted 6", after="accepted 5")),
        ),
    ],
    "each_crash_is_one": [
        ("which did not have it", instead("sent 4 0.1", "sent 4 1.1")),
        ("which lives", moved("ended - 0.1", after="crashed 4 0.1 DIED")),
        ("died with pid 99; worker 0.1 was [10]", instead("crashed 4 0.1 DIED", 'crashed 4 0.1 DIED|{"pid":99}')),
        ("which the system still knows", instead("crashed 4 0.1 DIED", 'crashed 4 0.1 DIED|{"gone":False}')),
        ("told that it had not run", put("begun 5 0.2", after="sent 5 0.2")),
        ("was not sent again", without("sent 5 1.1")),
        ("told that it may run", instead("crashed 4 0.1 DIED", 'crashed 4 0.1 DIED|{"may_still_run":True}')),
    ],
    "no_request_begins_where_it_was_taken_back": [
        ("request 9 began in worker 0.1", put("begun 9 0.1", after="recalled 9 0.1")),
    ],
    "no_worker_has_more_requests_than_it_may": [
        (
            f"worker 1.2 was sent request {100 + WINDOW} while it had",
            [*TRUE, *(f"sent {n} 1.2" for n in range(100, 101 + WINDOW))],
        ),
    ],
    "no_worker_is_sent_a_request_before_it_has_skipped_what_was_taken_back": [
        ("worker 0.1 was sent request 2 and has not skipped [9]", moved("skips 9 0.1", after="sent 2 0.1")),
    ],
    "no_worker_runs_two_requests": [
        ("worker 0.1 began request 2 in 1", moved("begun 2 0.1", after="begun 1 0.1")),
        ("worker 0.1 began request 1 after one", moved("begun 1 0.1", after="fails 2 0.1")),
    ],
    "no_worker_runs_after_its_end": [("worker 1.1 began request 5", put("begun 5 1.1", after="ended - 1.1"))],
    "no_worker_dies_without_a_reason": [
        ("worker 0.1 died", without("fault 4 0.1")),
        ("worker 1.1 died", without("fault - 1.1")),  # the order to clean up was for an earlier call
        ("worker 0.2 died", moved("fault - 0.2", after="ended - 0.2")),
        ("worker 2.1 died", without("dismissed - 2.1")),
        ("worker 0.1 died", put("dismissed - 0.1", after="begun 4 0.1", lines=without("fault 4 0.1"))),
    ],
    "no_seat_has_two_workers": [("worker 0.2 was launched while 0.1", moved("launched - 0.2 12", after="ready - 0.1"))],
    "no_worker_is_sent_a_request_that_is_not_ready_or_was_condemned": [
        ("worker 1.2 was sent request 6", moved("ready - 1.2", after="sent 6 1.2")),
        ("worker 1.1 was sent request 5", moved("sent 5 1.1", after="condemned - 1.1")),
        ("worker 2.1 was sent request 3", put("sent 3 2.1", after="dismissed - 2.1")),
    ],
    "no_worker_is_left": [
        ("worker 1.2 outlived the hub", without("ended - 1.2")),
        ("worker 1.2 outlived the hub", moved("ended - 1.2", after="session_over")),
    ],
    "the_close_is_bounded": [("closing took", put("after 5.6", after="closing"))],
    "the_drain_keeps_its_word": [("while 1 requests were alive", instead("drained - - 0", "drained - - 1"))],
    "the_ledger_is_exact": [
        ("request 4 was accepted 1 times and settled 0", without('settled 4 - "crashed"')),
        ("request 4 was accepted 1 times and settled 2", put('settled 4 - "done"', after="sent 4 0.1")),
        ("request 5 was settled as crashed, and its caller heard ['refused']", REFUSED_5),
        ("request 1 was settled as done, which no worker said", without("answers 1 0.1")),
        ("request 6 was never accepted", without("accepted 6", 'settled 6 - "done"')),
    ],
    "the_statistics_balance": [
        ("statistics say", instead(TRUE[-1], TRUE[-1].replace("STATISTICS", 'STATISTICS|{"done":2}'))),
        ("1 queued", instead(TRUE[-1], TRUE[-1].replace("STATISTICS", 'STATISTICS|{"queued":1}'))),
        ("1 running", instead(TRUE[-1], TRUE[-1].replace("STATISTICS", 'STATISTICS|{"running":1}'))),
        ("the seats are", instead(TRUE[-1], TRUE[-1].replace('"retired":2', '"retired":1,"dying":1'))),
        ("statistics say", put('settled 7 - "refused"', after="asked 7 - PLAIN")),
    ],
    "the_hub_raises_what_it_should": [("the hub raised RuntimeError", [*TRUE, 'hub_raised - - "RuntimeError"'])],
    # what only a simulation knows
    "no_crash_is_said_of_what_never_began": [("request 4 never began in 0.1", without("begun 4 0.1"))],
    "no_last_word_is_lost": [("which had answered it", put("said 4 0.1", after="begun 4 0.1"))],
    "no_worker_is_killed_without_a_reason": [
        ("worker 0.1 was killed while it started", put("killed - 0.1", after="launched - 0.1 10")),
        ("worker 1.2 was killed, and had nothing", put("killed - 1.2", after="launched - 0.3 14")),
        ("with request 4, whose caller waited", put("killed - 0.1", after="begun 4 0.1", lines=without("fault 4 0.1"))),
        (
            "which was to finish",
            put("killed - 1.1", after='ordered - 1.1 "interrupt"', lines=FINISHES_3),
        ),
    ],
}
FACTS = {"start_timeout": 60.0, "cancel_grace": 1.0, "interruptible": True}
OF_WORLDS = {name for name in vars(WorldJudge) if name.startswith("no_")} - {*vars(Judge)}


def judge_for(promise):
    return WorldJudge if promise in OF_WORLDS else Judge


@pytest.mark.parametrize("judge", [Judge, WorldJudge])
def test_of_a_true_history_there_is_nothing_to_say(judge):
    assert judge(history_of(TRUE, **FACTS)).problems() == []


@pytest.mark.parametrize(
    ("promise", "words", "lines"),
    [
        pytest.param(promise, words, lines, id=f"{promise}-{number}")
        for promise, forgeries in FORGED.items()
        for number, (words, lines) in enumerate(forgeries)
    ],
)
def test_a_forged_history_is_accused(promise, words, lines):
    problems = judge_for(promise)(history_of(lines, **FACTS)).problems()
    assert any(problem.startswith(f"{promise}: ") and words in problem for problem in problems), problems


def test_every_promise_has_its_forgery():
    promises = {
        name for judge in (Judge, WorldJudge) for name in vars(judge) if name.startswith(("no_", "each_", "the_"))
    }
    assert promises == {*FORGED}


def test_what_was_seen_on_the_spot_is_told_first():
    history = history_of(without("ended - 1.2"))
    history.problems.append("something was seen")
    assert Judge(history).problems()[0] == "something was seen"


def test_a_chapter_in_the_middle_of_a_life_is_judged_for_what_it_has():
    first, last = TRUE.index("asked 3 - SURE"), TRUE.index("cancelled 3")
    chapter = ["launched - 1.1 11", "ready - 1.1", *TRUE[first : last + 1]]
    assert Judge(history_of(chapter)).problems() == []


def test_the_ledger_counts_every_request_once():
    ledger = Judge(history_of(TRUE)).ledger()
    assert ledger == {
        ("done", "answer"): 3,
        ("failed", "model error"): 1,
        ("cancelled", "cancelled"): 1,
        ("crashed", "crashed"): 2,
        ("", "refused"): 2,
    }
