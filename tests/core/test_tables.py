"""The tables of legal moves: what they say, what the docstrings draw, and that nothing else moves a ticket, a seat or a lease."""

import itertools
import math
import re

import pytest

from gibbs._core import lease as leases
from gibbs._core import seat as seats
from gibbs._core import ticket as tickets
from gibbs._core.lease import Lease, LeaseMove, LeaseState
from gibbs._core.seat import Seat, SeatMove, SeatState
from gibbs._core.terms import PLAIN
from gibbs._core.ticket import Answer, IllegalMove, Ticket, TicketMove, TicketState

ENDS = {
    TicketState.ANSWERED,
    TicketState.CANCELLED,
    TicketState.EXPIRED,
    TicketState.REFUSED,
    TicketState.LOST,
    TicketState.LEASED,
}

# Which of the moves each row of a docstring's table means, by its words.
WORDS = {
    "a seat takes it": TicketMove.TAKE,
    "the caller is cancelled": TicketMove.CANCEL,
    "no worker took it within its `max_wait`": TicketMove.EXPIRE,
    "it asks for a lease, and a seat is held for it": TicketMove.LEASE,
    "the worker of its lease is gone": TicketMove.LOSE,
    "the hub closes": TicketMove.REFUSE,
    "the worker answers, value or exception": TicketMove.ANSWER,
    "the seat gives it back, or dies with evidence that it was not begun, or it may be tried again": TicketMove.RETURN,
    "the seat dies otherwise, or for the second time before it began": TicketMove.LOSE,
}
SEAT_WORDS = {
    "a launch begins": SeatMove.LAUNCH,
    "the hub closes, or the seat is dismissed": SeatMove.RETIRE,
    "the hub is to have more seats again": SeatMove.REVIVE,
    "the worker says that its model is built": SeatMove.READY,
    "the same, and as many serve as are wanted": SeatMove.STAND_BY,
    "another seat is of no use any more": SeatMove.ENLIST,
    "the request at its head is abandoned and must be cleaned up": SeatMove.INTERRUPT,
    "that request is over, the worker lives": SeatMove.UNWIND,
    "the worker is dead, or must die": SeatMove.CONDEMN,
    "the process is gone, its requests are settled": SeatMove.BURY,
}


LEASE_WORDS = {
    "a seat is held for it": LeaseMove.HOLD,
    "the worker of its seat is gone": LeaseMove.BREAK,
    "who asked for it leaves, or the hub closes": LeaseMove.LEAVE,
}


def drawn(module, words):
    """The table in a module's docstring, as (state, move, state)."""
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \|$", module.__doc__, re.MULTILINE)
    assert rows[:2] == [("from", "move", "to"), ("---", "---", "---")]
    return sorted(
        (state.lower(), str(words[move]), to.partition(",")[0].lower())
        for states, move, to in rows[2:]
        for state in states.split(", ")
    )


def told(table):
    return sorted((str(state), str(move), str(to)) for state, moves in table.items() for move, to in moves.items())


def ticket_that_is(state, woken=None):
    """By legal moves only."""
    ticket = Ticket(b"payload", wake=woken and (lambda told: woken.append(told.state)))
    road = {
        TicketState.QUEUED: [],
        TicketState.SENT: [TicketMove.TAKE],
        TicketState.ANSWERED: [TicketMove.TAKE, TicketMove.ANSWER],
        TicketState.CANCELLED: [TicketMove.CANCEL],
        TicketState.EXPIRED: [TicketMove.EXPIRE],
        TicketState.REFUSED: [TicketMove.REFUSE],
        TicketState.LOST: [TicketMove.TAKE, TicketMove.LOSE],
        TicketState.LEASED: [TicketMove.LEASE],
    }[state]
    for move in road:
        ticket.move(move, "the first outcome" if move is road[-1] else None)
    assert ticket.state is state
    return ticket


def seat_that_is(state):
    seat = Seat(3)
    road = {
        SeatState.VACANT: [],
        SeatState.STARTING: [SeatMove.LAUNCH],
        SeatState.SPARE: [SeatMove.LAUNCH, SeatMove.STAND_BY],
        SeatState.SERVING: [SeatMove.LAUNCH, SeatMove.READY],
        SeatState.INTERRUPTING: [SeatMove.LAUNCH, SeatMove.READY, SeatMove.INTERRUPT],
        SeatState.DYING: [SeatMove.LAUNCH, SeatMove.CONDEMN],
        SeatState.RETIRED: [SeatMove.RETIRE],
    }[state]
    for move in road:
        seat.move(move)
    assert seat.state is state
    return seat


def snapshot(thing):
    return {name: getattr(thing, name) for name in thing.__slots__}


def test_the_tickets_table_is_the_one_that_is_drawn():
    assert told(tickets.MOVES) == drawn(tickets, WORDS)


def test_the_seats_table_is_the_one_that_is_drawn():
    assert told(seats.MOVES) == drawn(seats, SEAT_WORDS)


def test_the_leases_table_is_the_one_that_is_drawn():
    assert told(leases.MOVES) == drawn(leases, LEASE_WORDS)


def test_each_state_has_its_line_in_the_tables():
    assert [*tickets.MOVES] == [*TicketState]
    assert [*seats.MOVES] == [*SeatState]
    assert [*leases.MOVES] == [*LeaseState]


def test_moves_are_verbs_that_an_error_can_say():
    assert [*map(str, TicketMove)] == ["take", "return", "answer", "cancel", "expire", "refuse", "lose", "lease"]
    assert [*map(str, SeatMove)] == [
        *("launch", "ready", "stand by", "enlist", "interrupt", "unwind", "condemn", "bury", "retire", "revive")
    ]
    assert [*map(str, LeaseMove)] == ["hold", "break", "leave"]


def test_a_new_ticket_is_queued_and_nobody_has_it():
    new = {"state": "queued", "number": 0, "seat": None, "link_id": 0, "outcome": None, "returned": False}
    of_nobody = {
        "ended": False,
        "terms": PLAIN,
        "deadline": math.inf,
        "deaths": (),
        "propagated": {},
        "kills": 0,
        "apart": False,
        "question": None,
        "wake": None,
        "waiter": None,
        "released": None,
        "created": 0.0,
        "flow": None,
        "group": None,
        "many": False,
        "method": "",
        "progress": None,
        "lease": None,
        "give_up_at": math.inf,
    }
    assert snapshot(Ticket(b"payload")) == {"payload": b"payload", **new, **of_nobody}


def test_a_new_seat_is_vacant_and_its_model_is_not_asked_to_be_interrupted():
    new = {"state": "vacant", "incarnation": 0, "held": {}, "last_link_id": 0, "on_cancel": "kill", "target": 0}
    measured = {
        "service_time": math.inf,
        "window": 1,
        "begun": 0,
        "has_page": True,
        "watch": None,
        "recalled": set(),
        "seen_at_its_head": 0,
        "together": False,
        "lease": None,
        "in_service": False,
        "dismissed": False,
    }
    assert snapshot(Seat(3)) == {"index": 3, "is_far": False, **new, **measured}
    assert Seat(3, is_far=True).is_far


def test_an_answer_came_along_unless_it_says_that_it_was_left_behind():
    assert Answer(True, b"body") == Answer(failed=True, body=b"body", left_behind=False)
    assert Answer(True, b"body") != Answer(failed=True, body=b"body", left_behind=True)


def test_a_ticket_has_six_ends_and_a_seat_has_none():
    """One that was retired is revived when the hub is to be larger again."""
    assert {state for state, moves in tickets.MOVES.items() if not moves} == ENDS
    assert {state for state, moves in seats.MOVES.items() if not moves} == set()
    assert [*seats.MOVES[SeatState.RETIRED]] == [SeatMove.REVIVE]


@pytest.mark.parametrize(("state", "move"), [*itertools.product(TicketState, TicketMove)], ids=str)
def test_a_ticket_moves_as_the_table_says_or_not_at_all(state, move):
    woken = ["listening"]
    ticket = ticket_that_is(state, woken)
    before, woken_before = snapshot(ticket), list(woken)
    to = tickets.MOVES[state].get(move)
    if to is None:
        with pytest.raises(IllegalMove, match=f"a ticket that is {state} cannot {move}"):
            ticket.move(move, "another outcome")
        assert snapshot(ticket) == before
        assert woken == woken_before
        return
    ticket.move(move, "the outcome")
    assert ticket.state is to
    assert ticket.ended == (to in ENDS)
    assert ticket.outcome == ("the outcome" if ticket.ended else None)
    assert woken == ([*woken_before, to] if ticket.ended else woken_before)
    assert {name for name, value in snapshot(ticket).items() if value != before[name]} <= {
        *("state", "ended", "outcome", "wake")
    }


@pytest.mark.parametrize(("state", "move"), [*itertools.product(SeatState, SeatMove)], ids=str)
def test_a_seat_moves_as_the_table_says_or_not_at_all(state, move):
    seat = seat_that_is(state)
    before = snapshot(seat)
    to = seats.MOVES[state].get(move)
    if to is None:
        with pytest.raises(IllegalMove, match=f"a seat that is {state} cannot {move}"):
            seat.move(move)
        assert snapshot(seat) == before
    else:
        told = []
        seat.watch = lambda *moved: told.append(moved)
        seat.move(move)
        after = {**before, "state": to, "incarnation": before["incarnation"] + (move == "launch"), "watch": seat.watch}
        assert snapshot(seat) == after
        assert told == [(seat, state)]


LEASE_ROADS = {
    LeaseState.WAITING: [],
    LeaseState.HELD: [LeaseMove.HOLD],
    LeaseState.BROKEN: [LeaseMove.HOLD, LeaseMove.BREAK],
    LeaseState.OVER: [LeaseMove.LEAVE],
}


@pytest.mark.parametrize(("state", "move"), [*itertools.product(LeaseState, LeaseMove)], ids=str)
def test_a_lease_moves_as_the_table_says_or_not_at_all(state, move):
    lease = Lease()
    for one in LEASE_ROADS[state]:
        lease.move(one)
    assert lease.state is state
    to = leases.MOVES[state].get(move)
    if to is None:
        with pytest.raises(IllegalMove, match=f"a lease that is {state} cannot {move}"):
            lease.move(move)
        assert lease.state is state
    else:
        lease.move(move)
        assert lease.state is to


@pytest.mark.parametrize("state", sorted(ENDS))
def test_who_waits_is_woken_once_and_after_the_outcome_is_there(state):
    seen = []
    ticket = Ticket(b"", wake=lambda told: seen.append((told.state, told.outcome)))
    if TicketState(state) not in tickets.MOVES[TicketState.QUEUED].values():
        ticket.move(TicketMove.TAKE)
    move = next(move for move, to in tickets.MOVES[ticket.state].items() if to is state)
    ticket.move(move, "the outcome")
    assert seen == [(state, "the outcome")]
    assert ticket.wake is None, "and what it held is free"


def test_a_ticket_without_a_waiter_ends_all_the_same():
    ticket = Ticket(b"")
    ticket.move(TicketMove.CANCEL)
    assert ticket.ended


def test_a_ticket_and_a_seat_say_what_they_are():
    seat, ticket = seat_that_is(SeatState.SERVING), ticket_that_is(TicketState.SENT)
    ticket.number = 7
    assert repr(ticket) == "<Ticket 7 sent>"
    ticket.seat, seat.held[5] = seat, ticket
    assert repr(ticket) == "<Ticket 7 sent at seat 3>"
    assert repr(seat) == "<Seat 3.1 serving holds [5]>"


def test_an_illegal_move_is_a_bug_of_the_library():
    assert issubclass(IllegalMove, AssertionError)
