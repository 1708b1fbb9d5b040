"""The catalogue is whole, and each test that it names exists."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.faults.catalogue import BESIDE_IT, CATALOGUE
from tests.faults.rows import ROWS

ROOT = Path(__file__).parents[2]
NAMES = """
    self_sigkill os_exit os_exit_0 sys_exit segv abort one_dies_others_live kill_idle kill_idle_at_once dies_after_answer crash_storm
    kill_while_replying fork_then_die chaos_10s oom_rlimit
    init_raises init_sys_exit init_os_exit init_sigkill init_prints init_hangs_cancelled opened_in_cancelled_scope no_fds no_tmp
    cwd_deleted std_fds_closed no_main_guard loop_in_thread two_hubs
    arg_unpicklable arg_unpickle_raises right_answers_after_bad_arg arg_unpickle_kills result_unpicklable result_pickle_kills
    result_unpickle_raises result_unpickle_sysexit result_unpickle_ki result_unpickle_osexit result_deep slow_unpickle gigabyte
    exc_has_remote_traceback exc_unpicklable exc_unpickle_raises exc_two_arg_ctor exc_local_class exc_stopiteration
    exc_keyboardinterrupt exc_generatorexit exc_baseexception exc_asyncio_cancelled exc_group_with_ki exc_group exc_eoferror
    exc_brokenpipe exc_timeout recursion
    prints forged_reply closes_0_1_2 closes_all_fds garbage_on_all_fds reads_stdin stderr_flood_20MB model_uses_multiprocessing
    exit_thread exit_grandchild exit_forked_grandchild
    cancel_queued cancel_sleep cancel_python_loop cancel_c_loop cancel_catch_all cancel_stopped_worker sigstop_self
    cancel_during_others cancel_sweep cancelled_calls_leak
    exit_running_sleep exit_running_catch_all exit_stubborn exit_stopped kill_during_close closed_then_request open_close_20
    parent_sigkill_idle parent_sigkill_sleeping parent_sigkill_c_loop parent_sigkill_forked parent_sigterm ctrl_c_idle
    ctrl_c_running parent_forks sigchld_ignored foreign_reaper clock_jump loop_blocked
    head_of_line ten_thousand
""".split()


def functions_of(path: Path) -> set[str]:
    return {
        node.name
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_the_catalogue_holds_every_fault_and_no_other():
    assert len(NAMES) == len({*NAMES}) == 100
    assert CATALOGUE.keys() == {*NAMES}


@pytest.mark.parametrize("fault", [*CATALOGUE, *BESIDE_IT])
def test_the_test_that_holds_a_fault_exists(fault):
    path, _, rest = (CATALOGUE | BESIDE_IT)[fault].partition("::")
    function, _, row = rest.partition("[")
    assert function in functions_of(ROOT / path)
    assert not row or row.removesuffix("]") in {row.name for row in ROWS}
