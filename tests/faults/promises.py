"""The promises of docs/reliability.md as data: what breaks each on purpose, and which of the hundred faults it is about.

The tests that hold a promise are those that must notice its sabotages, and those of its faults.
"""

from __future__ import annotations

from typing import NamedTuple


class Promise(NamedTuple):
    """A sentence, the sabotages that break it, and the faults by which peers are compared: one that bears all of them keeps it."""

    text: str
    sabotages: tuple[str, ...]
    faults: tuple[str, ...]


PROMISES = (
    Promise(
        "Each request that was accepted ends exactly once: by its answer, the model's own exception, or an error that says why.",
        ("leave queued tickets unsettled at close", "forget a cancelled ticket in the queue"),
        ("ten_thousand", "crash_storm", "chaos_10s", "loop_blocked", "closed_then_request"),
    ),
    Promise(
        "An answer is that of its own request, whatever a model writes where.",
        ("reply with the neighbour's id", "do not check the id of a reply"),
        ("right_answers_after_bad_arg", "forged_reply", "garbage_on_all_fds", "cancel_sweep"),
    ),
    Promise(
        "What may have begun is never sent again, and `may_have_run=False` is said only of what never began.",
        ("mark *begun* after unpickling", "send a returned ticket a third time"),
        ("arg_unpickle_kills", "kill_idle_at_once", "dies_after_answer"),
    ),
    Promise(
        "First come, first served, also of what comes back from a worker that died.",
        ("put a returned ticket at the tail",),
        ("head_of_line",),
    ),
    Promise(
        "A worker's death is seen at once, also while something else holds its stream open, and hurts no other request.",
        ("wait for end-of-stream after an exit",),
        ("self_sigkill", "os_exit", "os_exit_0", "segv", "abort", "one_dies_others_live", "kill_idle", "fork_then_die"),
    ),
    Promise(
        "An argument, a result or an exception that cannot be opened hurts its own caller only; the worker is kept.",
        ("decode a result in the link's task",),
        (
            "arg_unpickle_raises",
            "result_unpicklable",
            "result_unpickle_raises",
            "result_unpickle_sysexit",
            "result_deep",
            "exc_unpicklable",
            "exc_two_arg_ctor",
        ),
    ),
    Promise(
        "Nothing is raised in your tasks that means something to who runs them: no `KeyboardInterrupt`, `SystemExit`, no cancellation that "
        "is not yours.",
        ("let `KeyboardInterrupt` inside a group through",),
        ("sys_exit", "exc_stopiteration", "exc_keyboardinterrupt", "exc_asyncio_cancelled", "exc_group_with_ki"),
    ),
    Promise(
        "A caller who is cancelled is free at once, and its call is interrupted, no other; a call that was only queued never runs.",
        (
            "assign to a seat that is interrupting",
            "leave `running` set after a call",
            "interrupt without the id check",
            "count grace from the cancel",
        ),
        ("cancel_queued", "cancel_sleep", "cancel_python_loop", "cancel_c_loop", "cancel_during_others"),
    ),
    Promise(
        "A hub gives up restarting for failures only.",
        ("count a planned exit as a failure",),
        ("init_raises", "init_os_exit", "init_sigkill"),
    ),
    Promise(
        "Leaving the block takes no longer than `close_timeout` and leaves no process of a worker, nor what it had started.",
        ("skip the reap", "kill the process but not its group", "drop the shield at close"),
        ("exit_running_sleep", "exit_stubborn", "exit_stopped", "exit_grandchild", "exit_thread", "open_close_20"),
    ),
    Promise(
        "The program's death, however it comes, is its workers' death.",
        ("no lifeline",),
        (
            "parent_sigkill_idle",
            "parent_sigkill_sleeping",
            "parent_sigkill_c_loop",
            "parent_sigkill_forked",
            "parent_sigterm",
        ),
    ),
    Promise(
        "A worker cannot take memory away that the hub looks at.",
        ("map a memfd without seals", "make an arena without seals", "do not ask for memory before a copy"),
        (),
    ),
    Promise(
        "Memory that is shared is given to nobody else while an argument or a result in it is looked at, and is free afterwards.",
        (
            "tie a slot to a memoryview",
            "free arguments with the answer although the model keeps them",
            "take back what was not lent",
            "keep the arguments of a request that was cancelled",
        ),
        (),
    ),
)
