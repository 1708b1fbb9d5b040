"""Programs that are odd in what they were given, or in what they do: forks, threads, flags, closed descriptors, other clocks.

What is held elsewhere is not repeated: descriptors 0 to 2 closed together, a removed working directory, a loop in a thread in
`tests/end_to_end/test_orphans.py`; SIGCHLD ignored, children reaped by others in `tests/end_to_end/test_crashes.py`.
"""

from __future__ import annotations

import os

import pytest

from tests.faults import programs
from tests.faults.programs import all_gone, in_turn, runs

start_program = programs.start_program

# ---------------------------------------------------------------------------------------------------------------- forks

FORKS = """
    import operator

    async def main():
        program = os.getpid()
        try:
            async with gibbs.open_hub(gibbs.function(operator.call), workers=2, name="calls") as hub:
                async with anyio.create_task_group() as tg:
                    await serve(hub, tg)
        finally:
            if os.getpid() != program:
                # Here the child has left the block. Its loop's end would take the program's epoll with it, hub or no hub.
                say(repr(sys.exc_info()[1]))
                os._exit(1)

    async def serve(hub, tg):
        pids = hub.statistics().pids
        BUSY and tg.start_soon(ask, hub)
        await marked(BUSY)
        if (child := os.fork()) == 0:
            IN_THE_CHILD
        deadline = time.monotonic() + 20
        while not (ended := os.waitpid(child, os.WNOHANG))[0]:
            assert time.monotonic() < deadline, os.kill(child, signal.SIGKILL)
            time.sleep(0.002)  # not the loop, whose epoll the child shares: it could take what is ours
        say(os.waitstatus_to_exitcode(ended[1]))
        (FOLDER / "go").touch()
        with anyio.fail_after(20):
            say([await hub.request(abs, -n) for n in range(6)])
        say(hub.statistics().pids == pids, hub.statistics().crashed, hub.statistics().restarts)

    async def ask(hub):
        answer = await hub.request(wait, FOLDER)
        await anyio.sleep(0.01)
        say(answer)

    def wait(folder):
        (folder / str(os.getpid())).touch()
        while not (folder / "go").exists():
            time.sleep(0.002)
        return "undisturbed"

    run(main)
"""


def forking(in_the_child: str, *, busy: bool = False) -> str:
    return FORKS.replace("IN_THE_CHILD", in_the_child).replace("BUSY", repr(int(busy)))


@pytest.mark.parametrize(
    ("leaves", "busy"),
    [  # on every loop: each has a way of its own to share its epoll with a fork
        ("return", False),
        ("raise LookupError('of the child')", False),
        ("sys.exit(3)", False),
        ("raise LookupError('of the child')", True),
        ("sys.exit(3)", True),
        ("tg.cancel_scope.cancel(); return", True),
    ],
)
def test_a_fork_that_runs_on_to_the_end_of_the_block_does_the_programs_workers_no_harm(leaves, busy, start_program):
    program = start_program(forking(leaves, busy=busy))
    told = program.read()
    assert told.startswith("RuntimeError"), told
    assert "this is a fork of it" in told
    assert program.read() == 1, program.words
    said = [program.read() for _ in range(3 if busy else 2)]
    assert "undisturbed" in said or not busy
    assert [0, 1, 2, 3, 4, 5] in said
    assert (True, 0, 0) in said
    assert program.end() == 0, program.words


def test_what_is_asked_of_a_hub_in_a_fork_is_refused_in_words(start_program):
    program = start_program(
        forking("""
            for verb in (hub.statistics, hub.health):
                try: say(verb())
                except RuntimeError as error: say(str(error))
            for verb in (lambda: hub.request(abs, -1), hub.method("x").request, hub.wait_ready, hub.drain):
                try: say(await verb())
                except RuntimeError as error: say(str(error))
            say(repr(hub))
            os._exit(0)
        """)
    )
    for _ in range(6):
        told = program.read()
        # Some meet a checkpoint first, and in a fork AnyIO's own fails in words of asyncio.
        assert "this is a fork of it" in told or told == "no running event loop", told
    assert "gibbs.Hub 'calls'" in program.read()
    assert program.read() == 0, program.words
    assert program.read() == [0, 1, 2, 3, 4, 5]
    assert program.read() == (True, 0, 0)
    assert program.end() == 0, program.words


def test_a_fork_has_no_descriptor_that_leads_to_a_worker(start_program):
    program = start_program(
        forking("""
            theirs = {link for pid in pids for link in links(pid) if link.startswith(("socket:", "pipe:", "/memfd:"))}
            say(sorted(theirs & {*links(os.getpid())}), "anon_inode:[pidfd]" in links(os.getpid()))
            say([line for line in open("/proc/self/maps") if "memfd:gibbs" in line])
            os._exit(0)
        """)
    )
    assert program.read() == ([], False)
    assert program.read() == []
    assert program.read() == 0
    assert program.read() == [0, 1, 2, 3, 4, 5]
    assert program.read() == (True, 0, 0)
    assert program.end() == 0


def test_a_fork_can_open_a_hub_of_its_own(start_program):
    program = start_program("""
        import operator

        async def main():
            async with gibbs.open_hub(gibbs.function(operator.call), workers=1) as hub:
                if (child := os.fork()) == 0:
                    thread = threading.Thread(target=run, args=(inner,))
                    thread.start()
                    thread.join()
                    os._exit(0)
                say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), await hub.request(abs, -1))

        async def inner():
            async with gibbs.open_hub(gibbs.function(operator.call), workers=2) as hub:
                say(await hub.request(abs, -2), len({*hub.statistics().pids}))

        run(main)
    """)
    assert program.read() == (2, 2)
    assert program.read() == (0, 1)
    assert program.end() == 0


# ------------------------------------------------------------------------------------------- how the program was started

SQUARES = """
class Model:
    def __init__(self): self.calls = 0
    def __call__(self, x):
        self.calls += 1
        print("heard", x)
        if x == 3 and self.calls > 1: os._exit(4)
        return x ** 2

async def main():
    async with gibbs.open_hub(Model, workers=2) as hub:
        pids = hub.statistics().pids
        say(pids)
        answers = []
        async with anyio.create_task_group() as tg:
            for n in range(6): tg.start_soon(ask, hub, n, answers)
        say(sorted(answers))
    (FOLDER / "left").touch()

async def ask(hub, n, answers):
    try: answers.append(await hub.request(n))
    except gibbs.WorkerCrashed as error: answers.append(1000 + (error.exit_code or 0))
"""
RUN = "\nrun(main)\n"


def serves(program: programs.Program) -> None:
    """It is served, a crash included, and ends in peace."""
    pids = program.read()
    answers = program.read()
    assert answers in ([0, 1, 4, 9, 16, 25], [0, 1, 4, 16, 25, 1004], [0, 1, 4, 16, 25, 1000])
    assert program.end() == 0, program.words
    assert (program.folder / "left").exists()
    all_gone(pids)


@pytest.mark.parametrize(
    "flags",
    in_turn([["-W", "error"], ["-I"], ["-OO"], ["-W", "error", "-X", "dev"], ["-O"], ["-E", "-s"], ["-B", "-u"]]),
    ids=" ".join,
)
def test_a_program_is_served_whatever_flags_its_interpreter_has(flags, start_program):
    program = start_program(SQUARES + RUN, flags=flags)
    serves(program)
    if "-W" in flags:
        assert "Warning" not in program.words, program.words


# On asyncio or Trio: libuv aborts such a program, with or without a hub.
@pytest.mark.parametrize(
    "closed",
    [
        pytest.param(redirection, marks=pytest.mark.cell(number % 2 * 2))
        for number, redirection in enumerate(["<&-", ">&-", "2>&-", "<&- >&-", ">&- 2>&-", "<&- 2>&-"])
    ],
)
def test_a_program_is_served_without_some_of_its_descriptors_0_to_2(closed, start_program, anyio_backend):
    if anyio_backend[1].get("use_uvloop"):
        pytest.skip("libuv aborts such a program, with or without a hub")
    program = start_program(SQUARES + RUN, wrapper=["sh", "-c", f'exec "$0" "$@" {closed}'])
    serves(program)


def test_a_program_without_a_temporary_folder_is_served(start_program):
    program = start_program(
        SQUARES + RUN, env=os.environ | {"TMPDIR": "/there/is/none", "TMP": "", "TEMP": "", "HOME": "/no"}
    )
    serves(program)


def test_neither_hub_nor_workers_have_a_file_in_shared_memory_or_in_the_temporary_folder(start_program, tmp_path):
    program = start_program(
        """
        class Model:
            def __call__(self, x): return x

        async def main():
            async with gibbs.open_hub(Model, workers=2) as hub:
                await hub.request(b"x" * 10_000_000)
                found = []
                for pid in (os.getpid(), *hub.statistics().pids):
                    found += links(pid)
                    found += [line.split()[-1] for line in open(f"/proc/{pid}/maps")]
                say([name for name in found if name.startswith("/dev/shm") or "/no such place" in name])

        run(main)
    """,
        env=os.environ | {"TMPDIR": str(tmp_path / "no such place")},
    )
    assert program.read() == []
    assert program.end() == 0


# ----------------------------------------------------------------------------------------------- what the program does

RUN_IN_A_THREAD = """
thread = threading.Thread(target=run, args=(main,))
thread.start()
thread.join()
"""
SIGCHLD_IGNORED = """
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
run(main)
"""
REAPED_BY_OTHERS = """
over = threading.Event()
def reap():
    while not over.is_set():
        try: os.waitpid(-1, 0)
        except ChildProcessError: over.wait(0.001)
reaper = threading.Thread(target=reap)
reaper.start()
run(main)
over.set()
reaper.join()
"""
CLOCK_JUMPS = """
import itertools
now, jumps = time.time, itertools.cycle([0, 86_400, -86_400, 10 * 365 * 86_400, -10 * 365 * 86_400])
time.time = lambda: now() + next(jumps)
real_ns = time.time_ns
time.time_ns = lambda: real_ns() + 10 ** 9 * next(jumps)
run(main)
"""
SIGNALS_BLOCKED = """
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - {signal.SIGINT})
run(main)
"""
LITTLE_STACK = """
threading.stack_size(1 << 16)
run(main)
"""
OTHER_WAKEUP = """
a, b = socket.socketpair()
a.setblocking(False)
before = signal.set_wakeup_fd(a.fileno())
signal.signal(signal.SIGCHLD, lambda *_: None)
run(main)
"""
CLOSES_0_TO_2 = """
served = main
async def main():
    for fd in (0, 1, 2): os.close(fd)
    await served()
run(main)
"""
WAYS = {
    "closes its descriptors 0 to 2 when its loop runs": CLOSES_0_TO_2,
    "runs its loop in another thread": RUN_IN_A_THREAD,
    "ignores SIGCHLD": SIGCHLD_IGNORED,
    "reaps all children in a thread": REAPED_BY_OTHERS,
    "has a clock that jumps": CLOCK_JUMPS,
    "blocks signals": SIGNALS_BLOCKED,
    "has little stack": LITTLE_STACK,
    "takes signals in its own way": OTHER_WAKEUP,
    "counts no reference cycles": "import gc; gc.disable()" + RUN,
    "collects at every chance": "import gc; gc.set_threshold(1)" + RUN,
}


@pytest.mark.parametrize("way", in_turn(WAYS.values()), ids=[*WAYS])
def test_a_program_is_served_whatever_it_does_around_its_hub(way, start_program):
    serves(start_program(SQUARES + way))


@pytest.mark.parametrize(
    ("way", "while_"),
    in_turn((way, while_) for while_ in ("closing", "dying") for way in (SIGCHLD_IGNORED, REAPED_BY_OTHERS)),
    ids=["ignored, closing", "reaped by others, closing", "ignored, dying", "reaped by others, dying"],
)
def test_where_nobody_knows_how_children_end_workers_that_cling_are_killed_all_the_same(way, while_, start_program):
    program = start_program(
        """
class Model:
    def __call__(self):
        child = subprocess.Popen(["sleep", "600"])
        mark(os.getpid(), child.pid)
        if WHILE == "dying": os.kill(os.getpid(), signal.SIGKILL)
        while True:
            try: time.sleep(600)
            except BaseException: pass

async def main():
    async with gibbs.open_hub(Model, workers=2, close_timeout=0.2) as hub:
        say(hub.statistics().pids)
        async with anyio.create_task_group() as tg:
            if WHILE == "dying":
                try: await hub.request()
                except gibbs.WorkerCrashed as error: say(error.signal)
            else:
                for _ in range(2): tg.start_soon(hub.request)
                await marked(4)
                tg.cancel_scope.cancel()
    say(marks())
""".replace("WHILE", repr(while_))
        + way
    )
    pids = program.read()
    if while_ == "dying":
        assert program.read() in (None, "SIGKILL")
    told = program.read()
    assert len(told) == (4 if while_ == "closing" else 2)
    assert not [pid for pid in pids if runs(pid)]
    assert program.end() == 0, program.words
    all_gone([*pids, *told])
