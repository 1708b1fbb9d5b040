"""A program that is killed by SIGKILL runs none of its own code any more. Its workers go all the same, within a second.

What each worker is doing at that moment is the row; whether a fork of the program holds copies of its descriptors is the
column. A fork by Python lets go of them; one that a C library makes does not, and then a thread of the worker's own must
see that the program is gone. (Such a fork *and* C code that holds the GIL, or a stopped worker, at once: nobody can.)
"""

from __future__ import annotations

import os
import signal

import pytest

from tests.faults import families, programs
from tests.faults.programs import all_gone, in_turn, runs, wait_until

start_program = programs.start_program

PROGRAM = """
WHAT, HELPER = {what!r}, {helper!r}

class Model:
    def __init__(self):
        if WHAT == "is built":
            mark()
            time.sleep(600)

    def __call__(self):
        if WHAT == "sleeps":
            mark()
            time.sleep(600)
        elif WHAT == "holds the GIL":
            mark()
            re.match("(a+)+$", 40 * "a" + "b")
        elif WHAT == "is stopped":
            mark()
            os.kill(os.getpid(), signal.SIGSTOP)
        elif WHAT == "has a subprocess":
            child = subprocess.Popen(["sleep", "600"])
            mark(os.getpid(), child.pid)
            child.wait()
        elif WHAT == "has a fork":
            child = os.fork()
            mark()
            time.sleep(600)
        elif WHAT == "blocks every signal":
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            mark()
            time.sleep(600)
        elif WHAT == "replies":
            return Large()

class Large:
    def __reduce__(self):
        mark()
        return bytes, (50_000_000 * b"x",)

def help_out():
    if HELPER == "a fork by Python":
        child = os.fork()
    elif HELPER == "a fork by a C library":
        child = ctypes.PyDLL(None).fork()
    else:
        return None
    if child == 0:
        while True: signal.pause()
    return child

async def main():
    helpers = []
    def tell(pids):
        say(sorted({{*filter(None, pids), *marks()}}), helpers)
        time.sleep(600)  # the loop is blocked: what a worker sends stays in its socket

    async with anyio.create_task_group() as tg:
        @tg.start_soon
        async def serve():
            async with gibbs.open_hub(Model, workers=2) as hub:
                helpers.append(help_out())
                for _ in range({calls}):
                    tg.start_soon(hub.request)
                await marked({marks})
                tell(hub.statistics().pids)
        if WHAT == "is built":
            await marked({marks})
            helpers.append(help_out())
            tell([])

run(main)
"""

MARKS = {"is idle": 0, "has a subprocess": 4, "has a fork": 4}
ROWS = [
    "is built",
    "is idle",
    "sleeps",
    "holds the GIL",
    "is stopped",
    "blocks every signal",
    "replies",
    "has a subprocess",
    "has a fork",
]
NO_COLUMN = {("holds the GIL", "a fork by a C library"), ("is stopped", "a fork by a C library")}
SEEN = {"holds the GIL": families.spins, "is stopped": families.stops}  # which it says before
COLUMNS = [None, "a fork by Python", "a fork by a C library"]


@pytest.mark.parametrize(
    ("what", "helper"),
    in_turn((what, helper) for what in ROWS for helper in COLUMNS if (what, helper) not in NO_COLUMN),
)
def test_no_worker_outlives_a_program_that_is_killed(what, helper, start_program):
    calls = 0 if what in ("is built", "is idle") else 2
    program = start_program(PROGRAM.format(what=what, helper=helper, calls=calls, marks=MARKS.get(what, 2)))
    pids, [held] = program.read()
    try:
        assert len(pids) >= 2
        for pid in pids if what in SEEN else ():
            wait_until(SEEN[what](pid, program.folder))
        assert all(runs(pid) for pid in pids)
        program.kill()
        all_gone(pids)
        assert helper is None or runs(held)
    finally:
        if held is not None:
            os.kill(held, signal.SIGKILL)


def test_no_worker_outlives_a_program_that_was_stopped_before_it_was_killed(start_program):
    program = start_program(PROGRAM.format(what="sleeps", helper=None, calls=2, marks=2))
    pids, _ = program.read()
    program.kill(signal.SIGSTOP)
    program.kill()
    all_gone(pids)


def test_a_program_that_goes_on_after_a_stop_has_its_workers(start_program):
    program = start_program("""
        class Model:
            def __call__(self, x): return x

        async def main():
            async with gibbs.open_hub(Model, workers=2) as hub:
                pids = hub.statistics().pids
                say(pids)
                while not (FOLDER / "go").exists():
                    await hub.request(1)
                say([await hub.request(n) for n in range(5)], hub.statistics().pids == pids)

        run(main)
    """)
    pids = program.read()
    for _ in range(3):
        program.kill(signal.SIGSTOP)
        wait_until(families.stops(program.pid, program.folder))
        assert all(runs(pid) for pid in pids)
        program.kill(signal.SIGCONT)
    (program.folder / "go").touch()
    assert program.read() == ([0, 1, 2, 3, 4], True)
    assert program.end() == 0
    all_gone(pids)
