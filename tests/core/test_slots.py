"""Slots of an arena: none overlaps another, none is lost, and what cannot be had is said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gibbs._wire.slots import SMALLEST, Slots

SIZE = 64 * SMALLEST


class Taking(RuleBasedStateMachine):
    """Slots beside a list of what is taken."""

    def __init__(self):
        super().__init__()
        self.slots = Slots(SIZE)
        self.taken = []

    @rule(length=st.integers(1, SIZE + 1) | st.integers(1, 4 * SMALLEST))
    def take(self, length):
        offset = self.slots.take(length)
        if offset is None:
            assert self.taken or length > SIZE, "an empty arena has room"
        else:
            self.taken.append((offset, offset + length))

    @rule(data=st.data())
    def give_back(self, data):
        if self.taken:
            offset, _ = self.taken.pop(data.draw(st.integers(0, len(self.taken) - 1)))
            self.slots.give_back(offset)

    @rule()
    def give_all_back(self):
        while self.taken:
            self.slots.give_back(self.taken.pop()[0])
        assert self.slots.take(SIZE) == 0, "all of it is one slot again"
        self.slots.give_back(0)

    @invariant()
    def no_two_overlap(self):
        ends = 0
        for start, end in sorted(self.taken):
            assert start >= ends
            assert start % SMALLEST == 0
            ends = end
        assert ends <= SIZE

    @invariant()
    def what_is_held_is_counted(self):
        assert sum(end - start for start, end in self.taken) <= self.slots.held <= SIZE
        assert bool(self.taken) == bool(self.slots.held)


test_slots = Taking.TestCase


@given(length=st.integers(1, SIZE))
def test_a_slot_that_was_given_back_is_the_next_one_for_as_much(length):
    slots = Slots(SIZE)
    first = slots.take(length)
    slots.give_back(first)
    assert slots.take(length) == first


def test_when_all_is_taken_there_is_none():
    slots = Slots(SIZE)
    assert slots.take(SIZE) == 0
    assert slots.take(1) is None


def test_a_slot_is_given_back_once():
    slots = Slots(SIZE)
    slots.give_back(slots.take(1))
    with pytest.raises(KeyError):
        slots.give_back(0)


@pytest.mark.parametrize("size", [0, SMALLEST - 1, 3 * SMALLEST])
def test_the_size_of_an_arena_is_a_power_of_two(size):
    with pytest.raises(ValueError, match="power of two"):
        Slots(size)
