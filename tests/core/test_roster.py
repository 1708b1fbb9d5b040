"""Which seat is found: by the roster alone, with seats that are made by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gibbs._core.pace import SHORT, UNKNOWN
from gibbs._core.roster import Roster
from gibbs._core.seat import Seat, SeatState

LONGER = 2 * SHORT
TICKET = object()  # a roster looks at no ticket


def seat(index=0, *, holds=0, window=4, service_time=UNKNOWN, state=SeatState.SERVING, recalled=(), is_far=False):
    made = Seat(index, is_far=is_far)
    made.state = state
    made.in_service = True
    change(made, holds=holds, window=window)
    made.service_time = service_time
    made.recalled = set(recalled)
    return made


def change(seat, *, holds=None, window=None):
    if holds is not None:
        seat.held = dict.fromkeys(range(1, holds + 1), TICKET)
    if window is not None:
        seat.window = window


def roster(*seats):
    made = Roster()
    for one in seats:
        made.offer(one)
    return made


@pytest.mark.parametrize("alone", [True, False])
def test_an_empty_roster_finds_nobody(alone):
    assert roster().find(alone=alone) is None


@pytest.mark.parametrize("state", [state for state in SeatState if state is not SeatState.SERVING])
def test_a_seat_that_is_not_serving_is_not_found(state):
    assert roster(seat(state=state)).find(alone=False) is None


@pytest.mark.parametrize("holds", [4, 5])
def test_a_full_seat_is_not_found(holds):
    assert roster(seat(holds=holds)).find(alone=False) is None


@pytest.mark.parametrize("holds", [0, 1])
def test_a_seat_that_has_not_read_what_was_recalled_is_not_found(holds):
    assert roster(seat(holds=holds, recalled={9})).find(alone=False) is None


def test_a_seat_is_found_again_and_again_until_it_is_full():
    one = seat(window=2)
    made = roster(one)
    for holds in range(2):
        change(one, holds=holds)
        made.offer(one)
        assert made.find(alone=False) is made.find(alone=False) is one
    change(one, holds=2)
    made.offer(one)
    assert made.find(alone=False) is None


def test_the_idle_seat_that_was_used_last_is_found_first():
    left, right = seat(0), seat(1)
    made = roster(left, right)
    assert made.find(alone=False) is right
    made.offer(left)
    assert made.find(alone=False) is left


def test_the_busy_seat_that_was_used_last_is_found_first():
    left, right = seat(0, holds=1, service_time=LONGER), seat(1, holds=1, service_time=LONGER)
    made = roster(left, right)
    assert made.find(alone=False) is right
    made.offer(left)
    assert made.find(alone=False) is left


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_of_two_idle_seats_the_near_one_is_found_and_the_far_one_when_there_is_no_other(order):
    seats = [seat(0, is_far=True), seat(1), seat(2, is_far=True)]
    made = roster(*(seats[index] for index in order))
    assert made.find(alone=False) is made.find(alone=True) is seats[1]
    change(seats[1], holds=4)
    made.offer(seats[1])
    assert made.find(alone=False) is seats[next(index for index in reversed(order) if index != 1)]


@pytest.mark.parametrize("alone", [True, False])
def test_a_far_seat_that_is_idle_is_preferred_to_waiting_behind_a_near_one(alone):
    near, far = seat(0, holds=1, service_time=LONGER), seat(1, is_far=True)
    assert roster(near, far).find(alone=alone) is far


@pytest.mark.parametrize(
    ("service_time", "packed"), [(0.0, True), (SHORT * 0.99, True), (SHORT, False), (UNKNOWN, False)]
)
def test_a_busy_seat_is_preferred_to_an_idle_one_if_its_calls_are_short(service_time, packed):
    busy, idle = seat(0, holds=1, service_time=service_time), seat(1)
    for made in (roster(busy, idle), roster(idle, busy)):
        assert made.find(alone=False) is (busy if packed else idle)


@pytest.mark.parametrize("awake", [True, False])
def test_when_enough_is_sent_to_quick_seats_nobody_is_woken_for_more(awake):
    busy, idle = seat(0, holds=1 + 3 * (not awake), service_time=0.0), seat(1)
    made = roster(busy, idle)
    assert made.find(alone=False, enough=True) is (None if awake else idle)
    assert made.find(alone=True, enough=True) is idle


def test_calls_that_are_longer_are_never_enough():
    busy, idle = seat(0, holds=1, service_time=LONGER), seat(1)
    made = roster(busy, idle)
    assert made.find(alone=False, enough=True) is idle
    change(idle, holds=4)
    assert made.find(alone=False, enough=True) is busy


def test_a_seat_that_has_become_idle_is_not_taken_for_one_that_is_awake():
    awake, idle = seat(0, holds=1, service_time=0.0), seat(1, holds=1, service_time=0.0)
    made = roster(awake, idle)
    change(idle, holds=0)
    made.offer(idle)
    assert made.find(alone=False) is awake


def test_a_busy_seat_whose_calls_are_longer_is_better_than_none():
    busy = seat(holds=1, service_time=LONGER)
    assert roster(busy).find(alone=False) is busy


def test_alone_means_alone():
    busy, idle = seat(0, holds=1, service_time=0.0), seat(1)
    made = roster(busy)
    assert made.find(alone=True) is None
    made.offer(idle)
    assert made.find(alone=True) is idle


@pytest.mark.parametrize("alone", [True, False])
def test_a_seat_that_was_offered_when_it_was_idle_is_looked_at_again(alone):
    idle, gone = seat(0), seat(1)
    made = roster(idle, gone)
    gone.state = SeatState.DYING
    assert made.find(alone=alone) is idle


def test_a_busy_seat_whose_window_became_narrow_is_passed_over_and_found_when_it_is_wide_again():
    narrow, wide = seat(0, holds=2), seat(1, holds=1)
    made = roster(wide, narrow)
    change(narrow, window=2)
    assert made.find(alone=False) is wide
    change(narrow, window=3)
    made.offer(narrow)
    assert made.find(alone=False) is narrow


class PlainRoster:
    """The same, in the time that it takes: all who were ever offered, those offered last at the end."""

    def __init__(self):
        self.seats = []

    def offer(self, seat):
        if seat.has_room:
            self.seats = [*(one for one in self.seats if one is not seat), seat]

    def find(self, *, alone, enough=False):
        idle = [one for one in reversed(self.seats) if one.has_room and not one.held]
        idle = min(idle, key=lambda one: one.is_far, default=None)
        busy = next((one for one in reversed(self.seats) if one.has_room and one.held), None)
        if alone:
            return idle
        if busy is not None and busy.service_time < SHORT:
            return None if enough else busy
        return idle or busy


@given(
    windows=st.lists(st.sampled_from([1, 2, 3]), min_size=1, max_size=4),
    far=st.lists(st.booleans(), min_size=4, max_size=4),
    steps=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from("send find answer pace recall skip die serve".split()))
    ),
)
def test_whatever_happens_to_seats_that_are_offered_the_right_one_is_found(windows, far, steps):
    """Each step changes one seat and offers it, as the dispatcher does."""
    made, plain = Roster(), PlainRoster()
    seats = [seat(index, window=window, service_time=LONGER, is_far=far[index]) for index, window in enumerate(windows)]
    for index, what in [(index, "serve") for index in range(len(seats))] + steps:
        one = seats[index % len(seats)]
        match what:
            case "send":
                found = made.find(alone=False)
                assert found is plain.find(alone=False)
                one = found or one
                change(one, holds=len(one.held) + (found is not None))
            case "find":
                assert made.find(alone=True) is plain.find(alone=True)
            case "answer":
                change(one, holds=max(0, len(one.held) - 1))
            case "pace":
                one.service_time = 0.0 if one.service_time == LONGER else LONGER
                change(one, window=one.window % 3 + 1)
            case "recall":
                one.recalled = {99}
            case "skip":
                one.recalled = set()
            case _:
                one.state = SeatState.SERVING if what == "serve" else SeatState.DYING
        made.offer(one)
        plain.offer(one)
    for alone in (True, False):
        for enough in (True, False):
            assert made.find(alone=alone, enough=enough) is plain.find(alone=alone, enough=enough)
