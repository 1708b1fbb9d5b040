"""How far a worker is sent ahead for the time that it takes: a table, and what holds for every time."""

import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gibbs._core.pace import AHEAD, DUE_SOON, SHORT, UNKNOWN, WINDOW, window_for
from gibbs._worker import pace as of_the_worker
from tests.core.machine.model import seconds_for

seconds = st.floats(min_value=0.0, allow_nan=False)  # infinity too, and what is too small to divide by


@pytest.mark.parametrize(
    ("service_time", "window"),
    [
        (UNKNOWN, 1),
        (3600.0, 1),
        (AHEAD * 1.001, 1),
        (AHEAD, 1),
        (AHEAD / 2 * 1.001, 1),
        (AHEAD / 2, 2),
        (100e-6, 5),
        (51e-6, 9),
        (AHEAD / (WINDOW - 1), WINDOW - 1),
        (AHEAD / WINDOW, WINDOW),
        (1e-6, 64),
        (sys.float_info.min, WINDOW),
        (5e-324, WINDOW),
        (0.0, WINDOW),
        (-1e-9, WINDOW),
        (-math.inf, WINDOW),
    ],
)
def test_a_worker_that_takes_so_long_may_hold_so_many(service_time, window):
    assert window_for(service_time) == window


@given(seconds)
def test_a_window_is_a_whole_number_between_one_and_the_widest(service_time):
    window = window_for(service_time)
    assert type(window) is int
    assert 1 <= window <= WINDOW


@given(seconds)
def test_more_than_one_is_never_more_work_than_may_be_sent_ahead(service_time):
    window = window_for(service_time)
    assert window == 1 or window * service_time <= AHEAD * (1 + 1e-9)


@given(seconds)
def test_as_many_are_sent_ahead_as_may_be(service_time):
    window = window_for(service_time)
    assert window == WINDOW or (window + 1) * service_time > AHEAD * (1 - 1e-9)


@given(seconds, seconds)
def test_who_takes_longer_never_holds_more(one, other):
    quick, slow = sorted([one, other])
    assert window_for(quick) >= window_for(slow)


@pytest.mark.parametrize("window", range(1, WINDOW + 1))
def test_each_window_has_its_time(window):
    assert window_for(seconds_for(window)) == window


def test_the_limits_are_in_their_order():
    assert 0 < SHORT <= DUE_SOON < AHEAD < UNKNOWN == math.inf
    assert window_for(SHORT) > 1, "or a worker that is awake would never be preferred"


def test_the_worker_tells_no_time_so_long_that_the_hub_could_not_tell_it_from_a_longer_one():
    """It stops counting where the hub sends nothing ahead any more."""
    assert window_for(of_the_worker._LONG * 1e-9) == 1
