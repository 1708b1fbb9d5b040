"""A hub that changes while it serves, with real processes: spares, more and fewer, another model, workers that have had enough."""

from __future__ import annotations

import re

import anyio
import pytest

import gibbs
from gibbs import events
from tests.end_to_end.models_that_grow import SomethingElse, Versioned

pytestmark = pytest.mark.slow
WATCHDOG = 20.0


async def test_a_spare_serves_while_the_worker_that_died_is_built_again(tmp_path, until):
    gate = tmp_path / "gate"
    gate.touch()
    async with gibbs.open_hub(Versioned, 1, str(gate), workers=1, spares=1) as hub:
        await until(lambda: hub.statistics().seats["spare"] == 1)
        gate.unlink()
        with pytest.raises(gibbs.WorkerCrashed):
            await hub.method(Versioned.dies).request()
        with anyio.fail_after(WATCHDOG):
            assert await hub.request("x") == (1, "x")
        assert hub.statistics().seats["spare"] == 0
        gate.touch()
        await until(lambda: hub.statistics().seats["spare"] == 1)


async def test_a_cancelled_call_that_costs_its_worker_costs_nobody_a_start(tmp_path, until, heard):
    gate = tmp_path / "gate"
    gate.touch()
    launcher = gibbs.LocalLauncher(output=heard)
    async with gibbs.open_hub(Versioned, 1, str(gate), workers=1, spares=1, launcher=launcher) as hub:
        await until(lambda: hub.statistics().seats["spare"] == 1)
        gate.unlink()
        async with anyio.create_task_group() as tg:
            tg.start_soon(hub.method(Versioned.sleeps).request)
            await heard.line("begun")
            tg.cancel_scope.cancel()
        with anyio.fail_after(WATCHDOG):
            assert await hub.request("x") == (1, "x")
        assert hub.statistics().killed == 1
        gate.touch()


async def test_a_hub_becomes_larger_and_smaller_under_load_and_no_request_fails(running, until):
    async with gibbs.open_hub(Versioned, 1, workers=2) as hub:
        pids, stop, done = {*hub.statistics().pids}, False, 0

        async def asks():
            nonlocal done
            while not stop:
                version, _ = await hub.request()
                done += version

        async with anyio.create_task_group() as tg:
            for _ in range(20):
                tg.start_soon(asks)
            for workers in (4, 1, 3, 2):
                await hub.resize(workers)
                pids |= {*hub.statistics().pids} - {None}
                before = done
                await until(lambda before=before: done > before + 100)
            stop = True
        assert hub.statistics().failed == hub.statistics().crashed == 0
        assert hub.statistics().seats["serving"] == 2
        await until(lambda: len(running(pids)) == 2)


async def test_a_hub_is_reloaded_under_load_and_no_request_fails(until):
    async with gibbs.open_hub(Versioned, 1, workers=2, spares=1) as hub:
        seen, stop = [], False

        async def asks():
            while not stop:
                version, _ = await hub.request()
                seen.append(version)

        async with anyio.create_task_group() as tg:
            for _ in range(100):
                tg.start_soon(asks)
            await until(lambda: len(seen) > 200)
            with pytest.raises(gibbs.ReloadFailed, match="no such weights"):
                await hub.reload(SomethingElse)
            assert {*seen} == {1}
            await hub.reload(Versioned, 2)
            after = len(seen)
            await until(lambda: len(seen) > after + 500)
            stop = True
        assert {*seen} == {1, 2}
        assert {*seen[-200:]} == {2}
        assert hub.statistics().failed == hub.statistics().crashed == hub.statistics().restarts == 0


@pytest.fixture
def look_often(monkeypatch):
    monkeypatch.setattr("gibbs._parent.recycler.LOOK_EVERY", 0.02)
    monkeypatch.setattr("gibbs._parent.clock._MEASURE", 0.005)


@pytest.mark.usefixtures("look_often")
async def test_a_worker_that_has_grown_is_replaced_between_two_calls(until):
    policy, seen = gibbs.RestartPolicy(recycle=gibbs.Recycle(max_rss=300 << 20)), []
    async with gibbs.open_hub(Versioned, 1, workers=1, restarts=policy, observers=[seen.append]) as hub:
        grown = await hub.method(Versioned.grow).request(400)
        await until(lambda: hub.statistics().pids.count(grown) == 0)
        assert await hub.method(Versioned.pid).request() != grown
        assert hub.statistics().crashed == 0
    sizes = [event.rss for event in seen if isinstance(event, events.WorkerMeasured) and event.incarnation == 1]
    assert max(sizes) > 300 << 20, "which it is while it grows, or when it has grown"
    recycled, dismissed = [event for event in seen if isinstance(event, events.WorkerEnded)]
    assert (recycled.pid, recycled.reason, dismissed.reason) == (grown, "recycled", "dismissed")
    assert re.fullmatch(r"it takes \d+ MiB of memory", recycled.probable_cause)


@pytest.mark.usefixtures("look_often")
async def test_a_worker_that_takes_far_too_much_is_killed_and_its_request_says_why(heard, until):
    policy = gibbs.RestartPolicy(recycle=gibbs.Recycle(hard_rss=300 << 20))
    launcher = gibbs.LocalLauncher(output=heard)

    def build():
        class Grows(Versioned):
            def grow_and_stay(self):
                self.grow(400)
                self.sleeps()

        return Grows(1)

    async with gibbs.open_hub(build, workers=1, restarts=policy, launcher=launcher) as hub:
        with pytest.raises(gibbs.WorkerCrashed, match=r"\d+ MiB of memory, and hard_rss is 300 MiB"):
            await hub.method("grow_and_stay").request()
        assert await hub.request("x") == (1, "x")
