"""How a worker measures itself: a long call is believed at once, short ones when there were many, and the page says it."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gibbs._wire.messages import PACED
from gibbs._wire.page import private_page
from gibbs._worker.pace import _LONG, InBandPace, Pace

durations = st.integers(0, 1 << 62)


def pace_after(*nanoseconds):
    pace = Pace(private_page())
    for one in nanoseconds:
        pace.took(one)
    return pace


def test_before_the_first_request_nothing_is_known_and_nothing_is_written():
    page = private_page()
    page.pace = 7
    assert Pace(page).estimate == 0
    assert page.pace == 7


def test_the_first_request_is_believed():
    assert pace_after(5_000).estimate == 5_000


@pytest.mark.parametrize(
    ("known", "took", "estimate"),
    [
        (8_000, 8_000, 8_000),
        (8_000, 16_000, 9_000),  # an eighth of the way
        (8_000, 32_000, 11_000),  # four times as long is still no jump
        (8_000, 32_001, 32_001),  # longer is
        (8_000, 1_000_000, 1_000_000),
        (8_000, 0, 7_000),
        (800_000, 8_000, 701_000),
        (9, 1, 8),
        (9, 0, 7),  # rounded down, or it would never come down
        (1, 0, 1),  # never to 0, which means that nothing is known
        (1, 4, 1),
        (1, 5, 5),
    ],
)
def test_an_estimate_moves(known, took, estimate):
    assert pace_after(known, took).estimate == estimate


@pytest.mark.parametrize(
    ("took", "estimate"), [(1_999_999, 1_999_999), (2_000_000, 2_000_000), (2_000_001, 2_000_000), (1 << 62, 2_000_000)]
)
@pytest.mark.parametrize("before", [(), (10_000,)], ids=["first", "later"])
def test_longer_than_long_is_not_told_apart(before, took, estimate):
    assert pace_after(*before, took).estimate == estimate


def test_a_request_that_took_no_time_at_all_was_measured_all_the_same():
    assert pace_after(0).estimate == 1


def test_one_slow_call_is_forgotten_after_some_dozens_of_quick_ones():
    pace = pace_after(10_000, 10_000_000_000)
    assert pace.estimate == _LONG
    calls = 0
    while pace.estimate > 20_000:
        pace.took(10_000)
        calls += 1
    assert 10 < calls < 50


@given(st.lists(durations, min_size=1))
def test_what_is_told_is_nearly_what_is_known_and_no_more_than_long(nanoseconds):
    page = private_page()
    pace = Pace(page)
    for one in nanoseconds:
        pace.took(one)
        assert 1 <= pace.estimate <= _LONG
        assert page.pace > 0
        assert abs(page.pace - pace.estimate) <= page.pace / Pace.fineness


@given(st.lists(durations), durations)
def test_an_estimate_goes_towards_what_was_measured_and_not_beyond(before, took):
    pace = pace_after(*before)
    known = pace.estimate
    pace.took(took)
    measured = min(took, _LONG) or 1
    assert min(known or measured, measured) <= pace.estimate <= max(known, measured)


def test_a_change_that_changes_nothing_is_not_told():
    page = private_page()
    pace = Pace(page)
    pace.took(8_000)
    page.pace = 7  # to see whether it is written again
    pace.took(8_000 + 8 * 500)
    assert (pace.estimate, page.pace) == (8_500, 7)
    pace.took(8_500 + 8 * 1)
    assert (pace.estimate, page.pace) == (8_501, 8_501)


@given(st.lists(durations, min_size=1))
def test_in_band_it_is_told_in_messages_of_which_there_are_few(nanoseconds):
    told = []

    class Channel:
        def send(self, kind, nanoseconds):
            assert kind == PACED
            told.append(nanoseconds)

    pace = InBandPace(private_page(), Channel())
    for one in nanoseconds:
        pace.took(one)
        assert abs(told[-1] - pace.estimate) <= told[-1] / 2
    assert all(abs(b - a) > a / 2 for a, b in pairwise(told))


def test_the_other_words_of_the_page_are_left_alone():
    page = private_page()
    page.begun, page.target = 5, 6
    Pace(page).took(1_000)
    assert (page.begun, page.target, page.pace) == (5, 6, 1_000)
