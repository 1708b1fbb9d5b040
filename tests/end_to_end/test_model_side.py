"""What a model can ask, and the hooks that it may have, in real workers."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from pathlib import Path

import anyio
import pytest

import gibbs
from tests.end_to_end.callers import WATCHDOG, until


def say(folder, *words):
    with Path(folder, "said").open("a") as said:
        print(*words, file=said)


def said(folder):
    path = Path(folder, "said")
    return path.read_text().splitlines() if path.exists() else []


class Asks:
    interruptible = True

    def __init__(self):
        self.built_in = self.who()

    def __call__(self):
        return (*self.built_in, *self.who())

    def who(self):
        worker = gibbs.current_worker()
        return worker.name, worker.seat, worker.incarnation, worker.device

    def dies(self):
        os._exit(1)

    def left(self, before=0.0):
        time.sleep(before)
        return gibbs.remaining()

    def left_in_a_fork(self):
        child = os.fork()
        if not child:
            os._exit(42 if gibbs.remaining() == math.inf else 1)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), gibbs.remaining()

    def yields_left(self):
        yield gibbs.remaining()

    @gibbs.batched()
    def all_left(self, items):
        return [gibbs.remaining() for _ in items]

    def swallows_until_told(self, folder):
        """A thread of its own does the work, and looks whether anybody waits for it."""
        before = gibbs.cancelled()

        def work():
            say(folder, "works", before)
            while not gibbs.cancelled():
                pass
            try:
                gibbs.checkpoint()
            except gibbs.Interrupted:
                say(folder, "stopped")

        thread = threading.Thread(target=work)
        with (
            gibbs.uninterruptible()
        ):  # or one of several interrupts comes while it is awaited, and it goes on without a call
            thread.start()
            thread.join()

    def holds_back_until(self, folder):
        with gibbs.uninterruptible():
            say(folder, "works")
            while not gibbs.cancelled():
                pass
            gibbs.checkpoint()
            say(folder, "still here")
        time.sleep(600)  # the interrupt may come a moment after the word of it
        say(folder, "not reached")

    def is_cancelled(self):
        gibbs.checkpoint()
        return gibbs.cancelled()


@pytest.fixture
def opened(launcher):
    def opened(model, *args, **options):
        options = {"workers": 1, "launcher": launcher, "cancel_grace": WATCHDOG} | options
        return gibbs.open_hub(model, *args, **options)

    return opened


# ------------------------------------------------------------------------------------------------------------ who it is


async def test_a_model_learns_its_seat_its_name_and_its_device_from_the_first_line_on(heard):
    launcher = gibbs.LocalLauncher(output=heard, devices=["cuda:0", "cuda:1"])
    async with gibbs.open_hub(Asks, workers=3, launcher=launcher, name="asks") as hub:
        found = set()
        async with anyio.create_task_group() as tg:

            async def ask(key):
                found.add(await hub.using(key=key).request())

            for key in range(30):
                tg.start_soon(ask, key)
    devices = {0: "cuda:0", 1: "cuda:1", 2: "cuda:0"}
    assert found == {("asks", seat, 1, device) * 2 for seat, device in devices.items()}


async def test_the_seat_is_the_same_after_a_crash_and_the_incarnation_is_not(opened):
    async with opened(Asks) as hub:
        with pytest.raises(gibbs.WorkerCrashed):
            await hub.method("dies").request()
        assert await hub.request() == ("Asks", 0, 2, None) * 2


@pytest.mark.parametrize("devices", ["cuda:0", [0], [None], None, (str(n) for n in range(2))])
def test_devices_that_make_no_sense_are_refused(devices):
    with pytest.raises(TypeError, match="devices"):
        gibbs.LocalLauncher(devices=devices)


def test_outside_a_worker_all_of_it_is_harmless():
    assert Asks()() == ("", 0, 0, None) * 2
    assert gibbs.remaining() == math.inf
    assert not gibbs.cancelled()
    assert gibbs.checkpoint() is None
    assert repr(gibbs.current_worker()) == "<gibbs.CurrentWorker 0 of '', incarnation 0, device None>"


# ---------------------------------------------------------------------------------------------------------- time that is left


async def test_a_model_learns_how_long_its_caller_will_wait(opened):
    async with opened(Asks) as hub:
        left = hub.method(Asks.left)
        assert await left.request() == math.inf
        with anyio.fail_after(WATCHDOG):
            with anyio.move_on_after(2 * WATCHDOG):
                assert 0 < await left.request() <= WATCHDOG, "the nearest counts"
            first, second = await left.request(), await left.request(0.05)
            assert first - second >= 0.05
            async with hub.method(Asks.yields_left).stream() as items:
                assert 0 < await anext(items) <= WATCHDOG
            async with left.map([0.0]) as results:
                assert 0 < await anext(results) <= WATCHDOG
            assert await hub.method(Asks.all_left).request("x") == math.inf, "each of a batch has its own"
        assert await left.request() == math.inf, "nothing is left of the one before"


async def test_a_fork_of_the_model_does_not_ask_in_its_place(opened):
    async with opened(Asks) as hub:
        with anyio.fail_after(WATCHDOG):
            status, left = await hub.method(Asks.left_in_a_fork).request()
        assert status == 42
        assert 0 < left <= WATCHDOG


class Ponders:
    health_interval = 0.02

    def __init__(self, folder):
        self.folder = folder

    def __call__(self):
        return gibbs.remaining() < math.inf

    def healthy(self):
        say(self.folder, "asked")
        return gibbs.remaining() == math.inf


async def test_between_two_calls_nobody_waits(either_launcher, tmp_path):
    async with gibbs.open_hub(Ponders, str(tmp_path), workers=1, launcher=either_launcher) as hub:
        with anyio.fail_after(WATCHDOG):
            for _ in range(3):
                assert await hub.request()
                asked = len(said(tmp_path))
                await until(lambda: len(said(tmp_path)) > asked)  # noqa: B023 - awaited at once
        assert hub.statistics().restarts == 0


async def test_a_caller_who_has_left_will_wait_no_longer(either_launcher, start, tmp_path):
    """Its own task cannot be asked any more, and the model must not wait for an answer."""
    async with gibbs.open_hub(Late, workers=1, launcher=either_launcher, on_cancel="finish") as hub:
        call = start(hub, str(tmp_path))
        await until(lambda: said(tmp_path) == ["works"])
        await call.cancel()
        Path(tmp_path, "go").touch()
        await until(lambda: said(tmp_path) == ["works", "-inf"])
        assert hub.statistics().restarts == 0


class Late:
    def __call__(self, folder):
        say(folder, "works")
        while not Path(folder, "go").exists():
            pass
        say(folder, gibbs.remaining())


async def test_what_waits_in_the_queue_waits_on_its_callers_time(opened):
    async with opened(Asks) as hub:
        found = []

        async def ask(*args):
            found.append(await hub.method(Asks.left).request(*args))

        with anyio.fail_after(WATCHDOG):
            async with anyio.create_task_group() as tg:
                tg.start_soon(ask, 0.2)
                await until(lambda: hub.statistics().running == 1)
                tg.start_soon(ask)
        assert found[1] < WATCHDOG - 0.1


# ------------------------------------------------------------------------------------------------------- whether to stop


async def test_a_thread_of_the_models_sees_that_its_caller_has_left(opened, start, tmp_path):
    async with opened(Asks) as hub:
        call = start(hub.method(Asks.swallows_until_told), str(tmp_path))
        await until(lambda: said(tmp_path) == ["works False"])
        await call.cancel()
        await until(lambda: said(tmp_path) == ["works False", "stopped"])
        assert not await hub.method(Asks.is_cancelled).request(), "the next one is not"
        assert hub.statistics().restarts == 0


async def test_in_a_block_that_must_not_be_interrupted_a_checkpoint_does_nothing(opened, start, tmp_path):
    async with opened(Asks) as hub:
        call = start(hub.method(Asks.holds_back_until), str(tmp_path))
        await until(lambda: said(tmp_path) == ["works"])
        await call.cancel()
        await until(lambda: hub.statistics().interrupted == 1)
        assert said(tmp_path) == ["works", "still here"]
        assert hub.statistics().restarts == 0


# ---------------------------------------------------------------------------------------------------------------- hooks


class Hooked:
    def __init__(self, folder, worse=""):
        self.folder = folder
        self.worse = worse
        say(folder, "built")

    def warm_up(self):
        say(self.folder, "warm")
        if self.worse == "warm_up":
            raise ValueError("it stays cold")

    def close(self):
        say(self.folder, "closed")
        if self.worse == "close":
            raise ValueError("it stays open")

    def __call__(self):
        say(self.folder, "called")


class Entered(Hooked):
    def __enter__(self):
        say(self.folder, "entered")
        return Inner(self.folder)

    def __exit__(self, *exc):
        say(self.folder, "left", *exc)


class Inner:
    def __init__(self, folder):
        self.folder = folder

    def warm_up(self):
        say(self.folder, "warm within")

    def __call__(self):
        say(self.folder, "called within")


class NoHooks:
    """Methods that happen to be called so."""

    def __init__(self, folder):
        self.folder = folder

    def warm_up(self, degrees):
        say(self.folder, "never")

    def close(self, door):
        return f"{door} is closed"

    async def healthy(self):
        say(self.folder, "never")

    def __call__(self):
        pass


async def test_a_model_is_warmed_up_before_it_serves_and_closed_when_its_worker_leaves(opened, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "gibbs"):
        async with opened(Hooked, str(tmp_path), workers=1) as hub:
            assert said(tmp_path) == ["built", "warm"]
            await hub.request()
    assert said(tmp_path) == ["built", "warm", "called", "closed"]
    told = [record.getMessage() for record in caplog.records if "hooks" in record.getMessage()]
    assert told == ["the model of the hub 'Hooked' has the hooks close, warm_up"]


async def test_a_model_that_is_a_context_manager_is_entered_and_left_and_what_it_gives_is_served(opened, tmp_path):
    async with opened(Entered, str(tmp_path)) as hub:
        await hub.request()
    assert said(tmp_path) == ["built", "entered", "warm within", "called within", "left None None None"]


async def test_a_method_that_is_called_like_a_hook_and_takes_something_is_none(opened, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "gibbs"):
        async with opened(NoHooks, str(tmp_path)) as hub:
            assert await hub.method("close").request("the door") == "the door is closed"
    assert said(tmp_path) == []
    assert not [record for record in caplog.records if "hooks" in record.getMessage()]


async def test_a_model_that_cannot_be_warmed_up_is_closed_and_the_hub_is_not_opened(opened, tmp_path):
    with pytest.raises(gibbs.WorkerStartFailed) as caught:
        async with opened(Hooked, str(tmp_path), "warm_up"):
            raise AssertionError("it was entered")
    assert caught.value.reason == "model"
    assert str(caught.value.__cause__) == "it stays cold"
    assert said(tmp_path) == ["built", "warm", "closed"]


async def test_a_model_that_cannot_be_closed_is_told_on_its_output_and_the_hub_leaves_in_peace(opened, tmp_path, heard):
    async with opened(Hooked, str(tmp_path), "close"):
        pass
    assert "ValueError: it stays open" in heard.lines


# --------------------------------------------------------------------------------------------------------------- health


class Ails:
    health_interval = 0.05

    def __init__(self, folder):
        self.folder = folder
        self.ailment = ""

    def __call__(self):
        return gibbs.current_worker().incarnation

    def ail(self, ailment):
        self.ailment = ailment

    def healthy(self):
        say(self.folder, "asked")
        if self.ailment == "raises":
            raise ValueError("not well")
        if self.ailment == "hangs":
            time.sleep(600)
        if self.ailment == "takes its time":
            time.sleep(2 * self.health_interval)
        return None if self.ailment == "says nothing" else self.ailment != "says no"


@pytest.mark.parametrize("ailment", ["says no", "raises", pytest.param("hangs", marks=pytest.mark.in_turn)])
async def test_a_worker_that_is_not_well_is_replaced(ailment, either_launcher, tmp_path):
    async with gibbs.open_hub(Ails, str(tmp_path), workers=1, launcher=either_launcher) as hub:
        assert await hub.request() == 1
        await until(lambda: said(tmp_path))
        await hub.method(Ails.ail).request(ailment)
        await until(lambda: hub.statistics().restarts == 1)
        assert await hub.request() == 2


@pytest.mark.parametrize("ailment", ["", "says nothing", "takes its time"])
async def test_a_worker_that_is_well_is_asked_again_and_again_and_kept(ailment, either_launcher, tmp_path):
    async with gibbs.open_hub(Ails, str(tmp_path), workers=1, launcher=either_launcher) as hub:
        await hub.method(Ails.ail).request(ailment)
        await until(lambda: len(said(tmp_path)) > 3)
        assert await hub.request() == 1


class NoInterval(Ails):
    health_interval = "often"


async def test_an_interval_that_is_none_is_refused_when_the_model_is_built(opened, tmp_path):
    with pytest.raises(gibbs.WorkerStartFailed) as caught:
        async with opened(NoInterval, str(tmp_path)):
            raise AssertionError("it was entered")
    assert "health_interval must be a number of seconds > 0" in str(caught.value.__cause__)
