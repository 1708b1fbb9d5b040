"""Every fault of the catalogue, by its name, and the test that holds what gibbs promises there.

The catalogue is a hundred faults, each run against six comparable libraries. A name in brackets behind a test is a row of the matrix,
which holds the fault in every phase of a worker's life.
"""

from __future__ import annotations

IN_A_PHASE = "tests/faults/test_matrix.py::test_a_fault_in_a_phase_is_what_the_matrix_says_and_the_hub_serves_on"
CRASHES = "tests/end_to_end/test_crashes.py::test_"
HOSTILE = "tests/end_to_end/test_hostile_models.py::test_"
CANCELLING = "tests/end_to_end/test_cancelling.py::test_"
CLOSING = "tests/end_to_end/test_closing.py::test_"
ORPHANS = "tests/end_to_end/test_orphans.py::test_"
TERMINAL = "tests/faults/test_terminal.py::test_"
LOAD = "tests/faults/test_load.py::test_"
PAUSES = "tests/faults/test_pauses.py::test_"


def row(name: str) -> str:
    return f"{IN_A_PHASE}[{name}]"


CATALOGUE = {
    # A worker dies
    "self_sigkill": row("self_sigkill"),
    "os_exit": row("os_exit"),
    "os_exit_0": row("os_exit_0"),
    "sys_exit": row("sys_exit"),
    "segv": row("segv"),
    "abort": row("abort"),
    "one_dies_others_live": f"{CRASHES}one_of_forty_requests_kills_its_worker_and_the_others_do_not_notice",
    "kill_idle": f"{CRASHES}idle_workers_that_are_killed_are_replaced_and_nobody_notices",
    "kill_idle_at_once": f"{CRASHES}requests_made_in_the_tick_in_which_idle_workers_are_killed_are_sent_again",
    "dies_after_answer": f"{CRASHES}a_worker_that_dies_right_after_its_answer_takes_no_more_than_the_request_it_had_begun",
    "crash_storm": f"{CRASHES}sixty_requests_that_kill_their_workers_are_sixty_errors_and_the_hub_serves_on",
    "kill_while_replying": f"{CRASHES}a_worker_that_is_killed_while_it_replies_with_50_megabytes_is_a_crash_and_no_half_an_answer",
    "fork_then_die": row("fork_then_die"),
    "chaos_10s": f"{LOAD}under_a_killer_every_request_is_answered_rightly_or_is_one_of_its_victims",
    "oom_rlimit": row("oom_rlimit"),
    # A worker starts
    "init_raises": f"{CRASHES}a_model_that_raises_while_it_is_built_fails_the_opening_with_its_own_exception_as_the_cause",
    "init_sys_exit": f"{CRASHES}a_model_that_calls_sys_exit_while_it_is_built_fails_the_opening_and_is_not_tried_again",
    "init_os_exit": f"{CRASHES}a_worker_that_exits_before_its_model_is_built_fails_the_opening_with_its_exit_code",
    "init_sigkill": f"{CRASHES}a_worker_that_is_killed_before_its_model_is_built_fails_the_opening_with_the_signal",
    "init_prints": f"{CRASHES}a_model_that_writes_on_both_outputs_while_it_is_built_is_served",
    "init_hangs_cancelled": f"{CRASHES}an_opening_that_is_cancelled_while_models_hang_leaves_no_process",
    "opened_in_cancelled_scope": f"{CRASHES}in_a_cancelled_scope_no_worker_is_started",
    "no_fds": f"{CRASHES}a_program_without_descriptors_to_spare_gets_an_oserror_and_nothing_is_left",
    "no_tmp": "tests/faults/test_programs.py::test_a_program_without_a_temporary_folder_is_served",
    "cwd_deleted": f"{ORPHANS}a_program_whose_working_directory_was_removed_is_served",
    "std_fds_closed": f"{ORPHANS}a_program_whose_descriptors_0_to_2_are_closed_is_served",
    "no_main_guard": f"{ORPHANS}a_script_without_a_main_guard_runs_once_and_is_served",
    "loop_in_thread": f"{ORPHANS}a_loop_that_runs_in_another_thread_than_the_main_one_serves_and_closes",
    "two_hubs": f"{CLOSING}two_hubs_at_once_answer_each_as_its_own",
    # Pickling
    "arg_unpicklable": f"{HOSTILE}an_argument_that_cannot_be_pickled_raises_the_picklers_own_error_and_nothing_is_sent",
    "arg_unpickle_raises": f"{HOSTILE}an_argument_that_raises_while_it_is_unpickled_is_an_error_of_that_request_alone",
    "right_answers_after_bad_arg": f"{HOSTILE}four_bad_arguments_each_followed_by_sixty_good_calls_are_240_right_answers",
    "arg_unpickle_kills": f"{CRASHES}an_argument_that_kills_the_worker_while_it_is_unpickled_has_begun_and_is_never_sent_again",
    "result_unpicklable": row("result_unpicklable"),
    "result_pickle_kills": f"{CRASHES}a_result_that_kills_the_worker_while_it_is_pickled_is_a_crash",
    "result_unpickle_raises": row("result_unpickle_raises"),
    "result_unpickle_sysexit": row("result_unpickle_sysexit"),
    "result_unpickle_ki": row("result_unpickle_ki"),
    "result_unpickle_osexit": "tests/end_to_end/test_trust.py::test_a_result_that_would_end_the_program_is_a_remote_error_and_the_worker_is_kept",
    "result_deep": row("result_deep"),
    "slow_unpickle": f"{PAUSES}a_result_is_opened_in_the_task_of_its_caller_and_holds_up_no_reader",
    "gigabyte": f"{LOAD}a_very_large_argument_goes_there_and_its_like_comes_back",
    # The model's exceptions
    "exc_has_remote_traceback": row("exc_has_remote_traceback"),
    "exc_unpicklable": row("exc_unpicklable"),
    "exc_unpickle_raises": row("exc_unpickle_raises"),
    "exc_two_arg_ctor": row("exc_two_arg_ctor"),
    "exc_local_class": row("exc_local_class"),
    "exc_stopiteration": row("exc_stopiteration"),
    "exc_keyboardinterrupt": row("exc_keyboardinterrupt"),
    "exc_generatorexit": row("exc_generatorexit"),
    "exc_baseexception": row("exc_baseexception"),
    "exc_asyncio_cancelled": row("exc_asyncio_cancelled"),
    "exc_group_with_ki": row("exc_group_with_ki"),
    "exc_group": row("exc_group"),
    "exc_eoferror": row("exc_eoferror"),
    "exc_brokenpipe": row("exc_brokenpipe"),
    "exc_timeout": row("exc_timeout"),
    "recursion": row("recursion"),
    # Descriptors, output, side effects
    "prints": row("prints"),
    "forged_reply": f"{HOSTILE}what_a_model_writes_on_its_outputs_is_never_taken_for_an_answer",
    "closes_0_1_2": row("closes_0_1_2"),
    "closes_all_fds": row("closes_all_fds"),
    "garbage_on_all_fds": row("garbage_on_all_fds"),
    "reads_stdin": row("reads_stdin"),
    "stderr_flood_20MB": row("stderr_flood_20MB"),
    "model_uses_multiprocessing": row("model_uses_multiprocessing"),
    "exit_thread": row("exit_thread"),
    "exit_grandchild": row("exit_grandchild"),
    "exit_forked_grandchild": row("exit_forked_grandchild"),
    # Cancelling
    "cancel_queued": f"{CANCELLING}a_queued_request_that_is_cancelled_never_runs",
    "cancel_sleep": f"{CANCELLING}a_call_that_is_blocked_anywhere_is_interrupted_and_its_worker_kept",
    "cancel_python_loop": f"{CANCELLING}a_call_that_is_blocked_anywhere_is_interrupted_and_its_worker_kept",
    "cancel_c_loop": f"{CANCELLING}c_code_that_does_not_return_is_killed_when_grace_is_over",
    "cancel_catch_all": f"{CANCELLING}a_model_that_swallows_everything_is_killed_when_grace_is_over",
    "cancel_stopped_worker": f"{CANCELLING}a_worker_that_was_stopped_is_killed_and_replaced_when_its_call_is_cancelled",
    "sigstop_self": row("sigstop_self"),
    "cancel_during_others": f"{CANCELLING}one_of_two_running_calls_is_cancelled_and_the_other_answered",
    "cancel_sweep": f"{CANCELLING}calls_cancelled_around_the_moment_of_their_answer_never_hurt_another",
    "cancelled_calls_leak": f"{CANCELLING}3300_queued_requests_that_are_cancelled_leave_nothing",
    # Closing
    "exit_running_sleep": f"{CLOSING}no_process_is_left_whatever_a_busy_worker_does",
    "exit_running_catch_all": f"{CLOSING}no_process_is_left_whatever_a_busy_worker_does",
    "exit_stubborn": f"{CLOSING}no_process_is_left_whatever_an_idle_worker_has_left_behind",
    "exit_stopped": f"{CLOSING}a_worker_that_was_stopped_while_idle_is_killed_when_close_timeout_is_over",
    "kill_during_close": f"{CLOSING}workers_that_are_killed_at_the_moment_of_closing_are_no_error",
    "closed_then_request": f"{CLOSING}a_request_after_closing_is_refused_at_once",
    "open_close_20": f"{CLOSING}twenty_hubs_after_another_leave_nothing",
    # The hub's own program
    "parent_sigkill_idle": f"{ORPHANS}no_worker_outlives_a_program_that_is_killed_whatever_the_model_does",
    "parent_sigkill_sleeping": f"{ORPHANS}no_worker_outlives_a_program_that_is_killed_whatever_the_model_does",
    "parent_sigkill_c_loop": f"{ORPHANS}no_worker_outlives_a_program_that_is_killed_whatever_the_model_does",
    "parent_sigkill_forked": f"{ORPHANS}no_worker_outlives_a_killed_program_whose_forked_helper_holds_its_descriptors",
    "parent_sigterm": f"{ORPHANS}no_worker_outlives_a_program_that_sigterm_ends_by_default",
    "ctrl_c_idle": f"{TERMINAL}ctrl_c_ends_a_program_with_one_traceback_of_its_own",
    "ctrl_c_running": f"{TERMINAL}ctrl_c_ends_a_program_with_one_traceback_of_its_own",
    "parent_forks": f"{CRASHES}a_forked_copy_of_the_program_cannot_use_the_hub_and_does_it_no_harm",
    "sigchld_ignored": f"{CRASHES}where_sigchld_is_ignored_a_crash_is_an_error_whose_exit_code_nobody_knows",
    "foreign_reaper": f"{CRASHES}where_other_code_reaps_every_child_a_crash_is_an_error_all_the_same",
    "clock_jump": f"{PAUSES}a_wall_clock_that_jumps_is_noticed_by_nobody",
    "loop_blocked": f"{PAUSES}after_a_pause_of_the_hub_s_loop_all_requests_are_answered_by_the_same_workers",
    # Load
    "head_of_line": f"{LOAD}while_one_of_two_workers_is_in_a_long_call_forty_quick_ones_are_answered",
    "ten_thousand": f"{LOAD}ten_thousand_requests_at_once_are_ten_thousand_right_answers",
}  # fmt: skip

# Of what the suite was to hold beside the catalogue.
BESIDE_IT = {
    "crash races": f"{LOAD}workers_that_kill_one_another_at_once_are_one_error_each",
    "GIL-holding C code at the parent's death": CATALOGUE["parent_sigkill_c_loop"],
    "GIL-holding C code at a cancel": row("holds_the_gil"),
    "a forked grandchild that left the group": row("fork_out_of_the_group_then_die"),
    "forged frames": row("forged_reply"),
    "truncated frames": row("truncated_body"),
    "a worker that shrinks a shared file": row("shrinks_the_page"),
    "SIGSTOP": row("stopped"),
    "a hub inside a model's call": row("opens_a_hub"),
    "a worker that is half way through a request": row("killed"),
    "a pause of the hub's loop": f"{PAUSES}a_pause_of_the_hub_s_loop_is_not_counted_against_a_call_that_unwinds",
}
