"""Sabotages of what is sent ahead, taken back and waited for awake; part of the second list."""

from __future__ import annotations

from tests.sabotage.parts import (
    AHEAD_OF_TURN,
    CREW,
    DESK,
    DISPATCH,
    INBOX,
    LINK,
    READABLE,
    REAL_AHEAD_OF_TURN,
    SEAT,
    TURNS,
    WORKER,
    Edit,
    Sabotage,
)

AHEAD = (
    Sabotage(
        "swallow a give-back",
        "what was taken back from behind a slow call is never answered",
        (
            Edit(
                CREW,
                "                if given_back is not None:\n",
                "                if given_back is not None and False:\n",
            ),
        ),
        (
            AHEAD_OF_TURN + "test_behind_a_slow_call_nothing_waits_while_another_worker_is_idle",
            REAL_AHEAD_OF_TURN + "test_no_tiny_call_waits_for_the_end_of_a_slow_one",
        ),
        timeout=15,
    ),
    Sabotage(
        "begin without a claim",
        "a request that was taken back runs all the same: twice, or after its cancel was confirmed",
        (Edit(INBOX, "if not claimed or self._page.target == link_id:", "if self._page.target == link_id:"),),
        (REAL_AHEAD_OF_TURN + "test_a_request_that_is_cancelled_while_it_is_sent_ahead_never_runs",),
    ),
    Sabotage(
        "send while what was taken back is unread",
        "the new request's claim is taken for one that was taken back, and that one runs",
        (
            Edit(
                SEAT,
                "len(self.held) < self.window and not self.recalled",
                "len(self.held) < self.window",
            ),
        ),
        (
            AHEAD_OF_TURN + "test_nothing_is_sent_to_a_worker_that_has_not_read_what_was_taken_back",
            "tests/core/test_dispatch_machine.py::test_whatever_happens_in_whatever_order_each_request_is_in_one_place_and_ends_once",
        ),
        timeout=60,
    ),
    Sabotage(
        "never look whether a call takes long",
        "tiny calls wait behind one of half a second while another worker is idle",
        (
            Edit(
                "gibbs/_parent/clock.py",
                "        self.is_ticking = True\n        self._sent_something.ring()\n",
                "        self.is_ticking = True\n",
            ),
        ),
        (
            AHEAD_OF_TURN + "test_behind_a_slow_call_nothing_waits_while_another_worker_is_idle",
            REAL_AHEAD_OF_TURN + "test_no_tiny_call_waits_for_the_end_of_a_slow_one",
        ),
        timeout=15,
    ),
    Sabotage(
        "give nothing back in the stream",
        "tiny calls wait behind one of half a second, on a worker of another machine",
        (Edit(INBOX, "                self._give_back()\n", "                pass\n"),),
        (REAL_AHEAD_OF_TURN + "test_where_the_stream_is_all_there_is_none_waits_either",),
        timeout=15,
    ),
    Sabotage(
        "kill for a cancel without asking first",
        "dozens of callers are told that their requests may have run, since another one has left",
        (Edit(WORKER, "ASK_PATIENCE = 0.25", "ASK_PATIENCE = 0.0"),),
        (AHEAD_OF_TURN + "test_a_worker_that_is_killed_for_a_cancel_is_asked_first_for_what_waits_behind",),
    ),
    Sabotage(
        "take a cut stream for one that was heard to its end",
        "what had begun on a worker whose answer was lost is run again by another",
        (Edit(WORKER, "if not (self._has_last_words and self._heard_out):", "if not self._has_last_words:"),),
        (AHEAD_OF_TURN + "test_where_nobody_can_tell_what_had_begun_all_that_it_held_may_have_run",),
    ),
    Sabotage(
        "read the old pace of a worker that is being slow",
        "to a worker that was just recalled for being slow the next tiny calls are sent ahead again",
        (
            Edit(
                WORKER,
                "            if answers:\n                if (service_time",
                "            if True:\n                if (service_time",
            ),
        ),
        (AHEAD_OF_TURN + "test_after_a_slow_call_a_worker_is_sent_ahead_as_soon_as_it_is_measured_again",),
    ),
    Sabotage(
        "count a give-back as a death",
        "of two workers that die, the second costs a request that had had no chance to begin",
        (
            Edit(
                DISPATCH,
                "            seat.recalled.add(link_id)\n",
                "            seat.recalled.add(link_id)\n            ticket.returned = True\n",
            ),
        ),
        (AHEAD_OF_TURN + "test_to_be_taken_back_costs_a_request_none_of_its_two_chances",),
    ),
    Sabotage(
        "believe a worker's claims more than its page",
        "a worker that lies about its claims has a request run twice",
        (
            Edit(
                WORKER,
                "waiting = [link_id for link_id in self._seat.held if link_id > begun]",
                "waiting = [link_id for link_id in self._seat.held if link_id > begun * 0]",
            ),
        ),
        (AHEAD_OF_TURN + "test_a_request_that_had_begun_is_not_given_to_another_worker_by_a_lie_about_claims",),
    ),
    Sabotage(
        "offer when the request has left",
        "a worker that is quick finds no claim, and skips a request that nobody had taken back",
        (
            Edit(
                LINK,
                "        self._offer()\n        if self._socket is not None:\n            written = 0\n",
                "        if self._socket is not None:\n            written = 0\n",
            ),
            Edit(
                LINK,
                "                pass\n        if self._outbox:\n            self._more.ring()\n",
                "                pass\n        self._offer()\n        if self._outbox:\n            self._more.ring()\n",
            ),
        ),
        (
            REAL_AHEAD_OF_TURN
            + "test_what_a_worker_reads_it_may_begin_whoever_wrote_it_and_whatever_was_sent_meanwhile",
        ),
    ),
    Sabotage(
        "go to sleep without a look",
        "a caller whose answer came while it was awake waits for a wake-up that has been",
        (
            Edit(
                DESK,
                "            while not ticket.ended:\n                if ticket.question",
                # In hubs of the tests alone: else nothing would work any more, which proves nothing.
                "            while not ticket.ended or (self.crew.options.name, ticket.number) == ('echo', 2):\n"
                "                if ticket.question",
            ),
        ),
        (AHEAD_OF_TURN + "test_an_answer_that_is_due_is_waited_for_awake",),
        timeout=15,
    ),
    Sabotage(
        "forget whose turn it was not",
        "callers whose answers came together with many others wait for ever",
        (Edit(TURNS, "return more or bool(self._put_off)", "return more"),),
        ("tests/hub/test_readable.py::test_callers_whose_answers_came_at_once_go_on_a_few_in_a_pass",),
        timeout=15,
    ),
    Sabotage(
        "keep to oneself what one saw",
        "a worker whose lie is met by a caller that waits awake is not killed, and nobody hears of it any more",
        (
            Edit(READABLE, "            self._over.set_result(error)\n", "            del error\n"),
            Edit(
                READABLE,
                "            self._error = error\n            self._scope.cancel()\n",
                "            del error\n",
            ),
        ),
        ("tests/hub/test_readable.py::test_what_cannot_be_borne_is_raised_where_somebody_listens",),
        timeout=15,
    ),
)
