"""Conversations with real workers: what a model keeps in mind, whose it is, and what becomes of it when its worker dies."""

from __future__ import annotations

import os
import signal

import anyio
import pytest

import gibbs
from tests.end_to_end.callers import WATCHDOG, answer, is_settled, read, until
from tests.end_to_end.models_that_remember import FallsIll, Remembers


@pytest.fixture
def opened(either_launcher):
    def opened(workers=2, **options):
        options = {"cancel_grace": WATCHDOG} | options
        return gibbs.open_hub(Remembers, workers=workers, launcher=either_launcher, **options)

    return opened


async def raises(expected, calls, *args):
    with anyio.fail_after(WATCHDOG), pytest.raises(expected) as caught:
        await calls.request(*args)
    return caught.value


async def test_a_model_keeps_in_mind_what_was_said_whatever_others_ask_meanwhile(opened):
    async with opened(workers=3) as hub:
        told = {}

        async def converse(name):
            async with hub.lease() as worker:
                pid = await answer(worker.method(Remembers.clear))
                assert pid == hub.statistics().pids[worker.seat]
                for n in range(10):
                    told[name] = await answer(worker, (name, n))

        async def ask():
            for n in range(30):
                assert (await answer(hub, n))[-1] == n

        async with anyio.create_task_group() as tg:
            for name in range(8):
                tg.start_soon(converse, name)
            tg.start_soon(ask)
        assert told == {name: [(name, n) for n in range(10)] for name in range(8)}
        assert (hub.statistics().leases, hub.statistics().restarts) == (0, 0)


async def test_many_tasks_may_ask_on_one_lease(opened):
    async with opened() as hub, hub.lease() as worker:
        with anyio.fail_after(WATCHDOG):
            answers = await anyio.amap(worker.request, range(100))
        last = max(answers, key=len)
        assert sorted(last) == [*range(100)]
        assert answers == [last[: last.index(n) + 1] for n in range(100)]


async def test_streams_maps_and_batches_are_part_of_it(opened):
    async with opened() as hub, hub.lease() as worker:
        assert await read(worker.method(Remembers.counts).stream(4)) == [0, 1, 2, 3]
        assert await read(worker.method(Remembers.counts).stream(1000), at_most=1) == [0]
        await until(lambda: is_settled(hub) and not hub.statistics().running)
        await answer(worker.method(Remembers.clear))
        assert await read(worker.map("ab")) == [["a"], ["a", "b"]]
        with anyio.fail_after(WATCHDOG):
            assert await anyio.amap(worker.method(Remembers.together).request, "cd") == ["c", "d"]
        assert await answer(worker, "e") == ["a", "b", 1, 1, "e"]
        assert hub.statistics().restarts == 0


async def test_what_had_begun_crashed_what_waits_was_not_run_and_the_hub_serves_on(opened, heard, start):
    async with opened() as hub:
        async with hub.lease() as worker:
            assert await answer(worker, "kept") == ["kept"]
            dies = start(worker.method(Remembers.sleeps))
            await heard.line("begun")
            waits = start(worker, "never")
            await until(lambda: hub.statistics().queued)
            os.kill(hub.statistics().pids[worker.seat], signal.SIGKILL)
            await dies.end()
            assert isinstance(dies.error, gibbs.WorkerCrashed)
            assert (dies.error.seat, dies.error.signal) == (worker.seat, "SIGKILL")
            await waits.end()
            assert isinstance(waits.error, gibbs.LeaseBroken)
            assert (waits.error.seat, waits.error.incarnation) == (worker.seat, 1)
            assert "SIGKILL" in str(waits.error)
            await raises(gibbs.LeaseBroken, worker, "never")
        await hub.wait_ready()
        async with hub.lease() as again:
            await answer(again.method(Remembers.clear))
            assert await answer(again, "anew") == ["anew"]
        assert "never" not in [x for _ in range(4) for x in await answer(hub, 1)]


async def test_a_worker_that_is_killed_between_two_requests_breaks_it(opened):
    async with opened() as hub, hub.lease() as worker:
        pid = await answer(worker.method(Remembers.clear))
        os.kill(pid, signal.SIGKILL)
        await until(lambda: hub.statistics().leases == 0)
        error = await raises(gibbs.LeaseBroken, worker, 1)
        assert error.__cause__.pid == pid
        await hub.wait_ready()


async def test_a_worker_that_is_replaced_since_it_is_not_well_breaks_it(either_launcher):
    async with gibbs.open_hub(FallsIll, workers=2, launcher=either_launcher) as hub, hub.lease() as worker:
        await answer(worker.method(FallsIll.falls_ill))
        await until(lambda: hub.statistics().leases == 0)
        await raises(gibbs.LeaseBroken, worker, 1)


async def test_an_interrupted_call_keeps_the_worker_and_what_it_knows(opened, heard, start):
    async with opened() as hub, hub.lease() as worker:
        await answer(worker, "kept")
        sleeps = start(worker.method(Remembers.sleeps))
        await heard.line("begun")
        await sleeps.cancel()
        assert await answer(worker, "more") == ["kept", "more"]
        assert (hub.statistics().interrupted, hub.statistics().restarts) == (1, 0)


async def test_a_call_that_had_to_be_killed_breaks_it(opened, heard, start):
    async with opened(cancel_grace=0.1) as hub, hub.lease() as worker:
        sleeps = start(worker.method(Remembers.cannot_be_stopped))
        await heard.line("begun")
        await sleeps.cancel()
        error = await raises(gibbs.LeaseBroken, worker, 1)
        assert "killed by the hub, since a cancelled call" in str(error)


@pytest.mark.parametrize("abandon", [True, False], ids=["abandon", "wait"])
async def test_leaving_stops_what_still_runs_and_the_worker_is_kept_for_others(opened, heard, start, abandon):
    async with opened(abandon_on_cancel=abandon) as hub:
        async with hub.lease() as worker:
            pid = await answer(worker.method(Remembers.clear))
            sleeps = start(worker.method(Remembers.sleeps))
            await heard.line("begun")
        if not abandon:
            assert is_settled(hub)
        await sleeps.end()
        assert isinstance(sleeps.error, anyio.ClosedResourceError)
        await until(lambda: is_settled(hub))
        assert hub.statistics().pids[worker.seat] == pid
        async with hub.lease() as another:
            assert await answer(another, "x")


async def test_a_hub_closes_while_one_is_held_and_another_is_waited_for(opened, start):
    class Enters:
        async def request(self, lease):
            await lease.__aenter__()

    async with opened(close_timeout=WATCHDOG) as hub:
        worker = hub.lease()
        await worker.__aenter__()
        held = start(worker.method(Remembers.sleeps))
        waits = start(Enters(), hub.lease())
        await until(lambda: hub.statistics().running and hub.statistics().queued)
    for one in (held, waits):
        await one.end()
        assert isinstance(one.error, gibbs.HubClosed)
    await worker.__aexit__(None, None, None)
