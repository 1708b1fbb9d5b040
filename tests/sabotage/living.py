"""What is broken on purpose of a hub that changes while it serves."""

from __future__ import annotations

from tests.sabotage.parts import DISPATCH, SUPERVISOR, Edit, Sabotage

STAFFING = "gibbs/_parent/staffing.py"
SPARES = "tests/hub/test_spares.py::"
STAFF = "tests/hub/test_staffing.py::"

LIVING = (
    Sabotage(
        "let spares stand by for ever",
        "a worker dies, requests wait for its successor's model, and a built one looks on",
        (Edit(DISPATCH, "        return self._enlist()\n", "        return []\n"),),
        (SPARES + "test_when_a_worker_dies_its_request_fails_and_the_next_goes_to_the_spare_at_once",),
    ),
    Sabotage(
        "call a spare only when the other is dead",
        "a request after one that was killed for a cancel waits for the kill",
        (Edit(DISPATCH, 'if how == "kill" and self._spares:', "if False:"),),
        (SPARES + "test_a_request_after_one_that_was_killed_for_a_cancel_is_sent_to_the_spare_in_the_same_tick",),
    ),
    Sabotage(
        "replace who was dismissed",
        "a hub that was to become smaller is as large again when one of its workers dies on its way out",
        (Edit(DISPATCH, "return [*orders, Dismiss(seat)] if seat.dismissed else orders", "return orders"),),
        (STAFF + "test_a_worker_that_dies_on_its_way_out_is_not_replaced",),
    ),
    Sabotage(
        "let the old one go before the new one is ready",
        "while a hub reloads all requests wait for a model to be built",
        (Edit(STAFFING, "        while new.seat.state not in _WITH_A_MODEL:\n", "        while False:\n"),),
        (STAFF + "test_while_it_reloads_no_request_fails_and_none_waits_for_a_start",),
    ),
    Sabotage(
        "leave a reload as it is when it fails",
        "half of the workers answer by a model that was withdrawn",
        (
            Edit(
                STAFFING, "                    await self._replace_all(before, before)\n", "                    pass\n"
            ),
        ),
        (STAFF + "test_a_reload_that_fails_at_a_later_worker_is_undone_and_nothing_is_dropped",),
    ),
    Sabotage(
        "undo a reload by those alone who were replaced",
        "a hub that became smaller meanwhile goes on to build the model that was withdrawn",
        (
            Edit(
                STAFFING,
                "                crew.recipe, crew.repertoire.methods = before, methods",
                "                pass",
            ),
        ),
        (STAFF + "test_a_reload_that_fails_when_those_that_were_replaced_are_gone_is_undone_all_the_same",),
    ),
    Sabotage(
        "recycle whoever has the seat by then",
        "a worker that has just been built is replaced for the age of the one before it",
        (Edit(STAFFING, " or seat.incarnation != incarnation", ""),),
        (STAFF + "test_who_was_replaced_by_a_reload_before_its_turn_came_is_not_replaced_again",),
    ),
    Sabotage(
        "grow again while workers are being started",
        "one wait of a minute for a model, and as many workers are started as there may be",
        (Edit("gibbs/_core/elastic.py", "if late and len(uses) >= self.wanted:", "if late:"),),
        ("tests/core/test_elastic.py::test_it_does_not_grow_again_before_those_serve_that_are_wanted",),
    ),
    Sabotage(
        "count what others had been sent",
        "a worker that has just been restarted is replaced for what the one before it has done",
        (Edit(SUPERVISOR, "        self.first_link_id = self.seat.last_link_id\n", ""),),
        (STAFF + "test_what_the_worker_before_was_sent_does_not_count",),
    ),
)
