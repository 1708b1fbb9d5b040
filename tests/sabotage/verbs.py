"""Sabotages of streams, batches, maps, options and hooks; part of the second list."""

from __future__ import annotations

from tests.sabotage.parts import CORE, DESK, DISPATCH, LINES, PLACEMENT, SEAT, SERVICE, WORKER, Edit, Sabotage

STREAM = "gibbs/_worker/stream.py"
READER = "gibbs/_stream.py"
BATCH = "gibbs/_worker/batch.py"
MAP = "gibbs/_map.py"
REAL_BATCHES = "tests/end_to_end/test_batching.py::"
REAL_MAPS = "tests/end_to_end/test_mapping.py::"
REAL_STREAMS = "tests/end_to_end/test_streaming.py::"
STREAMS_IN_MEMORY = "tests/hub/test_stream.py::"
REPORT = "gibbs/_worker/report.py"
CHANNEL = "gibbs/_worker/channel.py"
REAL_TRACKING = "tests/end_to_end/test_tracking.py::"
MACHINE = "tests/core/test_dispatch_machine.py::test_whatever_happens_in_whatever_order_each_request_is_in_one_place_and_ends_once"
LEASE = "gibbs/_core/lease.py"
LEASES = "tests/core/test_leases.py::"
LEASES_IN_MEMORY = "tests/hub/test_lease.py::"
CALL_OPTIONS = "tests/hub/test_call_options.py::"
REAL_CALL_OPTIONS = "tests/end_to_end/test_call_options.py::"

OF_VERBS = (
    Sabotage(
        "let items wait for one that takes long",
        "a reader sees the first words of an answer only when the model has done with the next",
        (Edit(STREAM, "        if not self._later.ask():\n", "        if False:\n"),),
        (REAL_STREAMS + "test_items_that_came_at_once_do_not_wait_for_one_that_takes_long",),
    ),
    Sabotage(
        "kill the worker of a stream that is left",
        "each client that has read enough costs a model that takes half a minute to load",
        (Edit(SEAT, 'return "close" if how == "kill" and ticket.flow is not None else how', "return how"),),
        (
            CORE + "test_a_stream_that_is_left_is_cleaned_up_whatever_the_model_says_for_it_may_never_end",
            REAL_STREAMS + "test_leaving_early_closes_the_generator_and_keeps_the_worker",
        ),
        timeout=60,
    ),
    Sabotage(
        "tell a generator that waits for its reader nothing",
        "a client that leaves while the model pauses for it holds the worker until grace is over, and then it is killed",
        (Edit(WORKER, "            self.link.send(CLOSE, link_id)\n", "            pass\n"),),
        (REAL_STREAMS + "test_a_generator_that_waits_for_its_reader_is_closed_and_not_interrupted",),
        timeout=60,
    ),
    Sabotage(
        "believe any number of items",
        "a worker that has gone wild fills the hub's memory, however slowly it is read",
        (Edit("gibbs/_core/flow.py", "if not 0 < count <= self.credit:", "if not count:"),),
        (
            CORE + "test_a_worker_that_sends_more_than_it_may_or_items_of_a_request_is_not_believed",
            STREAMS_IN_MEMORY + "test_a_worker_that_sends_items_that_it_may_not_is_killed_and_what_came_before_stays",
        ),
    ),
    Sabotage(
        "start a stream anew of which something came",
        "a reader gets the beginning of its answer twice",
        (Edit(DISPATCH, "        seat.begun = max(seat.begun, link_id)  # whatever", "        # whatever"),),
        (CORE + "test_a_stream_of_which_something_came_is_never_sent_again_whatever_the_page_says",),
    ),
    Sabotage(
        "give the end before the items",
        "the last words of an answer are missing where its reader was slow",
        (Edit(READER, "            if not flow.here:\n", "            if ticket.ended:\n"),),
        (STREAMS_IN_MEMORY + "test_a_reader_that_does_not_read_gives_no_credit_and_is_told_of_the_end_last",),
    ),
    Sabotage(
        "end a batch with the first who leaves",
        "one client that gives up takes the answers of sixty others with it",
        (Edit(SEAT, "or (self.together and not all(ticket.ended for ticket in self.held.values()))", ""),),
        (
            CORE + "test_a_call_is_interrupted_when_the_last_of_its_callers_has_left",
            REAL_BATCHES + "test_one_that_leaves_a_batch_that_runs_hurts_nobody",
        ),
        timeout=60,
    ),
    Sabotage(
        "give the results of a batch in another order",
        "customers are shown each other's data",
        (Edit(BATCH, "zip(members, results, strict=True)", "zip(members, reversed(results), strict=True)"),),
        (REAL_BATCHES + "test_a_worker_that_becomes_free_takes_what_waits",),
    ),
    Sabotage(
        "do not count the results of a batch",
        "a model that drops what it cannot read shifts everybody's answers by one",
        (
            Edit(BATCH, "if len(results) != len(members):", "if False:"),
            Edit(BATCH, "zip(members, results, strict=True)", "zip(members, results + results, strict=False)"),
        ),
        (REAL_BATCHES + "test_another_number_of_results_is_a_mismatch_for_all",),
    ),
    Sabotage(
        "forget at the close who waits for company",
        "the last requests before a shutdown are never answered",
        (
            Edit(
                DISPATCH,
                "queued = [*self._queue, *(ticket for group in self.groups for ticket in group.give())]",
                "queued = list(self._queue)",
            ),
        ),
        (CORE + "test_one_that_is_cancelled_waits_for_nobody_and_a_hub_that_closes_refuses_the_others",),
    ),
    Sabotage(
        "send a batch again together",
        "one poisonous item takes all that were in its batch with it, twice",
        (Edit(LINES, "if first.returned or at_most == 1:", "if at_most == 1:"),),
        (CORE + "test_of_a_batch_whose_worker_dies_what_had_not_begun_runs_alone",),
    ),
    Sabotage(
        "read a source without end",
        "a map over the lines of a large file is the whole file in memory",
        (Edit(MAP, "left = self._limit - len(self._line)", "left = (1 << 10) - len(self._line)"),),
        (REAL_MAPS + "test_a_source_is_read_as_room_appears_and_may_be_endless",),
    ),
    Sabotage(
        "leave what a map has asked",
        "workers go on for ever over a source whose reader has left",
        (Edit(MAP, "            await self._desk.leave(self._options, *left)\n", "            pass\n"),),
        (REAL_MAPS + "test_leaving_withdraws_what_is_on_its_way",),
        timeout=60,
    ),
    Sabotage(
        "forget what may be sent again",
        "a request that may be tried again is sent without its arguments",
        (
            Edit(
                DISPATCH,
                "            if not ticket.terms.keeps:\n                ticket.payload",
                "            if True:\n                ticket.payload",
            ),
        ),
        (
            "tests/core/test_dispatch_machine.py::test_whatever_happens_in_whatever_order_each_request_is_in_one_place_and_ends_once",
        ),
        timeout=60,
    ),
    Sabotage(
        "send others' requests to a worker that is leased",
        "in the middle of a conversation the model is told what belongs to another",
        (Edit(SEAT, "if self.lease is not None or not self.in_service:", "if not self.in_service:"),),
        (
            LEASES + "test_an_idle_seat_is_given_at_once_and_is_sent_nothing_else",
            LEASES_IN_MEMORY + "test_nothing_else_is_sent_to_its_worker",
        ),
    ),
    Sabotage(
        "lease the last worker",
        "whoever asks for no lease waits for as long as others talk",
        (Edit(LEASE, "        self.most = seats - 1\n", "        self.most = seats\n"),),
        (
            LEASES + "test_one_seat_is_never_given_and_who_asks_for_it_steps_aside",
            LEASES_IN_MEMORY
            + "test_one_worker_is_always_left_for_others_and_who_asks_for_one_too_many_holds_nobody_up",
        ),
        timeout=30,
    ),
    Sabotage(
        "let who asks for one lease too many stand in the way",
        "one long conversation and one who waits for the next, and the hub answers nobody",
        (
            Edit(
                PLACEMENT,
                "                self.leases.aside.insert(self._queue.take(1))\n                continue\n",
                "                break\n",
            ),
        ),
        (
            LEASES + "test_one_seat_is_never_given_and_who_asks_for_it_steps_aside",
            LEASES_IN_MEMORY
            + "test_one_worker_is_always_left_for_others_and_who_asks_for_one_too_many_holds_nobody_up",
        ),
        timeout=30,
    ),
    Sabotage(
        "forget the lease of who is cancelled when he is given it",
        "each such client costs the hub a worker, until one is left",
        (Edit("gibbs/_lease.py", "            self._end(lease)  # it may have been given meanwhile\n", ""),),
        (LEASES_IN_MEMORY + "test_who_is_cancelled_when_he_is_given_it_and_before_he_knows_has_none",),
        timeout=30,
    ),
    Sabotage(
        "say of what had begun on a lease that it had not",
        "a program tells a new worker again what the old one has done",
        (Edit("gibbs/_core/ticket.py", "untouched = self.lease is None and (", "untouched = ("),),
        (
            LEASES + "test_nothing_of_it_is_sent_to_another_and_its_seat_is_anybodys",
            LEASES_IN_MEMORY + "test_what_had_begun_crashed_and_what_had_not_is_told_that_the_lease_is_broken",
        ),
    ),
    Sabotage(
        "give a poison another worker",
        "one bad input takes down worker after worker",
        (Edit("gibbs/_core/ticket.py", " and self.kills < POISON and untouched", " and untouched"),),
        (CALL_OPTIONS + "test_a_request_that_has_killed_two_workers_is_given_no_third",),
    ),
    Sabotage(
        "share what may be sent again",
        "a request that is tried again has the arguments that its first call has spoiled",
        (Edit(DESK, "dumps = payload.dumps if options.terms.keeps else self._dumps", "dumps = self._dumps"),),
        (REAL_CALL_OPTIONS + "test_what_a_call_has_changed_before_it_died_is_not_sent_again",),
    ),
    Sabotage(
        "let nobody pass",
        "a request with a higher priority waits like all others",
        (
            Edit(
                "gibbs/_core/queue.py",
                "ticket.created - AGEING * ticket.terms.priority, ticket.number",
                "ticket.created, ticket.number",
            ),
        ),
        (CALL_OPTIONS + "test_what_is_more_important_comes_first_and_equals_in_the_order_in_which_they_came",),
    ),
    Sabotage(
        "forget the time of what comes back",
        "a request that was taken back from behind a slow call waits for ever, though its caller said for how long",
        (Edit(PLACEMENT, "if ticket.give_up_at < math.inf and not ticket.returned:", "if False:"),),
        (MACHINE,),
        timeout=60,
    ),
    Sabotage(
        "let the unwell go on",
        "a worker whose model says that it is not well is kept",
        (Edit("gibbs/_worker/health.py", "        if not answer and answer is not None:", "        if False:"),),
        ("tests/end_to_end/test_model_side.py::test_a_worker_that_is_not_well_is_replaced",),
    ),
    Sabotage(
        "forget who has asked",
        "a model that asks how long its caller will wait, who has just left, waits for ever, and its worker is killed",
        (Edit(DESK, "            self._reply(ticket, -math.inf)\n", "            pass\n"),),
        ("tests/hub/test_deadlines.py::test_whenever_the_caller_leaves_the_worker_is_told_something_once",),
    ),
    Sabotage(
        "let a word of a call that is over take another's place",
        "a model that leaves threads behind loses the last words of the calls after",
        (Edit(REPORT, "if link_id != self._link_id:  # it took long", "if False:  # it took long"),),
        (REAL_TRACKING + "test_a_word_that_is_ready_when_its_call_is_over_takes_no_other_words_place",),
        timeout=60,
    ),
    Sabotage(
        "forget the last word",
        "a bar stops at ninety-odd percent",
        (Edit(SERVICE, "            self._reporter.end()\n", "            self._reporter._link_id = 0\n"),),
        (REAL_TRACKING + "test_of_very_many_words_some_come_in_order_and_the_last_one_always",),
        timeout=60,
    ),
    Sabotage(
        "let a model wait until its words are read",
        "a program that is busy for a second holds up every model that reports",
        (
            Edit(
                CHANNEL,
                "self._together or len(body) >= SMALL or not self._has_room():",
                "self._together or len(body) >= SMALL:",
            ),
        ),
        (REAL_TRACKING + "test_a_model_does_not_wait_for_a_hub_whose_loop_stands_still",),
        timeout=40,
    ),
    Sabotage(
        "hold answers back for ever",
        "the quick items of a map wait for a slow one behind them",
        (Edit(CHANNEL, "if not waits or (count == 1 and not self._later.ask()):", "if not waits:"),),
        (REAL_MAPS + "test_the_results_of_quick_items_do_not_wait_for_a_slow_one_behind_them",),
        timeout=60,
    ),
    Sabotage(
        "suspect whatever had begun",
        "finished items of a map that lie beside a poisonous one are refused as poison",
        (Edit(DISPATCH, "begun is None or link_id == max(begun, seat.begun))", "may_have_run)"),),
        (CORE + "test_what_had_been_run_and_not_answered_when_a_worker_died_is_lost_with_it_and_not_suspected",),
        timeout=60,
    ),
    Sabotage(
        "leave a caller's values to the next",
        "what one user may see is decided by who asked before him",
        (Edit("gibbs/_worker/context.py", "        context.run(self._set, values)\n", "        self._set(values)\n"),),
        ("tests/end_to_end/test_context.py::test_a_call_sees_what_its_caller_has_set_and_nothing_of_others",),
    ),
    Sabotage(
        "believe any record",
        "a worker that has gone wild makes the handlers of the program raise",
        (Edit("gibbs/_parent/logs.py", "    if not good:\n", "    if False:\n"),),
        ("tests/hub/test_records.py::test_what_is_no_record_ends_the_worker_that_sent_it",),
    ),
    Sabotage(
        "make a logger for each name",
        "a worker that logs under ever new names fills the program's memory",
        (Edit("gibbs/_parent/logs.py", "    while name:\n", "    return logging.getLogger(name)\n    while name:\n"),),
        (
            "tests/end_to_end/test_context.py::test_a_record_for_a_logger_that_is_not_here_goes_to_the_one_above_it_and_makes_none",
        ),
    ),
)
