"""The cases that somebody once got wrong, each alone and by hand. `test_dispatch_machine.py` looks for those that nobody thought of."""

import math
from typing import get_args

import pytest

from gibbs._core.dispatch import Dispatcher, Violation
from gibbs._core.flow import Flow
from gibbs._core.group import Group
from gibbs._core.orders import Dismiss, Grant, Interrupt, Order, Recall, Send
from gibbs._core.pace import DUE_SOON, UNKNOWN, WINDOW
from gibbs._core.seat import Seat
from gibbs._core.terms import Terms
from gibbs._core.ticket import Answer, Lost, Ticket
from tests.core.machine.model import seconds_for

YES = Answer(False, b"yes")


def serving(seats=1, *, window=1, on_cancel="interrupt"):
    """A dispatcher whose seats all serve, so quickly that each may hold so many requests, and the seats."""
    dispatcher = Dispatcher([Seat(index) for index in range(seats)])
    for seat in dispatcher.seats:
        dispatcher.launch(seat)
        dispatcher.ready(seat, on_cancel=on_cancel)
        if window > 1:
            dispatcher.paced(seat, seconds_for(window))
    return dispatcher, *dispatcher.seats


def submit(dispatcher, count):
    tickets = [Ticket(b"payload") for _ in range(count)]
    for ticket in tickets:
        dispatcher.submit(ticket)
    return tickets


def crash(dispatcher, seat, *, begun):
    dispatcher.condemn(seat)
    death = f"death of {seat.index}.{seat.incarnation}"
    return death, dispatcher.lost(seat, begun, death)


def restart(dispatcher, seat):
    dispatcher.launch(seat)
    return dispatcher.ready(seat, on_cancel="interrupt")


def skip_all(dispatcher, seat):
    """The worker says of all that was taken back that it skipped it. Returns the orders."""
    return [order for link_id in sorted(seat.recalled) for order in dispatcher.skipped(seat, link_id)]


SLOW, QUICK = 4, 16  # windows: of a seat that is sent ahead though its calls are not short, and of one whose calls are


def test_there_are_five_orders():
    assert get_args(Order) == (Send, Interrupt, Recall, Grant, Dismiss)


def test_until_it_is_measured_a_worker_holds_one_request_at_a_time_and_seats_may_come_from_anywhere():
    dispatcher = Dispatcher(Seat(index) for index in range(2))
    for seat in dispatcher.seats:
        dispatcher.launch(seat)
        dispatcher.ready(seat, on_cancel="kill")
    tickets = submit(dispatcher, 3)
    assert [ticket.state for ticket in tickets] == ["sent", "sent", "queued"]
    assert dispatcher.close()


def test_several_at_once_are_sent_in_one_order_for_each_seat_and_the_rest_waits():
    dispatcher, *_ = serving(2, window=10)
    tickets = [Ticket(b"") for _ in range(25)]
    sent = dispatcher.submit_all(tickets)
    assert [(order.seat.index, order.link_id, order.tickets) for order in sent] == [
        (1, 1, tickets[:10]),
        (0, 1, tickets[10:20]),
    ]
    assert [ticket.number for ticket in tickets] == [*range(1, 26)]
    assert (dispatcher.live, [ticket.state for ticket in tickets[20:]]) == (25, ["queued"] * 5)
    assert dispatcher.submit_all([]) == []


def test_the_seat_that_was_used_last_is_used_next_for_its_caches_are_warm():
    dispatcher, *_ = serving(3)
    first, second, third = (ticket.seat for ticket in submit(dispatcher, 3))
    for seat in (second, first, third):
        dispatcher.answered(seat, 1, YES)
    assert [ticket.seat for ticket in submit(dispatcher, 3)] == [third, first, second]


def test_an_abandoned_call_behind_an_abandoned_call_is_cleaned_up_in_its_turn():
    dispatcher, seat = serving(window=3)
    first, second, third = submit(dispatcher, 3)
    assert dispatcher.withdraw(first) == [Interrupt(seat, 1, "interrupt"), Recall(seat)]
    assert dispatcher.withdraw(second) == []
    assert dispatcher.skipped(seat, 1) == [Interrupt(seat, 2, "interrupt"), Recall(seat)]
    assert dispatcher.withdraw(third) == []
    assert dispatcher.answered(seat, 2, YES) == [Interrupt(seat, 3, "interrupt")]
    assert dispatcher.skipped(seat, 3) == []
    assert seat.state == "serving"


def test_an_interrupted_seat_takes_the_next_request_when_its_call_is_over_and_not_before():
    dispatcher, seat = serving()
    first, second = submit(dispatcher, 2)
    assert dispatcher.withdraw(first) == [Interrupt(seat, 1, "interrupt")]
    assert second.state == "queued"
    assert dispatcher.skipped(seat, 1) == [Send(seat, 2, [second])]


def test_an_abandoned_call_that_may_finish_keeps_its_seat_until_it_has():
    dispatcher, seat = serving(on_cancel="finish")
    first, second = submit(dispatcher, 2)
    assert dispatcher.withdraw(first) == [Recall(seat)]
    assert dispatcher.given_back(seat, []) == [], "it has begun"
    assert second.state == "queued"
    assert dispatcher.answered(seat, 1, YES) == [Send(seat, 2, [second])]
    assert (first.state, first.outcome) == ("cancelled", None)


def test_the_callers_wish_comes_before_the_models():
    dispatcher, seat = serving(on_cancel="interrupt")
    ticket = Ticket(b"", Terms(on_cancel="kill"))
    dispatcher.submit(ticket)
    assert dispatcher.withdraw(ticket) == [Interrupt(seat, 1, "kill")]


def test_one_false_id_among_those_given_back_and_none_is_taken_back():
    dispatcher, seat = serving(window=3)
    tickets = submit(dispatcher, 3)
    with pytest.raises(Violation, match="request 7"):
        dispatcher.given_back(seat, [2, 3, 7])
    assert [*seat.held.values()] == tickets
    assert {ticket.state for ticket in tickets} == {"sent"}
    assert not seat.recalled


def test_an_id_given_back_twice_in_one_breath_is_taken_back_once():
    dispatcher, seat = serving(window=2)
    first, second = submit(dispatcher, 2)
    assert dispatcher.given_back(seat, [2, 2]) == []
    assert [*seat.held.values()] == [first]
    assert dispatcher.skipped(seat, 2) == [Send(seat, 3, [second])]


def test_the_id_of_a_neighbours_request_is_a_violation():
    dispatcher, *_ = serving(2)
    first, second = submit(dispatcher, 2)
    here, there = first.seat, second.seat
    dispatcher.answered(there, 1, YES)
    (third,) = submit(dispatcher, 1)
    assert (third.seat, third.link_id) == (there, 2)
    with pytest.raises(Violation, match=f"worker {here.index} spoke of request 2"):
        dispatcher.answered(here, 2, YES)
    assert (first.state, third.state) == ("sent", "sent")


def test_a_request_is_not_answered_twice():
    dispatcher, seat = serving()
    submit(dispatcher, 1)
    dispatcher.answered(seat, 1, YES)
    with pytest.raises(Violation):
        dispatcher.answered(seat, 1, YES)
    assert dispatcher.tally.done == 1


def test_who_is_waited_for_cannot_be_skipped():
    dispatcher, seat = serving()
    (ticket,) = submit(dispatcher, 1)
    with pytest.raises(Violation, match="nobody had cancelled it"):
        dispatcher.skipped(seat, 1)
    assert ticket.state == "sent"


def test_what_had_begun_is_lost_and_what_had_not_goes_back_to_its_old_place():
    dispatcher, seat = serving(window=4)
    first, second, third, fourth, fifth = submit(dispatcher, 5)
    death, orders = crash(dispatcher, seat, begun=2)
    assert orders == []
    assert [first.outcome, second.outcome] == [Lost(death, True)] * 2
    assert [third.state, fourth.state, fifth.state] == ["queued"] * 3
    assert dispatcher.oldest is third
    assert restart(dispatcher, seat) == [Send(seat, 5, [third])]


def test_without_a_page_all_that_was_sent_may_have_run():
    dispatcher, seat = serving(window=2)
    tickets = submit(dispatcher, 2)
    death, _ = crash(dispatcher, seat, begun=None)
    assert [ticket.outcome for ticket in tickets] == [Lost(death, True)] * 2


def test_a_request_that_dies_twice_unbegun_is_lost_with_the_promise_that_it_has_not_run():
    dispatcher, seat = serving()
    (ticket,) = submit(dispatcher, 1)
    crash(dispatcher, seat, begun=0)
    assert restart(dispatcher, seat) == [Send(seat, 2, [ticket])]
    death, _ = crash(dispatcher, seat, begun=1)  # the other worker's evidence is not this one's
    assert ticket.outcome == Lost(death, False)


def test_a_give_back_is_no_death():
    dispatcher, seat = serving()
    (ticket,) = submit(dispatcher, 1)
    for again in range(2, 5):
        assert dispatcher.given_back(seat, [again - 1]) == []
        assert dispatcher.skipped(seat, again - 1) == [Send(seat, again, [ticket])]
    crash(dispatcher, seat, begun=0)
    assert ticket.state == "queued"


def test_several_that_go_back_stand_in_the_order_of_arrival_whoever_held_them():
    dispatcher, left, right = serving(2)
    first, second, third = submit(dispatcher, 3)
    crash(dispatcher, first.seat, begun=0)
    crash(dispatcher, second.seat, begun=0)
    assert [*dispatcher._queue] == [first, second, third]
    assert restart(dispatcher, right)[0].tickets[0] is first
    assert restart(dispatcher, left)[0].tickets[0] is second


def one_returned_while_another_runs(*, window):
    """Two seats; one runs a call, the worker of the other has died before it began. Returns dispatcher, busy seat, returned."""
    dispatcher, *_ = serving(2)
    other, returned = submit(dispatcher, 2)
    crash(dispatcher, returned.seat, begun=0)
    dispatcher.paced(other.seat, seconds_for(window))
    return dispatcher, other.seat, returned


def test_a_returned_request_waits_for_an_empty_seat_and_the_younger_wait_behind_it():
    dispatcher, seat, returned = one_returned_while_another_runs(window=2)
    (younger,) = submit(dispatcher, 1)
    assert [returned.state, younger.state] == ["queued", "queued"], "there is room, but no empty seat"
    assert not dispatcher.has_room(0), "nor would the next one be sent"
    assert dispatcher.answered(seat, 1, YES) == [Send(seat, 2, [returned]), Send(seat, 3, [younger])]


def test_the_last_words_of_a_condemned_worker_still_count():
    dispatcher, seat = serving()
    (ticket,) = submit(dispatcher, 1)
    dispatcher.condemn(seat)
    dispatcher.answered(seat, 1, YES)
    assert (ticket.state, ticket.outcome) == ("answered", YES)
    assert dispatcher.lost(seat, 1, "death") == []


def test_a_queued_request_that_leaves_makes_way_for_the_one_behind_it():
    dispatcher, seat, returned = one_returned_while_another_runs(window=2)
    (younger,) = submit(dispatcher, 1)
    assert dispatcher.withdraw(returned) == [Send(seat, 2, [younger])]


def test_close_refuses_all_and_cleans_up_what_runs():
    dispatcher, *_ = serving(2, on_cancel="kill")
    tickets = [Ticket(b"", Terms(on_cancel="finish")), Ticket(b""), Ticket(b"")]
    for ticket in tickets:
        dispatcher.submit(ticket)
    finishing = tickets[0].seat
    running = tickets[1].seat
    orders = dispatcher.close()
    assert {ticket.state for ticket in tickets} == {"refused"}
    assert {*orders} == {Recall(finishing), Interrupt(running, 1, "kill")}, "what may finish may not begin any more"
    assert (finishing.state, running.state) == ("serving", "interrupting")
    assert dispatcher.live == dispatcher.waiting == 0
    assert dispatcher.tally.refused == 3


@pytest.mark.parametrize("max_pending", [0, 1, 2, float("inf")])
def test_room_is_an_idle_seat_or_a_place_in_a_queue_of_this_length(max_pending):
    dispatcher, _ = serving()
    for accepted in range(4):
        assert dispatcher.has_room(max_pending) == (accepted <= max_pending)
        submit(dispatcher, 1)


def test_ids_grow_across_the_workers_of_a_seat():
    dispatcher, seat = serving()
    sent = []
    for _ in range(3):
        (ticket,) = submit(dispatcher, 1)
        sent.append(ticket.link_id)
        crash(dispatcher, seat, begun=ticket.link_id)
        restart(dispatcher, seat)
    assert sent == [1, 2, 3]
    assert seat.incarnation == 4


def test_an_interrupted_seat_with_room_takes_nothing():
    dispatcher, seat = serving(window=2)
    (first,) = submit(dispatcher, 1)
    dispatcher.withdraw(first)
    (second,) = submit(dispatcher, 1)
    assert second.state == "queued"
    assert not dispatcher.has_room(0)
    assert dispatcher.skipped(seat, 1) == [Send(seat, 2, [second])]


def test_what_an_interrupted_seat_gives_back_goes_to_another_at_once():
    dispatcher, seat, other = serving(2, window=2)
    crash(dispatcher, other, begun=0)
    first, second = submit(dispatcher, 2)
    dispatcher.withdraw(first)
    assert restart(dispatcher, other) == []
    assert dispatcher.given_back(seat, [2]) == [Send(other, 1, [second])]


def test_what_a_dead_worker_had_not_begun_goes_to_another_at_once():
    dispatcher, *_ = serving(2)
    (ticket,) = submit(dispatcher, 1)
    seat = ticket.seat
    (other,) = {*dispatcher.seats} - {seat}
    _, orders = crash(dispatcher, seat, begun=0)
    assert orders == [Send(other, 1, [ticket])]


def test_who_waits_for_the_release_of_a_seat_is_told_when_it_lets_go():
    dispatcher, seat = serving()
    (ticket,) = submit(dispatcher, 1)
    dispatcher.withdraw(ticket)
    told = []
    ticket.released = lambda: told.append((ticket.state, ticket.seat, seat.held))
    assert told == []
    dispatcher.skipped(seat, 1)
    assert told == [("cancelled", None, {})]


# ---- what is sent ahead


def test_what_was_given_back_is_sent_again_when_it_has_been_skipped_and_not_before():
    dispatcher, seat = serving(window=3)
    first, second, third = submit(dispatcher, 3)
    assert dispatcher.given_back(seat, [2, 3]) == []
    assert (second.state, third.state, seat.recalled) == ("queued", "queued", {2, 3})
    assert dispatcher.answered(seat, 1, YES) == [], "the worker would take what is sent now for what was recalled"
    assert dispatcher.skipped(seat, 2) == []
    assert dispatcher.skipped(seat, 3) == [Send(seat, 4, [second]), Send(seat, 5, [third])]
    assert first.outcome == YES


@pytest.mark.parametrize("window", [1, SLOW, QUICK])
def test_nothing_is_sent_to_a_seat_that_has_not_read_what_was_recalled(window):
    dispatcher, seat = serving(window=2)
    first, second = submit(dispatcher, 2)
    dispatcher.given_back(seat, [1, 2])
    assert not dispatcher.has_room(0)
    (third,) = submit(dispatcher, 1)
    assert dispatcher.paced(seat, seconds_for(window)) == []
    assert not seat.held
    assert dispatcher.skipped(seat, 1) == []
    orders = dispatcher.skipped(seat, 2)
    assert [ticket for order in orders for ticket in order.tickets] == [first, second, third][:window]


def test_what_is_given_back_goes_to_a_seat_that_has_room_at_once():
    dispatcher, *_ = serving(2, window=QUICK)
    first, second = submit(dispatcher, 2)
    seat = first.seat
    assert second.seat is seat
    (other,) = {*dispatcher.seats} - {seat}
    assert dispatcher.given_back(seat, [2]) == [Send(other, 1, [second])]


def test_a_head_that_is_there_at_two_ticks_holds_up_what_is_behind_it():
    dispatcher, seat = serving(window=QUICK)
    submit(dispatcher, 2)
    assert dispatcher.tick() == []
    assert dispatcher.tick() == [Recall(seat)]
    assert (seat.window, seat.service_time) == (1, UNKNOWN)


def test_a_seat_with_another_head_at_each_tick_is_held_up_by_nothing():
    dispatcher, seat = serving(window=QUICK)
    submit(dispatcher, 5)
    for link_id in (1, 2, 3):
        assert dispatcher.tick() == []
        dispatcher.answered(seat, link_id, YES)
    assert seat.window == QUICK
    assert dispatcher.tick() == []
    assert dispatcher.tick() == [Recall(seat)], "but it is when the last of them takes long"


def test_a_long_call_with_nothing_behind_it_is_left_in_peace():
    dispatcher, seat = serving(window=QUICK)
    submit(dispatcher, 1)
    for _ in range(3):
        assert dispatcher.tick() == []
    assert seat.window == QUICK
    submit(dispatcher, 1)
    assert dispatcher.tick() == [Recall(seat)], "it has been there for three ticks"


@pytest.mark.parametrize("state", ["interrupting", "dying"])
def test_ticks_say_nothing_of_a_seat_that_is_not_serving(state):
    dispatcher, seat = serving(window=QUICK)
    first, _ = submit(dispatcher, 2)
    dispatcher.tick()
    if state == "dying":
        dispatcher.condemn(seat)
    else:
        dispatcher.withdraw(first)
        dispatcher.given_back(seat, [])
    assert seat.state == state
    assert dispatcher.tick() == dispatcher.tick() == []
    assert seat.window == QUICK


def test_a_tick_looks_at_every_seat():
    dispatcher, left, right = serving(2, window=2)
    submit(dispatcher, 4)
    dispatcher.tick()
    assert dispatcher.tick() == [Recall(left), Recall(right)]


def test_a_seat_that_was_held_up_is_sent_ahead_again_when_it_has_been_measured():
    dispatcher, seat = serving(window=QUICK)
    first, second, third = submit(dispatcher, 3)
    dispatcher.tick()
    dispatcher.tick()
    dispatcher.given_back(seat, [2, 3])
    dispatcher.skipped(seat, 2)
    dispatcher.skipped(seat, 3)
    assert dispatcher.answered(seat, 1, YES) == [Send(seat, 4, [second])], "one at a time, until it is known"
    assert dispatcher.paced(seat, seconds_for(2)) == [Send(seat, 5, [third])]
    assert first.outcome == YES


def test_a_wider_window_is_filled_from_the_queue():
    dispatcher, seat = serving()
    _, second, third, fourth = submit(dispatcher, 4)
    assert dispatcher.paced(seat, seconds_for(3)) == [Send(seat, 2, [second]), Send(seat, 3, [third])]
    assert fourth.state == "queued"


def test_a_narrower_window_takes_nothing_back_but_lets_nothing_in():
    dispatcher, seat = serving(window=4)
    submit(dispatcher, 5)
    assert dispatcher.paced(seat, seconds_for(2)) == []
    assert dispatcher.answered(seat, 1, YES) == dispatcher.answered(seat, 2, YES) == []
    assert len(seat.held) == 2
    (order,) = dispatcher.answered(seat, 3, YES)
    assert order.link_id == 5


def test_a_new_worker_is_measured_anew():
    dispatcher, seat = serving(window=QUICK)
    crash(dispatcher, seat, begun=0)
    restart(dispatcher, seat)
    assert (seat.window, seat.service_time) == (1, UNKNOWN)


def test_a_page_that_tells_a_pace_before_the_model_is_built_makes_no_room():
    dispatcher = Dispatcher([Seat(0)])
    (seat,) = dispatcher.seats
    (ticket,) = submit(dispatcher, 1)
    dispatcher.launch(seat)
    assert dispatcher.paced(seat, seconds_for(QUICK)) == []
    assert dispatcher.ready(seat, on_cancel="kill") == [Send(seat, 1, [ticket])]


def test_who_leaves_from_behind_another_is_taken_back_before_it_begins():
    dispatcher, seat = serving(window=3)
    first, second, third = submit(dispatcher, 3)
    assert dispatcher.withdraw(second) == [Recall(seat)]
    assert dispatcher.given_back(seat, [2, 3]) == []
    assert [first.state, second.state, third.state] == ["sent", "cancelled", "queued"]
    assert dispatcher.skipped(seat, 2) == []
    assert dispatcher.skipped(seat, 3) == [Send(seat, 4, [third])]
    assert [*seat.held.values()] == [first, third]


def test_a_lone_call_that_may_finish_is_taken_back_if_it_has_not_begun():
    dispatcher, seat = serving(on_cancel="finish")
    first, second = submit(dispatcher, 2)
    assert dispatcher.withdraw(first) == [Recall(seat)]
    assert dispatcher.given_back(seat, [1]) == []
    assert dispatcher.skipped(seat, 1) == [Send(seat, 2, [second])]


def test_an_interrupted_call_that_had_not_begun_may_be_taken_back_with_those_behind_it():
    dispatcher, seat = serving(window=2)
    first, second = submit(dispatcher, 2)
    assert dispatcher.withdraw(first) == [Interrupt(seat, 1, "interrupt"), Recall(seat)]
    assert dispatcher.given_back(seat, [1, 2]) == []
    assert (seat.state, seat.held, second.state) == ("serving", {}, "queued")
    assert skip_all(dispatcher, seat) == [Send(seat, 3, [second])]


def test_who_leaves_from_behind_an_interrupted_call_asks_for_nothing_more():
    dispatcher, seat = serving(window=2)
    first, second = submit(dispatcher, 2)
    dispatcher.withdraw(first)
    dispatcher.given_back(seat, [])  # the other has been claimed
    assert dispatcher.withdraw(second) == []
    assert dispatcher.skipped(seat, 1) == [Interrupt(seat, 2, "interrupt")]


def test_a_lone_call_that_is_interrupted_is_not_recalled_too():
    dispatcher, seat = serving(window=QUICK)
    (ticket,) = submit(dispatcher, 1)
    assert dispatcher.withdraw(ticket) == [Interrupt(seat, 1, "interrupt")]


def test_who_leaves_a_dying_worker_orders_nothing():
    dispatcher, seat = serving(window=2)
    first, second = submit(dispatcher, 2)
    dispatcher.condemn(seat)
    assert dispatcher.withdraw(second) == dispatcher.withdraw(first) == []


def test_close_takes_back_what_was_sent_ahead():
    dispatcher, seat, other, idle = serving(3, window=2)
    crash(dispatcher, other, begun=0)
    crash(dispatcher, idle, begun=0)
    first, second = submit(dispatcher, 2)
    assert dispatcher.close() == [Interrupt(seat, 1, "interrupt"), Recall(seat)]
    assert dispatcher.given_back(seat, [2]) == []
    assert (first.state, second.state, [*seat.held]) == ("refused", "refused", [1])


def test_skipped_of_what_was_recalled_is_no_lie_and_said_again_it_is():
    dispatcher, seat = serving(window=2)
    submit(dispatcher, 2)
    dispatcher.given_back(seat, [2])
    dispatcher.skipped(seat, 2)
    with pytest.raises(Violation, match="request 2"):
        dispatcher.skipped(seat, 2)


def test_skipped_of_what_is_waited_for_is_a_lie_though_something_else_was_recalled():
    dispatcher, seat = serving(window=2)
    first, _ = submit(dispatcher, 2)
    dispatcher.given_back(seat, [2])
    with pytest.raises(Violation, match="request 1"):
        dispatcher.skipped(seat, 1)
    assert (first.state, seat.recalled) == ("sent", {2})


def test_an_answer_to_what_was_recalled_is_a_lie():
    dispatcher, seat = serving(window=2)
    _, second = submit(dispatcher, 2)
    dispatcher.given_back(seat, [2])
    with pytest.raises(Violation, match="request 2"):
        dispatcher.answered(seat, 2, YES)
    assert (second.state, seat.recalled) == ("queued", {2})


def test_what_was_recalled_dies_with_its_worker():
    dispatcher, seat = serving(window=2)
    first, second = submit(dispatcher, 2)
    dispatcher.given_back(seat, [2])
    crash(dispatcher, seat, begun=1)
    assert not seat.recalled
    assert first.state == "lost"
    assert restart(dispatcher, seat) == [Send(seat, 3, [second])]


def test_short_calls_are_packed_onto_a_worker_that_is_awake():
    dispatcher, *_ = serving(2, window=QUICK)
    first, second, third = submit(dispatcher, 3)
    assert first.seat is second.seat is third.seat


def test_longer_calls_go_to_a_worker_that_has_nothing_to_do():
    dispatcher, *_ = serving(2, window=SLOW)
    first, second, third = submit(dispatcher, 3)
    assert first.seat is not second.seat
    assert third.seat in (first.seat, second.seat)


def test_a_full_worker_is_not_packed():
    dispatcher, *_ = serving(2, window=QUICK)
    tickets = submit(dispatcher, 2 * QUICK + 1)
    seats = [ticket.seat for ticket in tickets]
    assert seats[:QUICK] == [seats[0]] * QUICK
    assert seats[QUICK:] == [seats[QUICK]] * QUICK + [None]
    assert seats[0] is not seats[QUICK]


def test_where_calls_are_short_a_seat_is_filled_by_one_order():
    dispatcher, seat = serving()
    _, *others = submit(dispatcher, QUICK + 3)
    assert dispatcher.paced(seat, seconds_for(QUICK)) == [Send(seat, 2, others[: QUICK - 1])]
    dispatcher.answered(seat, 1, YES)
    assert [*seat.held.values()] == others[:QUICK]


def test_a_returned_request_is_not_sent_behind_another_by_the_same_order():
    dispatcher, left, right = serving(2)
    first, returned = submit(dispatcher, 2)
    if first.seat is right:
        left, right = right, left
    crash(dispatcher, right, begun=0)
    dispatcher.paced(left, seconds_for(QUICK))
    dispatcher.given_back(left, [1])
    assert dispatcher.skipped(left, 1) == [Send(left, 2, [first])]
    assert dispatcher.oldest is returned


def test_enough_short_calls_are_sent_ahead_and_no_further_worker_is_woken_for_more():
    dispatcher = Dispatcher([Seat(index) for index in range(3)], enough=QUICK + 1)
    for seat in dispatcher.seats:
        dispatcher.launch(seat)
        dispatcher.ready(seat, on_cancel="kill")
        dispatcher.paced(seat, seconds_for(QUICK))
    tickets = submit(dispatcher, 3 * QUICK)
    held = [len(seat.held) for seat in dispatcher.seats]
    assert sorted(held) == [0, 3, QUICK], "the second is full enough"
    assert dispatcher.must_wait(Ticket(b""))
    assert dispatcher.oldest is tickets[QUICK + 3]
    (full,) = (seat for seat in dispatcher.seats if len(seat.held) == QUICK)
    assert dispatcher.answered(full, 1, YES) == [Send(full, QUICK + 1, [tickets[QUICK + 3]])]


def test_no_window_is_wider_than_the_widest():
    dispatcher, seat = serving()
    dispatcher.paced(seat, 0.0)
    submit(dispatcher, WINDOW + 1)
    assert len(seat.held) == seat.window == WINDOW
    assert dispatcher.waiting == WINDOW


def test_who_comes_while_others_wait_does_not_overtake_them():
    dispatcher, seat, returned = one_returned_while_another_runs(window=QUICK)
    assert seat.has_room
    (younger,) = submit(dispatcher, 1)
    assert younger.state == "queued"
    assert dispatcher.oldest is returned


def test_what_was_sent_ahead_counts_as_waiting():
    dispatcher, seat = serving(window=3)
    assert not dispatcher.sends_ahead
    submit(dispatcher, 1)
    assert (dispatcher.waiting, dispatcher.sends_ahead) == (0, False)
    submit(dispatcher, 3)
    assert (dispatcher.waiting, dispatcher.sends_ahead) == (3, True)
    assert [dispatcher.has_room(max_pending) for max_pending in (0, 3, 4)] == [False, False, True]
    dispatcher.given_back(seat, [2, 3])
    assert (dispatcher.waiting, dispatcher.sends_ahead) == (3, False)
    crash(dispatcher, seat, begun=1)
    assert (dispatcher.waiting, dispatcher.sends_ahead) == (3, False)


def test_a_request_that_may_not_wait_goes_to_an_idle_worker_or_not_at_all():
    dispatcher, *_ = serving(2, window=QUICK)
    submit(dispatcher, 1)
    assert dispatcher.has_room(0), "one worker is idle"
    dispatcher.submit(Ticket(b"payload"), alone=True)
    assert dispatcher.waiting == 0


def test_several_answers_are_settled_before_their_room_is_offered():
    dispatcher, seat = serving(window=2)
    first, second, third, fourth = submit(dispatcher, 4)
    orders = dispatcher.answered_all(seat, [(1, YES), (2, Answer(True, b"no"))])
    assert orders == [Send(seat, 3, [third]), Send(seat, 4, [fourth])]
    assert (first.outcome, second.outcome) == (YES, Answer(True, b"no"))
    assert (dispatcher.tally.done, dispatcher.tally.failed) == (1, 1)


def test_answers_before_a_lie_count_and_those_behind_it_do_not():
    dispatcher, seat = serving(window=3)
    first, second, third = submit(dispatcher, 3)
    with pytest.raises(Violation, match="request 7"):
        dispatcher.answered_all(seat, [(1, YES), (7, YES), (2, YES)])
    assert [first.state, second.state, third.state] == ["answered", "sent", "sent"]
    death, _ = crash(dispatcher, seat, begun=2)
    assert (second.outcome, third.state) == (Lost(death, True), "queued")


def test_what_has_begun_needs_its_payload_no_more():
    dispatcher, seat = serving(window=3)
    tickets = submit(dispatcher, 3)
    dispatcher.begun(seat, 2)
    assert [ticket.payload for ticket in tickets] == [b"", b"", b"payload"]


def test_what_a_page_once_told_is_not_taken_back():
    dispatcher, seat = serving(window=3)
    first, second, third = submit(dispatcher, 3)
    dispatcher.begun(seat, 2)
    dispatcher.begun(seat, 1)
    death, _ = crash(dispatcher, seat, begun=0)
    assert [first.outcome, second.outcome] == [Lost(death, True)] * 2
    assert (third.state, third.payload) == ("queued", b"payload")


def test_what_the_page_of_a_dead_worker_told_says_nothing_of_the_next_one():
    dispatcher, seat = serving()
    submit(dispatcher, 1)
    dispatcher.begun(seat, 99)
    crash(dispatcher, seat, begun=99)
    (ticket,) = submit(dispatcher, 1)
    restart(dispatcher, seat)
    crash(dispatcher, seat, begun=0)
    assert ticket.state == "queued"


@pytest.mark.parametrize(("size", "wanted"), [(65_536, False), (65_537, True)])
def test_ticks_are_wanted_for_what_waits_behind_another_or_is_large(size, wanted):
    dispatcher, seat = serving(window=2)
    assert not dispatcher.wants_ticks
    dispatcher.submit(Ticket(bytes(size)))
    assert dispatcher.wants_ticks == wanted
    dispatcher.begun(seat, 1)
    assert not dispatcher.wants_ticks
    submit(dispatcher, 1)
    assert dispatcher.wants_ticks, "one is behind another"
    dispatcher.given_back(seat, [2])
    assert not dispatcher.wants_ticks


def test_it_is_due_if_it_is_alone_and_calls_are_short():
    dispatcher, seat = serving(window=QUICK)
    assert not seat.is_due, "it holds nothing"
    submit(dispatcher, 1)
    assert seat.is_due
    submit(dispatcher, 1)
    assert not seat.is_due
    dispatcher.answered(seat, 1, YES)
    for service_time in (seconds_for(SLOW), DUE_SOON):
        dispatcher.paced(seat, service_time)
        assert not seat.is_due


# ------------------------------------------------------------------------------------------------------------- streams


def streaming(window=4, **options):
    dispatcher, seat = serving(**options)
    ticket = Ticket(b"payload", flow=Flow(window))
    dispatcher.submit(ticket)
    return dispatcher, seat, ticket


@pytest.mark.parametrize(
    ("says", "how"), [("interrupt", "interrupt"), ("kill", "close"), ("finish", "finish")], ids=lambda word: word
)
def test_a_stream_that_is_left_is_cleaned_up_whatever_the_model_says_for_it_may_never_end(says, how):
    dispatcher, seat, ticket = streaming(on_cancel=says)
    assert dispatcher.withdraw(ticket) == [Interrupt(seat, 1, how)]
    assert not dispatcher.arrived(seat, 1, [(1, b"one")]), "it is dropped, and no lie"
    assert not ticket.flow.runs
    assert dispatcher.skipped(seat, 1) == []
    assert seat.has_room


def test_a_worker_that_sends_more_than_it_may_or_items_of_a_request_is_not_believed():
    dispatcher, seat, ticket = streaming(window=2)
    for too_many in ([], [(3, b"123")], [(2, b"12"), (1, b"3")]):
        with pytest.raises(Violation, match="items of 1"):
            dispatcher.arrived(seat, 1, too_many)
    dispatcher.arrived(seat, 1, [(1, b"1"), (1, b"2")])
    with pytest.raises(Violation, match="items of 1"):
        dispatcher.arrived(seat, 1, [(1, b"3")])
    assert [*ticket.flow.runs] == [(1, b"1"), (1, b"2")]
    dispatcher.answered(seat, 1, YES)
    submit(dispatcher, 1)
    with pytest.raises(Violation, match="items of 2"):
        dispatcher.arrived(seat, 2, [(1, b"1")])


def test_the_worker_is_told_of_half_a_window_at_a_time_and_of_nothing_when_it_has_ended():
    dispatcher, seat, ticket = streaming(window=4)
    dispatcher.arrived(seat, 1, [(4, b"1234")])
    due = []
    for _ in range(2):
        ticket.flow.take()
        due.append(ticket.flow.is_due)
    assert due == [False, True]
    assert dispatcher.granted(ticket) == [Grant(seat, 1, 2)]
    dispatcher.answered(seat, 1, YES)
    assert ticket.flow.here == 2, "what came stays"
    assert dispatcher.granted(ticket) == []


def test_a_stream_of_which_something_came_is_never_sent_again_whatever_the_page_says():
    dispatcher, seat, ticket = streaming()
    dispatcher.arrived(seat, 1, [(1, b"one")])
    death, _ = crash(dispatcher, seat, begun=0)
    assert ticket.state == "lost"
    assert ticket.outcome == Lost(death, may_have_run=True)
    assert [*ticket.flow.runs] == [(1, b"one")]


def test_a_stream_that_had_not_begun_when_its_worker_died_is_sent_again_with_all_its_credit():
    dispatcher, seat, ticket = streaming()
    crash(dispatcher, seat, begun=0)
    assert ticket.state == "queued"
    assert restart(dispatcher, seat) == [Send(seat, 2, [ticket])]
    assert ticket.flow.credit == 4


# ------------------------------------------------------------------------------------------------------------- batches


def submit_to(dispatcher, group, count, *, created=0.0):
    tickets = [Ticket(b"payload", group=group, created=created) for _ in range(count)]
    return tickets, [order for ticket in tickets for order in dispatcher.submit(ticket)]


def test_one_that_finds_a_free_seat_is_sent_alone_and_those_that_wait_are_sent_together():
    dispatcher, seat = serving()
    (first, *others), orders = submit_to(dispatcher, Group(3), 6)
    assert orders == [Send(seat, 1, [first], together=True)]
    assert dispatcher.running == 1
    assert dispatcher.waiting == 5
    assert dispatcher.answered(seat, 1, YES) == [Send(seat, 2, others[:3], together=True)]
    assert dispatcher.running == 3
    assert dispatcher.waiting == 2
    assert dispatcher.answered_all(seat, [(2, YES), (3, YES)]) == [], "until all are answered it is one call"
    assert dispatcher.answered(seat, 4, YES) == [Send(seat, 5, others[3:], together=True)]


def test_those_behind_others_in_the_line_come_along():
    dispatcher, seat = serving()
    group = Group(8)
    submit(dispatcher, 1)
    (first, second), _ = submit_to(dispatcher, group, 2)
    [between] = submit(dispatcher, 1)
    (last,), _ = submit_to(dispatcher, group, 1)
    assert dispatcher.answered(seat, 1, YES) == [Send(seat, 2, [first, second, last], together=True)]
    for link_id in (2, 3):
        assert dispatcher.answered(seat, link_id, YES) == []
    assert dispatcher.answered(seat, 4, YES) == [Send(seat, 5, [between])]


def test_a_call_is_interrupted_when_the_last_of_its_callers_has_left():
    dispatcher, seat = serving()
    tickets, _ = submit_to(dispatcher, Group(3), 4)
    dispatcher.answered(seat, 1, YES)
    for ticket in tickets[1:3]:
        assert dispatcher.withdraw(ticket) == [Recall(seat)]
        assert dispatcher.given_back(seat, []) == []
    assert dispatcher.withdraw(tickets[3]) == [Interrupt(seat, 4, "interrupt"), Recall(seat)]
    for link_id in (2, 3):
        assert dispatcher.skipped(seat, link_id) == []
    assert dispatcher.skipped(seat, 4) == []
    assert seat.has_room


@pytest.mark.parametrize(
    ("asked", "how"),
    [(["interrupt", "interrupt"], "interrupt"), (["interrupt", "kill"], "kill"), (["kill", "finish"], "finish")],
    ids=str,
)
def test_callers_who_ask_for_different_ends_get_the_gentlest_for_the_work(asked, how):
    dispatcher, seat = serving()
    group = Group(2)
    submit_to(dispatcher, group, 1)
    tickets = [Ticket(b"payload", Terms(on_cancel=one), group=group) for one in asked]
    for ticket in tickets:
        dispatcher.submit(ticket)
    dispatcher.answered(seat, 1, YES)
    orders = []
    for ticket in tickets:
        orders = dispatcher.withdraw(ticket)
    assert orders == ([Interrupt(seat, 3, how), Recall(seat)] if how != "finish" else [Recall(seat)])


def test_of_a_batch_that_is_recalled_before_it_began_those_that_live_wait_again():
    dispatcher, seat = serving()
    tickets, _ = submit_to(dispatcher, Group(3), 4)
    dispatcher.answered(seat, 1, YES)
    assert dispatcher.withdraw(tickets[1]) == [Recall(seat)]
    assert dispatcher.given_back(seat, [2, 3, 4]) == []
    assert [ticket.state for ticket in tickets] == ["answered", "cancelled", "queued", "queued"]
    assert skip_all(dispatcher, seat) == [Send(seat, 5, tickets[2:], together=True)]


def test_of_a_batch_whose_worker_dies_what_had_not_begun_runs_alone():
    dispatcher, seat = serving()
    tickets, _ = submit_to(dispatcher, Group(4), 5)
    dispatcher.answered(seat, 1, YES)
    death, _ = crash(dispatcher, seat, begun=3)
    assert [ticket.outcome for ticket in tickets[1:3]] == [Lost(death, True)] * 2
    assert restart(dispatcher, seat) == [Send(seat, 6, [tickets[3]], together=True)]


def test_a_tick_takes_nothing_back_from_behind_itself():
    dispatcher, seat = serving()
    submit_to(dispatcher, Group(3), 4)
    dispatcher.answered(seat, 1, YES)
    assert [dispatcher.tick() for _ in range(3)] == [[], [], []]


def patient(most=3, **options):
    dispatcher, *seats = serving(**options)
    group = Group(most, patience=1.0)
    dispatcher.groups = (group,)
    return dispatcher, group, *seats


def test_one_that_waits_for_company_waits_until_it_is_complete():
    dispatcher, group, seat = patient()
    tickets, orders = submit_to(dispatcher, group, 3)
    assert orders == [Send(seat, 1, tickets, together=True)]
    assert dispatcher.ripe_at == math.inf


def test_or_until_the_first_has_waited_for_long_enough():
    dispatcher, group, seat = patient()
    (first,), _ = submit_to(dispatcher, group, 1, created=10.0)
    (second,), _ = submit_to(dispatcher, group, 1, created=10.5)
    assert dispatcher.ripe_at == 11.0
    assert dispatcher.waiting == 2
    assert dispatcher.oldest is first
    assert dispatcher.ripen(10.9) == []
    assert dispatcher.ripen(11.0) == [Send(seat, 1, [first, second], together=True)]


def test_others_do_not_wait_for_anybodys_company():
    dispatcher, group, seat = patient()
    submit_to(dispatcher, group, 1)
    [other] = submit(dispatcher, 1)
    assert other.seat is seat


def test_one_that_is_cancelled_waits_for_nobody_and_a_hub_that_closes_refuses_the_others():
    dispatcher, group, _ = patient()
    (first, second), _ = submit_to(dispatcher, group, 2)
    assert dispatcher.withdraw(first) == []
    assert [*group.gathering.values()] == [second]
    dispatcher.close()
    assert (first.state, second.state) == ("cancelled", "refused")
    assert dispatcher.live == dispatcher.waiting == 0


def test_one_that_may_not_wait_does_not_wait_for_company_either():
    dispatcher, group, seat = patient()
    ticket = Ticket(b"payload", group=group)
    assert dispatcher.submit(ticket, alone=True) == [Send(seat, 1, [ticket], together=True)]


def test_what_had_been_run_and_not_answered_when_a_worker_died_is_lost_with_it_and_not_suspected():
    """Its answer was about to leave with others: only the last that had begun was running."""
    [seat] = seats = [Seat(0)]
    dispatcher = Dispatcher(seats)
    tickets = [Ticket(b"x", Terms(retries=5)) for _ in range(3)]
    dispatcher.launch(seat)
    dispatcher.ready(seat, on_cancel="kill")
    dispatcher.paced(seat, 1e-6)
    for ticket in tickets:
        dispatcher.submit(ticket)
    dispatcher.condemn(seat)
    dispatcher.lost(seat, 2, "a death")
    assert [ticket.kills for ticket in tickets] == [0, 1, 0]
    assert [ticket.deaths for ticket in tickets] == [("a death",), ("a death",), ()]


@pytest.mark.parametrize("uncertain_too", [False, True])
@pytest.mark.parametrize("certain", [False, True])
def test_what_may_still_run_elsewhere_is_tried_again_only_where_its_caller_asked_for_that_too(certain, uncertain_too):
    [seat] = seats = [Seat(0)]
    dispatcher = Dispatcher(seats)
    ticket = Ticket(b"x", Terms(retries=1, retry_uncertain=uncertain_too))
    dispatcher.launch(seat)
    dispatcher.ready(seat, on_cancel="kill")
    dispatcher.submit(ticket)
    dispatcher.condemn(seat)
    dispatcher.lost(seat, None, "a death", certain=certain)
    assert ticket.state == ("queued" if certain or uncertain_too else "lost")
    assert ticket.ended == (ticket.outcome == Lost("a death", may_have_run=True))


def test_several_that_are_called_to_serve_are_each_given_one_before_any_is_given_two():
    dispatcher, *seats = serving(2, window=SLOW)
    dispatcher.resize(0)
    submit(dispatcher, 2)
    dispatcher.resize(2)
    assert [len(seat.held) for seat in seats] == [1, 1]
