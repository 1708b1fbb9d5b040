"""Where workers are: told whatever they do, without harm to what they do."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import threading
import time

import anyio
import pytest
from anyio import to_thread

import gibbs
from gibbs import events
from gibbs._parent.stacks import stacks_of
from gibbs.testing import InBand, InlineLauncher, hang
from gibbs.testing._thread_process import ThreadProcess

WATCHDOG = 20.0
WHERE = signal.SIGRTMIN + 6
STANDS_STILL = 0.1  # seconds, or more, for which one is watched before anybody says so

local_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a side channel")


class Model:
    """Each method says that it is there by `report`, or by opening what the test opens too."""

    interruptible = True

    def pid(self):
        return os.getpid()

    def sleeps(self):
        gibbs.report("here")
        while not gibbs.cancelled():
            time.sleep(0.001)

    def spins(self):
        gibbs.report("here")
        while True:
            pass

    def sleeps_beside_others(self):
        self.over = threading.Event()
        helper = threading.Thread(target=self.helps)
        helper.start()
        try:
            self.sleeps()
        finally:
            self.over.set()
            helper.join()

    def helps(self):
        self.over.wait()

    def waits_in_c(self, gate):
        """No other thread of this process runs meanwhile."""
        os.close(ctypes.PyDLL(None).open(os.fsencode(gate), os.O_RDONLY))
        return os.getpid()

    def swallows(self):
        while True:
            try:
                while True:
                    gibbs.report("here")
                    time.sleep(0.001)
            except gibbs.Interrupted:
                pass

    def faults(self):
        os.kill(os.getpid(), signal.SIGSEGV)

    def takes_it_away(self, how):
        signal.signal(WHERE, how)


LAUNCHERS = [pytest.param(gibbs.LocalLauncher(), id="local"), pytest.param(gibbs.ForkLauncher(), id="fork")]


@pytest.fixture(params=["side", "in band", "inline"])
def any_launcher(request):
    local = gibbs.LocalLauncher()
    return {"side": local, "in band": InBand(local), "inline": InlineLauncher()}[request.param]


@pytest.fixture
def gate(tmp_path):
    """What waits to read it waits until somebody opens it to write."""
    os.mkfifo(tmp_path / "gate")
    return str(tmp_path / "gate")


def open_hub(launcher=None, *, workers=1, **options):
    options = {"cancel_grace": WATCHDOG} | options
    return gibbs.open_hub(Model, workers=workers, launcher=launcher, **options)


@pytest.fixture
def pressed(monkeypatch):
    """When somebody was to be sent a signal, which nobody is."""
    pressed = []
    monkeypatch.setattr("gibbs._launch.watch_linux.Watch.press", lambda _: pressed.append(time.monotonic()))
    return pressed


async def told(hub, pressed):
    """`hub.stacks()`, once all have answered. Who has not for so long that he seems to stand still was held up by a busy machine."""
    with anyio.fail_after(WATCHDOG):
        while True:
            asked = time.monotonic()
            stacks = await hub.stacks()
            assert not [at for at in pressed if at - asked < STANDS_STILL]
            pressed.clear()
            if all(stack.answered for stack in stacks):
                return stacks


async def test_what_a_worker_does_is_told_and_goes_on(any_launcher, pressed):
    """And no signal is sent for it: Python code that runs must not be met by one on which `faulthandler` answers."""
    async with open_hub(any_launcher, workers=2) as hub:
        idle = await told(hub, pressed)
        assert [(stack.seat, stack.incarnation, stack.pid) for stack in idle] == [
            (seat, 1, pid) for seat, pid in enumerate(hub.statistics().pids)
        ]
        assert [(stack.method, stack.seconds, stack.threads) for stack in idle] == [(None, 0.0, ((),))] * 2
        for method in ("sleeps", "spins", "sleeps_beside_others"):
            async with hub.method(method).track() as job:
                async for _ in job.progress:
                    break
                stacks = await told(hub, pressed)
                [stack] = [one for one in stacks if one.method == method]  # the one before may not have unwound yet
                assert 0 < stack.seconds < 600
                assert all(
                    frame.file == __file__ or os.sep + "gibbs" + os.sep not in frame.file for frame in stack.frames
                )
                assert stack.frames[0].function == f"Model.{method}"
                assert stack.frames[0].line > 0
        if not isinstance(any_launcher, InlineLauncher):  # whose workers are threads of this program
            assert any(frame.function == "Model.helps" for thread in stack.threads[1:] for frame in thread)
        assert hub.statistics().restarts == 0


async def test_a_worker_in_a_thread_that_still_tells_the_loop_is_idle(monkeypatch):
    """The loop's own code is on its stack then, and nobody has called that."""
    tell, may_go_on = ThreadProcess._tell, threading.Event()

    def tells(process):
        tell(process)
        may_go_on.wait(600)

    monkeypatch.setattr(ThreadProcess, "_tell", tells)
    async with open_hub(InlineLauncher()) as hub:
        try:
            [idle] = await hub.stacks()
        finally:
            may_go_on.set()
        assert idle.threads == ((),)


@local_only
@pytest.mark.parametrize("launcher", LAUNCHERS)
async def test_c_code_that_lets_nobody_else_run_is_told_all_the_same(launcher, gate, until):
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        pid = await hub.method(Model.pid).request()
        answers = []

        async def ask():
            answers.append(await hub.method(Model.waits_in_c).request(gate))

        tg.start_soon(ask)
        with anyio.fail_after(20):
            functions = []
            while functions != ["waits_in_c"]:
                [stack] = await hub.stacks()
                functions = [frame.function for frame in stack.frames]
        assert stack.method == "waits_in_c"
        assert stack.seconds > 0
        assert answers == []
        os.close(os.open(gate, os.O_WRONLY))
        await until(lambda: answers == [pid])
        await until(lambda: hub.statistics().running == 0)
        with anyio.fail_after(20):
            while (await hub.stacks())[0].threads != ((),):  # which it says by itself, behind what it was asked before
                pass


@local_only
@pytest.mark.parametrize("launcher", LAUNCHERS)
async def test_observers_are_told_where_a_worker_was_that_has_crashed(launcher):
    told = []
    async with open_hub(launcher, observers=[told.append]) as hub:
        with pytest.raises(gibbs.WorkerCrashed, match=r"the innermost call last:\n.* in faults"):
            await hub.method(Model.faults).request()
    [event] = [one for one in told if isinstance(one, events.WorkerEnded) and not one.planned]
    assert event.ending.stack.startswith("Fatal Python error: Segmentation fault")
    assert f'File "{__file__}", line' in event.ending.stack
    assert event.probable_cause.endswith("in faults")


async def impatient(hub):
    """As `hub.stacks()`, which would wait for a second where there is no answer."""
    return await stacks_of([one.worker.whereabouts for one in hub._desk.crew.supervisors], 0.3)


@pytest.mark.parametrize("in_band", [False, True])
async def test_a_worker_that_is_stopped_says_nothing_and_answers_when_it_goes_on(in_band):
    local = gibbs.LocalLauncher()
    async with open_hub(InBand(local) if in_band else local) as hub:
        async with hang(hub):
            for _ in range(2):
                [stack] = await impatient(hub)
                assert not stack.answered
                assert stack.pid is not None
        assert await hub.method(Model.pid).request() == stack.pid
        with anyio.fail_after(20):
            while not (await hub.stacks())[0].answered:
                pass


@local_only
@pytest.mark.parametrize("how", [signal.SIG_DFL, signal.SIG_IGN])
async def test_a_model_that_takes_the_signal_away_is_not_hurt_by_it(how, gate):
    async with open_hub() as hub, anyio.create_task_group() as tg:
        pid = await hub.method(Model.pid).request()
        await hub.method(Model.takes_it_away).request(how)
        assert await hub.stacks()  # it needs no signal
        tg.start_soon(hub.method(Model.waits_in_c).request, gate)
        with anyio.fail_after(20):
            while (await impatient(hub))[0].answered:  # until it is there
                pass
        os.close(os.open(gate, os.O_WRONLY))
        assert await hub.method(Model.pid).request() == pid


async def test_a_worker_that_starts_says_where_its_model_is_built(gate, until):
    async with open_hub(ready=0) as hub, gibbs.open_hub(SlowToBuild, gate, workers=1, ready=0) as slow:
        await hub.wait_ready()
        with anyio.fail_after(20):
            functions = []
            while functions != ["SlowToBuild.__init__"]:
                functions = [frame.function for stack in await slow.stacks() for frame in stack.frames]
        os.close(os.open(gate, os.O_WRONLY))
        await slow.wait_ready()


class SlowToBuild:
    def __init__(self, gate):
        os.close(os.open(gate, os.O_RDONLY))


async def test_a_worker_that_crashes_before_it_is_ready_says_where():
    with pytest.raises(gibbs.WorkerStartFailed, match=r"innermost call last:\n(.*\n)*.*, in __init__"):
        async with gibbs.open_hub(FaultyToBuild, workers=1):
            pytest.fail("there is no model")


class FaultyToBuild:
    def __init__(self):
        os.kill(os.getpid(), signal.SIGSEGV)


async def test_asking_all_the_time_costs_no_request():
    async with open_hub(workers=2) as hub, anyio.create_task_group() as tg:
        pids, answers = set(hub.statistics().pids), set()

        async def ask():
            for _ in range(300):
                assert await hub.method(Model.pid).request() in pids

        async def look():
            while True:
                stacks = await hub.stacks()
                assert [stack.seat for stack in stacks] == [0, 1]
                answers.update(stack.seat for stack in stacks if stack.answered)

        async with anyio.create_task_group() as requests:
            for _ in range(3):
                tg.start_soon(look)
                requests.start_soon(ask)
        tg.cancel_scope.cancel()
    assert answers == {0, 1}
    assert hub.statistics().restarts == 0
    assert await hub.stacks() == ()  # there is nobody left


async def test_from_another_thread_it_is_refused():
    async with open_hub() as hub:
        with pytest.raises(RuntimeError, match="another thread"):
            await to_thread.run_sync(anyio.run, hub.stacks)


@pytest.mark.parametrize("in_band", [False, True])
async def test_a_call_that_does_not_unwind_says_where_it_was(in_band, caplog):
    local = gibbs.LocalLauncher()
    caplog.set_level(logging.WARNING, "gibbs")
    said = ""
    async with open_hub(InBand(local) if in_band else local, cancel_grace=0.05) as hub:
        with anyio.fail_after(20):
            while not said:  # within the half of its grace: on a busy machine not always
                killed = hub.statistics().killed
                async with hub.method("swallows").track() as job:
                    async for _ in job.progress:
                        break
                await hub.method(Model.pid).request()
                assert hub.statistics().killed == killed + 1
                said = next((text for text in caplog.messages if "not unwound in 0.05 seconds" in text), "")
    assert f"{__file__}:" in said
    assert said.endswith("in Model.swallows")


@pytest.mark.usefixtures("pressed")
async def test_a_slow_call_is_told_of_once(any_launcher, caplog, until):
    caplog.set_level(logging.WARNING, "gibbs")
    seen, number, is_told = [], 0, False
    async with open_hub(any_launcher, slow_call=0.05, observers=[seen.append]) as hub:
        while not is_told:  # within a second: on a busy machine not always
            number += 1
            caplog.clear()
            seen.clear()
            async with hub.method("spins").track() as job:
                async for _ in job.progress:
                    break
                await until(lambda: caplog.records)
                await anyio.sleep(0.15)
            [said] = [record.getMessage() for record in caplog.records]
            [event] = [event for event in seen if isinstance(event, events.CallIsSlow)]
            is_told = event.stack.answered
        assert (event.number, event.seat, event.incarnation) == (number, 0, 1)
        assert event.took >= 0.05
        assert event.stack.frames[-1].function == "Model.spins"
        assert said.startswith(
            f"worker 0 of the hub 'Model' (pid {hub.statistics().pids[0]}) has been in 'spins' for {event.took:.3g} seconds"
        )
        assert said.endswith("in Model.spins")
        await until(
            lambda: all(rounds.sleeps for rounds in hub._desk.crew.clock.rounds)
        )  # nobody is woken while nothing runs
