"""Every public await, cancelled at each of its checkpoints: the outcome is the cancellation or the right answer, and the hub is as good as new."""

from __future__ import annotations

from contextlib import AsyncExitStack

import anyio
import pytest
from anyio.lowlevel import checkpoint

import gibbs
from gibbs.testing import ScriptedLauncher, serve, sweep


@pytest.fixture(params=[True, False], ids=["side", "in-band"])
def side(request):
    return request.param


@pytest.fixture(params=["interrupt", "kill", "finish"])
def on_cancel(request):
    return request.param


class Busy:
    """A model whose calls take some steps of the event loop. In memory, what a model returns is awaited."""

    interruptible = True

    def __call__(self, x):
        async def steps():
            for _ in range(5):
                await checkpoint()
            return x * x

        return steps()

    async def items(self, count):
        for item in range(count):
            for _ in range(2):
                await checkpoint()
            yield item

    @gibbs.batched(max_size=3)
    def batch(self, xs):
        async def steps():
            for _ in range(5):
                await checkpoint()
            return [x * x for x in xs]

        return steps()


def ended(hub):
    statistics = hub.statistics()
    return statistics.done + statistics.failed + statistics.cancelled + statistics.crashed + statistics.refused


async def is_as_good_as_new(hub, before):
    """The next request is answered, and each request has ended once."""
    with anyio.fail_after(10):
        assert await hub.request(4) == 16
    assert ended(hub) - before in (1, 2)  # this one, and the one that was swept unless it was never submitted
    assert hub.statistics().running == hub.statistics().queued == 0
    assert hub.health().ready


@pytest.mark.parametrize("abandon", [True, False], ids=["abandon", "wait"])
async def test_a_request_to_an_idle_worker(on_cancel, abandon, side):
    launcher = ScriptedLauncher(side=side)
    async with gibbs.open_hub(
        Busy, workers=1, launcher=launcher, on_cancel=on_cancel, abandon_on_cancel=abandon
    ) as hub:
        before = ended(hub)
        async for step in sweep(lambda: hub.request(3)):
            assert step.cancelled or step.value == 9
            if step.cancelled and not abandon:
                assert hub.statistics().seats["interrupting"] == 0
            await is_as_good_as_new(hub, before)
            before = ended(hub)
        assert step.value == 9
        assert step.k > 1


async def test_a_request_that_is_queued(on_cancel, side):
    launcher = ScriptedLauncher(side=side)
    async with gibbs.open_hub(Busy, workers=1, launcher=launcher, on_cancel=on_cancel) as hub:

        async def traffic():
            while True:
                assert await hub.request(2) == 4

        async with anyio.create_task_group() as tg:
            tg.start_soon(traffic)
            while not launcher.worker().running:
                await checkpoint()
            async for step in sweep(lambda: hub.request(3)):
                assert step.cancelled or step.value == 9
                with anyio.fail_after(10):
                    assert await hub.request(4) == 16
            assert len(launcher.workers) == 1  # a queued request has nothing to do with a worker
            tg.cancel_scope.cancel()
        await is_as_good_as_new(hub, ended(hub))


async def ask_until(enough, calls):
    while not enough.is_set():
        assert await calls.request(5) == 25


@pytest.mark.parametrize("abandon", [True, False], ids=["abandon", "wait"])
async def test_a_request_among_others_of_its_batch(on_cancel, abandon, side):
    """Two others are always answered; the worker goes on for them, and for nobody."""
    launcher = ScriptedLauncher(side=side)

    async def scenario():
        return await hub.method("batch").request(3)

    async with gibbs.open_hub(
        Busy, workers=1, launcher=launcher, on_cancel=on_cancel, abandon_on_cancel=abandon
    ) as hub:
        for others in (0, 1, 2, 3):
            async with anyio.create_task_group() as tg:
                enough = anyio.Event()
                for _ in range(others):
                    tg.start_soon(ask_until, enough, hub.method("batch"))
                async for step in sweep(scenario):
                    assert step.cancelled or step.value == 9
                    with anyio.fail_after(10):
                        assert await hub.request(4) == 16
                enough.set()
            await is_as_good_as_new(hub, ended(hub))


@pytest.mark.parametrize("taken", [0, 2, 5, 6], ids="leaves after {}".format)
@pytest.mark.parametrize("abandon", [True, False], ids=["abandon", "wait"])
async def test_a_stream(on_cancel, abandon, side, taken):
    """Cancelled anywhere, its reader has the first items in their order; and its worker is never lost."""
    launcher = ScriptedLauncher(side=side)
    found = []

    async def scenario():
        found.clear()
        async with hub.using(buffer=2).method("items").stream(6) as items:
            while len(found) < taken:
                found.append(await anext(items))
            return len(found)

    async with gibbs.open_hub(
        Busy, workers=1, launcher=launcher, on_cancel=on_cancel, abandon_on_cancel=abandon
    ) as hub:
        before = ended(hub)
        async for step in sweep(scenario):
            assert step.cancelled or step.value == taken
            assert found == [*range(len(found))]
            if not abandon:
                assert hub.statistics().seats["interrupting"] == 0
            await is_as_good_as_new(hub, before)
            before = ended(hub)
        assert step.k > taken / 2
        assert len(launcher.workers) == 1
        assert hub.statistics().killed == 0


@pytest.mark.parametrize("leaves", ["at its end", "early"])
@pytest.mark.parametrize("abandon", [True, False], ids=["abandon", "wait"])
async def test_a_job(on_cancel, abandon, side, leaves):
    """Cancelled anywhere, its reader has words in their order, and its worker has been got back."""

    async def reporting(worker):
        await worker.ready(interruptible=True, methods={"__call__": "plain"})
        while not (call := await worker.receive()).is_leave:
            [x] = call.content[1]
            if not worker.begin(call.link_id):
                await worker.skip(call.link_id)
                continue
            with anyio.CancelScope() as worker._call_scope:
                for word in range(3):
                    await checkpoint()
                    if x == 3:
                        await worker.report(call.link_id, word)
            if worker._call_scope.cancelled_caught:
                await worker.skip(call.link_id)
            else:
                await worker.answer(call.link_id, x * x)

    launcher = ScriptedLauncher(reporting, side=side)
    found = []

    async def scenario():
        found.clear()
        async with hub.track(3) as job:
            async for word in job.progress:
                found.append(word)
                if leaves == "early":
                    return 9
            return await job.result()

    async with gibbs.open_hub(
        Busy, workers=1, launcher=launcher, on_cancel=on_cancel, abandon_on_cancel=abandon
    ) as hub:
        before = ended(hub)
        async for step in sweep(scenario):
            assert step.cancelled or step.value == 9
            assert found == sorted(set(found)), "in order, and none twice"
            if step.cancelled and not abandon:
                assert hub.statistics().seats["interrupting"] == 0
            await is_as_good_as_new(hub, before)
            before = ended(hub)
        assert step.value == 9
        assert found[-1:] == [2] or leaves == "early"
        assert step.k > 1


@pytest.mark.parametrize("abandon", [True, False], ids=["abandon", "wait"])
async def test_a_conversation(on_cancel, abandon, side):
    """Cancelled anywhere, it holds no worker; and all that was asked has ended."""
    launcher = ScriptedLauncher(side=side)

    async def scenario():
        async with hub.lease() as lease:
            answers = [await lease.request(n) for n in (2, 3)]
            async with lease.method("items").stream(2) as items:
                return answers + [item async for item in items]

    async with gibbs.open_hub(
        Busy, workers=2, launcher=launcher, on_cancel=on_cancel, abandon_on_cancel=abandon
    ) as hub:
        async for step in sweep(scenario):
            assert step.cancelled or step.value == [4, 9, 0, 1]
            assert hub.statistics().leases == 0
            if step.cancelled and not abandon:
                assert hub.statistics().seats["interrupting"] == 0
            with anyio.fail_after(10):
                assert [await hub.request(n) for n in (4, 5)] == [16, 25]
            assert hub.statistics().running == hub.statistics().queued == 0
            assert hub.health().ready
        assert step.k > 4


async def test_a_conversation_that_others_have_on_the_same_lease_when_it_is_left(ask, on_cancel, side):
    launcher = ScriptedLauncher(side=side)
    others = []

    async def scenario():
        async with hub.lease() as lease:
            others[:] = [await ask(tg, lease.request, n) for n in range(3)]
            return await lease.request(3)

    async with (
        gibbs.open_hub(Busy, workers=2, launcher=launcher, on_cancel=on_cancel) as hub,
        anyio.create_task_group() as tg,
    ):
        async for step in sweep(scenario):
            assert step.cancelled or step.value == 9
            for n, other in enumerate(others):
                with anyio.fail_after(10):
                    await other.done.wait()
                assert other.value == n * n or isinstance(other.error, anyio.ClosedResourceError)
            others.clear()
            with anyio.fail_after(10):
                assert [await hub.request(n) for n in (4, 5)] == [16, 25]
            assert hub.statistics().leases == hub.statistics().queued == 0


async def test_waiting_for_a_lease(on_cancel, side):
    """Others hold one after the other, so that a cancellation meets the moment in which it is given."""
    launcher = ScriptedLauncher(side=side)

    async def converse(calls):
        async with calls.lease() as lease:
            return await lease.request(3)

    async def traffic():
        while True:
            assert await converse(hub) == 9

    async with gibbs.open_hub(Busy, workers=2, launcher=launcher, on_cancel=on_cancel) as hub:
        async with anyio.create_task_group() as tg:
            for _ in range(2):
                tg.start_soon(traffic)
            while not hub.statistics().leases:
                await checkpoint()
            async for step in sweep(lambda: converse(hub)):
                assert step.cancelled or step.value == 9
                assert hub.statistics().leases <= 1
                with anyio.fail_after(10):
                    assert await hub.request(4) == 16
                    assert await converse(hub) == 9
            tg.cancel_scope.cancel()
        with anyio.fail_after(10):
            while hub.statistics().running or hub.statistics().queued:
                await checkpoint()
        assert hub.statistics().leases == 0


STAGES = ["received", "begun", "computing", "computed", "answered", "waiting"]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("abandon", [True, False], ids=["abandon", "wait"])
async def test_a_request_whose_worker_is_at_any_stage(ask, stage, on_cancel, abandon, side):
    swept = None

    def at(this):
        if swept is not None and this == stage:
            swept.cancel()

    async def script(worker):
        await worker.ready(interruptible=True, methods={"__call__": "plain"})
        while not (call := await worker.receive()).is_leave:
            at("received")
            if not worker.begin(call.link_id):
                await worker.skip(call.link_id)
                continue
            at("begun")
            with anyio.move_on_after(0.005):
                at("computing")
                await worker.interrupted()
                await worker.skip(call.link_id)
                continue
            at("computed")
            await worker.answer(call.link_id, call.content[1][0] ** 2)
            at("answered")
            await checkpoint()
            at("waiting")

    launcher = ScriptedLauncher(script, side=side)
    async with (
        gibbs.open_hub(Busy, workers=1, launcher=launcher, on_cancel=on_cancel, abandon_on_cancel=abandon) as hub,
        anyio.create_task_group() as tg,
    ):
        for _ in range(3):
            before = ended(hub)
            swept = await ask(tg, hub.request, 3)
            assert await swept.outcome() in ("cancelled", 9)
            swept = None
            await is_as_good_as_new(hub, before)


async def test_waiting_for_workers(side):
    async def slow(worker):
        for _ in range(10):
            await checkpoint()
        await serve(worker)

    async def scenario():
        await hub.wait_ready()
        return hub.statistics().seats["serving"]

    launcher = ScriptedLauncher(slow, side=side)
    async with gibbs.open_hub(Busy, workers=2, ready=0, launcher=launcher) as hub:
        async for step in sweep(scenario):
            assert step.cancelled or step.value == 2
        await is_as_good_as_new(hub, ended(hub))


async def test_draining(ask):
    async with AsyncExitStack() as stack:
        hubs = [
            await stack.enter_async_context(gibbs.open_hub(Busy, workers=1, launcher=ScriptedLauncher()))
            for _ in range(10)
        ]
        tg = await stack.enter_async_context(anyio.create_task_group())
        accepted = {hub: [await ask(tg, hub.request, n) for n in range(3)] for hub in hubs}
        async for step in sweep(lambda: hubs[-1].drain()):
            hub = hubs.pop()
            if step.complete:
                assert [one.value for one in accepted[hub]] == [0, 1, 4]
            with pytest.raises(gibbs.HubClosed, match="draining"):
                await hub.request(1)
            assert [await one.outcome() for one in accepted[hub]] == [0, 1, 4]
            await hub.drain()


class NoModel:
    def __init__(self):
        raise ArithmeticError("no model")


@pytest.mark.parametrize("workers", [1, 3])
async def test_the_whole_life_of_a_hub(workers, on_cancel, side):
    launcher = ScriptedLauncher(side=side)

    async def life():
        async with gibbs.open_hub(Busy, workers=workers, launcher=launcher, on_cancel=on_cancel) as hub:
            await hub.wait_ready()
            answer = await hub.request(3)
            async with anyio.create_task_group() as tg:
                for n in range(4):
                    tg.start_soon(hub.request, n)
                await hub.request(5)
            await hub.drain()
        return answer

    async for step in sweep(life):
        assert step.cancelled or step.value == 9
        assert all(worker.ending is not None for worker in launcher.workers)
        launcher.workers.clear()
    assert step.value == 9
    assert step.k > 8


async def test_a_life_that_ends_by_an_error():
    launcher = ScriptedLauncher()

    async def life():
        try:
            async with gibbs.open_hub(Busy, workers=2, launcher=launcher) as hub:
                raise LookupError(await hub.request(3))
        except LookupError as error:
            return error.args[0]

    async for step in sweep(life):
        assert step.cancelled or step.value == 9
        assert all(worker.ending is not None for worker in launcher.workers)
        launcher.workers.clear()


async def test_a_hub_that_cannot_be_opened():
    launcher = ScriptedLauncher()

    async def life():
        try:
            async with gibbs.open_hub(NoModel, workers=2, launcher=launcher):
                return "entered"
        except gibbs.WorkerStartFailed as error:
            return type(error.__cause__)

    async for step in sweep(life):
        assert step.cancelled or step.value is ArithmeticError
        assert all(worker.ending is not None for worker in launcher.workers)
        launcher.workers.clear()


async def test_a_life_in_which_workers_die():
    async def dies_in_its_second_request(worker):
        await worker.start()
        await worker.run(await worker.receive())
        worker.begin((await worker.receive()).link_id)
        worker.die(code=1)

    launcher = ScriptedLauncher(dies_in_its_second_request, serve)

    async def life():
        async with gibbs.open_hub(Busy, workers=1, launcher=launcher) as hub:
            assert await hub.request(3) == 9
            with pytest.raises(gibbs.WorkerCrashed):
                await hub.request(4)
            return await hub.request(5)

    async for step in sweep(life):
        assert step.cancelled or step.value == 25
        assert all(worker.ending is not None for worker in launcher.workers)
        launcher.workers.clear()


async def test_a_life_of_a_hub_whose_workers_must_be_killed(side):
    async def clings(worker):
        await worker.start()
        await anyio.sleep_forever()

    launcher = ScriptedLauncher(clings, side=side)

    async def life():
        async with gibbs.open_hub(Busy, workers=2, launcher=launcher, close_timeout=0):
            await checkpoint()

    async for step in sweep(life):
        assert step.cancelled or step.complete or step.k > 1
        assert all(worker.ending is not None for worker in launcher.workers)
        launcher.workers.clear()


class Squares(Busy):
    """Another version of it, with the same answers."""


async def settles(hub, workers, spares=0):
    """Whatever was begun comes to its end, and as many serve as were asked for."""
    with anyio.fail_after(20):
        await hub.wait_ready()
        while True:
            seats = hub.statistics().seats
            if (seats["serving"], seats["spare"]) == (workers, spares) and not seats["dying"] and not seats["starting"]:
                return
            await checkpoint()


@pytest.mark.parametrize("spares", [0, 1])
@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1), (2, 0)])
async def test_resizing_a_hub(before, after, spares, side):
    async with gibbs.open_hub(Busy, workers=before, spares=spares, launcher=ScriptedLauncher(side=side)) as hub:
        async for step in sweep(lambda: hub.resize(after)):
            assert step.cancelled or step.value is None
            wanted = after if not step.cancelled or hub.statistics().seats["serving"] != before else None
            if wanted is not None:
                await settles(hub, wanted, spares)
            await hub.resize(before)
            await settles(hub, before, spares)
            assert await hub.request(3) == 9
        assert hub.statistics().restarts == 0


@pytest.mark.parametrize("spares", [0, 1])
async def test_reloading_a_hub_while_requests_come(spares, side):
    async with gibbs.open_hub(Busy, workers=2, spares=spares, launcher=ScriptedLauncher(side=side)) as hub:
        await settles(hub, 2, spares)
        async for step in sweep(lambda: hub.reload(Squares)):
            assert step.cancelled or step.value is None
            answers = [await hub.request(n) for n in range(4)]
            assert answers == [0, 1, 4, 9]
            await settles(hub, 2, spares)
        assert hub.statistics().restarts == hub.statistics().failed == hub.statistics().crashed == 0


async def test_a_request_to_a_hub_with_a_spare(on_cancel, side):
    launcher = ScriptedLauncher(side=side)
    async with gibbs.open_hub(Busy, workers=1, spares=1, launcher=launcher, on_cancel=on_cancel) as hub:
        await settles(hub, 1, 1)
        before = ended(hub)
        async for step in sweep(lambda: hub.request(3)):
            assert step.cancelled or step.value == 9
            await is_as_good_as_new(hub, before)
            before = ended(hub)
            await settles(hub, 1, 1)


async def test_the_question_where_the_workers_are():
    launcher = ScriptedLauncher()
    async with gibbs.open_hub(Busy, workers=2, launcher=launcher) as hub:
        for worker in launcher.workers:
            worker.where = 'Thread (most recent call first):\n  File "model.py", line 3 in run\n'
        before = ended(hub)
        async for step in sweep(hub.stacks):
            if not step.cancelled:
                assert [str(frame) for stack in step.value for frame in stack.frames] == ["model.py:3 in run"] * 2
            await is_as_good_as_new(hub, before)
            before = ended(hub)
        assert step.k > 1
