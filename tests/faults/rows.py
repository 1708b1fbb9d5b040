"""The matrix as data: for each fault what must be seen in each phase of a worker's life, or in words why that cell makes no sense.

Rows bear the catalogue's names where it has the fault. What the rows of one kind have in common is in `families`.
"""

from __future__ import annotations

import json

import gibbs
from tests.faults import families, raising
from tests.faults.families import (
    PHASES,
    Row,
    dies,
    hangs,
    harmless,
    itself,
    lies,
    loses_its_stream,
    raises,
    result,
    words,
)
from tests.faults.outcomes import (
    Answer,
    CallerGivesUp,
    CallerLeaves,
    Closes,
    Crash,
    Itself,
    NextCall,
    Nobody,
    Remote,
    StartFails,
)

AT_EXIT = Closes(exits="anyhow")  # newer Pythons refuse threads and forks at the exit, older ones allow them
REPLACED = Answer("replaced")
FORGED = Answer("replaced", value="FORGED")
KILLED = Crash(signal="SIGKILL")
OUT_OF_STEP = Crash(signal="SIGKILL", cause="protocol")
SAID_SO_AND_DIED = CallerLeaves("replaced", honest=True)
EATEN = CallerGivesUp("replaced")  # the true reply is taken for the rest of the forged one
IN_A_REPLY = lies()["half_replied"]

DEATHS = [
    Row("self_sigkill", dies(signal="SIGKILL")),
    Row("os_exit", dies(exit_code=4)),
    Row("os_exit_0", dies(exit_code=0)),
    Row("segv", dies(signal="SIGSEGV")),
    Row("abort", dies(signal="SIGABRT")),
    Row("default_signal", dies(signal="SIGUSR1")),
    Row("fork_then_die", dies(exit_code=3, bound=1.0) | {"closing": AT_EXIT}),
    Row("fork_out_of_the_group_then_die", dies(exit_code=3, bound=1.0) | {"closing": AT_EXIT}),
    Row("becomes_true", dies(exit_code=0, bound=1.0) | {"closing": AT_EXIT}),
    Row(
        "becomes_a_sleeper",
        dies(signal="SIGKILL", bound=1.0) | {"closing": AT_EXIT},
        endless=True,
        seen=families.is_another_program,
    ),
    Row("truncated_body_then_dies", dies(exit_code=5) | {"half_replied": IN_A_REPLY}),
    Row("killed", dies(signal="SIGKILL"), "waits_for_the_test", outside=families.kill),
]

HANGS = [
    Row("sleeps", hangs(only_its_thread=True, interruptible=True), endless=True),
    Row("catch_all", hangs(only_its_thread=True), endless=True, seen=families.is_at_it),
    Row("blocks_every_signal_and_sleeps", hangs(only_its_thread=True), endless=True, seen=families.is_at_it),
    Row("holds_the_gil", hangs(only_its_thread=False), endless=True, seen=families.spins),
    Row("sigstop_self", hangs(only_its_thread=False), endless=True, seen=families.stops),
    Row("stopped", hangs(only_its_thread=False), "waits_for_the_test", outside=families.stop, endless=True),
    Row("stopped_and_continued", harmless(), "waits_for_the_test", outside=families.stop_and_continue),
]

DESCRIPTORS = [
    Row("prints", harmless()),
    Row("reads_stdin", harmless()),
    Row("closes_0_1_2", harmless()),
    Row(
        "stderr_flood_20MB",
        harmless()
        | dict.fromkeys(
            ("half_received", "half_replied"), "nobody reads it while the loop stands still: busy shows it"
        ),
        "stderr_flood",
    ),
    # Without its claims it begins nothing more, so what is sent to it goes to another.
    Row("closes_all_fds", loses_its_stream(NextCall(ends=REPLACED), REPLACED, REPLACED) | {"closing": Closes()}),
    Row("replaces_the_stream", loses_its_stream(NextCall(ends=KILLED), REPLACED, REPLACED)),
    Row("shuts_down_the_stream", loses_its_stream(Nobody("replaced"), REPLACED, KILLED)),
    Row("stops_sending", loses_its_stream(Nobody("replaced"), REPLACED, KILLED)),
    Row(
        "makes_the_stream_nonblocking",
        dict.fromkeys(PHASES, REPLACED)
        | dict.fromkeys(("cancelled", "awaited"), SAID_SO_AND_DIED)
        | {
            "starting": "its READY and its end come at once, and which of them the hub hears first is chance",
            "leased": "what it had said before and its end come at once, and which of them the hub hears first is chance",
            "idle": NextCall(ends=REPLACED),
            "closing": Closes(),
        },
    ),
]

LIES = [
    # What it writes on the page it writes over the evidence that the request had not begun.
    Row("garbage_on_all_fds", lies(half_received=OUT_OF_STEP)),
    Row("forged_id", lies()),
    Row("forged_exabyte", lies()),
    Row("forged_command", lies()),
    Row("another_version", lies()),
    Row(
        "forged_ready",
        lies(starting="the first READY is believed: it is the worker who says what its model is"),
    ),
    Row("forged_unfit", lies(starting=StartFails(reason="model", cause="EOFError"))),
    Row("forged_skipped", lies(cancelled=SAID_SO_AND_DIED)),
    Row(
        "forged_reply",
        lies(cancelled=SAID_SO_AND_DIED)
        | dict.fromkeys(("receiving", "half_received", "busy", "replying"), FORGED)
        | {"yielding": "an end that it forged is believed, and whether its last items come before that is chance"},
        "forged_own_answer",
    ),
    Row(
        "forged_failure",
        lies(cancelled=SAID_SO_AND_DIED)
        | dict.fromkeys(
            ("receiving", "half_received", "busy", "replying"),
            Remote("replaced", stage="result"),
        ),
    ),
    Row("forged_too_large", lies()),
    Row(
        "truncated_header",
        lies(
            starting=StartFails(reason="timeout", exits="killed"),
            idle=NextCall(ends=OUT_OF_STEP),
            half_received=OUT_OF_STEP,
            closing=Closes(),
        ),
    ),
    Row(
        "truncated_body",
        lies(
            starting=StartFails(reason="timeout", exits="killed"),
            idle=NextCall(ends=EATEN),
            receiving=EATEN,
            half_received=EATEN,
            busy=EATEN,
            replying=EATEN,
            cancelled=CallerLeaves("replaced", by_grace=True),
            closing=Closes(),
        ),
    ),
    Row(
        "forks_and_both_go_on",
        harmless()
        | dict.fromkeys(("receiving", "busy", "replying"), REPLACED)
        | {
            "cancelled": SAID_SO_AND_DIED,
            "starting": "two processes read one stream: which of them is served is chance",
            "leased": "two processes read one stream: which of them runs what waits on the lease, and when, is chance",
            "yielding": "both give items of their own stream, for which a worker is trusted: how many come is chance",
            "closing": AT_EXIT,
        },
        twice=True,
    ),
]

PAGE = [Row(name, harmless()) for name in ("shrinks_the_page", "grows_the_page", "scribbles_on_the_page")]

LEFT_BEHIND = [
    Row("exit_thread", harmless(exits="killed") | {"closing": AT_EXIT}, "leftover_thread"),
    Row("thread_that_prints", harmless(exits="anyhow") | {"closing": AT_EXIT}),
    Row("exit_grandchild", harmless(), "leftover_subprocess"),
    Row("exit_forked_grandchild", harmless(), "forked_grandchild"),
    Row(
        "model_uses_multiprocessing",
        harmless() | {"closing": "newer Pythons refuse to fork at the exit, whoever asks"},
        "uses_multiprocessing",
    ),
    Row(
        "opens_a_hub",
        harmless() | {"closing": "newer Pythons refuse to fork at the exit, whoever asks"},
    ),
]

CHANGES = [
    Row("blocks_every_signal", harmless()),
    Row("changes_its_process", harmless()),
    Row("clears_sys_path", harmless()),
    Row("loses_its_outputs", harmless()),
    Row("low_recursion_limit", harmless()),
    Row("stray_interrupt", harmless()),
    Row("sigterm_self", harmless()),
    Row("sigterm", harmless(), "waits_for_the_test", outside=families.terminate),
    Row(
        "sigint",
        words(
            "KeyboardInterrupt",
            idle=Nobody("replaced"),
            half_received=REPLACED,
            half_replied=Crash(signal="SIGINT", bound=1.0),
        ),
        "waits_for_the_test",
        outside=families.interrupt,
        endless=True,
    ),
    Row(
        "interrupt_main",
        words("KeyboardInterrupt", idle=NextCall(ends=REPLACED), half_received=REPLACED, half_replied=REPLACED),
    ),
    Row(
        "raises_in_the_main_thread",
        itself(ZeroDivisionError, idle=NextCall(ends=REPLACED), half_received=REPLACED, half_replied=REPLACED),
    ),
]

EXCEPTIONS = [
    Row("sys_exit", words("SystemExit", "3")),
    Row("exc_keyboardinterrupt", words("KeyboardInterrupt")),
    Row("exc_generatorexit", words("GeneratorExit")),
    Row("exc_baseexception", words("OwnBase", "a kind of its own")),
    Row("exc_asyncio_cancelled", words("CancelledError")),
    Row("exc_both_kinds", words("BothKinds")),
    Row("exc_interrupted", words("Interrupted")),
    # Python's own rule for generators.
    Row("exc_stopiteration", words("StopIteration") | {"yielding": Itself(type=RuntimeError, said="StopIteration")}),
    Row("exc_stopasynciteration", words("StopAsyncIteration")),
    Row("exc_group_with_ki", words("BaseExceptionGroup", "KeyboardInterrupt")),
    Row("exc_group_deep_with_exit", words("BaseExceptionGroup", "SystemExit")),
    Row("exc_group_with_stopiteration", words("ExceptionGroup", "StopIteration")),
    Row("exc_own", itself(raising.OwnError, "of the model")),
    Row("exc_has_remote_traceback", itself(ValueError, "the reason")),
    Row("exc_caused_by_ki", itself(raising.OwnError, "KeyboardInterrupt")),
    Row("exc_group", itself(ExceptionGroup, "OwnError")),
    Row("exc_unpicklable", words("OwnError", "lock")),
    Row("exc_unpickle_raises", itself(raising.UnpickleRaises, "not to be rebuilt")),
    Row("exc_unpickle_exits", itself(raising.UnpickleExits, "not to be rebuilt")),
    Row("exc_pickle_exits", itself(raising.PickleExits, "not to be pickled")),
    Row(
        "exc_pickle_kills",
        raises(
            "PickleKills", Crash(exit_code=8), starting=StartFails(reason="exited", exit_code=8)
        ),
    ),
    Row("exc_two_arg_ctor", itself(raising.TwoArguments, "404: not found")),
    Row("exc_needs_keywords", itself(json.JSONDecodeError, "char 3")),
    Row("exc_local_class", raises("Local", Itself(type="Local", said="made in the call"), starting=StartFails(reason="model", said="made in the call"))),
    Row("exc_without_text", itself(raising.NoText)),
    Row("exc_exits_in_its_text", words("ExitsInText")),
    Row("exc_lies_about_its_class", itself(raising.LiesAboutItsClass)),
    Row("exc_eoferror", itself(EOFError)),
    Row("exc_brokenpipe", itself(BrokenPipeError, "the model's own")),
    Row("exc_timeout", itself(TimeoutError, "the model's own")),
    Row("exc_of_gibbs", itself(gibbs.WorkerCrashed, "SIGKILL")),
    Row("exc_of_a_megabyte", itself(raising.OwnError)),
    Row("recursion", itself(RecursionError)),
    Row("oom_rlimit", itself(MemoryError)),
]  # fmt: skip

RESULTS = [
    Row(name, result(outcome), returns=True)
    for name, outcome in {
        "result_unpicklable": Remote(type_name="TypeError", stage="result", said="lock"),
        "result_is_a_generator": Remote(type_name="TypeError", stage="result", said="generator"),
        "result_deep": Remote(type_name="RecursionError", stage="result"),
        "result_unpickle_raises": Remote(type_name="OwnError", stage="result", here=True),
        "result_unpickle_sysexit": Remote(type_name="SystemExit", stage="result", here=True),
        "result_unpickle_ki": Remote(type_name="KeyboardInterrupt", stage="result", here=True),
        "result_unpickle_asyncio_cancelled": Remote(type_name="CancelledError", stage="result", here=True),
        "result_unpickle_stopiteration": Remote(type_name="StopIteration", stage="result", here=True),
    }.items()
]

ROWS = [*DEATHS, *HANGS, *DESCRIPTORS, *LIES, *PAGE, *LEFT_BEHIND, *CHANGES, *EXCEPTIONS, *RESULTS]
