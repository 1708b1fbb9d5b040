"""Retries, keys and waits with real workers, which really die."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import anyio
import pytest

import gibbs
from tests.end_to_end.callers import WATCHDOG, until

COUNT = 100_000  # numbers of an array that is worth putting aside


class Model:
    """Dies of what it is told, the first time or each time."""

    def __call__(self, x=None):
        return os.getpid()

    def dies_once(self, marker):
        path = Path(marker)
        if not path.exists():
            path.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return "answered"

    def dies(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def spoils_then_dies(self, marker, numbers):
        if not Path(marker).exists():
            numbers[:] = -1.0
        self.dies_once(marker)
        return float(numbers.sum())

    def yields_then_dies(self, marker, before):
        yield from range(before)
        path = Path(marker)
        if not path.exists():
            while not Path(f"{marker}.go").exists():
                pass
            path.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        yield "more"

    @gibbs.batched(max_size=8)
    def together(self, items):
        if "culprit" in items:
            os.kill(os.getpid(), signal.SIGKILL)
        return [f"{item} of {len(items)}" for item in items]

    def holds(self, path):
        while not Path(path).exists():
            pass


@pytest.fixture
def opened(launcher):
    def opened(**options):
        restarts = gibbs.RestartPolicy(max_failures=99)
        return gibbs.open_hub(Model, **{"workers": 1, "launcher": launcher, "restarts": restarts} | options)

    return opened


async def test_a_call_whose_worker_was_killed_is_answered_by_the_next(opened, tmp_path):
    async with opened() as hub:
        with anyio.fail_after(WATCHDOG):
            assert await hub.using(retries=1).method("dies_once").request(str(tmp_path / "marker")) == "answered"
        assert (hub.statistics().retried, hub.statistics().crashed) == (1, 0)


async def test_a_call_that_kills_each_of_four_workers_costs_two(opened):
    async with opened(workers=4) as hub:
        with anyio.fail_after(WATCHDOG), pytest.raises(gibbs.PoisonRequest) as caught:
            await hub.using(retries=99).method("dies").request()
        await until(lambda: hub.statistics().restarts == 2)
        assert [error.signal for error in (caught.value, *caught.value.crashes)] == ["SIGKILL"] * 2
        assert isinstance(await hub.request(), int)


async def test_what_a_call_has_changed_before_it_died_is_not_sent_again(opened, tmp_path):
    numpy = pytest.importorskip("numpy")
    async with opened() as hub:
        numbers = numpy.ones(COUNT)
        spoils = hub.using(retries=1).method("spoils_then_dies")
        with anyio.fail_after(WATCHDOG):
            assert await spoils.request(str(tmp_path / "marker"), numbers) == COUNT
        assert numbers.sum() == COUNT


@pytest.mark.parametrize("before", [0, 1], ids=["nothing came", "something came"])
async def test_a_stream_is_tried_again_if_nothing_of_it_had_come(before, opened, tmp_path):
    marker = tmp_path / "marker"
    items = []
    async with opened() as hub:
        with anyio.fail_after(WATCHDOG):
            try:
                stream = hub.using(retries=1).method("yields_then_dies").stream(str(marker), before)
                async with stream as reading:
                    if not before:
                        Path(f"{marker}.go").touch()
                    async for item in reading:
                        items.append(item)
                        Path(f"{marker}.go").touch()
            except gibbs.WorkerCrashed as error:
                items.append(type(error))
    assert items == ([0, gibbs.WorkerCrashed] if before else ["more"])


async def test_of_a_batch_whose_worker_dies_the_innocent_are_answered_and_the_culprit_is_found(opened, tmp_path):
    outcomes = {}

    async def ask(calls, item):
        try:
            outcomes[item] = await calls.request(item)
        except gibbs.WorkerCrashed as error:
            outcomes[item] = type(error)

    async with opened() as hub:
        calls = hub.using(retries=2).method("together")
        go = tmp_path / "go"
        with anyio.fail_after(WATCHDOG):
            async with anyio.create_task_group() as tg:
                tg.start_soon(hub.method("holds").request, str(go))
                await until(lambda: hub.statistics().running == 1)
                for item in ("a", "culprit", "b"):
                    tg.start_soon(ask, calls, item)
                await until(lambda: hub.statistics().queued == 3)
                go.touch()
    assert outcomes == {"a": "a of 1", "b": "b of 1", "culprit": gibbs.PoisonRequest}


async def test_the_same_key_finds_the_same_process(opened):
    async with opened(workers=3) as hub:
        found = {key: {await hub.using(key=key).request() for _ in range(3)} for key in ("a", "b", "c", "d", "e", "f")}
        assert all(len(pids) == 1 for pids in found.values())
        assert len(set().union(*found.values())) > 1


async def test_who_waits_for_a_busy_worker_no_longer_than_it_said_is_refused(opened, tmp_path):
    go = tmp_path / "go"
    async with opened() as hub, anyio.create_task_group() as tg:
        tg.start_soon(hub.method("holds").request, str(go))
        await until(lambda: hub.statistics().running == 1)
        with anyio.fail_after(WATCHDOG), pytest.raises(gibbs.HubOverloaded, match="max_wait"):
            await hub.using(max_wait=0.05).request()
        with anyio.fail_after(WATCHDOG), pytest.raises(gibbs.HubOverloaded, match="max_wait"):
            async with hub.using(max_wait=0.05).map([1, 2]) as results:
                async for _ in results:
                    raise AssertionError("the only worker was busy")
        go.touch()
    assert hub.statistics().expired >= 2
