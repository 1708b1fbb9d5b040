"""Ctrl-C, SIGTERM and the end of a terminal: the program goes as Python goes, says it once, and takes its workers with it.

The terminal is a real one: the program leads its foreground group, and the keys are typed into the other end.
"""

from __future__ import annotations

import os
import signal

import pytest

from tests.faults import programs
from tests.faults.programs import all_gone, in_turn, runs, wait_until

start_program = programs.start_program

CTRL_C, CTRL_BACKSLASH = b"\x03", b"\x1c"

PROGRAM = """
class Model:
    interruptible = INTERRUPTIBLE

    def __init__(self):
        if WHEN == "starting":
            mark()
            time.sleep(600)

    def __call__(self):
        while True:
            try:
                mark()  # in here: whoever sees it interrupts the call
                if WHEN == "idle":
                    return
                time.sleep(600)
            except gibbs.Interrupted:
                mark("interrupted")
                if WHEN != "clinging":
                    raise
            except BaseException as error:
                print("the model saw", type(error).__name__)

def observe(event):
    if isinstance(event, gibbs.events.HubChanged) and event.state == "closed":
        mark("closing")

async def main():
    try:
        options = {"close_timeout": CLOSE_TIMEOUT, "cancel_grace": 600, "observers": [observe]}
        async with gibbs.open_hub(Model, workers=2, **options) as hub:
            say(hub.statistics().pids)
            if WHEN == "leaving":
                with anyio.move_on_after(0):
                    await hub.request()
                    mark("unreachable")
                for pid in hub.statistics().pids:
                    os.kill(pid, signal.SIGSTOP)
                return
            await hub.request()
            mark("answered")
            await anyio.sleep_forever()
    finally:
        say("closed")

run(main)
"""


def program_that(when: str, *, interruptible: bool = True, close_timeout: float = 1.0) -> str:
    source = PROGRAM.replace("WHEN", repr(when)).replace("INTERRUPTIBLE", repr(interruptible))
    return source.replace("CLOSE_TIMEOUT", repr(close_timeout))


def marked(program: programs.Program, *names: str) -> None:
    """Wait for what the program, or a model of it, says by a file."""
    wait_until(lambda: all((program.folder / name).exists() for name in names))


def built(program: programs.Program, n: int) -> list[int]:
    """The processes in which a model says that it has come so far."""
    wait_until(lambda: len([path for path in program.folder.iterdir() if path.name.isdigit()]) == n)
    return [int(path.name) for path in program.folder.iterdir() if path.name.isdigit()]


def went_by_ctrl_c(program: programs.Program) -> None:
    """It ended as a program of Python does that Ctrl-C ends, and said so once: the words are its own."""
    assert program.end() == -signal.SIGINT, program.words
    words = program.words.replace("^C", "")
    assert words.count("\nKeyboardInterrupt") == 1, words
    assert words.endswith("\nKeyboardInterrupt\n"), words
    assert words.lstrip().startswith("Traceback (most recent call last)"), words
    for unwanted in ("Group", "[Model/", "ignored", "never", "destroyed", "gibbs/_worker"):
        assert unwanted not in words, words


# --------------------------------------------------------------------------------------------------------------- Ctrl-C


@pytest.mark.parametrize("when", ["idle", "busy"])
def test_ctrl_c_ends_a_program_with_one_traceback_of_its_own(when, start_program):
    program = start_program(program_that(when), terminal=True)
    pids = program.read()
    marked(program, "answered") if when == "idle" else built(program, 1)
    program.terminal.type(CTRL_C)
    went_by_ctrl_c(program)
    assert program.read() == "closed"
    all_gone(pids)


def test_ctrl_c_while_models_are_built_ends_the_program_with_one_traceback_of_its_own(start_program):
    program = start_program(program_that("starting"), terminal=True)
    pids = built(program, 2)
    program.terminal.type(CTRL_C)
    went_by_ctrl_c(program)
    all_gone(pids)


def test_a_worker_that_clings_to_its_call_holds_up_ctrl_c_for_close_timeout_and_no_longer(start_program):
    program = start_program(program_that("clinging", close_timeout=0.5), terminal=True)
    pids = program.read()
    built(program, 1)
    program.terminal.type(CTRL_C)
    went_by_ctrl_c(program)
    assert program.read() == "closed"
    all_gone(pids)


@pytest.mark.parametrize("when", ["idle", "busy", "starting"])
def test_ctrl_c_twice_in_quick_succession_leaves_no_process(when, start_program):
    program = start_program(program_that(when), terminal=True)
    pids = built(program, 2) if when == "starting" else program.read()
    marked(program, "answered") if when == "idle" else built(program, 1 if when == "busy" else 2)
    program.terminal.type(CTRL_C + CTRL_C)
    assert program.end() == -signal.SIGINT, program.words
    assert "[Model/" not in program.words
    all_gone(pids)


def test_a_second_ctrl_c_does_not_wait_for_close_timeout(start_program):
    program = start_program(program_that("clinging", close_timeout=600), terminal=True)
    pids = program.read()
    built(program, 1)
    program.terminal.type(CTRL_C)
    marked(program, "interrupted")
    program.terminal.type(CTRL_C)
    assert program.end() == -signal.SIGINT, program.words
    assert "[Model/" not in program.words
    all_gone(pids)


def test_ctrl_c_while_the_hub_closes_does_not_wait_for_close_timeout(start_program):
    program = start_program(program_that("leaving", close_timeout=600), terminal=True)
    pids = program.read()
    marked(program, "closing")
    program.terminal.type(CTRL_C)
    assert program.end() == -signal.SIGINT, program.words
    assert program.words.count("\nKeyboardInterrupt") == 1, program.words
    assert "Group" not in program.words
    all_gone(pids)


def test_ctrl_c_again_and_again_leaves_no_process(start_program):
    program = start_program(program_that("clinging", close_timeout=600), terminal=True)
    pids = program.read()
    built(program, 1)
    while program.process.poll() is None:
        program.terminal.type(CTRL_C)
        program.terminal.show(0.001)
    assert program.end() == -signal.SIGINT, program.words
    all_gone(pids)


def test_ctrl_c_between_any_two_lines_of_the_hubs_closing_is_no_hang(start_program):
    """In memory, and by a trace function that raises where Python's own handler of the signal would have raised."""
    program = start_program("""
        import linecache
        from gibbs.testing import ScriptedLauncher

        HOME = os.path.dirname(gibbs.__file__) + os.sep
        closing, lines_to_go = False, 0

        class Model:
            def __call__(self, x): return x

        def closes(frame):
            while frame is not None and frame.f_code.co_name != "_opened":
                frame = frame.f_back
            return frame is not None

        def is_no_place(frame):  # where the interpreter does not look for signals: before a `try:`
            return linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip() == "try:"

        def trace(frame, event, _):
            global lines_to_go
            if not frame.f_code.co_filename.startswith(HOME):
                return None
            if closing and event == "line" and closes(frame) and not is_no_place(frame):
                lines_to_go -= 1
                if lines_to_go == 0:
                    raise KeyboardInterrupt
            return trace

        async def main(launcher):
            global closing
            async with gibbs.open_hub(Model, workers=1, launcher=launcher, close_timeout=0.01) as hub:
                await hub.request(1)
                closing = True

        def seen(error):
            return isinstance(error, KeyboardInterrupt) or any(map(seen, getattr(error, "exceptions", ())))

        line = 0
        while lines_to_go <= 0:
            line += 1
            closing, lines_to_go, launcher = False, line, ScriptedLauncher()
            sys.settrace(trace)
            try:
                run(main, launcher)
            except BaseException as error:
                assert seen(error) or lines_to_go <= 0, error
            sys.settrace(None)
            assert all(worker.ending is not None for worker in launcher.workers), line
            say(line)
        say("all of them")
    """)
    lines = 0
    while program.read() != "all of them":
        lines += 1
    assert lines > 30
    program.end()


def test_a_model_never_sees_the_ctrl_c_of_the_terminal(start_program):
    program = start_program(program_that("clinging", interruptible=False), terminal=True)
    pids = program.read()
    built(program, 1)
    program.terminal.type(CTRL_C)
    assert program.end() == -signal.SIGINT
    assert "the model saw" not in program.words
    all_gone(pids)


def test_the_key_that_quits_leaves_no_process(start_program):
    program = start_program(program_that("busy"), terminal=True)
    pids = program.read()
    built(program, 1)
    program.terminal.type(CTRL_BACKSLASH)
    assert program.end() == -signal.SIGQUIT
    all_gone(pids)


# ----------------------------------------------------------------------------------------------------- the terminal goes


@pytest.mark.parametrize("when", in_turn(["idle", "busy", "starting"]))
def test_when_its_terminal_goes_away_the_program_goes_and_its_workers_with_it(when, start_program):
    program = start_program(program_that(when), terminal=True)
    pids = built(program, 2) if when == "starting" else program.read()
    marked(program, "answered") if when == "idle" else built(program, 1 if when == "busy" else 2)
    program.terminal.hang_up()
    assert program.process.wait(programs.WATCHDOG) == -signal.SIGHUP
    all_gone(pids)


def test_a_program_that_outlives_its_terminal_is_served_on_although_nobody_reads_what_its_workers_write(start_program):
    program = start_program(
        """
        class Model:
            def __call__(self, x):
                print("nobody reads this", x)
                return x ** 2

        async def main():
            signal.signal(signal.SIGHUP, lambda *_: mark("hung up"))
            async with gibbs.open_hub(Model, workers=2) as hub:
                say(await hub.request(2))
                while not (FOLDER / "hung up").exists():
                    await anyio.sleep(0.002)
                say([await hub.request(n) for n in range(10)])
            say(hub.statistics().crashed, hub.statistics().restarts)

        run(main)
        """,
        terminal=True,
    )
    assert program.read() == 4
    program.terminal.hang_up()
    assert program.read() == [n * n for n in range(10)]
    assert program.read() == (0, 0)
    program.process.wait(programs.WATCHDOG)


# -------------------------------------------------------------------------------------------------------------- SIGTERM


@pytest.mark.parametrize(
    ("when", "whom"),
    in_turn(
        (when, whom) for when in ("idle", "busy", "clinging", "starting") for whom in ("the program", "its workers too")
    ),
)
def test_sigterm_by_default_action_leaves_no_process(when, whom, start_program):
    program = start_program(program_that(when))
    pids = built(program, 2) if when == "starting" else program.read()
    marked(program, "answered") if when == "idle" else built(program, 2 if when == "starting" else 1)
    for pid in [*(pids if whom == "its workers too" else []), program.pid]:
        os.kill(pid, signal.SIGTERM)
    assert program.end() == -signal.SIGTERM
    assert program.words == ""
    all_gone(pids)


CANCELS = """
class Model:
    interruptible = True

    def __call__(self):
        mark()
        time.sleep(600)

async def main():
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tg:
            @tg.start_soon
            async def on_sigterm():
                with anyio.open_signal_receiver(signal.SIGTERM) as signals:
                    mark("listening")
                    async for _ in signals:
                        scope.cancel()
            async with gibbs.open_hub(Model, workers=2, cancel_grace=600, close_timeout=600) as hub:
                say(hub.statistics().pids)
                await (hub.request() if WHEN == "busy" else anyio.sleep_forever())
    say(scope.cancelled_caught, hub.statistics().crashed, hub.statistics().restarts)

run(main)
"""


@pytest.mark.parametrize("when", in_turn(["idle", "busy"]))
def test_a_sigterm_to_all_that_the_program_makes_a_cancellation_is_no_crash_of_a_worker(when, start_program):
    program = start_program(CANCELS.replace("WHEN", repr(when)))
    pids = program.read()
    marked(program, "listening")
    if when == "busy":
        built(program, 1)
    for pid in [*pids, program.pid]:
        os.kill(pid, signal.SIGTERM)
    assert program.read() == (True, 0, 0)
    assert program.end() == 0
    assert program.words == ""
    all_gone(pids)


def test_a_sigterm_to_the_programs_process_group_reaches_no_worker(start_program):
    program = start_program(CANCELS.replace("WHEN", repr("busy")), start_new_session=True)
    pids = program.read()
    marked(program, "listening")
    built(program, 1)
    assert all(os.getpgid(pid) == pid for pid in pids)
    assert all(runs(pid) for pid in pids)
    os.killpg(program.pid, signal.SIGTERM)
    assert program.read() == (True, 0, 0)
    assert program.end() == 0
    all_gone(pids)
