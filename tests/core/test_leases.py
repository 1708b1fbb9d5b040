"""Leases, each case alone and by hand: who is given which seat, what is sent there, and what a death or a leave makes of it."""

import math

import pytest

from gibbs._core.affinity import affinity_of, liking
from gibbs._core.flow import Flow
from gibbs._core.group import Group
from gibbs._core.lease import Lease, LeaseMove, LeaseState
from gibbs._core.orders import Interrupt, Recall, Send
from gibbs._core.terms import Terms
from gibbs._core.ticket import Answer, Lost, Ticket
from tests.core.test_dispatch import QUICK, SLOW, crash, restart, serving, submit

YES = Answer(False, b"yes")


def ask_for(dispatcher, **terms):
    """Who asks for a lease: the ticket, and the lease."""
    lease = Lease()
    ticket = Ticket(b"", Terms(**terms), lease=lease)
    assert dispatcher.submit(ticket) == []
    return ticket, lease


def held(dispatcher, **terms):
    ticket, lease = ask_for(dispatcher, **terms)
    assert (ticket.state, lease.state) == ("leased", "held")
    return lease


def ask_on(dispatcher, lease, count=1, **terms):
    tickets = [Ticket(b"payload", Terms(**terms), lease=lease) for _ in range(count)]
    return tickets, [order for ticket in tickets for order in dispatcher.submit(ticket)]


def states(*tickets):
    return [str(ticket.state) for ticket in tickets]


# ----------------------------------------------------------------------------------------------------------- it is given


def test_an_idle_seat_is_given_at_once_and_is_sent_nothing_else():
    dispatcher, first, second = serving(2, window=QUICK)
    lease = held(dispatcher)
    assert (lease.seat, lease.incarnation, second.lease, first.lease) == (second, 1, lease, None)
    assert not second.has_room
    assert {ticket.seat for ticket in submit(dispatcher, QUICK)} == {first}
    assert submit(dispatcher, 1)[0].state == "queued"
    assert (dispatcher.tally.leased, dispatcher.live, repr(lease)) == (1, QUICK + 1, "<Lease held at seat 1.1>")
    assert repr(Lease()) == "<Lease waiting>"


def test_it_waits_for_a_seat_that_holds_nothing_and_those_behind_it_wait_too():
    dispatcher, first, second = serving(2, window=SLOW)
    submit(dispatcher, 2)
    ticket, lease = ask_for(dispatcher)
    [behind] = submit(dispatcher, 1)
    assert states(ticket, behind) == ["queued", "queued"]
    assert lease.state == "waiting"
    assert dispatcher.answered(second, 1, YES) == [Send(first, 2, [behind])]
    assert lease.seat is second


def test_what_is_more_important_passes_one_that_waits_for_an_idle_seat():
    dispatcher, *_ = serving(2, window=SLOW)
    submit(dispatcher, 2)
    ask_for(dispatcher)
    [behind] = submit(dispatcher, 1)
    important = Ticket(b"", Terms(priority=1))
    [order] = dispatcher.submit(important)
    assert (order.tickets, behind.state) == ([important], "queued")


def test_what_its_caller_asks_of_priority_key_and_waiting_counts():
    dispatcher, *seats = serving(4)
    likes = affinity_of("a")
    assert held(dispatcher, affinity=likes).seat is max(seats, key=lambda seat: liking(likes, seat.index))
    dispatcher, seat, _ = serving(2)
    submit(dispatcher, 3)
    important, _ = ask_for(dispatcher, priority=1)
    impatient, lease = ask_for(dispatcher, max_wait=1.0)
    assert dispatcher.expires_at == 1.0
    dispatcher.answered(seat, 1, YES)
    assert important.state == "leased"
    assert dispatcher.expire(1.0) == []
    assert (impatient.state, lease.state) == ("expired", "over")
    assert dispatcher.expires_at == math.inf


@pytest.mark.parametrize("seats", [1, 2, 3])
def test_one_seat_is_never_given_and_who_asks_for_it_steps_aside(seats):
    dispatcher, *_ = serving(seats)
    given = [held(dispatcher) for _ in range(seats - 1)]
    ticket, lease = ask_for(dispatcher)
    assert (ticket.state, lease.state, dispatcher.waiting, dispatcher.oldest) == ("queued", "waiting", 0, ticket)
    for _ in range(3):
        [other] = submit(dispatcher, 1)
        dispatcher.answered(other.seat, other.link_id, YES)
        assert other.state == "answered"
    if given:
        assert dispatcher.leave(given[0]) == []
        assert (ticket.state, lease.seat) == ("leased", given[0].seat)


def test_those_aside_come_back_one_by_one_to_their_old_places():
    dispatcher, _, seat = serving(2)
    lease = held(dispatcher)
    [runs] = submit(dispatcher, 1)
    tickets = [ask_for(dispatcher) for _ in range(3)]
    later = submit(dispatcher, 1)
    assert dispatcher.withdraw(tickets[1][0]) == []
    dispatcher.leave(lease)
    assert states(*(ticket for ticket, _ in tickets)) == ["leased", "cancelled", "queued"]
    assert (later[0].state, runs.state) == ("queued", "sent")
    dispatcher.leave(tickets[0][1])
    assert tickets[2][1].seat is seat
    assert dispatcher.waiting == 1


def test_one_that_came_back_and_leaves_lets_the_next_have_its_turn():
    dispatcher, first, second = serving(2)
    lease = held(dispatcher)
    one, _ = ask_for(dispatcher)
    other, _ = ask_for(dispatcher)
    [runs] = submit(dispatcher, 1)
    asked, _ = ask_on(dispatcher, lease)
    dispatcher.leave(lease)  # the seat is still busy with what was asked on it
    assert states(one, other, *asked) == ["queued", "queued", "cancelled"]
    dispatcher.withdraw(one)
    dispatcher.skipped(second, 1)
    assert other.state == "leased"
    assert runs.seat is first


def test_room_for_a_lease_is_an_idle_seat_or_a_place_among_those_who_wait():
    dispatcher, *_ = serving(2, window=SLOW)
    submit(dispatcher, 2)
    assert not dispatcher.has_room_for_lease(0), "seats that hold less than they may are not idle"
    dispatcher, *_ = serving(3)
    assert dispatcher.has_room_for_lease(0)
    given = held(dispatcher)
    submit(dispatcher, 1)
    assert dispatcher.has_room_for_lease(0)
    held(dispatcher)
    assert not dispatcher.has_room_for_lease(0)
    assert dispatcher.has_room_for_lease(1)
    ask_for(dispatcher)
    assert not dispatcher.has_room_for_lease(1)
    assert dispatcher.has_room(1), "those who stand aside take nobody's room"
    submit(dispatcher, 1)
    assert not dispatcher.has_room_for_lease(2)
    assert dispatcher.has_room_for_lease(3)
    dispatcher.leave(given)


# ----------------------------------------------------------------------------------------------------------- it is asked on


def test_each_is_sent_when_the_one_before_is_over():
    dispatcher, _, seat = serving(2, window=QUICK)
    lease = held(dispatcher)
    (first, second, third), orders = ask_on(dispatcher, lease, 3)
    assert orders == [Send(seat, 1, [first])]
    assert (dispatcher.waiting, dispatcher.oldest, dispatcher.live) == (0, second, 3)
    assert dispatcher.answered(seat, 1, YES) == [Send(seat, 2, [second])]
    assert dispatcher.withdraw(third) == []
    assert dispatcher.answered(seat, 2, YES) == []
    assert states(first, second, third) == ["answered", "answered", "cancelled"]


def test_what_waits_for_the_hub_is_not_in_the_way():
    dispatcher, _, seat = serving(2)
    lease = held(dispatcher)
    submit(dispatcher, 2)
    ticket = Ticket(b"", lease=lease)
    assert not dispatcher.must_wait(ticket)
    assert dispatcher.must_wait(Ticket(b""))
    assert dispatcher.submit(ticket) == [Send(seat, 1, [ticket])]


def test_there_is_room_on_a_lease_whose_worker_is_idle_or_where_fewer_wait():
    dispatcher, *_ = serving(2)
    lease = held(dispatcher)
    assert lease.has_room(0)
    ask_on(dispatcher, lease)
    assert not lease.has_room(0)
    assert lease.has_room(1)
    ask_on(dispatcher, lease)
    assert not lease.has_room(1)
    assert lease.has_room(2)


def test_what_could_run_together_runs_alone_and_gathers_no_company():
    dispatcher, _, seat = serving(2)
    dispatcher.groups = (group,) = (Group(5, 1.0),)
    lease = held(dispatcher)
    tickets = [Ticket(b"", group=group, lease=lease) for _ in range(2)]
    assert dispatcher.submit(tickets[0]) == [Send(seat, 1, [tickets[0]], together=True)]
    assert dispatcher.submit(tickets[1]) == []
    assert not group.gathering
    assert dispatcher.answered(seat, 1, YES) == [Send(seat, 2, [tickets[1]], together=True)]


def test_what_is_not_taken_in_time_is_refused():
    dispatcher, *_ = serving(2)
    lease = held(dispatcher)
    (runs,), _ = ask_on(dispatcher, lease, max_wait=1.0)
    (waits,), _ = ask_on(dispatcher, lease, max_wait=2.0)
    assert dispatcher.expires_at == 2.0
    dispatcher.expire(2.0)
    assert states(runs, waits) == ["sent", "expired"]
    assert not lease.line


def test_what_is_given_back_has_its_old_place_and_is_sent_when_that_was_skipped():
    dispatcher, _, seat = serving(2)
    lease = held(dispatcher)
    (first, second), _ = ask_on(dispatcher, lease, 2, max_wait=1.0)
    assert dispatcher.given_back(seat, [1]) == []
    assert [*lease.line.values()] == [first, second]
    assert dispatcher.expires_at == 1.0
    assert not lease.has_room(0)
    assert dispatcher.skipped(seat, 1) == [Send(seat, 2, [first])]


def test_a_cancelled_call_is_cleaned_up_before_the_next_is_sent():
    dispatcher, _, seat = serving(2)
    lease = held(dispatcher)
    (first, second), _ = ask_on(dispatcher, lease, 2)
    assert dispatcher.withdraw(first) == [Interrupt(seat, 1, "interrupt")]
    assert dispatcher.skipped(seat, 1) == [Send(seat, 2, [second])]


# ----------------------------------------------------------------------------------------------------------- its worker dies


@pytest.mark.parametrize("retries", [0, 5])
@pytest.mark.parametrize("begun", [0, 1, None])
def test_nothing_of_it_is_sent_to_another_and_its_seat_is_anybodys(begun, retries):
    dispatcher, _, seat = serving(2)
    lease = held(dispatcher)
    (sent, waits), _ = ask_on(dispatcher, lease, 2, retries=retries)
    assert dispatcher.condemn(seat) == []
    (while_it_dies,), orders = ask_on(dispatcher, lease)
    assert orders == []
    death, orders = "its death", dispatcher.lost(seat, begun, "its death")
    assert orders == []
    assert (lease.state, lease.death, lease.seat, lease.incarnation) == ("broken", death, seat, 1)
    assert sent.outcome == Lost(death, begun != 0)
    assert waits.outcome == while_it_dies.outcome == Lost(death, may_have_run=False)
    assert states(sent, waits, while_it_dies) == ["lost"] * 3
    assert (dispatcher.tally.lost, dispatcher.retried, dispatcher.live) == (3, 0, 0)
    restart(dispatcher, seat)
    assert {ticket.seat for ticket in submit(dispatcher, 2)} == {*dispatcher.seats}
    assert dispatcher.leave(lease) == []
    assert lease.state == "over"


def test_a_stream_on_it_is_not_read_anew():
    dispatcher, _, seat = serving(2)
    lease = held(dispatcher)
    ticket = Ticket(b"", Terms(retries=1), Flow(3), lease=lease)
    dispatcher.submit(ticket)
    crash(dispatcher, seat, begun=1)
    assert ticket.state == "lost"


def test_one_that_stood_aside_is_given_the_next_idle_seat():
    dispatcher, first, second = serving(2)
    held(dispatcher)
    ticket, lease = ask_for(dispatcher)
    crash(dispatcher, second, begun=0)
    assert (ticket.state, lease.seat) == ("leased", first)
    [waits] = submit(dispatcher, 1)
    assert restart(dispatcher, second) == [Send(second, 1, [waits])]


# --------------------------------------------------------------------------------------------------------------- it is left


def test_leaving_withdraws_all_and_cleans_up_what_runs():
    dispatcher, _, seat = serving(2)
    lease = held(dispatcher)
    tickets, _ = ask_on(dispatcher, lease, 3)
    assert dispatcher.leave(lease) == [Interrupt(seat, 1, "interrupt")]
    assert states(*tickets) == ["cancelled"] * 3
    assert (lease.state, seat.lease, dispatcher.tally.cancelled, dispatcher.live) == ("over", None, 3, 0)
    waits = submit(dispatcher, 2)[1]
    assert dispatcher.skipped(seat, 1) == [Send(seat, 2, [waits])]
    assert dispatcher.leave(lease) == []


def test_what_may_not_have_begun_is_taken_back_before_anybody_else_is_sent_there():
    dispatcher, first, seat = serving(2, window=QUICK, on_cancel="finish")
    lease = held(dispatcher)
    ask_on(dispatcher, lease)
    assert dispatcher.leave(lease) == [Recall(seat)]
    assert dispatcher.given_back(seat, [1]) == []
    assert {ticket.seat for ticket in submit(dispatcher, 2)} == {first}
    dispatcher.skipped(seat, 1)
    assert seat.has_room


def test_leaving_while_the_worker_dies_is_quiet():
    dispatcher, _, seat = serving(2)
    lease = held(dispatcher)
    (sent, waits), _ = ask_on(dispatcher, lease, 2)
    dispatcher.condemn(seat)
    assert dispatcher.leave(lease) == []
    assert dispatcher.lost(seat, 0, "its death") == []
    assert states(sent, waits) == ["cancelled", "cancelled"]
    assert lease.state == "over"


# ----------------------------------------------------------------------------------------------------------- the hub's end


def test_draining_refuses_who_asks_for_one_and_nobody_else():
    dispatcher, first, second = serving(2)
    lease = held(dispatcher)
    aside, _ = ask_for(dispatcher)
    asked, _ = ask_on(dispatcher, lease, 2)
    assert dispatcher.drain() == []
    assert states(aside, *asked) == ["refused", "sent", "queued"]
    assert (lease.state, dispatcher.tally.refused) == ("held", 1)

    dispatcher, first, second = serving(2, window=SLOW)
    running = submit(dispatcher, 2)
    tickets = [ask_for(dispatcher) for _ in range(2)]
    [behind] = submit(dispatcher, 1)
    assert dispatcher.drain() == [Send(first, 2, [behind])]
    assert states(*(ticket for ticket, _ in tickets), *running) == ["refused", "refused", "sent", "sent"]
    assert {lease.state for _, lease in tickets} == {LeaseState.OVER}
    assert len(second.held) == 1


def test_closing_ends_all_leases_and_all_that_waits():
    dispatcher, first, seat = serving(2)
    lease = held(dispatcher)
    asked, _ = ask_on(dispatcher, lease, 2)
    aside, waiting = ask_for(dispatcher)
    submit(dispatcher, 2)
    assert dispatcher.close() == [Interrupt(first, 1, "interrupt"), Interrupt(seat, 1, "interrupt")]
    assert states(*asked, aside) == ["refused"] * 3
    assert (lease.state, waiting.state, seat.lease, dispatcher.live) == ("over", "over", None, 0)
    assert dispatcher.leave(lease) == []
    crash(dispatcher, seat, begun=1)
    assert not lease.line


def test_closing_ends_who_waits_in_the_queue_too():
    dispatcher, *_ = serving(2)
    submit(dispatcher, 2)
    ticket, lease = ask_for(dispatcher)
    dispatcher.close()
    assert (ticket.state, lease.state) == ("refused", "over")


def test_a_lease_is_given_an_empty_seat_and_no_more_are_given_than_may_be():
    dispatcher, first, second = serving(2)
    submit(dispatcher, 1)
    with pytest.raises(AssertionError):
        dispatcher.leases.hold(Lease(), second)
    dispatcher.leases.hold(Lease(), first)
    dispatcher.answered(second, 1, YES)
    with pytest.raises(AssertionError):
        dispatcher.leases.hold(Lease(), second)


def test_what_is_asked_on_a_lease_that_is_not_held_is_a_bug_of_the_library():
    dispatcher, *_ = serving(2)
    lease = held(dispatcher)
    dispatcher.leave(lease)
    with pytest.raises(AssertionError):
        dispatcher.submit(Ticket(b"", lease=lease))
    with pytest.raises(AssertionError):
        dispatcher.submit_all([Ticket(b"", lease=Lease())])
    assert LeaseMove.LEAVE == "leave"
