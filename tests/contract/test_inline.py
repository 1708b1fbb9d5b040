"""A hub whose workers are threads: what is the same as with processes is tested where that is; here is what only threads have."""

from __future__ import annotations

import inspect
import logging
import math
import os
import sys
import threading
import time
from pathlib import Path

import anyio
import psutil
import pytest

import gibbs
from gibbs.testing import InBand, InlineLauncher, crash, hang, open_inline_hub
from gibbs.testing._thread_interrupter import Killed
from gibbs.testing._thread_worker import ThreadWorker
from tests.end_to_end.inline import FILES, NOT_INLINE

WATCHDOG = 30.0
END_TO_END = Path(__file__).parents[1] / "end_to_end"


class Model:
    """Does what it is told, and says where."""

    interruptible = True

    def __init__(self, *about):
        self.about = about
        self.repaired = 0

    def __call__(self, x=None):
        return x

    def where(self):
        return os.getpid(), threading.get_ident()

    def who(self):
        worker = gibbs.current_worker()
        return worker.name, worker.seat, worker.incarnation

    def left(self):
        return gibbs.remaining()

    def waits(self, event):
        EVENTS[event].wait()
        return "waited"

    def stays(self, began, until):
        """Whatever is raised in it."""
        while not EVENTS[until].is_set():
            try:
                BEGUN.add(began)
                EVENTS[until].wait()
            except BaseException:  # noqa: BLE001
                pass

    def loops(self, began):
        try:
            BEGUN.add(began)
            while True:
                time.sleep(0.0005)
        finally:
            DONE.append("cleaned up")

    def loops_in_a_shield(self, began, until):
        with gibbs.uninterruptible():
            BEGUN.add(began)
            while not EVENTS[until].is_set():
                time.sleep(0.0005)
            DONE.append("still here")
        DONE.append("not reached")

    def swallows(self, began):
        while not EVENTS["go"].is_set():
            try:
                BEGUN.add(began)
                while not EVENTS["go"].is_set():
                    time.sleep(0.0005)
            except gibbs.Interrupted:
                DONE.append("swallowed")

    def after_interrupt(self):
        self.repaired += 1

    def repairs(self):
        return self.repaired

    def stops_here(self):
        breakpoint()

    def yields(self, count):
        try:
            yield from range(count)
        finally:
            DONE.append("closed")


class Silent(Model):
    interruptible = False


class Events(dict):
    def __missing__(self, name):
        self[name] = threading.Event()
        return self[name]


EVENTS = Events()
BEGUN = set()  # said by models: an interrupt between two lines of an event would leave it locked
DONE = []


@pytest.fixture(autouse=True)
def fresh():
    EVENTS.clear()
    BEGUN.clear()
    DONE.clear()
    yield
    for event in EVENTS.values():
        event.set()


async def until(condition):
    with anyio.fail_after(WATCHDOG):
        while not condition():
            await anyio.sleep(0.001)


async def cancelled_once(request, began):
    """Ask, and leave when the call has begun."""
    with anyio.fail_after(WATCHDOG):
        async with anyio.create_task_group() as tg:
            tg.start_soon(request)
            await until(lambda: began in BEGUN)
            tg.cancel_scope.cancel()


# ------------------------------------------------------------------------------------------------------- what it is made of


async def test_the_model_is_in_this_process_and_each_in_a_thread_of_its_own():
    before = psutil.Process().children()
    async with open_inline_hub(Model, workers=2) as hub:
        where = hub.method(Model.where)
        found = {await where.request() for _ in range(20)}
        found |= {await hub.using(key=key).method(Model.where).request() for key in "abcdefgh"}
        assert {pid for pid, _ in found} == {os.getpid()}
        assert len({thread for _, thread in found} - {threading.get_ident()}) == 2
        assert psutil.Process().children() == before


async def test_what_a_test_patches_is_patched_for_the_model(monkeypatch):
    monkeypatch.setattr(Model, "__call__", lambda self, x: -x)
    async with open_inline_hub(Model) as hub:
        assert await hub.request(3) == -3


async def test_a_debugger_stops_in_the_model(monkeypatch):
    stopped = []
    monkeypatch.setattr(sys, "breakpointhook", lambda: stopped.append(sys._getframe(1).f_code.co_name))
    async with open_inline_hub(Model) as hub:
        await hub.method(Model.stops_here).request()
    assert stopped == ["stops_here"]


async def test_arguments_and_results_are_copies_as_between_processes():
    async with open_inline_hub(Model) as hub:
        value = [1, {2}]
        back = await hub.request(value)
        assert back == value
        assert back is not value
        with pytest.raises(TypeError, match="pickle"):
            await hub.request(threading.Lock())
        assert await hub.request(4) == 4


def test_it_is_opened_as_open_hub_is():
    ours, theirs = (inspect.signature(f).parameters for f in (open_inline_hub, gibbs.open_hub))
    assert [*ours] == [name for name in theirs if name not in ("launcher", "logs")]
    differ = {name for name in ours if ours[name].default != theirs[name].default}
    assert differ == {"workers", "start_timeout"}
    assert ours["start_timeout"].default == math.inf


async def test_each_thread_knows_its_own_worker_and_others_know_none():
    async with (
        open_inline_hub(Model, workers=3, name="one") as one,
        open_inline_hub(Model, name="other") as other,
    ):
        who = {await one.using(key=key).method(Model.who).request() for key in range(30)}
        assert who == {("one", seat, 1) for seat in range(3)}
        assert await other.method(Model.who).request() == ("other", 0, 1)
        await crash(other)
        assert await other.method(Model.who).request() == ("other", 0, 2)
        assert gibbs.current_worker().incarnation == 0
        assert gibbs.remaining() == math.inf


async def test_each_call_knows_the_time_of_its_own_caller():
    async with open_inline_hub(Model, workers=2) as hub:
        left = hub.method(Model.left)
        with anyio.fail_after(WATCHDOG):
            assert 0 < await left.request() <= WATCHDOG
        assert await left.request() == math.inf


def test_what_is_left_out_of_the_contract_is_a_test_of_it():
    tests = "".join((END_TO_END / name).read_text() for name in FILES)
    assert [key for key in NOT_INLINE if f"def {key.partition('[')[0]}(" not in tests] == []


async def test_a_launcher_of_it_is_a_launcher():
    async with gibbs.open_hub(Model, workers=2, launcher=InlineLauncher()) as hub:
        assert await hub.request(3) == 3


async def test_without_its_side_channel_it_is_refused_in_words():
    with pytest.raises(gibbs.WorkerStartFailed, match="no other way to be interrupted"):
        async with gibbs.open_hub(Model, workers=1, launcher=InBand(InlineLauncher())):
            raise AssertionError("it was entered")


# ------------------------------------------------------------------------------------------------------------ interrupted


async def test_a_call_is_interrupted_between_two_lines_and_its_worker_kept():
    async with open_inline_hub(Model, cancel_grace=WATCHDOG, abandon_on_cancel=False) as hub:
        for times in range(1, 6):
            await cancelled_once(lambda: hub.method(Model.loops).request("began"), "began")
            BEGUN.clear()
            assert DONE == ["cleaned up"] * times
            assert await hub.method(Model.repairs).request() == times
        assert hub.statistics().interrupted == 5
        assert hub.statistics().restarts == 0


async def test_a_shield_holds_an_interrupt_back():
    async with open_inline_hub(Model, cancel_grace=WATCHDOG) as hub:
        await cancelled_once(lambda: hub.method(Model.loops_in_a_shield).request("began", "go"), "began")
        await anyio.sleep(0.05)
        assert DONE == []
        EVENTS["go"].set()
        await until(lambda: hub.statistics().interrupted == 1)
        assert DONE == ["still here"]


async def test_a_caller_leaves_at_once_where_the_model_waits_in_c():
    async with open_inline_hub(Model, cancel_grace=WATCHDOG) as hub:
        with anyio.move_on_after(0.01):
            await hub.method(Model.waits).request("go")
        EVENTS["go"].set()
        assert await hub.request(3) == 3
        assert hub.statistics().restarts == 0


@pytest.mark.parametrize("model", [Model, Silent])
async def test_one_that_does_not_come_back_is_replaced(model):
    async with open_inline_hub(model, cancel_grace=0.01) as hub:
        await cancelled_once(lambda: hub.method("stays").request("began", "go"), "began")
        assert await hub.method("who").request() == (model.__name__, 0, 2)
        assert hub.statistics().killed == 1
        EVENTS["go"].set()


async def test_one_that_swallows_its_interrupt_is_cut_when_it_is_killed():
    async with open_inline_hub(Model, cancel_grace=WATCHDOG, close_timeout=0.05) as hub:
        await cancelled_once(lambda: hub.method(Model.swallows).request("began"), "began")
        await until(lambda: DONE)
    assert DONE == ["swallowed"]
    assert hub.statistics().killed == 1
    assert not EVENTS["go"].is_set(), "its thread has ended, which the end of the hub waits for"


async def test_a_stream_that_is_left_closes_its_generator():
    async with open_inline_hub(Model, cancel_grace=WATCHDOG, abandon_on_cancel=False) as hub:
        async with hub.using(buffer=2).method(Model.yields).stream(100) as items:
            assert await anext(items) == 0
        assert DONE == ["closed"]
        assert hub.statistics().restarts == 0


# ----------------------------------------------------------------------------------------------------------- what ends it


class Ails:
    health_interval = 0.01

    def __init__(self):
        self.well = True

    def __call__(self, well):
        self.well = well
        return gibbs.current_worker().incarnation

    def healthy(self):
        if not self.well:
            raise ValueError("not well")


async def test_one_that_is_not_well_is_replaced_and_the_program_lives(capsys):
    async with open_inline_hub(Ails) as hub:
        assert await hub.request(False) == 1
        await until(lambda: hub.statistics().restarts == 1)
        assert await hub.request(True) == 2
    assert "ValueError: not well" in capsys.readouterr().err


class CannotBeBuilt:
    def __init__(self):
        raise LookupError("no weights")


class CannotBeClosed(Model):
    def close(self):
        raise LookupError("it stays open")


async def test_a_model_that_cannot_be_built_is_told_as_ever():
    with pytest.raises(gibbs.WorkerStartFailed) as caught:
        async with open_inline_hub(CannotBeBuilt):
            raise AssertionError("it was entered")
    assert isinstance(caught.value.__cause__, LookupError)


async def test_a_model_that_cannot_be_closed_is_told_on_standard_error(capsys):
    async with open_inline_hub(CannotBeClosed):
        pass
    assert "LookupError: it stays open" in capsys.readouterr().err


class SlowToBuild:
    def __init__(self):
        BEGUN.add("building")
        while True:
            time.sleep(0.0005)


async def test_a_model_that_is_being_built_is_cut_when_the_hub_is_given_up():
    with anyio.fail_after(WATCHDOG):
        async with anyio.create_task_group() as tg:

            @tg.start_soon
            async def opens():
                async with open_inline_hub(SlowToBuild):
                    raise AssertionError("it was entered")

            await until(lambda: "building" in BEGUN)
            tg.cancel_scope.cancel()


async def test_a_thread_that_does_not_come_back_is_told_with_its_lines(monkeypatch):
    monkeypatch.setattr("gibbs.testing._inline._THREAD_PATIENCE", 0.05)
    with pytest.raises(RuntimeError, match="a thread cannot be killed") as caught:
        async with open_inline_hub(Model, close_timeout=0.05, on_cancel="finish") as hub:
            await cancelled_once(lambda: hub.method(Model.stays).request("began", "never"), "began")
    EVENTS["never"].set()
    [note] = caught.value.__notes__
    assert "in stays" in note
    with anyio.fail_after(WATCHDOG):
        while any("gibbs" in thread.name for thread in threading.enumerate()):
            await anyio.sleep(0.001)


def test_after_its_end_a_worker_says_nothing_and_begins_nothing():
    told = []
    worker = ThreadWorker("a worker", lambda: told.append(worker.ending))
    worker.say(b"before")
    worker.die(gibbs.Ending(how="exited", code=3))
    worker.die(gibbs.Ending(how="exited", code=4))
    for verb in (
        lambda: worker.say(b"after"),
        worker.take,
        worker.gate,
        lambda: worker.begin(lambda: told.append("begun")),
    ):
        with pytest.raises(Killed):
            verb()
    assert not worker.hear(b"to nobody")
    assert [*worker.heard] == [b"before"]
    assert told == [None, gibbs.Ending(how="exited", code=3)]


async def test_cancels_at_any_moment_hit_nobody_else(caplog):
    """Interrupts that come late, early, or when the call has just ended."""
    caplog.set_level(logging.CRITICAL)
    async with open_inline_hub(Model, workers=2, cancel_grace=WATCHDOG) as hub:
        for number in range(300):
            with anyio.move_on_after(number % 30 * 0.0001):
                await hub.method(Model.loops).request("began")
            assert await hub.request(number) == number
        assert hub.statistics().restarts == 0


def call_something():
    return 1


def test_after_many_interrupts_a_traced_function_returns():
    async def main():
        async with open_inline_hub(Model, workers=2, cancel_grace=WATCHDOG) as hub:
            for number in range(30):
                with anyio.move_on_after(number % 10 * 0.0002):
                    await hub.method(Model.loops).request("began")
            await hub.request(1)

    anyio.run(main)
    sys.settrace(lambda *_: None)
    try:
        assert call_something() == 1
    finally:
        sys.settrace(None)


# ------------------------------------------------------------------------------------------------------------ a mock clock


@pytest.fixture
def mock_clock():
    """Runs its argument on Trio, the loop that has a clock which jumps when all tasks wait."""
    trio = pytest.importorskip("trio")
    from trio.testing import MockClock

    return lambda main: trio.run(main, clock=MockClock(autojump_threshold=0))


def test_on_a_clock_that_jumps_no_time_passes_while_a_model_works(mock_clock, monkeypatch):
    monkeypatch.setattr("gibbs.testing._inline._CALL_PATIENCE", WATCHDOG)

    async def main():
        async with open_inline_hub(Slow, workers=2) as hub:
            with anyio.fail_after(0.001):
                assert await anyio.amap(hub.request, [0.03] * 6) == [0.03] * 6

    mock_clock(main)


def test_on_a_clock_that_jumps_an_hour_for_one_that_hangs_is_over_at_once(mock_clock):
    async def main():
        async with open_inline_hub(Slow) as hub, hang(hub):
            with pytest.raises(TimeoutError), anyio.fail_after(3600):
                await hub.request(0)

    mock_clock(main)


def test_on_a_clock_that_jumps_one_that_goes_on_and_has_nothing_to_do_holds_up_nobody(mock_clock, monkeypatch):
    monkeypatch.setattr("gibbs.testing._inline._CALL_PATIENCE", 3600)

    async def main():
        async with open_inline_hub(Slow, workers=2) as hub:
            async with hang(hub), hang(hub, 1):
                await anyio.sleep(3600)
            await anyio.sleep(3600)
            assert await hub.request(0) == 0
            await anyio.sleep(3600)

    mock_clock(main)


def test_on_a_clock_that_jumps_a_call_that_takes_too_long_is_not_waited_for(mock_clock, monkeypatch):
    monkeypatch.setattr("gibbs.testing._inline._CALL_PATIENCE", 0.02)

    async def main():
        async with open_inline_hub(Model) as hub:
            with pytest.raises(TimeoutError), anyio.fail_after(3600):
                await hub.method(Model.waits).request("go")
            EVENTS["go"].set()
            assert await hub.request(1) == 1

    mock_clock(main)


class Slow:
    def __call__(self, seconds):
        time.sleep(seconds)
        return seconds
