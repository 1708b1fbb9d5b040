"""However the program ends, no process of its workers is left; and what its workers start shares nothing with it."""

from __future__ import annotations

import operator
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

import anyio
import pytest

import gibbs

CALLS = gibbs.function(operator.call)  # a model that does what it is told: `request(f, *args)` is f(*args) in a worker

# ----------------------------------------------------------------------------------------------------- the program ends

STARTING = """
    class Model:
        def __init__(self, folder):
            (folder / str(os.getpid())).touch()
            time.sleep(600)

    async def main():
        folder = Path(__file__).parent / "starting"
        folder.mkdir()
        async with anyio.create_task_group() as tg:
            @tg.start_soon
            async def tell():
                while len(pids := os.listdir(folder)) < 2:
                    await anyio.sleep(0.002)
                say([*map(int, pids)])
            async with gibbs.open_hub(Model, folder, workers=2):
                pass

    run(main)
"""

SERVING = """
    TEXT = "a" * 40

    class Model:
        def __call__(self, what, folder):
            if what == "sleeps":
                self.tell(folder)
                time.sleep(600)
            elif what == "holds the GIL":
                self.tell(folder)
                re.match("(a+)+$", TEXT + "b")
            elif what == "has a subprocess":
                child = subprocess.Popen(["sleep", "600"])
                self.tell(folder, child.pid)
                child.wait()

        def tell(self, folder, *pids):
            for pid in (os.getpid(), *pids):
                (folder / str(pid)).touch()

    async def main():
        what, helper = WHAT, HELPER
        folder = Path(__file__).parent / "serving"
        folder.mkdir()
        async with gibbs.open_hub(Model, workers=2) as hub, anyio.create_task_group() as tg:
            pids = [*hub.statistics().pids]
            if helper and (child := eval(helper)) == 0:
                signal.pause()
            if what != "is idle":
                for _ in range(2):
                    tg.start_soon(hub.request, what, folder)
            expected = {"is idle": 0, "has a subprocess": 4}.get(what, 2)
            while len(told := os.listdir(folder)) < expected:
                await anyio.sleep(0.002)
            say(sorted({*pids, *map(int, told)}), child if helper else None)
            await anyio.sleep_forever()

    run(main)
"""


def serving(what, helper=None):
    return SERVING.replace("WHAT", repr(what)).replace("HELPER", repr(helper))


def test_no_worker_outlives_a_program_that_is_killed_while_workers_start(start_program, all_gone):
    program = start_program(STARTING)
    pids = program.read()
    os.kill(program.pid, signal.SIGKILL)
    all_gone(pids)


@pytest.mark.parametrize("what", ["is idle", "sleeps", "holds the GIL", "has a subprocess"])
def test_no_worker_outlives_a_program_that_is_killed_whatever_the_model_does(what, start_program, all_gone, running):
    program = start_program(serving(what))
    pids, _ = program.read()
    assert running(pids) == pids
    os.kill(program.pid, signal.SIGKILL)
    all_gone(pids)


# A fork by Python lets go of the lifelines; one that C code makes holds them, and there the second line must do.
@pytest.mark.parametrize("fork", ["os.fork()", "ctypes.PyDLL(None).fork()"], ids=["python", "c"])
@pytest.mark.parametrize("what", ["is idle", "sleeps", "has a subprocess"])
def test_no_worker_outlives_a_killed_program_whose_forked_helper_holds_its_descriptors(
    what, fork, start_program, all_gone, running
):
    program = start_program(serving(what, helper=fork))
    pids, helper = program.read()
    try:
        os.kill(program.pid, signal.SIGKILL)
        all_gone(pids)
        assert running([helper])
    finally:
        os.kill(helper, signal.SIGKILL)


def test_no_worker_outlives_a_program_that_sigterm_ends_by_default(start_program, all_gone):
    program = start_program(serving("sleeps"))
    pids, _ = program.read()
    program.process.terminate()
    assert program.process.wait() == -signal.SIGTERM
    all_gone(pids)


def test_a_sigterm_to_program_and_workers_alike_is_no_crash_of_a_worker(start_program, all_gone):
    program = start_program("""
        class Model:
            def __call__(self, mark):
                mark.touch()
                while mark.exists():
                    time.sleep(0.002)
                return os.getpid()

        async def main():
            mark = Path(__file__).parent / "mark"
            async with gibbs.open_hub(Model, workers=2) as hub, anyio.create_task_group() as tg:
                pids = [*hub.statistics().pids]

                @tg.start_soon
                async def ask():
                    say(await hub.request(mark) in pids)

                with anyio.open_signal_receiver(signal.SIGTERM) as signals:
                    say(pids)
                    async for _ in signals:
                        while not mark.exists():
                            await anyio.sleep(0.002)
                        mark.unlink()
                        break
            say(hub.statistics().crashed, hub.statistics().restarts)

        run(main)
    """)
    pids = program.read()
    for pid in [*pids, program.pid]:
        os.kill(pid, signal.SIGTERM)
    assert program.read() is True
    assert program.read() == (0, 0)
    assert program.end() == ("", "")
    all_gone(pids)


@pytest.mark.parametrize("calls", [0, 1])
def test_ctrl_c_to_the_whole_group_is_one_traceback_of_the_programs_own(calls, start_program, all_gone, wait_for):
    program = start_program(
        f"""
        class Model:
            def __call__(self, folder):
                try:
                    (folder / "called").touch()
                    time.sleep(600)
                except BaseException as error:
                    print("the model saw", repr(error))
                    raise

        async def main():
            folder = Path(__file__).parent
            async with gibbs.open_hub(Model, workers=2) as hub:
                say([*hub.statistics().pids])
                for _ in range({calls}):
                    await hub.request(folder)
                (folder / "called").touch()
                await anyio.sleep_forever()

        run(main)
        """,
        start_new_session=True,
    )
    pids = program.read()
    wait_for((program.script.parent / "called").exists)
    os.killpg(program.pid, signal.SIGINT)
    _, err = program.end()
    assert err.startswith("Traceback (most recent call last)"), err
    assert err.count("\nKeyboardInterrupt") == 1, err
    assert err.endswith("\nKeyboardInterrupt\n"), err
    assert "ExceptionGroup" not in err
    assert "[Model/" not in err, "nothing came from a worker"
    all_gone(pids)


# ----------------------------------------------------------------------------------------------------- signals in a worker


def terminate_a_subprocess():
    child = subprocess.Popen(["sleep", "600"])
    child.terminate()
    return child.wait()


def terminate_a_fork():
    child = os.fork()
    if child == 0:
        while True:
            signal.pause()
    os.kill(child, signal.SIGTERM)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def ask_for_sigterm(mark):
    mark.touch()
    while mark.exists():
        time.sleep(0.002)
    return os.getpid()


async def test_a_worker_disregards_a_sigterm_in_a_call_and_when_it_is_idle(tmp_path, until):
    mark = tmp_path / "mark"
    async with gibbs.open_hub(CALLS, workers=1) as hub, anyio.create_task_group() as tg:
        pid = await hub.request(os.getpid)
        os.kill(pid, signal.SIGTERM)

        @tg.start_soon
        async def ask():
            assert await hub.request(ask_for_sigterm, mark) == pid

        await until(mark.exists)
        os.kill(pid, signal.SIGTERM)
        mark.unlink()
    assert (hub.statistics().crashed, hub.statistics().restarts) == (0, 0)


@pytest.mark.parametrize("start", [terminate_a_subprocess, terminate_a_fork])
async def test_what_a_model_starts_dies_of_sigterm_as_it_does_elsewhere(start):
    async with gibbs.open_hub(CALLS, workers=1) as hub:
        assert await hub.request(start) == -signal.SIGTERM


def leave_a_subprocess():
    return subprocess.Popen(["sleep", "600"]).pid


@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_what_a_model_started_is_gone_when_the_hub_has_closed(running, all_gone):
    async with gibbs.open_hub(CALLS, workers=2) as hub:
        pids = [await hub.request(leave_a_subprocess) for _ in range(3)]
        assert running(pids) == pids
    all_gone(pids)


def leave_a_subprocess_and_die():
    print(leave_a_subprocess())
    os._exit(1)


async def test_what_a_model_started_is_gone_when_its_worker_has_died(all_gone):
    async with gibbs.open_hub(CALLS, workers=1) as hub:
        with pytest.raises(gibbs.WorkerCrashed) as caught:
            await hub.request(leave_a_subprocess_and_die)
        all_gone([int(caught.value.stderr_tail)])
        assert await hub.request(abs, -1) == 1


# ---------------------------------------------------------------------------------------------------------- descriptors


def descriptors(pid="self"):
    """What each descriptor of a process leads to: the kind, or the path."""
    folder = Path(f"/proc/{pid}/fd")
    found = {}
    for fd in os.listdir(folder):
        try:
            found[int(fd)] = os.readlink(folder / fd).partition(":[")[0]
        except OSError:  # that of this listing
            continue
    return found


def subprocess_descriptors(close_fds):
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=close_fds) as child:
        child.stdin.write(b"are you there?\n")
        child.stdin.flush()
        child.stdout.readline()  # what the loader and libc opened is closed by now
        return descriptors(child.pid)


@pytest.mark.parametrize("close_fds", [True, False])
async def test_a_subprocess_of_the_model_has_no_descriptor_of_ours(close_fds):
    async with gibbs.open_hub(CALLS, workers=2) as hub:
        found = await hub.request(subprocess_descriptors, close_fds)
    assert found == {0: "pipe", 1: "pipe", 2: "pipe"}


async def test_a_worker_has_descriptors_0_to_2_and_those_of_the_protocol_and_none_of_the_program():
    read, write = os.pipe()
    try:
        os.set_inheritable(write, True)
        async with gibbs.open_hub(CALLS, workers=2) as hub:
            found = await hub.request(descriptors)
    finally:
        os.close(read)
        os.close(write)
    assert [found.pop(fd) for fd in (0, 1, 2)] == ["/dev/null", "pipe", "pipe"]
    kinds = Counter(found.values())
    assert (kinds.pop("socket"), kinds.pop("pipe")) == (2, 1), "the stream, the inquiry and the lifeline"
    # The shared page and the arenas, whose mappings have each one of their own; the claims; what the guard waits with, and for.
    memfds = {f"/memfd:gibbs-{name} (deleted)" for name in ("page", "arena")}
    assert set(kinds) <= memfds | {"anon_inode", "pidfd"}, found
    assert len(found) <= 10, found


def test_a_program_whose_descriptors_0_to_2_are_closed_is_served(start_program, tmp_path, anyio_backend):
    if anyio_backend[1].get("use_uvloop"):
        pytest.skip("libuv aborts such a program, with or without a hub")
    program = start_program(
        """
        class Model:
            def __call__(self, x):
                print("heard by nobody")
                os.write(2, b"nor this")
                return x ** 2

        async def main():
            async with gibbs.open_hub(Model, workers=2) as hub:
                return [await hub.request(n) for n in range(6)]

        answers = run(main)
        (Path(__file__).parent / "answers").write_text(repr(answers))
        """,
        wrapper=["sh", "-c", 'exec "$0" "$@" <&- >&- 2>&-'],
    )
    assert program.process.wait(20) == 0
    assert (tmp_path / "answers").read_text() == "[0, 1, 4, 9, 16, 25]"


def test_a_program_that_closes_its_descriptors_0_to_2_while_it_runs_is_served(start_program, tmp_path):
    program = start_program("""
        class Model:
            def __call__(self, x):
                print("heard by nobody")
                os.write(2, b"nor this")
                return x ** 2

        async def main():
            for fd in (0, 1, 2):
                os.close(fd)  # the next three that anybody opens have these numbers
            async with gibbs.open_hub(Model, workers=2, launcher=gibbs.LocalLauncher(output="discard")) as hub:
                (Path(__file__).parent / "answers").write_text(repr([await hub.request(n) for n in range(6)]))

        run(main)
    """)
    assert program.process.wait(20) == 0
    assert (tmp_path / "answers").read_text() == "[0, 1, 4, 9, 16, 25]"


# -------------------------------------------------------------------------------------------------------- odd programs


def test_a_loop_that_runs_in_another_thread_than_the_main_one_serves_and_closes(anyio_backend):
    backend, options = anyio_backend
    found = []

    async def main():
        async with gibbs.open_hub(CALLS, workers=2) as hub:
            with pytest.raises(gibbs.WorkerCrashed):
                await hub.request(os._exit, 4)
            found.append(await hub.request(abs, -1))

    thread = threading.Thread(target=lambda: anyio.run(main, backend=backend, backend_options=options))
    thread.start()
    thread.join()
    assert found == [1]


def test_a_program_whose_working_directory_was_removed_is_served(start_program):
    program = start_program("""
        class Model:
            def __call__(self, x): return x ** 2

        async def main():
            async with gibbs.open_hub(Model, workers=2) as hub:
                say(await hub.request(3))

        folder = Path(__file__).parent / "gone"
        folder.mkdir()
        os.chdir(folder)
        folder.rmdir()
        run(main)
    """)
    assert program.read() == 9
    assert program.end() == ("", "")


def test_a_script_without_a_main_guard_runs_once_and_is_served(start_program):
    program = start_program("""
        say("the script runs")

        class Model:
            def __call__(self, x): return x ** 2

        async def main():
            async with gibbs.open_hub(Model, workers=2) as hub:
                say(await hub.request(3))

        run(main)
    """)
    assert program.read() == "the script runs"
    assert program.read() == 9
    assert program.end() == ("", "")


def test_a_module_that_opens_a_hub_while_a_worker_imports_it_is_told_so_and_no_process_is_left(start_program, tmp_path):
    (tmp_path / "unguarded.py").write_text(
        "import anyio, gibbs\n"
        "class Model:\n"
        "    def __call__(self): return 1\n"
        "async def main():\n"
        "    async with gibbs.open_hub(Model, workers=1): pass\n"
        "if not hasattr(gibbs, 'is_the_parent'):\n"
        "    anyio.run(main)\n"
    )
    program = start_program("""
        gibbs.is_the_parent = True
        import unguarded

        try:
            run(unguarded.main)
        except gibbs.WorkerStartFailed as error:
            say(error.reason, str(error))
    """)
    reason, text = program.read()
    assert reason == "recursive"
    assert '`if __name__ == "__main__":`' in text
    assert program.end() == ("", "")


# ------------------------------------------------------------------------------------------------ workers that linger


def linger():
    """A thread that keeps the interpreter from its end."""
    threading.Thread(target=time.sleep, args=(600,)).start()


def stop_itself():
    os.kill(os.getpid(), signal.SIGSTOP)


def ignore_everything():
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


@pytest.mark.parametrize("how", [linger, ignore_everything])
async def test_a_worker_that_does_not_leave_when_asked_is_killed_at_close_timeout(how, all_gone):
    with anyio.fail_after(20):
        async with gibbs.open_hub(CALLS, workers=2, close_timeout=0.3) as hub:
            pids = hub.statistics().pids
            await hub.request(how)
    all_gone(pids)


async def test_a_stopped_worker_does_not_keep_the_hub_from_closing(until, all_gone):
    with anyio.fail_after(20):
        async with gibbs.open_hub(CALLS, workers=1, close_timeout=0.3) as hub, anyio.create_task_group() as tg:
            [pid] = hub.statistics().pids
            tg.start_soon(hub.request, stop_itself)
            await until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
            tg.cancel_scope.cancel()
    all_gone([pid])


async def test_workers_that_are_killed_in_the_moment_of_closing_are_no_error():
    async with gibbs.open_hub(CALLS, workers=2) as hub:
        for pid in hub.statistics().pids:
            os.kill(pid, signal.SIGKILL)
    assert hub.statistics().crashed == 0


@pytest.mark.slow
async def test_twenty_hubs_one_after_the_other_leave_no_descriptor_thread_or_process(take_inventory):
    for turn in range(20):
        async with gibbs.open_hub(CALLS, workers=1) as hub:
            assert await hub.request(abs, -turn) == turn
        if turn == 0:
            before = take_inventory()
    assert not before.left()
