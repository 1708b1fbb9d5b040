"""The cases that somebody once got wrong, each alone and by hand. `test_dispatch_machine.py` looks for those that nobody thought of."""

from typing import get_args

import pytest

from gibbs._core.dispatch import Dispatcher, Interrupt, Order, Recall, Send, Violation
from gibbs._core.seat import Seat
from gibbs._core.ticket import Answer, Lost, Ticket

YES = Answer(False, b"yes")


def serving(seats=1, *, window=1, on_cancel="interrupt"):
    """A dispatcher whose seats all serve, and the seats."""
    dispatcher = Dispatcher([Seat(index) for index in range(seats)], window=window)
    for seat in dispatcher.seats:
        dispatcher.launch(seat)
        dispatcher.ready(seat, on_cancel=on_cancel)
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


def test_there_are_three_orders():
    assert get_args(Order) == (Send, Interrupt, Recall)


def test_by_default_a_worker_holds_one_request_at_a_time_and_seats_may_come_from_anywhere():
    dispatcher = Dispatcher(Seat(index) for index in range(2))
    for seat in dispatcher.seats:
        dispatcher.launch(seat)
        dispatcher.ready(seat, on_cancel="kill")
    tickets = submit(dispatcher, 3)
    assert [ticket.state for ticket in tickets] == ["sent", "sent", "queued"]
    assert dispatcher.close()


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
    assert dispatcher.skipped(seat, 1) == [Send(seat, 2, second)]


def test_an_abandoned_call_that_may_finish_keeps_its_seat_until_it_has():
    dispatcher, seat = serving(on_cancel="finish")
    first, second = submit(dispatcher, 2)
    assert dispatcher.withdraw(first) == []
    assert second.state == "queued"
    assert dispatcher.answered(seat, 1, YES) == [Send(seat, 2, second)]
    assert (first.state, first.outcome) == ("cancelled", None)


def test_the_callers_wish_comes_before_the_models():
    dispatcher, seat = serving(on_cancel="interrupt")
    ticket = Ticket(b"", on_cancel="kill")
    dispatcher.submit(ticket)
    assert dispatcher.withdraw(ticket) == [Interrupt(seat, 1, "kill")]


def test_one_false_id_among_those_given_back_and_none_is_taken_back():
    dispatcher, seat = serving(window=3)
    tickets = submit(dispatcher, 3)
    with pytest.raises(Violation, match="request 7"):
        dispatcher.given_back(seat, [2, 3, 7])
    assert [*seat.held.values()] == tickets
    assert {ticket.state for ticket in tickets} == {"sent"}
    assert dispatcher.queued == 0


def test_an_id_given_back_twice_in_one_breath_is_taken_back_once():
    dispatcher, seat = serving(window=2)
    first, second = submit(dispatcher, 2)
    assert dispatcher.given_back(seat, [2, 2]) == [Send(seat, 3, second)]
    assert [*seat.held.values()] == [first, second]


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
    assert restart(dispatcher, seat) == [Send(seat, 5, third)]


def test_without_a_page_all_that_was_sent_may_have_run():
    dispatcher, seat = serving(window=2)
    tickets = submit(dispatcher, 2)
    death, _ = crash(dispatcher, seat, begun=None)
    assert [ticket.outcome for ticket in tickets] == [Lost(death, True)] * 2


def test_a_request_that_dies_twice_unbegun_is_lost_with_the_promise_that_it_has_not_run():
    dispatcher, seat = serving()
    (ticket,) = submit(dispatcher, 1)
    crash(dispatcher, seat, begun=0)
    assert restart(dispatcher, seat) == [Send(seat, 2, ticket)]
    death, _ = crash(dispatcher, seat, begun=1)  # the other worker's evidence is not this one's
    assert ticket.outcome == Lost(death, False)


def test_a_give_back_is_no_death():
    dispatcher, seat = serving()
    (ticket,) = submit(dispatcher, 1)
    for again in range(2, 5):
        assert dispatcher.given_back(seat, [again - 1]) == [Send(seat, again, ticket)]
    crash(dispatcher, seat, begun=0)
    assert ticket.state == "queued"


def test_several_that_go_back_stand_in_the_order_of_arrival_whoever_held_them():
    dispatcher, left, right = serving(2)
    first, second, third = submit(dispatcher, 3)
    crash(dispatcher, first.seat, begun=0)
    crash(dispatcher, second.seat, begun=0)
    assert [*dispatcher._queue.values()] == [first, second, third]
    assert restart(dispatcher, right)[0].ticket is first
    assert restart(dispatcher, left)[0].ticket is second


def test_a_returned_request_waits_for_an_empty_seat_and_the_younger_wait_behind_it():
    dispatcher, *_ = serving(2, window=2)
    other, returned = submit(dispatcher, 2)
    seat = other.seat
    crash(dispatcher, returned.seat, begun=0)
    (younger,) = submit(dispatcher, 1)
    assert [returned.state, younger.state] == ["queued", "queued"], "there is room, but no empty seat"
    assert not dispatcher.has_room(0), "nor would the next one be sent"
    assert dispatcher.answered(seat, 1, YES) == [Send(seat, 2, returned), Send(seat, 3, younger)]


def test_the_last_words_of_a_condemned_worker_still_count():
    dispatcher, seat = serving()
    (ticket,) = submit(dispatcher, 1)
    dispatcher.condemn(seat)
    dispatcher.answered(seat, 1, YES)
    assert (ticket.state, ticket.outcome) == ("answered", YES)
    assert dispatcher.lost(seat, 1, "death") == []


def test_a_queued_request_that_leaves_makes_way_for_the_one_behind_it():
    dispatcher, *_ = serving(2, window=2)
    other, returned = submit(dispatcher, 2)
    crash(dispatcher, returned.seat, begun=0)
    (younger,) = submit(dispatcher, 1)
    assert dispatcher.withdraw(returned) == [Send(other.seat, 2, younger)]


def test_close_refuses_all_and_cleans_up_what_runs():
    dispatcher, left, right = serving(2, on_cancel="kill")
    tickets = [Ticket(b"", on_cancel="finish"), Ticket(b""), Ticket(b"")]
    for ticket in tickets:
        dispatcher.submit(ticket)
    orders = dispatcher.close()
    assert {ticket.state for ticket in tickets} == {"refused"}
    running = next(seat for seat in (left, right) if seat.state == "interrupting")
    assert orders == [Interrupt(running, 1, "kill")]
    assert dispatcher.live == dispatcher.queued == 0
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
    assert dispatcher.skipped(seat, 1) == [Send(seat, 2, second)]


def test_what_an_interrupted_seat_gives_back_goes_to_another_at_once():
    dispatcher, seat, other = serving(2, window=2)
    crash(dispatcher, other, begun=0)
    first, second = submit(dispatcher, 2)
    dispatcher.withdraw(first)
    assert restart(dispatcher, other) == []
    assert dispatcher.given_back(seat, [2]) == [Send(other, 1, second)]


def test_what_a_dead_worker_had_not_begun_goes_to_another_at_once():
    dispatcher, *_ = serving(2)
    (ticket,) = submit(dispatcher, 1)
    seat = ticket.seat
    (other,) = {*dispatcher.seats} - {seat}
    _, orders = crash(dispatcher, seat, begun=0)
    assert orders == [Send(other, 1, ticket)]


def test_who_waits_for_the_release_of_a_seat_is_told_when_it_lets_go():
    dispatcher, seat = serving()
    (ticket,) = submit(dispatcher, 1)
    dispatcher.withdraw(ticket)
    told = []
    ticket.released = lambda: told.append((ticket.state, ticket.seat, seat.held))
    assert told == []
    dispatcher.skipped(seat, 1)
    assert told == [("cancelled", None, {})]
