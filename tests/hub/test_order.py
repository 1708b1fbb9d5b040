"""Who is served when, and who is refused."""

from __future__ import annotations

import anyio
import pytest

import gibbs
from gibbs.testing import ScriptedLauncher, serve


class Echo:
    def __call__(self, x):
        return x


class Unpicklable:
    def __reduce__(self):
        raise RuntimeError("pickled all the same")


def argument(call):
    return call.content[1][0]


async def test_requests_are_served_in_the_order_in_which_they_came(ask, by_hand, begin):
    launcher = ScriptedLauncher(by_hand)
    async with (
        gibbs.open_hub(Echo, workers=1, launcher=launcher, close_timeout=0) as hub,
        anyio.create_task_group() as tg,
    ):
        asked = [await ask(tg, hub.request, n) for n in range(4)]
        for n in range(4):
            call = await begin(launcher.worker())
            assert argument(call) == n
            await launcher.worker().answer(call.link_id, n)
            assert await asked[n].outcome() == n


async def test_a_worker_that_is_busy_gets_no_second_request(ask, by_hand, begin):
    launcher = ScriptedLauncher(by_hand)
    async with (
        gibbs.open_hub(Echo, workers=1, launcher=launcher, close_timeout=0) as hub,
        anyio.create_task_group() as tg,
    ):
        asked = [await ask(tg, hub.request, n) for n in range(2)]
        call = await begin(launcher.worker())
        await anyio.wait_all_tasks_blocked()
        assert len(launcher.worker().calls) == 1
        assert (hub.statistics().running, hub.statistics().queued) == (1, 1)
        await launcher.worker().answer(call.link_id, "first")
        call = await begin(launcher.worker())
        await launcher.worker().answer(call.link_id, "second")
        assert [await one.outcome() for one in asked] == ["first", "second"]


async def test_requests_complete_in_any_order(ask, by_hand, begin):
    launcher = ScriptedLauncher(by_hand)
    async with (
        gibbs.open_hub(Echo, workers=3, launcher=launcher, close_timeout=0) as hub,
        anyio.create_task_group() as tg,
    ):
        asked = [await ask(tg, hub.request, n) for n in range(3)]
        workers = {}
        for worker in launcher.workers:
            call = await begin(worker)
            workers[argument(call)] = worker, call
        for n in (2, 0, 1):
            worker, call = workers[n]
            await worker.answer(call.link_id, n * 10)
            assert await asked[n].outcome() == n * 10


async def test_the_worker_that_is_free_first_takes_the_next_request(ask, by_hand, begin):
    launcher = ScriptedLauncher(by_hand)
    async with (
        gibbs.open_hub(Echo, workers=2, launcher=launcher, close_timeout=0) as hub,
        anyio.create_task_group() as tg,
    ):
        asked = [await ask(tg, hub.request, n) for n in range(3)]
        calls = {worker.spec.seat: await begin(worker) for worker in launcher.workers}
        quick = launcher.worker(1)
        await quick.answer(calls[1].link_id, "first")
        call = await begin(quick)
        assert argument(call) == 2
        await quick.answer(call.link_id, "second")
        await asked[2].outcome()
        await launcher.worker(0).answer(calls[0].link_id, "slow")


async def test_max_pending_counts_only_what_is_queued(ask, by_hand):
    launcher = ScriptedLauncher(by_hand)
    async with gibbs.open_hub(Echo, workers=2, launcher=launcher, max_pending=1, close_timeout=0) as hub:
        async with anyio.create_task_group() as tg:
            for n in range(3):
                await ask(tg, hub.request, n)
            with pytest.raises(gibbs.HubOverloaded) as caught:
                await hub.request(4)
            assert caught.value.pending == 1
            tg.cancel_scope.cancel()


async def test_with_max_pending_0_a_request_goes_to_an_idle_worker_or_not_at_all(ask, by_hand, begin):
    launcher = ScriptedLauncher(by_hand)
    async with gibbs.open_hub(Echo, workers=1, launcher=launcher, max_pending=0, close_timeout=0) as hub:
        async with anyio.create_task_group() as tg:
            first = await ask(tg, hub.request, 1)
            with pytest.raises(gibbs.HubOverloaded) as caught:
                await hub.request(2)
            assert caught.value.pending == 0
            call = await begin(launcher.worker())
            await launcher.worker().answer(call.link_id, "one")
            assert await first.outcome() == "one"
            again = await ask(tg, hub.request, 3)
            call = await begin(launcher.worker())
            await launcher.worker().answer(call.link_id, "three")
            assert await again.outcome() == "three"


async def test_with_max_pending_0_nothing_is_accepted_while_no_worker_is_ready():
    async def never_ready(worker):
        await anyio.sleep_forever()

    async with gibbs.open_hub(
        Echo, workers=1, ready=0, launcher=ScriptedLauncher(never_ready), max_pending=0, close_timeout=0
    ) as hub:
        with pytest.raises(gibbs.HubOverloaded):
            await hub.request(1)


async def test_an_overloaded_hub_does_not_even_pickle(ask, by_hand):
    launcher = ScriptedLauncher(by_hand)
    async with gibbs.open_hub(Echo, workers=1, launcher=launcher, max_pending=0, close_timeout=0) as hub:
        async with anyio.create_task_group() as tg:
            await ask(tg, hub.request, 1)
            with pytest.raises(gibbs.HubOverloaded):
                await hub.request(Unpicklable())
            tg.cancel_scope.cancel()


async def test_a_full_queue_is_told_by_health(ask, by_hand):
    launcher = ScriptedLauncher(by_hand)
    async with gibbs.open_hub(Echo, workers=1, launcher=launcher, max_pending=1, close_timeout=0) as hub:
        async with anyio.create_task_group() as tg:
            await ask(tg, hub.request, 1)
            assert hub.health() == gibbs.Health(ready=True)
            await ask(tg, hub.request, 2)
            health = hub.health()
            assert (health.ready, health.full, health.failed) == (False, True, False)
            assert "queue is full" in health.reasons[0]
            tg.cancel_scope.cancel()


async def test_a_cancelled_request_makes_room_in_the_queue(ask, by_hand):
    launcher = ScriptedLauncher(by_hand)
    async with gibbs.open_hub(Echo, workers=1, launcher=launcher, max_pending=1, close_timeout=0) as hub:
        async with anyio.create_task_group() as tg:
            await ask(tg, hub.request, 1)
            queued = await ask(tg, hub.request, 2)
            queued.cancel()
            assert await queued.outcome() == "cancelled"
            await ask(tg, hub.request, 3)
            assert hub.statistics().queued == 1
            tg.cancel_scope.cancel()


async def test_a_request_that_goes_back_is_never_refused(ask):
    async def dies_before_it_begins(worker):
        await worker.start()
        await worker.receive()
        worker.die(code=1)

    launcher = ScriptedLauncher(dies_before_it_begins, serve)
    async with gibbs.open_hub(Echo, workers=1, launcher=launcher, max_pending=0) as hub:
        assert await hub.request(1) == 1
    assert len(launcher.workers) == 2


async def test_requests_wait_while_no_worker_is_alive(ask):
    may_start = anyio.Event()

    async def launching(spec):
        await may_start.wait()

    launcher = ScriptedLauncher(launching=launching)
    async with gibbs.open_hub(Echo, workers=1, ready=0, launcher=launcher) as hub, anyio.create_task_group() as tg:
        asked = await ask(tg, hub.request, 1)
        assert hub.statistics().queued == 1
        assert not hub.health().ready
        assert "1 of 1 workers are not ready" in hub.health().reasons
        may_start.set()
        assert await asked.outcome() == 1
        assert hub.health() == gibbs.Health(ready=True)


async def test_the_arguments_are_pickled_before_the_request_is_queued(ask, by_hand, begin):
    launcher = ScriptedLauncher(by_hand)
    async with (
        gibbs.open_hub(Echo, workers=1, launcher=launcher, close_timeout=0) as hub,
        anyio.create_task_group() as tg,
    ):
        mutable = [1]
        asked = await ask(tg, hub.request, mutable)
        mutable.append(2)
        call = await begin(launcher.worker())
        assert argument(call) == [1]
        await launcher.worker().answer(call.link_id, "one")
        await asked.outcome()


async def test_what_cannot_be_pickled_reserves_nothing(by_hand):
    launcher = ScriptedLauncher(by_hand)
    async with gibbs.open_hub(Echo, workers=1, launcher=launcher, close_timeout=0) as hub:
        with pytest.raises(RuntimeError, match="pickled all the same"):
            await hub.request(Unpicklable())
        assert hub.statistics().running == hub.statistics().queued == 0
        await anyio.wait_all_tasks_blocked()
        assert not launcher.worker().calls
