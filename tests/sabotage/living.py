"""What is broken on purpose of a hub that changes while it serves."""

from __future__ import annotations

from tests.sabotage.parts import DISPATCH, SUPERVISOR, Edit, Sabotage

STAFFING = "gibbs/_parent/staffing.py"
SPARES = "tests/hub/test_spares.py::"
STAFF = "tests/hub/test_staffing.py::"
TEMPLATE = "gibbs/_worker/template.py"
FORKED = "gibbs/_launch/forked.py"
FORKING = "tests/end_to_end/test_forking.py::"

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
    Sabotage(
        "fork whatever there is",
        "one worker in a thousand waits for ever for a lock that a thread of its template had held",
        (Edit(TEMPLATE, "        if found:\n", "        if False:\n"),),
        (FORKING + "test_what_cannot_be_forked_is_refused_with_the_name_of_who_brought_it",),
    ),
    Sabotage(
        "let a forked worker keep what is the others'",
        "a worker that has ended is heard of by nobody while another one lives, and no end of a template is seen",
        (Edit(TEMPLATE, "            told.close()\n        self._workers.clear()\n", ""),),
        (FORKING + "test_workers_have_what_their_template_imported_and_nothing_of_one_another",),
    ),
    Sabotage(
        "leave what a forked worker had started",
        "what a model started (ffmpeg, a compiler, a browser) goes on after its worker, where that was forked",
        (
            Edit(
                TEMPLATE,
                "            os.killpg(pid, _signal.SIGKILL)  # what it has left behind\n",
                "            pass\n",
            ),
        ),
        (FORKING + "test_what_a_worker_started_goes_with_it_whether_or_not_its_template",),
    ),
    Sabotage(
        "leave it where the template cannot see to it",
        "the same, after somebody has stopped the template",
        (Edit(FORKED, "                os.killpg(self.pid, signal.SIGKILL)\n", "                pass\n"),),
        (FORKING + "test_what_a_worker_started_goes_with_it_whether_or_not_its_template",),
    ),
    Sabotage(
        "wait for ever for a template that stands still",
        "no worker that dies is replaced any more, and the hub does not close",
        (Edit(FORKED, "                self._template.kill()\n", "                pass\n"),),
        (FORKING + "test_a_template_that_stands_still_keeps_nobody",),
    ),
    Sabotage(
        "start a template without a lifeline",
        "a program that is killed while its template imports leaves it behind, for as long as the import takes",
        (Edit("gibbs/worker.py", "    arm(lifeline)\n", "    pass\n"),),
        (FORKING + "test_no_template_outlives_a_program_that_is_killed_nor_its_workers",),
        timeout=40,
    ),
)
