"""The queue by deadlines: the same as a list that is sorted each time."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gibbs._core.queue import AGEING
from gibbs._core.terms import Terms
from gibbs._core.ticket import Ticket
from gibbs._core.urgent_queue import PATIENCE, UrgentQueue


def ticket(number, created=0.0, deadline=None, priority=0, *, apart=False):
    made = Ticket(b"", Terms(priority=priority), created=created, deadline=deadline)
    made.number, made.apart = number, apart
    return made


def turn(one):
    deadline = math.inf if one.deadline is None else one.deadline
    return min(deadline, one.created + PATIENCE) - AGEING * one.terms.priority, one.number


def test_the_earliest_deadline_comes_first_and_of_equals_who_came_first():
    late, soon, as_soon = ticket(1, deadline=9.0), ticket(2, deadline=3.0), ticket(3, deadline=3.0)
    queue = UrgentQueue()
    for one in (late, as_soon, soon):
        queue.append(one)
    assert [*queue] == [soon, as_soon, late]
    assert queue.oldest is late


def test_who_gives_no_deadline_is_not_passed_for_ever():
    patient = ticket(1, created=0.0)
    queue = UrgentQueue()
    queue.append(patient)
    queue.append(ticket(2, created=50.0, deadline=59.0))
    queue.append(ticket(3, created=50.0, deadline=61.0))
    assert [one.number for one in queue] == [2, 1, 3]


tickets = st.builds(
    lambda created, left, priority, apart: (created, None if left is None else created + left, priority, apart),
    st.integers(0, 100),
    st.sampled_from([None, math.inf, 0.0, 1.0, 30.0, 100.0]),
    st.integers(-2, 2),
    st.booleans(),
)


@given(
    made=st.lists(tickets, max_size=12),
    steps=st.lists(
        st.tuples(st.sampled_from("append take remove back group".split()), st.integers(0, 11)), max_size=40
    ),
)
def test_whatever_happens_it_is_in_the_order_of_turns(made, steps):
    everyone = [
        ticket(number, created, deadline, priority, apart=apart)
        for number, (created, deadline, priority, apart) in enumerate(made, 1)
    ]
    queue, plain, out = UrgentQueue(), [], list(everyone)
    for what, which in steps:
        plain.sort(key=turn)
        if what in ("append", "back") and out:
            one = out.pop(which % len(out))
            before = bool(plain) and turn(one) < turn(plain[0])
            assert queue.append(one) == before if what == "append" else queue.put_back(one) is None
            plain.append(one)
        elif what == "take" and plain:
            taken = queue.take(1 + which % 3)
            assert taken == plain[: len(taken)]
            assert len(taken) <= 1 + which % 3
            alike = all(one.terms.priority == taken[0].terms.priority and not one.apart for one in taken[1:])
            assert alike
            plain = plain[len(taken) :]
            out += taken
        elif what == "group" and plain:
            taken = queue.take_group(1 + which % 3)
            assert taken[0] is plain[0]
            plain = [one for one in plain if one not in taken]
            out += taken
        elif what == "remove" and plain:
            one = plain.pop(which % len(plain))
            queue.remove(one)
            out.append(one)
        plain.sort(key=turn)
        assert [*queue] == plain
        assert queue.count == len(plain)
        assert queue.first is (plain[0] if plain else None)
        assert queue.oldest is min(plain, key=lambda one: one.number, default=None)
        assert all((one in queue) == (one in plain) for one in everyone)
        assert all(queue.lines.values())
    queue.insert(out)
    assert [*queue] == sorted(everyone, key=turn)
    queue.clear()
    assert (queue.count, [*queue], queue.first) == (0, [], None)


@pytest.mark.parametrize("at_most", [1, 2, 3])
def test_a_batch_is_those_of_its_group_in_their_order(at_most):
    group = object()
    queue = UrgentQueue()
    for number, deadline in ((1, 9.0), (2, 5.0), (3, 7.0)):
        one = ticket(number, deadline=deadline)
        one.group = group
        queue.append(one)
    queue.append(ticket(4, deadline=6.0))
    assert [one.number for one in queue.take_group(at_most)] == [2, 3, 1][:at_most]
