"""The hub's own loop stands still, or its clock leaps: no worker pays for it. And what a result may cost the loop, and whom.

Standing still is what a program does that blocks its loop. The times are the fault itself here, not waits.
"""

from __future__ import annotations

import contextlib
import os
import select
import time

import anyio
import pytest
from anyio.lowlevel import checkpoint

import gibbs
from gibbs._parent.link import Link
from gibbs._wire.messages import SETUP
from gibbs.testing import ScriptedLauncher
from tests.end_to_end.callers import Call, answer, until
from tests.faults.cells import WATCHDOG


class Model:
    """Answers at once, or when a file is there."""

    interruptible = True

    def __call__(self, x):
        return x * x

    def waits_for(self, path):
        path.with_name(f"waits {os.getpid()}").touch()
        while not path.exists():
            time.sleep(0.001)
        return path.name


def open_hub(workers=1, **options):
    return gibbs.open_hub(Model, workers=workers, **options)


# --------------------------------------------------------------------------------------- the hub's loop stands still


def stand_still(link, seconds):
    """Block the loop for so long, and until the worker has said what it was about to say."""
    time.sleep(seconds)
    assert select.select([link._socket], [], [], WATCHDOG)[0]


async def test_after_a_pause_of_the_hub_s_loop_all_requests_are_answered_by_the_same_workers():
    async with open_hub(2) as hub:
        pids = hub.statistics().pids
        ends = {}

        async def ask(n):
            ends[n] = await hub.request(n)

        async with anyio.create_task_group() as tg:
            for n in range(50):
                tg.start_soon(ask, n)
            while not hub.statistics().running:
                await checkpoint()
            time.sleep(0.3)
        assert ends == {n: n * n for n in range(50)}
        assert hub.statistics().pids == pids


async def test_a_pause_of_the_hub_s_loop_is_not_counted_against_a_call_that_unwinds(tmp_path):
    async with open_hub(cancel_grace=0.05) as hub:
        pids, link = hub.statistics().pids, hub._desk.crew.supervisors[0].worker.link
        strike = link.strike

        def strike_and_pause(link_id):
            link.strike = strike
            strike(link_id)
            stand_still(link, 0.12)

        for n in range(1, 13):
            async with anyio.create_task_group() as tg:
                call = Call(hub.method("waits_for"), tmp_path / f"{n}" / "never")
                (tmp_path / f"{n}").mkdir()
                tg.start_soon(call.run)
                await until(lambda n=n: [*(tmp_path / f"{n}").iterdir()])
                link.strike = strike_and_pause
                await call.cancel()
            assert await answer(hub, n) == n * n
            assert link.strike == strike
            assert (hub.statistics().interrupted, hub.statistics().killed, hub.statistics().pids) == (n, 0, pids)


async def test_a_pause_of_the_hub_s_loop_is_not_counted_against_a_worker_that_starts(monkeypatch):
    send = Link.send

    def send_and_pause(link, kind, *rest):
        send(link, kind, *rest)
        if kind == SETUP:
            stand_still(link, 0.3)  # it has said that it is ready by then, and its time is over

    monkeypatch.setattr(Link, "send", send_and_pause)
    for _ in range(5):
        async with open_hub(start_timeout=0.2) as hub:
            assert await answer(hub, 3) == 9


async def test_a_wall_clock_that_jumps_is_noticed_by_nobody(tmp_path, monkeypatch):
    """The hub's program sees the clock that may be set leap by an hour, there and back, while a call runs."""
    real, jump = time.time, 0.0
    monkeypatch.setattr(time, "time", lambda: real() + jump)
    async with open_hub(cancel_grace=3600) as hub:
        pids = hub.statistics().pids
        for n, jump in enumerate((3600.0, -3600.0, 0.0), 1):
            async with anyio.create_task_group() as tg:
                call = Call(hub.method("waits_for"), tmp_path / f"{n}" / "never")
                (tmp_path / f"{n}").mkdir()
                tg.start_soon(call.run)
                await until(lambda n=n: [*(tmp_path / f"{n}").iterdir()])
                jump = -jump
                assert hub.statistics().oldest_wait < 60
                await call.cancel()
            assert await answer(hub, n) == n * n
            assert hub.statistics().pids == pids


# ------------------------------------------------------------------------------------------------------------ opening


class NotesItsTask:
    """Says, where it is unpickled, in whose task that is."""

    def __reduce__(self):
        return note_task, ()


TASKS = []


def note_task():
    TASKS.append(anyio.get_current_task().id)
    return "opened"


class ReturnsIt(Model):
    def __call__(self, path):
        super().waits_for(path)
        return NotesItsTask()


async def test_a_result_is_opened_in_the_task_of_its_caller_and_holds_up_no_reader(tmp_path):
    TASKS.clear()
    async with gibbs.open_hub(ReturnsIt, workers=1) as hub:
        (tmp_path / "go").touch()
        assert await hub.request(tmp_path / "go") == "opened"
        assert TASKS == [anyio.get_current_task().id]


async def test_a_result_that_nobody_waits_for_is_not_opened(tmp_path):
    TASKS.clear()
    async with gibbs.open_hub(ReturnsIt, workers=1, on_cancel="finish") as hub:
        async with anyio.create_task_group() as tg:
            call = Call(hub, tmp_path / "go")
            tg.start_soon(call.run)
            await until(lambda: [*tmp_path.iterdir()])
            await call.cancel()
        (tmp_path / "go").touch()
        assert await answer(hub, tmp_path / "go") == "opened"
        assert len(TASKS) == 1


# ------------------------------------------------------------------------------------ a loop that is always late


@contextlib.asynccontextmanager
async def a_slow_loop():
    """Each turn of it takes longer than what is forgiven once."""

    async def slow():
        while True:
            time.sleep(0.08)
            await checkpoint()

    async with anyio.create_task_group() as tg:
        tg.start_soon(slow)
        try:
            yield
        finally:
            tg.cancel_scope.cancel()


async def test_on_a_loop_that_is_always_late_a_start_is_given_up_all_the_same():
    async def hangs(worker):
        await anyio.sleep_forever()

    async with a_slow_loop():
        with anyio.fail_after(20), pytest.raises(gibbs.WorkerStartFailed, match="start_timeout") as caught:
            async with gibbs.open_hub(Model, workers=1, launcher=ScriptedLauncher(hangs), start_timeout=0.2):
                pass
    assert caught.value.reason == "timeout"


async def test_on_a_loop_that_is_always_late_a_call_that_does_not_unwind_is_killed_all_the_same():
    begun = anyio.Event()

    async def clings(worker):
        await worker.start()
        worker.begin((await worker.receive()).link_id)
        begun.set()
        await anyio.sleep_forever()

    launcher = ScriptedLauncher(clings)
    with anyio.fail_after(20):
        async with (
            a_slow_loop(),
            gibbs.open_hub(Model, workers=1, launcher=launcher, cancel_grace=0.2, close_timeout=0) as hub,
            anyio.create_task_group() as tg,
        ):
            call = Call(hub, 1)
            tg.start_soon(call.run)
            await begun.wait()
            await call.cancel()
            await until(lambda: hub.statistics().killed)
