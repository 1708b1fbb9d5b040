"""Further sabotages, beyond the twenty: each again at the one place where a promise is kept. `python -m tests.sabotage --more`."""

from __future__ import annotations

from tests.sabotage.afar import AFAR
from tests.sabotage.ahead import AHEAD
from tests.sabotage.living import LIVING
from tests.sabotage.parts import (
    CANCELLING,
    CHILD,
    CONTRACT,
    CRASHES,
    DEATHS,
    DESK,
    ENDING,
    HOME,
    HUB_CONTRACT,
    INQUIRY,
    INTERRUPT,
    LIFELINE,
    LINK,
    LINUX,
    OPENER,
    OPENING,
    ORPHANS,
    PROPAGATORS,
    REAL_CANCELLING,
    SEAT,
    SECOND_LOOK,
    SERVE,
    SERVICE,
    STACKS,
    STANDSTILL,
    STARTING,
    SUPERVISOR,
    TRACES,
    TRUST,
    WORKER,
    Edit,
    Sabotage,
)
from tests.sabotage.verbs import OF_VERBS

MORE = (
    *AFAR,
    *AHEAD,
    *LIVING,
    *OF_VERBS,
    Sabotage(
        "leave what a call was put in only if it went well",
        "the span of a call that failed, or was cancelled, is never exported",
        (
            Edit(
                SERVICE,
                "            around.leave(error)\n",
                "            around.leave(error) if error is None else None\n",
            ),
        ),
        (
            PROPAGATORS + "test_a_call_is_put_in_what_its_caller_brought_and_what_it_raises_is_seen",
            PROPAGATORS + "test_a_call_that_is_cancelled_is_left_with_the_interrupt",
        ),
    ),
    Sabotage(
        "begin spans of hubs that are not observed",
        "the calls of a trace are children of a span that nobody ends, so it is never exported",
        (Edit("gibbs/contrib/opentelemetry.py", "if hub not in self._observed:", "if False:"),),
        (TRACES + "test_without_the_observer_the_models_call_is_a_child_of_the_callers_own_span",),
    ),
    Sabotage(
        "do not flush the outbox",
        "a large request, or one sent to a worker that is slow to read, is never answered",
        (
            Edit(
                LINK,
                "        if self._outbox:\n            self._more.ring()\n",
                "",
            ),
        ),
        (
            SECOND_LOOK + "test_a_request_whose_write_fails_for_want_of_buffers_is_not_lost",
            TRUST + "test_without_a_limit_everything_is_sent",
        ),
        timeout=15,
    ),
    Sabotage(
        "close a descriptor without telling the loop",
        "whoever still waits for that descriptor waits for ever, or for another one that has got its number",
        (Edit(LINUX, "            anyio.notify_closing(self._pidfd)\n", ""),),
        (CONTRACT + "test_who_waits_for_a_process_that_is_let_go_of_is_told",),
        timeout=15,
    ),
    Sabotage(
        "count a restart twice",
        "statistics and errors name workers that never were",
        (Edit(SEAT, "self.incarnation += 1", "self.incarnation += 2"),),
        (HUB_CONTRACT + "test_a_launcher_is_told_the_seat_and_an_incarnation_that_is_never_used_again",),
    ),
    Sabotage(
        "wait for a worker's tasks before it is killed",
        "a launcher whose streams end with their processes only makes a hub that hangs at the first cancelled call",
        (
            Edit(
                WORKER,
                "cut every await from here on.\n"
                '                if self.over not in ("stream", "exited"):\n                    self.process.kill()\n',
                "cut every await from here on.\n",
            ),
        ),
        (DEATHS + "test_a_worker_that_must_go_is_killed_before_its_stream_is_waited_for",),
        timeout=15,
    ),
    Sabotage(
        "do not strike again",
        "a cancel that came in the middle of an import never stops the model's work, and costs the warm worker",
        (
            Edit(
                WORKER,
                "                self.link.strike(link_id)\n",
                '                self.link.strike(link_id)\n                how = "struck"\n',
            ),
        ),
        (
            CANCELLING + "test_the_interrupt_is_repeated_until_the_call_unwinds",
            REAL_CANCELLING + "test_an_interrupt_that_the_interpreter_drops_is_raised_again",
        ),
    ),
    Sabotage(
        "read the page before the reap",
        "a request that begins while its worker is being killed is sent to another one, and has its effect twice",
        (
            Edit(
                SUPERVISOR,
                "                await worker.bury()\n",
                "                self.page = worker.link.begun()\n                await worker.bury()\n",
            ),
            Edit(
                SUPERVISOR,
                "certain, begun = worker.ending.certain, worker.begun()",
                "certain, begun = worker.ending.certain, self.page",
            ),
        ),
        (DEATHS + "test_a_request_that_begins_while_its_worker_is_being_killed_is_not_sent_again",),
    ),
    Sabotage(
        "take a page's word while the process may run",
        "a request runs twice: in a process that hangs in the kernel and comes back, and in the one that took its place",
        (
            Edit(
                WORKER,
                "        if not self.ending.certain:",
                "        if self.link.in_band and not self.ending.certain:",
            ),
        ),
        (DEATHS + "test_a_request_that_an_unreaped_worker_may_still_begin_does_not_run_twice",),
    ),
    Sabotage(
        "no second line behind the lifeline",
        "a program that had forked a helper is killed, and its workers live on as long as the helper",
        (
            Edit(
                LIFELINE, "        start_new_thread(self._run, (stream, receive, silence, inquiry))\n", "        pass\n"
            ),
        ),
        (ORPHANS + "test_no_worker_outlives_a_killed_program_whose_forked_helper_holds_its_descriptors",),
    ),
    Sabotage(
        "end the worker and not what it started",
        "after the program was killed, what its models had started goes on",
        (Edit(LIFELINE, "        os.killpg(0, SIGKILL)\n", "        os._exit(1)\n"),),
        (ORPHANS + "test_no_worker_outlives_a_killed_program_whose_forked_helper_holds_its_descriptors",),
    ),
    Sabotage(
        "use the ids of a dead worker again",
        "an answer that was meant for a dead request is taken for a living one's",
        (Edit(SEAT, "self.incarnation += 1", "self.incarnation += 1\n            self.last_link_id = 0"),),
        (HUB_CONTRACT + "test_no_link_id_is_used_twice_not_even_by_the_next_worker_of_the_seat",),
    ),
    Sabotage(
        "do not hear the last words",
        "a worker that answered and died right after is said to have crashed with a request that it had done",
        (Edit(WORKER, "await self.link.drain(self._take)", "False"),),
        (
            DEATHS + "test_last_words_are_heard_to_their_end_in_however_small_pieces_they_come",
            STARTING + "test_why_there_is_no_model_is_told_although_the_end_of_the_process_is_seen_first",
        ),
    ),
    Sabotage(
        "kill at once who closes its stream",
        "a worker that exits by itself is said to be killed, and its exit code is lost to whoever looks for the cause",
        (Edit(WORKER, "EXIT_PATIENCE = 0.2", "EXIT_PATIENCE = 0.0"),),
        (DEATHS + "test_a_worker_that_closes_its_stream_as_it_ends_has_time_to_give_its_own_status",),
    ),
    Sabotage(
        "wait without end for what cannot be reaped",
        "one process in a dead network file system, and the server cannot be stopped",
        (Edit(WORKER, "REAP_PATIENCE = 5.0", "REAP_PATIENCE = math.inf"),),
        (DEATHS + "test_a_process_that_cannot_be_killed_is_reported_and_not_waited_for_for_ever",),
        timeout=15,
    ),
    Sabotage(
        "let subprocesses have the stream",
        "a model's subprocess can write into the protocol, and holds it open after its worker's death",
        (Edit(SERVE, "for fd in (stream, out):", "for fd in ():"),),
        (ORPHANS + "test_a_subprocess_of_the_model_has_no_descriptor_of_ours",),
    ),
    Sabotage(
        "drop the shield of a seat's life",
        "a cancelled scope round the hub ends its supervisors before they have ended their workers in peace",
        (
            Edit(
                SUPERVISOR,
                "with anyio.CancelScope(shield=True):\n            while",
                "with anyio.CancelScope():\n            while",
            ),
        ),
        (ENDING + "test_closing_in_a_cancelled_scope_still_lets_workers_leave_in_peace",),
    ),
    Sabotage(
        "serve a fork of the program",
        "a forked copy of the program takes the answers of its parent, and kills its workers when it exits",
        (
            Edit(HOME, "return bool(self._mark[0]) and ", "return "),
            Edit(HOME, "return not self._mark[0]", "return False"),
        ),
        (CRASHES + "test_a_forked_copy_of_the_program_cannot_use_the_hub_and_does_it_no_harm",),
    ),
    Sabotage(
        "cut imports",
        "a module that was half imported when a client left cannot be used by that worker any more",
        (
            Edit(
                INTERRUPT,
                'if code.co_name == "__del__" or code.co_filename == "<frozen importlib._bootstrap>":',
                'if code.co_name == "__del__":',
            ),
        ),
        (REAL_CANCELLING + "test_an_import_is_never_cut",),
    ),
    Sabotage(
        "interrupt a call again and again",
        "the interrupt hits the model's own `finally`, which leaves a lock held or a file half written",
        (
            Edit(
                INTERRUPT,
                "            self.running = 0\n            self.fired = True\n            raise Interrupted\n",
                "            self.fired = True\n            raise Interrupted\n",
            ),
        ),
        (REAL_CANCELLING + "test_a_finally_block_is_hit_by_one_interrupt_only",),
    ),
    Sabotage(
        "keep the start slot of a failed start",
        "one model that cannot be built keeps all the others from being started",
        (Edit(SUPERVISOR, "        finally:\n            slot.release()\n", "        finally:\n"),),
        (STARTING + "test_a_slot_that_a_failed_start_held_is_given_on",),
        timeout=15,
    ),
    Sabotage(
        "believe the length in a header",
        "a worker that announces an exabyte makes the program collect bytes until it has no memory left",
        (Edit("gibbs/_wire/frames.py", " or length > self._limit:", ":"),),
        (
            "tests/core/test_frames.py::test_a_header_that_claims_more_than_the_limit_is_an_error_at_once",
            TRUST + "test_a_worker_that_announces_more_than_max_message_is_killed_at_once",
        ),
        timeout=15,
    ),
    Sabotage(
        "queue a request in a cancelled scope",
        "a client that has already left takes a worker's time",
        (
            Edit(
                DESK,
                "        await loop.checkpoint_if_cancelled()  # which does not wait, so the hub is as open as it was\n",
                "",
            ),
        ),
        (CANCELLING + "test_in_a_cancelled_scope_nothing_is_queued_and_no_worker_touched",),
    ),
    Sabotage(
        "open a pickle where Safe was asked for",
        "a worker that has been taken over runs what it likes in the program",
        (Edit(OPENER, "if results is None else _safely(results)", "if True else _safely(results)"),),
        (TRUST + "test_what_is_not_allowed_is_refused_by_name_with_the_way_to_allow_it",),
    ),
    Sabotage(
        "launch without looking after its end",
        "a start that fails or is cancelled half-way leaves the hub waiting for a process that waits for the hub",
        (
            Edit(
                CHILD,
                "    child.kill()\n    with anyio.CancelScope(shield=True):\n",
                "    with anyio.CancelScope(shield=True):\n",
            ),
        ),
        (OPENING + "test_a_launch_that_does_not_come_to_its_end_leaves_no_process",),
        timeout=15,
    ),
    Sabotage(
        "leave protocol descriptors among 0 to 2",
        "in a program that has closed its standard streams the protocol is the model's standard output",
        (Edit("gibbs/_launch/ends.py", "    if fd > 2:\n", "    if fd >= 0:\n"),),
        (ORPHANS + "test_a_program_that_closes_its_descriptors_0_to_2_while_it_runs_is_served",),
    ),
    Sabotage(
        "read a pipe to its end after a death",
        "something that a dead worker forked writes on and on, and the whole program stands still",
        (Edit("gibbs/_launch/output.py", "for _ in range(256):", "while True:"),),
        ("tests/end_to_end/test_output.py::test_who_writes_on_when_the_worker_is_gone_does_not_keep_the_hub",),
        timeout=15,
    ),
    Sabotage(
        "let a fork keep what leads to workers",
        "a forked copy of the program that runs on kills the workers of the program, or takes their answers",
        (Edit(CHILD, "os.register_at_fork(after_in_child=_disown_all)", "pass"),),
        ("tests/faults/test_programs.py::test_a_fork_has_no_descriptor_that_leads_to_a_worker",),
    ),
    Sabotage(
        "give up without ending the body",
        "a server whose workers cannot be built any more goes on accepting connections that nobody will answer",
        (Edit("gibbs/_parent/crew.py", "                self._cancel_body()", "                pass"),),
        (STARTING + "test_the_hub_that_gives_up_cancels_its_body_and_raises_why",),
        timeout=15,
    ),
    Sabotage(
        "assign to a worker that is over",
        "a request goes to a worker that is known to be lost, and has used up its one second chance for nothing",
        (
            Edit(
                WORKER,
                "            self._carry_out(self._dispatcher.condemn(self._seat))\n            self._alarm.ring()\n",
                "            self._alarm.ring()\n",
            ),
        ),
        (DEATHS + "test_no_request_is_sent_to_a_worker_that_is_known_to_be_over",),
    ),
    Sabotage(
        "be polite to workers of a hub that never opened",
        "Ctrl-C while models load takes the whole close_timeout",
        (Edit("gibbs/_hub.py", "            patience = 0.0", "            patience = options.close_timeout"),),
        (STARTING + "test_cancelled_while_opening_workers_that_are_ready_are_not_waited_for",),
    ),
    Sabotage(
        "let a second close give more time",
        "something fails while the server shuts down, and the shutdown takes twice as long as it may",
        (
            Edit(WORKER, "self.deadline = min(self.deadline, deadline)", "self.deadline = deadline"),
            Edit(SUPERVISOR, "self._deadline = min(self._deadline, deadline)", "self._deadline = deadline"),
        ),
        (ENDING + "test_to_close_again_gives_no_more_time",),
    ),
    Sabotage(
        "press a worker that does not stand still",
        "now and then a worker is gone since somebody asked where it was",
        (Edit(INQUIRY, "self._standstill.is_seen(number)", "True"),),
        (STACKS + "test_what_a_worker_does_is_told_and_goes_on",),
    ),
    Sabotage(
        "press a worker that does not catch the signal",
        "a worker whose model has reset all signals is gone since somebody asked where it was",
        (Edit(STANDSTILL, 'if not int(status["SigCgt"], 16) >> (number - 1) & 1:', "if not status:"),),
        (STACKS + "test_a_model_that_takes_the_signal_away_is_not_hurt_by_it",),
    ),
)
