"""Promises of the contract that only real processes can break: what a hub takes of its program, and what a worker is made of."""

from __future__ import annotations

import fcntl
import operator
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

import gibbs
from gibbs._launch.watch_linux import Watch

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

F_GETOWN_EX, F_OWNER_PGRP = 16, 2  # of fcntl.h; Python's F_GETOWN takes the id of a group, a negative one, for an error

CALLS = gibbs.function(operator.call)  # `request(f, *args)` is f(*args) in a worker


def descriptors():
    """What each open descriptor of this process leads to."""
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # that of this listing
            found[int(fd)] = os.readlink(f"/proc/self/fd/{fd}")
    return found


def listening():
    """The sockets of this process that listen."""
    found = set()
    for fd, where in descriptors().items():
        if where.startswith("socket:"):
            with socket.socket(fileno=os.dup(fd)) as sock:
                if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    found.add(where)
    return found


def process_of_pidfd(fd):
    """The pid that a pidfd stands for; None for any other descriptor."""
    with suppress(OSError):
        found = re.search(r"^Pid:\s*(-?\d+)$", Path(f"/proc/self/fdinfo/{fd}").read_text(), re.MULTILINE)
        return int(found[1]) if found else None


# -------------------------------------------------------------------------------------- what a hub takes of its program


class Surroundings:
    """What a hub has no business with in the program that opens it."""

    def __init__(self):
        self.threads = {thread for thread in threading.enumerate() if not thread.name.startswith("Trio thread")}
        self.native_threads = {*os.listdir("/proc/self/task")}
        self.handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
        self.listening = listening()

    def untouched(self):
        now = Surroundings()
        assert not now.threads - self.threads
        assert not now.native_threads - self.native_threads, "a thread that Python does not know"
        assert now.handlers == self.handlers
        assert now.listening == self.listening


def sleep():
    time.sleep(600)


async def a_full_life():
    """A hub that is called, cancelled, crashed and refilled, and looked at all the while."""
    untouched = Surroundings().untouched
    async with gibbs.open_hub(CALLS, workers=2, on_cancel="interrupt") as hub:
        untouched()
        assert await hub.request(abs, -1) == 1
        assert await hub.request(listening) == set()
        with anyio.move_on_after(0.05):
            await hub.request(sleep)
        untouched()
        with pytest.raises(gibbs.WorkerCrashed):
            await hub.request(os._exit, 4)
        with anyio.fail_after(20):
            await hub.wait_ready()
        assert await hub.request(abs, -2) == 2
        untouched()
    untouched()


# Not in a loop of the plugin's: that one's Trio, a guest, has a thread of its own.
def test_a_hub_makes_no_thread_takes_no_signal_and_listens_nowhere(anyio_backend):
    backend, options = anyio_backend
    anyio.run(a_full_life, backend=backend, backend_options=options)


def test_nor_does_a_hub_in_another_thread_than_the_main_one(anyio_backend):
    backend, options = anyio_backend
    ends = []

    def run():
        ends.append(anyio.run(a_full_life, backend=backend, backend_options=options))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert ends == [None]


def test_nothing_of_gibbs_is_left_for_the_exit_of_the_program(start_program):
    program = start_program("""
        import atexit

        registering = []
        register = atexit.register

        def remember(f, *args, **kwargs):
            registering.append(sys._getframe(1).f_globals["__name__"])
            return register(f, *args, **kwargs)

        atexit.register = remember
        loaded = {name for name in sys.modules if name.startswith("gibbs.")}

        async def main():
            async with gibbs.open_hub(gibbs.function(abs), workers=1) as hub:
                say(await hub.request(-1))

        run(main)
        say(sorted(loaded))
        say([name for name in registering if name.startswith("gibbs")])
    """)
    assert program.read() == 1
    assert program.read() == [], "gibbs had not registered anything before it was watched"
    assert program.read() == []
    assert program.end() == ("", "")


async def test_a_subprocess_of_the_program_gets_no_descriptor_of_a_hub():
    before = descriptors()
    async with gibbs.open_hub(CALLS, workers=2) as hub:
        assert await hub.request(abs, -1) == 1
        ours = descriptors().keys() - before.keys()
        assert ours
        assert [fd for fd in ours if not fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC] == []


async def test_a_hub_watches_each_worker_by_a_pidfd():
    async with gibbs.open_hub(CALLS, workers=3) as hub:
        watched = [process_of_pidfd(fd) for fd in descriptors()]
        assert {*hub.statistics().pids} <= {*watched}


async def test_one_launcher_may_serve_several_hubs():
    launcher = gibbs.LocalLauncher(threads=None, output="discard")
    async with (
        gibbs.open_hub(CALLS, workers=1, launcher=launcher) as one,
        gibbs.open_hub(CALLS, workers=1, launcher=launcher) as other,
    ):
        pids = [await hub.request(os.getpid) for hub in (one, other)]
    assert len({*pids, os.getpid()}) == 3


# ---------------------------------------------------------------------------------------------- what a worker is made of


def lifelines():
    """Pipes of this process that kill when their other end closes: the signal, and the process group."""
    found = []
    for fd, where in descriptors().items():
        if where.startswith("pipe:") and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ASYNC:
            kind, whom = struct.unpack("ii", fcntl.fcntl(fd, F_GETOWN_EX, bytes(8)))
            assert kind == F_OWNER_PGRP
            found.append((fcntl.fcntl(fd, fcntl.F_GETSIG), whom))
    return found


class Facts:
    """What a worker is when its model is built, which is before it says that it is ready."""

    def __init__(self):
        self.lifelines = lifelines()
        self.pidfds = [pid for fd in descriptors() if (pid := process_of_pidfd(fd)) is not None]
        self.group = (os.getpid(), os.getpgid(0), os.getsid(0))
        self.sigterm = signal.getsignal(signal.SIGTERM)
        self.inheritable = [fd for fd in descriptors() if fd > 2 and os.get_inheritable(fd)]

    def all(self):
        sigterm = "a function" if callable(self.sigterm) else self.sigterm
        return {**vars(self), "sigterm": sigterm}


@pytest.fixture
async def facts():
    async with gibbs.open_hub(Facts, workers=1) as hub:
        return await hub.method(Facts.all).request()


async def test_a_worker_leads_a_session_and_a_process_group_of_its_own(facts):
    pid, group, session = facts["group"]
    assert pid == group == session != os.getsid(0)


async def test_the_lifeline_kills_the_whole_group_and_is_armed_before_the_model_is_built(facts):
    pid = facts["group"][0]
    assert facts["lifelines"] == [(signal.SIGKILL, pid)]


async def test_the_parent_is_watched_by_a_pidfd_before_the_model_is_built(facts):
    assert facts["pidfds"] == [os.getpid()]


async def test_sigterm_meets_a_handler_in_a_worker_and_is_not_ignored(facts):
    assert facts["sigterm"] == "a function"


async def test_what_a_worker_has_above_descriptor_2_is_close_on_exec(facts):
    assert facts["inheritable"] == []


def ending_of(source):
    """How a process ends that leads a session and runs this source."""
    child = subprocess.run([sys.executable, "-c", source], start_new_session=True, timeout=20, capture_output=True)
    assert child.stderr == b""
    return child.returncode


def test_a_lifeline_that_was_cut_before_it_was_armed_ends_the_worker():
    source = """if True:
        import os, time
        from gibbs._worker.lifeline import arm
        read, write = os.pipe()
        {}
        arm(read)
    """
    assert ending_of(source.format("os.close(write)")) == -signal.SIGKILL
    assert ending_of(source.format("pass")) == 0


def test_a_lifeline_that_is_cut_ends_the_worker_while_it_holds_the_interpreter_lock():
    source = """if True:
        import ctypes, os
        from gibbs._worker.lifeline import arm
        read, write = os.pipe()
        arm(read)
        ctypes.PyDLL(None).close(write)
        ctypes.PyDLL(None).sleep(15)  # PyDLL: the lock is held
    """
    assert ending_of(source) == -signal.SIGKILL


def test_a_worker_that_could_not_listen_looks_for_signs_of_its_hub_before_it_takes_it_for_gone():
    source = """if True:
        import os, time
        from gibbs._worker.lifeline import Guard
        read, write = os.pipe()

        def receive():
            if os.read(read, 1) == b"2":
                os._exit(0)
            time.sleep(0.2)  # much longer than the silence; and when it can look again there is a sign
            os.write(write, b"2")

        os.write(write, b"1")
        Guard(os.getppid()).watch(read, receive, silence=0.05)
        time.sleep(15)
    """
    assert ending_of(source) == 0


def test_a_worker_whose_parent_is_another_by_now_ends():
    source = "import os; from gibbs._worker.lifeline import Guard; Guard({})"
    assert ending_of(source.format("os.getpid()")) == -signal.SIGKILL
    assert ending_of(source.format("os.getppid()")) == 0


# -------------------------------------------------------------------------------------------------- whom a kill can reach


@pytest.fixture
def group_kills(monkeypatch):
    """The groups that are killed meanwhile; none really is."""
    groups = []
    monkeypatch.setattr(os, "killpg", lambda group, number: groups.append((group, number)))
    return groups


@pytest.fixture
async def child():
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as child:
        watch = Watch(child.pid)
        yield child, watch
        watch.close()
        with suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)


@pytest.mark.parametrize("number_is_taken", [False, True])
async def test_of_a_process_that_others_reaped_the_group_is_killed_if_nobody_bears_its_number(
    number_is_taken, child, group_kills, monkeypatch
):
    process, watch = child
    assert watch.look() is None
    process.kill()
    process.wait()  # other code of this program was quicker
    if number_is_taken:
        monkeypatch.setattr(os, "kill", lambda pid, number: None)
    assert watch.look() == gibbs.Ending(how="unknown")
    assert group_kills == ([] if number_is_taken else [(process.pid, signal.SIGKILL)])
    assert watch.kill() is None
    assert len(group_kills) == (not number_is_taken), "nothing more is known to be ours"


async def test_kill_reaches_the_group_while_the_process_is_ours(child, group_kills):
    process, watch = child
    watch.kill()
    assert group_kills == [(process.pid, signal.SIGKILL)]
    assert process.wait() == -signal.SIGKILL, "and the process itself, by its pidfd"


async def test_kill_and_interrupt_never_raise_whatever_has_become_of_the_process(child):
    process, watch = child
    for _ in range(3):
        assert watch.kill() is None
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert watch.kill() is watch.interrupt() is None, "a zombie"
    process.wait()
    assert watch.kill() is watch.interrupt() is None, "reaped"
    watch.close()
    watch.close()
    assert watch.kill() is watch.interrupt() is None, "let go of"


async def test_who_waits_for_a_process_that_is_let_go_of_is_told(child):
    _, watch = child
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tg:

            @tg.start_soon
            async def wait():
                with pytest.raises(anyio.ClosedResourceError):
                    await watch.wait()

            await anyio.wait_all_tasks_blocked()
            watch.close()


# ------------------------------------------------------------------------------------------------------------- the model


class RepairsOnly:
    """A model that can repair itself, and does not say that it may be interrupted."""

    def __call__(self, seconds):
        print("begun")
        time.sleep(seconds)
        return os.getpid()

    def after_interrupt(self):
        print("repaired")


async def test_after_interrupt_alone_does_not_make_a_model_interruptible(launcher, heard, start):
    async with gibbs.open_hub(RepairsOnly, workers=1, launcher=launcher) as hub:
        before = await hub.request(0)
        call = start(hub, 600)
        await heard.line("begun", times=2)
        await call.cancel()
        assert await hub.request(0) != before
        assert (hub.statistics().killed, hub.statistics().interrupted) == (1, 0)
    assert "repaired" not in heard.lines
