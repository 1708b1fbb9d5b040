"""Workers over ssh, from and to this machine: a real server on an unprivileged port, keys that are thrown away."""

from __future__ import annotations

import re
import signal
import sys
from contextlib import suppress

import anyio
import numpy
import psutil
import pytest

import gibbs
from gibbs.abc import LaunchFailed, LaunchRefused, WorkerSpec
from tests.end_to_end.models_afar import Afar
from tests.end_to_end.sshd import needs_sshd, running_sshd

pytestmark = [pytest.mark.slow, needs_sshd, pytest.mark.timeout(120)]
WATCHDOG = 30.0


@pytest.fixture(scope="module")
def sshd(tmp_path_factory):
    with running_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


async def test_the_walk_through_runs_with_one_argument_more(sshd):
    class MyAwesomeModel:
        def __call__(self, x):
            return x * x

    async with gibbs.open_hub(MyAwesomeModel, workers=2, launcher=sshd.launcher()) as hub:
        assert [await hub.request(n) for n in range(10)] == [n * n for n in range(10)]


async def test_hosts_have_their_seats_in_turn_and_workers_say_where_they_are(sshd):
    launcher = sshd.launcher("127.0.0.1", "127.0.0.2", devices=["left", "right"])
    async with gibbs.open_hub(Afar, workers=2, launcher=launcher) as hub:
        with pytest.raises(gibbs.WorkerCrashed) as caught:
            await hub.method(Afar.exits).request(3)
        assert caught.value.host == launcher.hosts[caught.value.seat]
        assert f"on {caught.value.host}) died" in str(caught.value)
        assert (caught.value.exit_code, caught.value.may_still_run) == (3, False)


async def test_arrays_and_exceptions_travel(sshd):
    async with gibbs.open_hub(Afar, workers=1, launcher=sshd.launcher()) as hub:
        values = numpy.arange(2_000_000.0)
        assert (await hub.method(Afar.array).request(values) == values[::-1]).all()
        with pytest.raises(TypeError, match="unexpected keyword"):
            await hub.method(Afar.pid).request(nonsense=1)


async def test_a_cancelled_call_is_interrupted_there_and_its_worker_is_kept(sshd, heard, start):
    launcher = sshd.launcher(output=heard)
    async with gibbs.open_hub(Afar, workers=1, launcher=launcher, cancel_grace=WATCHDOG) as hub:
        pid = await hub.method(Afar.pid).request()
        for times in (1, 2, 3):
            sleeps = start(hub.method(Afar.sleeps))
            await heard.line("begun", times)
            await sleeps.cancel()
            assert await hub.method(Afar.pid).request() == pid
        assert hub.statistics().interrupted == 3


async def test_a_worker_that_is_killed_is_told_by_its_own_signal(sshd):
    async with gibbs.open_hub(Afar, workers=1, launcher=sshd.launcher()) as hub:
        with pytest.raises(gibbs.WorkerCrashed) as caught:
            await hub.method(Afar.dies).request(signal.SIGKILL)
        assert (caught.value.signal, caught.value.may_still_run) == ("SIGKILL", False)
        assert await hub.request(1) == 1


async def test_a_connection_that_is_cut_under_load_loses_nothing(sshd, until, running):
    outcomes = []
    async with gibbs.open_hub(Afar, workers=2, launcher=sshd.launcher()) as hub:
        pids = hub.statistics().pids
        stop = False

        async def asks():
            while not stop:
                try:
                    outcomes.append(await hub.method(Afar.naps).request())
                except gibbs.WorkerCrashed as error:
                    outcomes.append(f"may still run: {error.may_still_run}")

        async with anyio.create_task_group() as tg:
            for _ in range(8):
                tg.start_soon(asks)
            await until(lambda: len(outcomes) > 50)
            for part in [part for pid in pids for part in sshd.between(pid)]:
                with suppress(psutil.NoSuchProcess):  # it ended with the one before
                    part.kill()
            await until(lambda: hub.statistics().restarts == 2 and hub.statistics().seats["serving"] == 2)
            stop = True
        statistics = hub.statistics()
        assert statistics.done + statistics.crashed == len(outcomes)
        assert statistics.crashed == outcomes.count("may still run: True") <= 2  # each had one, or was between two
        assert {*outcomes} <= {"may still run: True", "rested"}
        await until(lambda: not running(pids))


async def test_a_host_that_says_nothing_any_more_is_noticed_and_its_worker_ends_itself(sshd, until, running):
    """Everything between them is frozen, and thawed when it is over: what they meant to say comes too late."""
    async with gibbs.open_hub(Afar, workers=1, launcher=sshd.launcher(keepalive=1.0)) as hub:
        [pid] = hub.statistics().pids
        between = sshd.between(pid)
        assert between
        for part in between:
            part.suspend()
        try:
            with anyio.fail_after(WATCHDOG), pytest.raises(gibbs.WorkerCrashed) as caught:
                await hub.method(Afar.sleeps).request()
            assert caught.value.may_still_run
            await until(lambda: not running([pid]))
        finally:
            for part in between:
                part.resume()
        assert await hub.request(1) == 1


async def test_a_dozen_workers_start_on_one_host_that_turns_away_whoever_comes_in_a_crowd(sshd):
    async with gibbs.open_hub(Afar, workers=12, launcher=sshd.launcher()) as hub:
        assert hub.statistics().restarts == 0
        assert len({*hub.statistics().pids}) == 12


async def test_the_directory_and_the_variables_are_those_of_the_worker(sshd, tmp_path):
    there = tmp_path / "a directory's name"
    there.mkdir()
    launcher = sshd.launcher(directory=str(there))
    launcher = sshd.launcher(directory=str(there), env={**launcher.env, "GIBBS_TEST_AFAR": "it's $HOME"})
    async with gibbs.open_hub(Afar, workers=1, launcher=launcher) as hub:
        directory, path = await hub.method(Afar.where).request()
        assert directory == str(there)
        assert str(there) in path
        assert await hub.method(Afar.variable).request("GIBBS_TEST_AFAR") == "it's $HOME"


def without_keys(sshd):
    return {"options": (*sshd.options[:4], *sshd.options[6:])}


def as_a_stranger(sshd):
    unknown = [part.replace("known_hosts", "no_hosts") for part in sshd.options]
    return {"options": tuple(unknown)}


def without_gibbs(sshd):
    return {"python": (sys.executable, "-S", "-I")}


def without_python(sshd):
    return {"python": "no-such-program-as-this"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (without_keys, "Permission denied"),
        (as_a_stranger, "Host key verification failed"),
        (without_gibbs, "gibbs is not installed"),
        (without_python, "there is no such program there"),
    ],
)
async def test_what_no_try_will_mend_is_refused(sshd, options, words):
    with pytest.raises(gibbs.WorkerStartFailed, match=re.escape(words)) as caught:
        async with gibbs.open_hub(Afar, workers=1, launcher=sshd.launcher(**options(sshd))):
            pytest.fail("entered")
    assert caught.value.reason == "launch"
    assert type(caught.value.__cause__) is LaunchRefused


async def test_a_host_that_cannot_be_reached_may_be_tried_again(sshd):
    options = ("-F", "none", "-p", "1")
    with pytest.raises(gibbs.WorkerStartFailed, match="Connection refused") as caught:
        async with gibbs.open_hub(Afar, workers=1, launcher=sshd.launcher(options=options)):
            pytest.fail("entered")
    assert type(caught.value.__cause__) is LaunchFailed


@pytest.mark.parametrize(
    ("arguments", "options", "error", "words"),
    [
        ("gpu1", {}, TypeError, "hosts must be a sequence of strings"),
        ([], {}, ValueError, "hosts must name a host"),
        (["-oProxyCommand=evil"], {}, ValueError, "hosts must be names that ssh can be given"),
        (["a b"], {}, ValueError, "hosts must be names that ssh can be given"),
        (["a"], {"python": []}, ValueError, "python must name a program"),
        (["a"], {"directory": 1}, TypeError, "directory must be a string"),
        (["a"], {"keepalive": None}, TypeError, "keepalive must be a number"),
        (["a"], {"options": "-p 22"}, TypeError, "options must be a sequence"),
    ],
)
def test_what_makes_no_sense_is_refused_when_it_is_said(arguments, options, error, words):
    with pytest.raises(error, match=re.escape(words)):
        gibbs.SSHLauncher(arguments, **options)


def test_nothing_of_the_hosts_and_variables_is_read_by_a_shell_here_or_there():
    launcher = gibbs.SSHLauncher(["me@host"], python=("/a b/python", "-X", "dev"), directory="it's", env={"A": "$(b)"})
    spec = WorkerSpec(name="n", seat=0, incarnation=1, workers=1)
    argv = launcher._argv(spec)
    assert argv[-3:-1] == ["--", "me@host"]
    assert argv[-1] == "cd 'it'\"'\"'s' && exec env 'A=$(b)' '/a b/python' -X dev -m gibbs.worker --stdio"
    assert argv[0] == "ssh"
