"""How six peers bore the hundred faults of the catalogue: what was seen on one machine in November 2026.

Linux 6.18, CPython 3.11.7, two cores; each fault as a program of its own. Y: the caller got what the fault's line says, the pool then answered
four more calls, it closed within 6 s, and no process was left. n: something else was seen. -: not applicable, or not run.
"""

from __future__ import annotations

from typing import NamedTuple

PEERS = (
    "anyio 4.16 `to_process`",
    "trio-parallel 1.3",
    "ProcessPoolExecutor",
    "pebble 5.2",
    "loky 3.7",
    "gibbs 0.2",
)


class Fault(NamedTuple):
    """One row: what happens, what a user wants then, and what became of it with each of the peers."""

    happens: str
    wanted: str
    peers: str


GROUPS = {
    "A worker dies": {
        "self_sigkill": Fault(
            "worker SIGKILLed in the middle of a call", "an error for this call at once; next calls served", "YYnYYn"
        ),
        "os_exit": Fault("model calls `os._exit(4)`", "the same", "YYnYYn"),
        "os_exit_0": Fault("model calls `os._exit(0)`", "a crash too, status 0 is no excuse", "YYnnYn"),
        "sys_exit": Fault("model calls `sys.exit(3)`", "an ordinary exception; nobody else notices", "nnnnnn"),
        "segv": Fault("segmentation fault", "as SIGKILL", "YYnYYn"),
        "abort": Fault("C `abort()`", "as SIGKILL", "YYnYYn"),
        "one_dies_others_live": Fault("1 of 40 calls kills its worker", "1 error, 39 answers", "YYnYnn"),
        "kill_idle": Fault("both idle workers SIGKILLed, 0.2 s later 4 calls", "nobody notices", "YYnnYn"),
        "kill_idle_at_once": Fault(
            "idle workers SIGKILLed, 10 calls in the same tick", "at most one error per dead worker, no hang", "YYnnnn"
        ),
        "dies_after_answer": Fault(
            "worker exits 5 ms after its answer", "the answer stands; later calls never hang", "YYnYYn"
        ),
        "crash_storm": Fault(
            "60 calls, each kills its worker, 4 at once", "60 errors, none lost, then works", "YYnYYn"
        ),
        "kill_while_replying": Fault(
            "killed part-way through a 50 MB reply while the hub's loop is blocked",
            "error or whole answer; then works",
            "YYnnYn",
        ),
        "fork_then_die": Fault(
            "worker forks a child that keeps its descriptors, then dies",
            "error within 1 s: end-of-stream never comes",
            "nnnYnn",
        ),
        "chaos_10s": Fault(
            "a random worker SIGKILLed each 0.4 s for 10 s, 16 callers",
            "sent = answers + errors; errors ≤ kills; none wrong",
            "YYnnnn",
        ),
        "oom_rlimit": Fault("RLIMIT_AS reached in the call", "MemoryError; worker kept", "YYYYYY"),
    },
    "A worker starts": {
        "init_raises": Fault("model's `__init__` raises", "its own words, quickly", "Ynnnnn"),
        "init_sys_exit": Fault("`__init__` calls `sys.exit`", "an error, no endless restarts", "nYYYYn"),
        "init_os_exit": Fault("`__init__` calls `os._exit`", "the same", "YYYYYn"),
        "init_sigkill": Fault("SIGKILL while the model is built", "the same", "YYYYYn"),
        "init_prints": Fault("`__init__` prints and writes to descriptor 1", "works", "nYYYYY"),
        "init_hangs_cancelled": Fault(
            "`__init__` never returns; the open is cancelled", "left within 1 s, no process", "YYnYYY"
        ),
        "opened_in_cancelled_scope": Fault("opened in a scope already cancelled", "cancelled, no process", "YYYYYY"),
        "no_fds": Fault(
            "RLIMIT_NOFILE reached while opening", "an OSError at once, nothing left, works later", "YYYYYY"
        ),
        "no_tmp": Fault("no temporary directory", "works", "YYYYYY"),
        "cwd_deleted": Fault("the program's own folder was removed", "works", "YnnnnY"),
        "std_fds_closed": Fault("program runs with 0, 1, 2 closed (daemon)", "works", "nYYYnn"),
        "no_main_guard": Fault("script without `if __name__` guard, model in it", "works", "nnnnYY"),
        "loop_in_thread": Fault("the event loop runs in a thread that is not the main one", "works, closes", "YYnYYn"),
        "two_hubs": Fault("two hubs with different models at once", "each answers as its own", "YYYYYn"),
    },
    "Pickling": {
        "arg_unpicklable": Fault("argument cannot be pickled", "error in the caller at once", "YYYYYY"),
        "arg_unpickle_raises": Fault(
            "argument raises while unpickled in the worker", "error for this call, worker kept", "nYnnnY"
        ),
        "right_answers_after_bad_arg": Fault(
            "four such arguments, small and large, each followed by 60 good calls on one worker",
            "each call gets its own answer",
            "nYnnYY",
        ),
        "arg_unpickle_kills": Fault("argument kills the worker while unpickled", "as SIGKILL", "YYnnYY"),
        "result_unpicklable": Fault("result cannot be pickled", "error for this call, worker kept", "YYYYYn"),
        "result_pickle_kills": Fault("worker dies while it pickles the result", "as SIGKILL", "YYnnYn"),
        "result_unpickle_raises": Fault(
            "result raises while unpickled in the hub", "error for this call, worker kept", "YnnnnY"
        ),
        "result_unpickle_sysexit": Fault(
            "result raises SystemExit while unpickled in the hub", "the program lives", "nnnnYY"
        ),
        "result_unpickle_ki": Fault("the same with KeyboardInterrupt", "the program lives", "nnnnYY"),
        "result_unpickle_osexit": Fault(
            "result calls `os._exit` in the hub", "the program lives (restricted mode only)", "nnnnnY"
        ),
        "result_deep": Fault("result nested 100,000 deep", "RecursionError, worker kept", "YYYnYn"),
        "slow_unpickle": Fault("result takes 2 s to unpickle", "noted: how long the loop stands still", "YYYYY-"),
        "gigabyte": Fault("1 GB there, 1 GB back", "right", "YYYYYn"),
    },
    "The model's exceptions": {
        "exc_has_remote_traceback": Fault(
            "`raise … from …` in the model", "own type, its cause, worker's traceback", "nYYYYn"
        ),
        "exc_unpicklable": Fault("exception holds a lock", "error with its name, worker kept", "YYYYnY"),
        "exc_unpickle_raises": Fault("exception's unpickling raises", "the same", "YnnnnY"),
        "exc_two_arg_ctor": Fault("exception with a two-argument constructor", "the same", "YYnnnY"),
        "exc_local_class": Fault("exception of a class made in the call", "the same", "YYYYYY"),
        "exc_stopiteration": Fault("StopIteration", "an Exception that does no harm", "YYnnnY"),
        "exc_keyboardinterrupt": Fault("KeyboardInterrupt", "an ordinary Exception, worker kept", "nnnnnn"),
        "exc_generatorexit": Fault("GeneratorExit", "an ordinary Exception, worker kept", "nnnnnn"),
        "exc_baseexception": Fault("own subclass of BaseException", "an ordinary Exception, worker kept", "nnnnnn"),
        "exc_asyncio_cancelled": Fault(
            "model raises `asyncio.CancelledError`", "the caller must not look cancelled", "nnnnnn"
        ),
        "exc_group_with_ki": Fault(
            "group that holds a KeyboardInterrupt", "an ordinary Exception, worker kept", "nnnnnn"
        ),
        "exc_group": Fault("ExceptionGroup of ordinary errors", "itself", "YYYYYY"),
        "exc_eoferror": Fault("model's own EOFError", "itself; not taken for a dead worker", "YYYYYY"),
        "exc_brokenpipe": Fault("model's own BrokenPipeError", "the same", "YYYYYY"),
        "exc_timeout": Fault("model's own TimeoutError", "the same", "YYYYYY"),
        "recursion": Fault("endless recursion in the model", "RecursionError, worker kept", "YnYYYY"),
    },
    "Descriptors, output, side effects": {
        "prints": Fault("prints, writes to descriptor 1", "the answer", "nYYYYY"),
        "forged_reply": Fault("writes to descriptor 1 what looks like a reply", "the true answer", "nYYYYY"),
        "closes_0_1_2": Fault("closes 0, 1, 2", "the answer, worker kept", "nYYYYY"),
        "closes_all_fds": Fault("`os.closerange(0, 4096)`", "crash or answer; next calls served", "YYnYYn"),
        "garbage_on_all_fds": Fault(
            "writes garbage to every descriptor", "crash or answer; next calls served", "YnnnYn"
        ),
        "reads_stdin": Fault("reads stdin", "empty at once", "YYYYYY"),
        "stderr_flood_20MB": Fault("20 MB to stderr", "never blocks", "nYYYYY"),
        "model_uses_multiprocessing": Fault("model starts a process of its own", "works", "YnYYnY"),
        "exit_thread": Fault("model left a thread sleeping 60 s", "hub leaves within 6 s", "YnnYYY"),
        "exit_grandchild": Fault("model started a subprocess", "hub leaves; grandchild gone too", "nnnnnn"),
        "exit_forked_grandchild": Fault("model forked a child that holds the pipes", "hub leaves within 6 s", "YnYYYY"),
    },
    "Cancelling": {
        "cancel_queued": Fault("8 queued calls cancelled", "gone at once, none runs", "YYnnnY"),
        "cancel_sleep": Fault(
            "running `time.sleep(30)` cancelled, one worker", "caller free at once; serves again ≤ 3 s", "YYnYnn"
        ),
        "cancel_python_loop": Fault("running `while True` cancelled", "the same", "YYnYnn"),
        "cancel_c_loop": Fault("C code that holds the GIL cancelled", "caller free; replaced ≤ 3 s", "YYnYnn"),
        "cancel_catch_all": Fault("model swallows every exception, cancelled", "the same", "YYnYnn"),
        "cancel_stopped_worker": Fault("SIGSTOPped worker, call cancelled", "the same; closes", "YYnnnn"),
        "sigstop_self": Fault(
            "model stops itself (SIGSTOP), caller gives up after 5 s",
            "the caller's own timeout works; others are served",
            "YYnYYY",
        ),
        "cancel_during_others": Fault("one of two running calls cancelled", "the other is answered", "YYnYYY"),
        "cancel_sweep": Fault(
            "cancelled at 120 moments round the answer", "no wrong answer, no hang, pool whole", "YYYYYY"
        ),
        "cancelled_calls_leak": Fault("3,300 calls cancelled while queued", "memory stays", "YYYYYY"),
    },
    "Closing": {
        "exit_running_sleep": Fault(
            "6 calls of 60 s running or queued, left by a cancel", "≤ 6 s, no process", "YYnYYY"
        ),
        "exit_running_catch_all": Fault("the same, model swallows exceptions", "the same", "YYnYYY"),
        "exit_stubborn": Fault("model ignores and blocks all signals", "the same", "YYYYYY"),
        "exit_stopped": Fault("workers SIGSTOPped", "the same", "YnnnYY"),
        "kill_during_close": Fault("workers SIGKILLed at the moment of closing", "closes, no error", "YnYYYY"),
        "closed_then_request": Fault("request after closing", "an error at once", "-YYY-n"),
        "open_close_20": Fault("20 open/close cycles", "no descriptor, thread, process left", "YYYYYn"),
    },
    "The hub's own program": {
        "parent_sigkill_idle": Fault("program SIGKILLed, workers idle", "workers gone ≤ 1 s", "YYnYnn"),
        "parent_sigkill_sleeping": Fault("program SIGKILLed, calls of 60 s running", "the same", "nnnnnn"),
        "parent_sigkill_c_loop": Fault("program SIGKILLed, workers in C code that holds the GIL", "the same", "nnnnnn"),
        "parent_sigkill_forked": Fault(
            "program had forked a helper that holds its descriptors, then SIGKILLed", "the same", "nnnnn-"
        ),
        "parent_sigterm": Fault("plain SIGTERM, default action", "the same", "nnnnnn"),
        "ctrl_c_idle": Fault("Ctrl-C to the whole group, idle", "out ≤ 5 s, no worker traceback", "YYnYYn"),
        "ctrl_c_running": Fault("Ctrl-C with 60 s calls running", "the same", "YYYYYY"),
        "parent_forks": Fault("program forks a child that exits", "unharmed", "YYYYYY"),
        "sigchld_ignored": Fault("program ignores SIGCHLD", "crash is an error, no hang", "YnnnYn"),
        "foreign_reaper": Fault("other code calls `waitpid(-1)` all the time", "the same", "YYnnYn"),
        "clock_jump": Fault("wall clock +1 h, then −1 h", "nothing notices", "YYYYYY"),
        "loop_blocked": Fault("hub's loop blocked 2 s with 50 calls out", "right answers after", "YYYYYn"),
    },
    "Load": {
        "head_of_line": Fault("2 workers, one 2 s call, 40 quick ones", "quick ones done ≤ 0.5 s", "YYYYYY"),
        "ten_thousand": Fault("10,000 requests at once", "10,000 right answers", "YYYYYn"),
    },
}
