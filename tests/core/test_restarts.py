"""The arithmetic of restarting, with the time and the dice in the test's hand.

After OTP's supervisor suite, what of it is arithmetic: a start that fails (an error or an exit, it is the same), a restart
that fails again, escalation just past the intensity and not before, failures too slow for any period, a seat that hangs in
its start and must not hold up another. Kills and timeouts are the supervisor's, and tested there.
"""

import math
from dataclasses import FrozenInstanceError, replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gibbs import RestartPolicy
from gibbs._core.restarts import Restarts
from tests.core.machine.failures import FailureLog

NEVER = RestartPolicy(max_failures=math.inf)


def failures(restarts, times, *, seat=0, chance=0.0):
    return [restarts.failed_start(seat, now, chance) for now in times]


def quick_crashes(restarts, count, *, seat=0, chance=0.0):
    return [restarts.crashed(seat, now, now - 0.5, chance) for now in range(count)]


# ---- when it gives up


def test_by_default_the_sixth_failure_within_a_minute_is_too_many():
    restarts = Restarts(RestartPolicy())
    for now in range(5):
        restarts.ready(1)  # another seat starts well: this is not "in a row"
        assert restarts.failed_start(0, float(now), 0.0) is not None
    restarts.ready(1)
    assert restarts.failed_start(0, 59.9, 0.0) is None


def test_failures_as_old_as_the_period_are_forgotten():
    restarts = Restarts(RestartPolicy(max_failures=1, period=10))
    for now in (0.0, 10.0, 20.0):
        restarts.ready(1)
        assert restarts.failed_start(0, now, 0.0) is not None
    restarts.ready(1)
    assert restarts.failed_start(0, 29.9, 0.0) is None


def test_starts_that_hang_come_too_slowly_for_any_period_and_exhaust_it_all_the_same():
    restarts = Restarts(RestartPolicy(max_failures=5, period=60))
    answers = failures(restarts, [61.0 * n for n in range(6)])
    assert [answer is None for answer in answers] == [False] * 5 + [True]


def test_in_a_row_is_counted_over_all_seats_and_ends_with_any_worker_that_becomes_ready():
    restarts = Restarts(RestartPolicy(max_failures=2, period=1))
    assert restarts.failed_start(0, 0.0, 0.0) is not None
    assert restarts.failed_start(1, 10.0, 0.0) is not None
    restarts.ready(2)
    assert restarts.failed_start(0, 20.0, 0.0) is not None
    assert restarts.failed_start(1, 30.0, 0.0) is not None
    assert restarts.failed_start(2, 40.0, 0.0) is None


def test_failures_of_all_seats_count_together():
    restarts = Restarts(RestartPolicy(max_failures=2))
    restarts.failed_start(0, 0.0, 0.0)
    restarts.failed_start(1, 0.0, 0.0)
    assert restarts.failed_start(2, 0.0, 0.0) is None


def test_no_failure_at_all_may_be_allowed():
    assert Restarts(RestartPolicy(max_failures=0)).failed_start(0, 0.0, 0.0) is None


def test_never_is_never():
    assert None not in failures(Restarts(NEVER), [0.0] * 2_000)


def test_crashes_are_without_limit_unless_one_is_set():
    assert None not in quick_crashes(Restarts(RestartPolicy(max_failures=0)), 200)


def test_crashes_and_failed_starts_are_counted_apart():
    restarts = Restarts(RestartPolicy(max_failures=1, max_crashes=1))
    assert restarts.crashed(0, 0.0, -9.0, 0.0) is not None
    assert restarts.failed_start(0, 0.0, 0.0) is not None
    assert restarts.crashed(0, 0.0, -9.0, 0.0) is None
    assert restarts.failed_start(0, 0.0, 0.0) is None


def test_a_limit_of_crashes_counts_those_within_the_period():
    restarts = Restarts(RestartPolicy(max_crashes=2, period=10))
    assert [restarts.crashed(0, now, -9.0, 0.0) for now in (0.0, 5.0, 10.0, 15.0, 24.0, 24.5)] == [0.0] * 5 + [None]


@given(now=st.floats(0, 1e12), period=st.floats(0, exclude_min=True) | st.just(10**400))
@example(now=1e6, period=1e-12)  # smaller than the distance between two such times
@example(now=1e6, period=5e-324)
def test_a_period_of_any_length_forgets_no_failure_that_is_just_happening(now, period):
    assert Restarts(RestartPolicy(max_failures=0, period=period, max_crashes=0)).crashed(0, now, 0.0, 0.0) is None
    restarts = Restarts(RestartPolicy(max_failures=1, period=period))
    assert restarts.failed_start(0, now, 0.0) is not None
    restarts.ready(0)
    assert restarts.failed_start(0, now, 0.0) is None, "two at one time are within any period"


# ---- how long it waits


def test_failed_starts_wait_a_tenth_of_a_second_and_double_to_half_a_minute():
    waits = failures(Restarts(NEVER), range(12))
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0, 30.0]


def test_a_hundred_thousand_failures_still_wait_half_a_minute():
    restarts = Restarts(replace(NEVER, period=1))
    assert failures(restarts, range(100_000))[-1] == 30.0


def test_a_seat_that_became_ready_starts_from_a_tenth_again_and_the_others_do_not():
    restarts = Restarts(NEVER)
    failures(restarts, [0, 0, 0], seat=0)
    failures(restarts, [0, 0, 0], seat=1)
    restarts.ready(0)
    assert failures(restarts, [1], seat=0) == [0.1]
    assert failures(restarts, [1], seat=1) == [0.8]


def test_a_seat_that_fails_does_not_make_another_wait():
    restarts = Restarts(NEVER)
    failures(restarts, range(8), seat=0)
    assert failures(restarts, [9], seat=1) == [0.1]


def test_a_worker_that_served_is_replaced_at_once_however_often():
    restarts = Restarts(RestartPolicy())
    assert [restarts.crashed(0, now, now - 1.0, 0.0) for now in range(50)] == [0.0] * 50


def test_from_the_third_quick_crash_in_a_row_it_waits_and_doubles_to_a_quarter_of_a_second():
    waits = quick_crashes(Restarts(RestartPolicy()), 10)
    assert waits == [0.0, 0.0, 0.01, 0.02, 0.04, 0.08, 0.16, 0.25, 0.25, 0.25]


def test_a_worker_that_became_ready_only_to_crash_is_still_in_a_row():
    restarts = Restarts(RestartPolicy())
    for expected in (0.0, 0.0, 0.01, 0.02):
        restarts.ready(0)
        assert restarts.crashed(0, 1.0, 0.5, 0.0) == expected


def test_one_worker_that_lives_for_a_second_ends_the_row():
    restarts = Restarts(RestartPolicy())
    quick_crashes(restarts, 5)
    assert restarts.crashed(0, 100.0, 99.0, 0.0) == 0.0
    assert quick_crashes(restarts, 3) == [0.0, 0.0, 0.01]


def test_quick_crashes_are_counted_by_seat():
    restarts = Restarts(RestartPolicy())
    quick_crashes(restarts, 5, seat=0)
    assert quick_crashes(restarts, 2, seat=1) == [0.0, 0.0]


@given(count=st.integers(1, 80), chance=st.floats(0, 1, exclude_max=True))
def test_jitter_takes_up_to_a_fifth_off_and_adds_nothing(count, chance):
    plain = failures(Restarts(NEVER), range(count))[-1]
    shaken = failures(Restarts(NEVER), range(count), chance=chance)[-1]
    assert 0.8 * plain <= shaken <= plain
    assert shaken == pytest.approx(plain * (1 - chance / 5))
    crash = quick_crashes(Restarts(NEVER), count + 2, chance=chance)[-1]
    assert 0.008 <= crash <= 0.25


# ---- any history, against a model that remembers all of it


limits = st.integers(0, 6) | st.just(math.inf)
# Whole eighths of a second, so that "exactly the period" happens, and means the same whichever way it is computed.
eighths = st.integers(0, 160).map(lambda n: n / 8)
happenings = st.tuples(st.sampled_from(["failed", "crashed", "ready"]), st.integers(0, 2), eighths, eighths)


@given(
    policy=st.builds(
        RestartPolicy,
        max_failures=limits,
        period=eighths.filter(bool) | st.just(math.inf),
        max_crashes=st.none() | limits,
    ),
    history=st.lists(happenings, max_size=40),
)
def test_any_history_is_judged_as_by_one_who_remembers_everything(policy, history):
    restarts, remembered, now = Restarts(policy), FailureLog(policy), 1000.0
    for what, seat, pause, lived in history:
        now += pause / 4
        expected = remembered.step(what, seat, now, lived)
        if what == "ready":
            restarts.ready(seat)
            continue
        if what == "failed":
            answer = restarts.failed_start(seat, now, 0.0)
        else:
            answer = restarts.crashed(seat, now, now - lived, 0.0)
        assert answer == (expected if expected is None else pytest.approx(expected))
        if answer is None:
            return  # the hub is closed: nothing is asked any more


@given(policy=st.builds(RestartPolicy, max_failures=st.integers(0, 5), period=st.floats(0.5, 100)), data=st.data())
def test_no_window_of_the_length_of_a_period_sees_more_restarts_than_allowed(policy, data):
    restarts, now, granted = Restarts(policy), 0.0, []
    for pause in data.draw(st.lists(st.floats(0, 50), max_size=40)):
        now += pause
        restarts.ready(1)
        if restarts.failed_start(0, now, 0.0) is None:
            break
        granted.append(now)
    for start in granted:
        assert sum(start <= time and time - start < policy.period for time in granted) <= policy.max_failures


# ---- what a policy may be


@pytest.mark.parametrize("name", ["max_failures", "max_crashes"])
@pytest.mark.parametrize("value", [True, False, "5", b"5", [5], 5j, object])
def test_a_limit_that_is_no_number_is_refused(name, value):
    with pytest.raises(TypeError, match=name) as caught:
        RestartPolicy(**{name: value})
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("name", ["max_failures", "max_crashes"])
@pytest.mark.parametrize("value", [-1, -0.5, 2.5, math.nan, -math.inf, -(10**400)])
def test_a_limit_that_is_no_count_is_refused(name, value):
    with pytest.raises(ValueError, match=name) as caught:
        RestartPolicy(**{name: value})
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("value", [True, "60", None, [60], 1j])
def test_a_period_that_is_no_number_is_refused(value):
    with pytest.raises(TypeError, match="period") as caught:
        RestartPolicy(period=value)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("value", [0, 0.0, -0.0, -1, math.nan, -math.inf])
def test_a_period_that_is_no_time_is_refused(value):
    with pytest.raises(ValueError, match="period") as caught:
        RestartPolicy(period=value)
    assert repr(value) in str(caught.value)


def test_max_failures_cannot_be_none():
    with pytest.raises(TypeError, match="max_failures"):
        RestartPolicy(max_failures=None)


@pytest.mark.parametrize("value", [0, 5, 5.0, math.inf, 10**400])
def test_a_limit_that_makes_sense_is_taken(value):
    policy = RestartPolicy(max_failures=value, max_crashes=value)
    assert (policy.max_failures, policy.max_crashes) == (value, value)


def test_by_default_five_failures_a_minute_are_allowed_and_crashes_not_limited():
    assert RestartPolicy() == RestartPolicy(max_failures=5, period=60.0, max_crashes=None)


def test_a_policy_bears_the_name_under_which_users_know_it():
    assert (RestartPolicy.__module__, RestartPolicy.__qualname__) == ("gibbs", "RestartPolicy")


def test_a_policy_cannot_be_changed_and_equals_its_like():
    policy = RestartPolicy(max_failures=3, period=2)
    with pytest.raises(FrozenInstanceError):
        policy.period = 5
    assert policy == RestartPolicy(max_failures=3, period=2.0)
    assert hash(policy) == hash(RestartPolicy(max_failures=3, period=2.0))
    with pytest.raises(TypeError):
        RestartPolicy(3)
