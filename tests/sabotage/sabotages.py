"""The sabotages as data: a promise of gibbs is broken at the place where it is kept, and says which tests must notice.

Knows texts of the package and names of tests, and runs nothing. Each sabotage leaves a library that still opens, answers and closes
(`still_serves.py` is run to see that), since a test that fails because nothing works any more proves nothing. `test_sabotages.py` holds that
the texts are there and the tests too.
"""

from __future__ import annotations

from tests.sabotage.parts import (
    CANCELLING,
    CHILD,
    CONTRACT,
    CORE,
    CRASHES,
    DEATHS,
    DISPATCH,
    ENDING,
    HOSTILE,
    HUB_CONTRACT,
    INTERRUPT,
    LIFELINE,
    LINK,
    LINUX,
    ORPHANS,
    PLACEMENT,
    QUEUE,
    REAL_CANCELLING,
    SEAT,
    SERVICE,
    SUPERVISOR,
    WORKER,
    Edit,
    Sabotage,
)

TWENTY = (
    Sabotage(
        "skip the reap",
        "a server that runs for a month fills the process table with zombies, one for each worker that ever ended",
        (Edit(CHILD, "self._popen.poll()", "self._popen.returncode = 0"),),
        (
            "tests/end_to_end/test_closing.py::test_idle_workers_exit_as_programs_do",
            CRASHES + "test_idle_workers_that_are_killed_are_replaced_and_nobody_notices",
        ),
    ),
    Sabotage(
        "kill the process but not its group",
        "what a model started (ffmpeg, a compiler, a browser) goes on after the hub has closed and nobody knows of it",
        (
            Edit(
                LINUX,
                "        with suppress(OSError):  # the unreaped leader keeps the group's id ours\n"
                "            os.killpg(self.pid, signal.SIGKILL)\n",
                "",
            ),
            Edit(LINUX, "# raises once it is reaped\n            os.killpg(self.pid, signal.SIGKILL)\n", "\n"),
        ),
        (
            ORPHANS + "test_what_a_model_started_is_gone_when_its_worker_has_died",
            ORPHANS + "test_what_a_model_started_is_gone_when_the_hub_has_closed",
            CONTRACT + "test_kill_reaches_the_group_while_the_process_is_ours",
        ),
    ),
    Sabotage(
        "drop the shield at close",
        "Ctrl-C or a cancelled scope cuts the closing short: models are killed that could have saved their work",
        (Edit("gibbs/_parent/insist.py", "with anyio.CancelScope(shield=True):", "with anyio.CancelScope():"),),
        (ENDING + "test_closing_in_a_cancelled_scope_still_lets_workers_leave_in_peace",),
    ),
    Sabotage(
        "no lifeline",
        "the program is killed for want of memory, and workers deep in C code keep theirs until they return",
        (Edit(LIFELINE, 'if not hasattr(fcntl, "F_SETSIG"):', "if True:"),),
        (
            ORPHANS + "test_no_worker_outlives_a_program_that_is_killed_whatever_the_model_does",
            CONTRACT + "test_the_lifeline_kills_the_whole_group_and_is_armed_before_the_model_is_built",
            CONTRACT + "test_a_lifeline_that_is_cut_ends_the_worker_while_it_holds_the_interpreter_lock",
        ),
    ),
    Sabotage(
        "reply with the neighbour's id",
        "one customer could be shown another one's data; the hub must see it and end the worker instead",
        (
            Edit(
                SERVICE,
                "self._channel.send(*answer)",
                "kind, number, reply = answer\n"
                "        self._channel.send(kind, number - (number > 40), reply)  # from the 41st on",
            ),
        ),
        (HOSTILE + "test_four_bad_arguments_each_followed_by_sixty_good_calls_are_240_right_answers",),
    ),
    Sabotage(
        "do not check the id of a reply",
        "a worker that is one reply late hands each caller the answer of the one before, and nobody ever knows",
        (
            Edit(
                PLACEMENT,
                "ticket = seat.held.get(link_id)",
                "ticket = seat.held.get(link_id, next(iter(seat.held.values()), None))",
            ),
        ),
        (
            CORE + "test_the_id_of_a_neighbours_request_is_a_violation",
            DEATHS + "test_a_worker_that_breaks_the_protocol_is_killed_and_its_caller_told_why",
            DEATHS + "test_a_worker_that_lies_about_an_abandoned_call_is_killed",
        ),
    ),
    Sabotage(
        "mark *begun* after unpickling",
        "an argument that kills its worker while it is opened is sent to the next worker and kills that one too",
        (
            Edit(
                SERVICE,
                "        if not self._inbox.begin(link_id):\n"
                "            self._ear.skip(link_id, self._body)\n"
                '            return SKIPPED, link_id, b""\n',
                "",
            ),
            Edit(
                SERVICE,
                "                method, args, kwargs, *values = loads(letter)\n",
                "                method, args, kwargs, *values = loads(letter)\n"
                "                if not self._inbox.begin(link_id):\n"
                "                    interrupter.end()\n"
                '                    return SKIPPED, link_id, b""\n',
            ),
        ),
        (CRASHES + "test_an_argument_that_kills_the_worker_while_it_is_unpickled_has_begun_and_is_never_sent_again",),
    ),
    Sabotage(
        "put a returned ticket at the tail",
        "who waited longest waits again behind everybody who came later, each time that a worker dies",
        (
            Edit(QUEUE, "        line.move_to_end(ticket.number, last=False)\n", ""),
            Edit(QUEUE, "if oldest < ticket.number:\n            self.lines", "if False:\n            self.lines"),
        ),
        (
            CORE + "test_several_that_go_back_stand_in_the_order_of_arrival_whoever_held_them",
            DEATHS + "test_a_request_that_goes_back_keeps_its_place_in_the_queue",
        ),
    ),
    Sabotage(
        "send a returned ticket a third time",
        "a request that costs workers before it begins goes round for ever and takes the whole hub down",
        (Edit(DISPATCH, "if not may_have_run and not ticket.returned:", "if not may_have_run:"),),
        (
            CORE + "test_a_request_that_dies_twice_unbegun_is_lost_with_the_promise_that_it_has_not_run",
            DEATHS + "test_a_request_that_a_second_worker_did_not_begin_is_lost_with_the_promise_that_it_has_not_run",
            CRASHES + "test_a_request_that_had_not_begun_is_sent_again_once_and_then_says_that_it_never_ran",
        ),
        timeout=15,
    ),
    Sabotage(
        "leave queued tickets unsettled at close",
        "the server shuts down, and the requests that still waited hang instead of being told",
        (Edit(DISPATCH, "for ticket in queued + running:", "for ticket in running:"),),
        (
            CORE + "test_close_refuses_all_and_cleans_up_what_runs",
            ENDING + "test_requests_that_are_queued_or_running_raise_hubclosed_in_the_tasks_that_wait",
        ),
        timeout=15,
    ),
    Sabotage(
        "forget a cancelled ticket in the queue",
        "the client has left, and its request is run all the same, before those of the clients who stayed",
        (
            Edit(
                DISPATCH,
                "            self._leave_line(ticket)\n        self._end(ticket, TicketMove.CANCEL)",
                "            pass\n        self._end(ticket, TicketMove.CANCEL)",
            ),
        ),
        (
            CORE + "test_a_queued_request_that_leaves_makes_way_for_the_one_behind_it",
            CANCELLING + "test_a_queued_request_that_is_cancelled_is_never_sent",
            REAL_CANCELLING + "test_a_queued_request_that_is_cancelled_never_runs",
        ),
        timeout=15,
    ),
    Sabotage(
        "assign to a seat that is interrupting",
        "a request is stuck behind a call that is being thrown away, or dies with its worker when grace is over",
        (
            Edit(
                SEAT,
                "return self.state is _SERVING and len(self.held) < self.window",
                "return self.state in (_SERVING, SeatState.INTERRUPTING) and len(self.held) < self.window",
            ),
        ),
        (CORE + "test_an_interrupted_seat_with_room_takes_nothing",),
    ),
    Sabotage(
        "leave `running` set after a call",
        "a cancel that comes as the answer is being written is raised outside the call and costs the warm worker",
        (Edit(INTERRUPT, "        self.running = 0\n        self.armed = 0\n", "        self.armed = 0\n"),),
        (REAL_CANCELLING + "test_a_result_that_is_being_packed_is_finished_and_dropped",),
    ),
    Sabotage(
        "interrupt without the id check",
        "the interrupt that was meant for one client's call is raised in the next client's",
        (
            Edit(
                INTERRUPT,
                "if not self.running or not self.running <= self._page.target <= self.last or must_not_be_cut(frame):",
                "if not self.running or must_not_be_cut(frame):",
            ),
            Edit(
                INTERRUPT,
                "            return\n        self.check()\n",
                "            return\n        self.running = 0\n        self.fired = True\n        raise Interrupted\n",
            ),
        ),
        (REAL_CANCELLING + "test_an_interrupt_that_is_not_meant_for_the_running_call_does_nothing",),
    ),
    Sabotage(
        "count grace from the cancel",
        "a call behind a slow start or a large message has used up its grace before it could even hear of the cancel",
        (
            Edit(
                WORKER,
                "        taken, has_left, grace_ends = -1, False, math.inf\n",
                "        taken, has_left, grace_ends = -1, False, self._now() + self._cancel_grace\n",
            ),
            Edit(WORKER, "                grace_ends = now + grace\n", ""),
        ),
        (CANCELLING + "test_grace_counts_from_the_moment_when_the_call_can_begin",),
    ),
    Sabotage(
        "count a planned exit as a failure",
        "clients that hang up, five in a minute, take a healthy hub down for everybody",
        (
            Edit(
                SUPERVISOR,
                "            return 0.0 if worker.lost_to_a_cancel else",
                '            return await self._crew.start_failed(self.seat, self._failed("exited", "it left")) if worker.lost_to_a_cancel else',
            ),
        ),
        (HUB_CONTRACT + "test_a_worker_that_a_cancel_costs_is_no_crash_and_no_failure_to_the_policy",),
    ),
    Sabotage(
        "decode a result in the link's task",
        "one result that cannot be opened costs a worker, or ends the program; one that is slow holds up the others",
        (
            Edit(
                WORKER,
                "                    answers.append((link_id, answer_of((kind == FAILURE, body, False))))\n",
                "                    if kind != FAILURE:\n                        payload.loads(body)\n"
                "                    answers.append((link_id, answer_of((kind == FAILURE, body, False))))\n",
            ),
        ),
        (HOSTILE + "test_a_result_that_raises_while_it_is_unpickled_in_the_hub_is_an_error_of_that_request_alone",),
    ),
    Sabotage(
        "let `KeyboardInterrupt` inside a group through",
        "a model's mistake looks like Ctrl-C to the server, which shuts down",
        (
            Edit(
                "gibbs/_wire/failure.py",
                "if not issubclass(type(one), Exception) or",
                "if not issubclass(type(one), (Exception, BaseExceptionGroup)) or",
            ),
            Edit("gibbs/_wire/failure.py", "        assert isinstance(one, Exception)\n", ""),
            Edit("gibbs/_wire/failure.py", "            todo += one.exceptions\n", "            pass\n"),
        ),
        (
            HOSTILE + "test_a_group_that_holds_such_an_exception_arrives_as_remote_error",
            "tests/core/test_failure.py::test_what_would_steer_a_task_is_told_in_words",
        ),
    ),
    Sabotage(
        "map a memfd without seals",
        "a worker that shrinks the shared page ends the whole program by SIGBUS at the hub's next look",
        (
            Edit(
                "gibbs/_wire/page.py",
                "        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)\n",
                "",
            ),
        ),
        (
            "tests/core/test_page.py::test_nobody_can_take_the_memory_away_under_the_hub",
            "tests/core/test_page.py::test_nobody_can_break_the_seals",
        ),
    ),
    Sabotage(
        "wait for end-of-stream after an exit",
        "a model that forked a child and died leaves its caller waiting for ever, as in five of six peers",
        (
            Edit(LINK, "            return self._drain_socket(take)\n", "            pass\n"),
            Edit(LINK, "with anyio.move_on_after(_SILENCE):", "with anyio.CancelScope():"),
        ),
        (
            DEATHS + "test_a_process_that_ends_is_noticed_while_its_stream_stays_open",
            CRASHES + "test_a_worker_that_dies_is_seen_though_its_forked_child_holds_the_stream_open",
        ),
        timeout=15,
    ),
)
