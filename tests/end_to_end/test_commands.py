"""Workers at the other end of a command: here the interpreter itself, or a shell that comes to it."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import anyio
import psutil
import pytest

import gibbs
from gibbs._launch import command_process
from gibbs._wire.hello import MOST_NOISE, Hello, HelloReader, NoHello
from gibbs.abc import LaunchFailed, LaunchRefused, WorkerSpec
from gibbs.testing._hub_end import GONE, HubEnd
from tests.end_to_end.models_afar import Afar

pytestmark = pytest.mark.slow
WATCHDOG = 20.0
WORKER = [sys.executable, "-m", "gibbs.worker", "--stdio"]
INTERPRETER = gibbs.CommandLauncher(WORKER)
SPEC = WorkerSpec(name="afar", seat=0, incarnation=1, workers=1)


def shell(script, **options):
    """A launcher whose command is a shell script, in which $WORKER is the interpreter's command."""
    return gibbs.CommandLauncher(["sh", "-c", script.replace("$WORKER", shlex.join(WORKER))], **options)


def keeper_of(pid):
    """The process between a command's worker and this program."""
    return psutil.Process(pid).parent()


class Ears:
    """Hears what workers write, line by line."""

    def __init__(self):
        self.lines = []
        self._more = anyio.Event()

    def __call__(self, line, seat):
        self.lines.append(line)
        self._more.set()
        self._more = anyio.Event()

    async def hear(self, line):
        with anyio.fail_after(WATCHDOG):
            while line not in self.lines:
                await self._more.wait()


@pytest.fixture
def ears():
    return Ears()


# ------------------------------------------------------------------------------------------------------------- what works


async def test_a_hub_serves_over_a_command():
    async with gibbs.open_hub(Afar, workers=2, launcher=INTERPRETER) as hub:
        assert [await hub.request(n) for n in range(20)] == [*range(20)]
        assert len(set(hub.statistics().pids)) == 2
        assert await hub.method(Afar.pid).request() in hub.statistics().pids
        big = os.urandom(3_000_000)
        assert await hub.request(big) == big


async def test_what_lives_in_a_function_travels_there():
    class Local:
        def __call__(self, x):
            return x * 2

    async with gibbs.open_hub(Local, workers=1, launcher=INTERPRETER) as hub:
        assert await hub.request(21) == 42


async def test_what_the_model_prints_does_not_disturb_the_stream_and_its_stdin_is_empty(ears):
    launcher = gibbs.CommandLauncher(WORKER, output=ears)
    async with gibbs.open_hub(Afar, workers=1, launcher=launcher) as hub:
        await hub.method(Afar.prints).request("printed")
        assert await hub.method(Afar.reads_its_stdin).request() == ("", b"")
        assert await hub.request(1) == 1
        for line in ("printed", "written", "complaint"):
            await ears.hear(line)


async def test_a_running_call_is_interrupted_and_its_worker_kept(ears):
    launcher = gibbs.CommandLauncher(WORKER, output=ears)
    async with gibbs.open_hub(Afar, workers=1, launcher=launcher, cancel_grace=WATCHDOG) as hub:
        [pid] = hub.statistics().pids
        async with anyio.create_task_group() as tg:
            tg.start_soon(hub.method(Afar.sleeps).request)
            await ears.hear("begun")
            tg.cancel_scope.cancel()
        assert await hub.method(Afar.pid).request() == pid


async def test_seats_have_devices_in_turn_and_the_command_its_variables():
    launcher = gibbs.CommandLauncher(WORKER, devices=["left", "right"], env={"GIBBS_TEST_AFAR": "it is set"})
    async with gibbs.open_hub(Afar, workers=3, launcher=launcher) as hub:
        places = set()
        with anyio.fail_after(WATCHDOG):
            while len(places) < 3:  # whichever is free
                async with anyio.create_task_group() as tg:
                    for _ in range(3):
                        tg.start_soon(ask, hub, places)
        assert places == {("left", 0), ("right", 1), ("left", 2)}
        assert await hub.method(Afar.variable).request("GIBBS_TEST_AFAR") == "it is set"


async def ask(hub, places):
    places.add(await hub.method(Afar.place).request())


async def test_the_arguments_of_the_command_may_be_made_for_each_worker():
    asked = []

    def argv(spec):
        asked.append((spec.seat, spec.incarnation))
        return WORKER

    async with gibbs.open_hub(Afar, workers=2, launcher=gibbs.CommandLauncher(argv)) as hub:
        with pytest.raises(gibbs.WorkerCrashed):
            await hub.method(Afar.exits).request(1)
        await hub.wait_ready()
    assert {(0, 1), (1, 1)} < {*asked}
    assert len(asked) == 3


async def test_its_own_modules_come_before_those_of_the_hubs_path_and_its_current_directory_last(tmp_path):
    launcher = shell(f"cd {shlex.quote(str(tmp_path))} && exec $WORKER")
    async with gibbs.open_hub(Afar, workers=1, launcher=launcher) as hub:
        directory, path = await hub.method(Afar.where).request()
    assert directory == str(tmp_path)
    library = os.path.dirname(os.__file__)
    assert path.index(library) < path.index(str(tmp_path))
    assert [*map(path.count, path)] == [1] * len(path)


async def test_a_file_of_its_current_directory_does_not_shadow_the_standard_library(tmp_path):
    for name in ("queue", "random", "struct", "typing", "copyreg"):
        (tmp_path / f"{name}.py").write_text("raise AssertionError('imported')")
    (tmp_path / "of_there.py").write_text(
        "class Model:\n    def __call__(self):\n        import queue\n        return 'here'\n"
    )

    def build():
        from of_there import Model  # what only the worker finds

        return Model()

    launcher = shell(f"cd {shlex.quote(str(tmp_path))} && exec $WORKER")
    async with gibbs.open_hub(build, workers=1, launcher=launcher) as hub:
        assert await hub.request() == "here"


# ------------------------------------------------------------------------------------------------------- the first line


async def test_what_a_login_prints_before_the_worker_speaks_is_skipped():
    async with gibbs.open_hub(Afar, workers=1, launcher=shell("echo Welcome; printf 'no end'; exec $WORKER")) as hub:
        assert await hub.request(1) == 1


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("exec no-such-program-as-this", "there is no such program there"),
        (f"exec {shlex.quote(sys.executable)} -S -I -m gibbs.worker --stdio", "gibbs is not installed"),
        ("exec yes", "what came before a worker's first line had no end"),
        ("printf '\\ngibbs-worker-hello protocol=1\\n'; sleep 600", "must tell protocol, gibbs, python, pid, host"),
        (
            "printf '\\ngibbs-worker-hello protocol=1 gibbs=0 python=3.11.1 pid=1 host=h\\n'; sleep 600",
            "it has gibbs 0, and this program",
        ),
        (
            "printf '\\ngibbs-worker-hello protocol=1 gibbs=0 python=3 pid=1 host=h\\nmore'; sleep 600",
            "behind the worker",
        ),
    ],
)
async def test_what_no_worker_can_come_of_is_refused_in_words(script, words):
    with pytest.raises(gibbs.WorkerStartFailed, match=re.escape(words)) as caught:
        async with gibbs.open_hub(Afar, workers=1, launcher=shell(script)):
            pytest.fail("entered")
    assert caught.value.reason == "launch"
    assert type(caught.value.__cause__) is LaunchRefused


async def test_a_program_that_is_not_there_is_refused_in_words():
    with pytest.raises(gibbs.WorkerStartFailed, match=r"the command cannot be run.*no-such-program-as-this") as caught:
        async with gibbs.open_hub(Afar, workers=1, launcher=gibbs.CommandLauncher(["no-such-program-as-this"])):
            pytest.fail("entered")
    assert type(caught.value.__cause__) is LaunchRefused


async def test_a_command_that_fails_is_told_with_what_it_wrote():
    script = "echo 'cannot reach it today' >&2; exit 9"
    with pytest.raises(gibbs.WorkerStartFailed, match=r"exited with status 9.*cannot reach it today") as caught:
        async with gibbs.open_hub(Afar, workers=1, launcher=shell(script)):
            pytest.fail("entered")
    assert type(caught.value.__cause__) is LaunchFailed


async def test_a_command_that_says_nothing_is_given_up_when_its_time_is_over(tmp_path, running):
    pids = tmp_path / "pids"
    pids.touch()  # it may be given up before it has said even that
    script = f"echo $$ > {shlex.quote(str(pids))}; exec sleep 600"
    with pytest.raises(gibbs.WorkerStartFailed) as caught:
        async with gibbs.open_hub(Afar, workers=1, launcher=shell(script), start_timeout=0.5):
            pytest.fail("entered")
    assert caught.value.reason == "timeout"
    assert running(map(int, pids.read_text().split())) == []


async def test_a_hub_that_is_open_ends_when_it_is_told_that_trying_again_is_of_no_use(tmp_path):
    marker = tmp_path / "marker"
    script = f"test -e {shlex.quote(str(marker))} && exec no-such-program-as-this; exec $WORKER"
    with pytest.raises(gibbs.WorkerStartFailed, match="there is no such program there"):
        async with gibbs.open_hub(Afar, workers=1, launcher=shell(script)) as hub:
            marker.touch()
            with pytest.raises(gibbs.WorkerCrashed):
                await hub.method(Afar.exits).request(1)
            with anyio.fail_after(WATCHDOG):
                await hub.request(1)


def test_any_split_of_what_comes_gives_the_same_line():
    hello = Hello("1", "0.4", "3.11.7", 12, "a host\nwith blanks")
    came = b"Welcome\nto it" + hello.line()
    for at in range(len(came)):
        reader = HelloReader()
        read = reader.feed(came[:at])
        assert read is None
        read = reader.feed(came[at:])
        assert (read.gibbs, read.python, read.pid, read.host) == ("0.4", "3.11.7", 12, "a?host?with?blanks")


def test_noise_without_end_is_not_collected():
    reader = HelloReader()
    with pytest.raises(NoHello, match="no end"):
        for _ in range(MOST_NOISE):
            reader.feed(b"yes\n" * 100)


@pytest.mark.parametrize(("python", "fits"), [("%d.%d.99", True), ("2.7.18", False), ("nonsense", False)])
def test_a_worker_of_another_python_does_not_fit(python, fits):
    hello = Hello.of_this_process(1)
    hello.python = python % sys.version_info[:2] if "%" in python else python
    assert (hello.misfit() is None) == fits


# --------------------------------------------------------------------------------------------------------------- deaths


@pytest.mark.parametrize(
    ("method", "argument", "exit_code", "signal_name"),
    [("exits", 3, 3, None), ("dies", signal.SIGKILL, None, "SIGKILL"), ("dies", signal.SIGSEGV, None, "SIGSEGV")],
)
async def test_how_a_worker_ended_is_told_by_the_exit_status_of_its_command(method, argument, exit_code, signal_name):
    async with gibbs.open_hub(Afar, workers=1, launcher=INTERPRETER) as hub:
        [pid] = hub.statistics().pids
        with pytest.raises(gibbs.WorkerCrashed) as caught:
            await hub.method(method).request(argument)
        error = caught.value
        assert (error.pid, error.exit_code, error.signal) == (pid, exit_code, signal_name)
        assert error.may_have_run
        assert not error.may_still_run
        assert await hub.request(1) == 1


@pytest.mark.parametrize("method", ["sleeps", "holds_the_lock_of_the_interpreter"])
async def test_a_worker_that_is_killed_is_gone_for_certain(method, ears, monkeypatch):
    """Its command is not killed: its exit status is the proof."""
    monkeypatch.setattr(command_process, "_KILL_PATIENCE", WATCHDOG)
    async with gibbs.CommandLauncher(WORKER, output=ears).session() as session:
        hub = HubEnd(await session.launch(SPEC))
        await hub.shake_hands(Afar)
        await hub.call(method)
        await ears.hear("begun")
        hub.process.kill()
        with anyio.fail_after(WATCHDOG):
            ending = await hub.process.ended()
        assert (ending.signal, ending.certain) == ("SIGKILL", True)
        await hub.process.aclose()


async def test_when_the_command_itself_ends_nobody_can_say_whether_the_worker_still_runs(ears, running, until):
    launcher = gibbs.CommandLauncher(WORKER, output=ears)
    async with gibbs.open_hub(Afar, workers=1, launcher=launcher) as hub:
        [pid] = hub.statistics().pids

        async def asks():
            with pytest.raises(gibbs.WorkerCrashed, match="may run still") as caught:
                await hub.method(Afar.holds_the_lock_of_the_interpreter).request()
            assert (caught.value.may_have_run, caught.value.may_still_run) == (True, True)
            assert "was ended by SIGKILL" in caught.value.probable_cause

        async with anyio.create_task_group() as tg:
            tg.start_soon(asks)
            await ears.hear("begun")
            keeper_of(pid).kill()
        await until(lambda: not running([pid]))  # by its lifeline, though C holds the lock of its interpreter


async def test_an_exit_status_that_is_the_commands_own_proves_nothing(tmp_path):
    status = tmp_path / "status"
    script = f"$WORKER; exit $(cat {shlex.quote(str(status))})"
    status.write_text("125")
    async with gibbs.open_hub(Afar, workers=1, launcher=shell(script, lost=[125])) as hub:
        with pytest.raises(gibbs.WorkerCrashed) as caught:
            await hub.method(Afar.exits).request(1)
        assert caught.value.may_still_run
        assert "exited with status 125" in str(caught.value)
        status.write_text("1")
        with pytest.raises(gibbs.WorkerCrashed) as caught:
            await hub.method(Afar.exits).request(1)
        assert not caught.value.may_still_run


@pytest.mark.parametrize("uncertain_too", [False, True])
async def test_what_may_still_run_is_tried_again_only_on_request(tmp_path, ears, uncertain_too, until):
    launcher = gibbs.CommandLauncher(WORKER, output=ears)
    marker = tmp_path / "marker"
    async with gibbs.open_hub(Afar, workers=1, launcher=launcher) as hub:
        calls = hub.using(retries=1, retry_uncertain=uncertain_too).method(Afar.dies_once)
        outcomes = []

        async def asks():
            try:
                outcomes.append(await calls.request(str(marker)))
            except gibbs.WorkerCrashed as error:
                outcomes.append(error.may_still_run)

        async with anyio.create_task_group() as tg:
            tg.start_soon(asks)
            await until(marker.exists)
            keeper_of(hub.statistics().pids[0]).kill()
        assert outcomes == ["answered" if uncertain_too else True]


async def test_a_worker_that_is_killed_takes_along_what_it_has_started(running, until):
    async with gibbs.open_hub(Afar, workers=1, launcher=INTERPRETER) as hub:
        started = await hub.method(Afar.starts_a_process).request()
        with pytest.raises(gibbs.WorkerCrashed):
            await hub.method(Afar.dies).request(signal.SIGKILL)
        await until(lambda: not running([started]))


@pytest.mark.parametrize("script", ["exec $WORKER", "$WORKER; exit $?"], ids=["directly", "under a shell"])
async def test_nothing_is_left_when_the_hub_is_left_in_a_call_that_holds_the_lock(script, ears, running, until):
    async with anyio.create_task_group() as tg:
        async with gibbs.open_hub(Afar, workers=1, launcher=shell(script, output=ears), close_timeout=0.1) as hub:
            [pid] = hub.statistics().pids
            started = await hub.method(Afar.starts_a_process).request()
            keeper = keeper_of(pid).pid

            @tg.start_soon
            async def asks():
                with pytest.raises(gibbs.HubClosed):
                    await hub.method(Afar.holds_the_lock_of_the_interpreter).request()

            await ears.hear("begun")
    assert running([pid, keeper]) == []
    await until(lambda: not running([started]))  # of what it has started the kernel need not have made an end yet


async def test_a_command_that_does_not_pass_the_end_on_is_killed(tmp_path, running):
    """It stands between the hub and the worker, and does not notice that nobody is there any more."""
    pid_file = tmp_path / "pid"
    script = f"echo $$ > {shlex.quote(str(pid_file))}; trap '' HUP TERM; $WORKER; sleep 600"
    async with gibbs.open_hub(Afar, workers=1, launcher=shell(script), close_timeout=0.1) as hub:
        assert await hub.request(1) == 1
    assert running([int(pid_file.read_text())]) == []


async def test_a_command_that_lingers_is_killed_also_when_the_program_is_cancelled(tmp_path, running):
    pid_file = tmp_path / "pid"
    script = f"echo $$ > {shlex.quote(str(pid_file))}; $WORKER; exec sleep 600"
    with anyio.move_on_after(WATCHDOG) as scope:
        async with gibbs.open_hub(Afar, workers=1, launcher=shell(script), close_timeout=0.1) as hub:
            assert await hub.request(1) == 1
            scope.cancel()
            await anyio.sleep_forever()
    assert running([int(pid_file.read_text())]) == []


async def test_signals_that_its_starter_held_back_are_not_held_back_there():
    launcher = gibbs.CommandLauncher(
        [
            sys.executable,
            "-c",
            f"import os, signal; signal.pthread_sigmask(0, signal.valid_signals()); os.execv({WORKER[0]!r}, {WORKER!r})",
        ]
    )
    async with gibbs.open_hub(Afar, workers=1, launcher=launcher) as hub:
        with anyio.fail_after(WATCHDOG), pytest.raises(gibbs.WorkerCrashed) as caught:
            await hub.method(Afar.exits).request(3)
        assert caught.value.exit_code == 3


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
async def test_who_ends_the_keeper_in_peace_ends_the_worker(signum):
    """As an engine does that wants its place back: `docker stop`, `scancel`."""
    async with gibbs.open_hub(Afar, workers=1, launcher=INTERPRETER) as hub:
        [pid] = hub.statistics().pids
        async with anyio.create_task_group() as tg:

            @tg.start_soon
            async def asks():
                with pytest.raises(gibbs.WorkerCrashed) as caught:
                    await hub.method(Afar.sleeps).request()
                assert not caught.value.may_still_run

            with anyio.fail_after(WATCHDOG):
                while not hub.statistics().running:
                    await anyio.sleep(0)
            keeper_of(pid).send_signal(signum)
        assert await hub.request(1) == 1


def test_no_worker_outlives_a_program_that_is_killed(start_program, all_gone):
    program = start_program(
        f"""
        sys.path.insert(0, {str(Path(__file__).parents[2])!r})
        from tests.end_to_end.models_afar import Afar

        async def main():
            async with gibbs.open_hub(Afar, workers=2, launcher=gibbs.CommandLauncher({WORKER!r})) as hub:
                say(hub.statistics().pids)
                await hub.method(Afar.holds_the_lock_of_the_interpreter).request()

        run(main)
        """
    )
    pids = program.read()
    os.kill(program.pid, signal.SIGKILL)
    all_gone(pids)


# --------------------------------------------------------------------------------------------------------- signs of life


async def test_a_worker_that_hears_nothing_of_its_hub_ends_itself():
    async with INTERPRETER.session() as session:
        hub = HubEnd(await session.launch(SPEC), silence=0.2)
        with anyio.fail_after(WATCHDOG):
            with suppress(*GONE):  # the silence may be over before its model is built
                await hub.shake_hands(Afar)
            ending = await hub.process.ended()
        assert ending.signal == "SIGKILL"
        await hub.process.aclose()


@pytest.mark.in_turn
async def test_a_worker_that_could_not_listen_does_not_take_its_hub_for_gone():
    """Its interpreter was held by C for longer than the signs that it missed, and they were there when it looked.

    As long as this program may stand still, which gives no signs then.
    """
    async with gibbs.open_hub(Afar, workers=1, launcher=gibbs.CommandLauncher(WORKER, keepalive=1.0)) as hub:
        [pid] = hub.statistics().pids
        assert await hub.method(Afar.holds_the_lock_of_the_interpreter).request(3.5) == pid
        assert await hub.method(Afar.pid).request() == pid


# ------------------------------------------------------------------------------------------------------------- the entry


@pytest.mark.parametrize("arguments", [[], ["--stdin"], ["--stdio", "more"]])
def test_the_entry_tells_what_it_is_for(arguments):
    done = subprocess.run(
        [sys.executable, "-m", "gibbs.worker", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=WATCHDOG,
    )
    assert done.returncode == 1
    assert "usage: python -m gibbs.worker --stdio" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "options", "error", "words"),
    [
        ("ssh host", {}, TypeError, "argv must be a sequence of strings, not 'ssh host'"),
        ([], {}, ValueError, "argv must name a program"),
        (["ssh", 1], {}, TypeError, "argv must be a sequence"),
        (["ssh"], {"keepalive": 0}, ValueError, "keepalive must be more than 0"),
        (["ssh"], {"keepalive": True}, TypeError, "keepalive must be a number"),
        (["ssh"], {"lost": ["255"]}, TypeError, "lost must be a sequence of exit statuses"),
        (["ssh"], {"lost": [999]}, TypeError, "lost must be a sequence of exit statuses"),
        (["ssh"], {"env": {"A=": "b"}}, ValueError, "env must map names"),
        (["ssh"], {"output": "nowhere"}, ValueError, "output must be"),
        (["ssh"], {"devices": "cuda:0"}, TypeError, "devices must be a sequence"),
    ],
)
def test_what_makes_no_sense_is_refused_when_it_is_said(arguments, options, error, words):
    with pytest.raises(error, match=re.escape(words)):
        gibbs.CommandLauncher(arguments, **options)
