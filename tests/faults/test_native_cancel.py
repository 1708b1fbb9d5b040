"""Every public await, cut off natively at each of its steps: what comes is the cancellation or the right answer, nothing is left.

`tests/hub/test_native_cancel.py` has the single cases in memory, `tests/hub/test_sweep.py` the same steps under scopes of
AnyIO. Trio has no native cancellation: there a scope around the whole task is cancelled.
"""

from __future__ import annotations

import os
import time
from contextlib import AsyncExitStack

import anyio
import pytest
from anyio.lowlevel import checkpoint

import gibbs
from gibbs.testing import ScriptedLauncher, serve
from tests.faults.cutting import CUT, cut_at_every_step, on_asyncio
from tests.faults.programs import in_turn

LONG = bool(os.environ.get("GIBBS_LONG"))


@pytest.fixture(
    params=[
        "at once",
        pytest.param("a tick later", marks=pytest.mark.cell(0)),
        pytest.param("again and again", marks=pytest.mark.cell(1)),
    ]
)
async def when(request, anyio_backend):
    if request.param == "again and again" and not on_asyncio():
        pytest.skip("a scope of Trio stays cancelled: once is again and again")
    return request.param


@pytest.fixture(params=["interrupt", "kill", "finish"])
def on_cancel(request):
    return request.param


def ended(hub):
    statistics = hub.statistics()
    return statistics.done + statistics.failed + statistics.cancelled + statistics.crashed + statistics.refused


async def is_as_good_as_new(hub, before):
    """The next request is answered, and each request has ended once."""
    with anyio.fail_after(20):
        assert await hub.request(4) == 16
    assert ended(hub) - before in (1, 2)  # this one, and the one that was cut off unless it was never submitted
    assert hub.statistics().running == hub.statistics().queued == 0
    assert hub.health().ready


# ------------------------------------------------------------------------------------------------------------ in memory


class Busy:
    """A model whose calls take some steps of the event loop. In memory, what a model returns is awaited."""

    interruptible = True

    def __call__(self, x):
        async def steps():
            for _ in range(5):
                await checkpoint()
            return x * x

        return steps()


def all_ended(launcher):
    done = all(worker.ending is not None for worker in launcher.workers)
    launcher.workers.clear()
    return done


@pytest.mark.parametrize("side", [True, False], ids=["side", "in-band"])
@pytest.mark.parametrize("workers", [1, 3])
async def test_the_whole_life_of_a_hub(workers, side, on_cancel, when):
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

    async for outcome in cut_at_every_step(life, when):
        assert outcome in (CUT, 9)
        assert all_ended(launcher)
    assert outcome == 9


async def test_a_life_whose_workers_must_be_killed(when):
    async def clings(worker):
        await worker.start()
        await anyio.sleep_forever()

    launcher = ScriptedLauncher(clings)

    async def life():
        async with gibbs.open_hub(Busy, workers=2, launcher=launcher, close_timeout=0.01):
            await checkpoint()
        return "left"

    async for outcome in cut_at_every_step(life, when):
        assert outcome in (CUT, "left")
        assert all_ended(launcher)


async def test_a_life_in_which_workers_die(when):
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

    async for outcome in cut_at_every_step(life, when):
        assert outcome in (CUT, 25)
        assert all_ended(launcher)


class NoModel:
    def __init__(self):
        raise ArithmeticError("no model")


async def test_a_hub_that_cannot_be_opened(when):
    launcher = ScriptedLauncher()

    async def life():
        try:
            async with gibbs.open_hub(NoModel, workers=2, launcher=launcher):
                return "entered"
        except gibbs.WorkerStartFailed as error:
            return type(error.__cause__)

    async for outcome in cut_at_every_step(life, when):
        assert outcome in (CUT, ArithmeticError)
        assert all_ended(launcher)


@pytest.mark.parametrize("abandon", [True, False], ids=["abandon", "wait"])
async def test_a_request_to_an_idle_worker(on_cancel, abandon, when):
    options = {"launcher": ScriptedLauncher(), "on_cancel": on_cancel, "abandon_on_cancel": abandon}
    async with gibbs.open_hub(Busy, workers=1, **options) as hub:
        before = ended(hub)
        async for outcome in cut_at_every_step(lambda: hub.request(3), when):
            assert outcome in (CUT, 9)
            await is_as_good_as_new(hub, before)
            before = ended(hub)
        assert outcome == 9
        assert hub.statistics().cancelled


async def test_a_request_that_is_queued(on_cancel, when):
    launcher = ScriptedLauncher()
    async with gibbs.open_hub(Busy, workers=1, launcher=launcher, on_cancel=on_cancel) as hub:

        async def traffic():
            while True:
                assert await hub.request(2) == 4

        async with anyio.create_task_group() as tg:
            tg.start_soon(traffic)
            while not launcher.worker().running:
                await checkpoint()
            async for outcome in cut_at_every_step(lambda: hub.request(3), when):
                assert outcome in (CUT, 9)
                with anyio.fail_after(10):
                    assert await hub.request(4) == 16
            assert hub.statistics().cancelled
            tg.cancel_scope.cancel()
        await is_as_good_as_new(hub, ended(hub))


async def test_waiting_for_workers(when):
    async def slow(worker):
        for _ in range(10):
            await checkpoint()
        await serve(worker)

    async def scenario():
        await hub.wait_ready()
        return hub.statistics().seats["serving"]

    async with gibbs.open_hub(Busy, workers=2, ready=0, launcher=ScriptedLauncher(slow)) as hub:
        async for outcome in cut_at_every_step(scenario, when):
            assert outcome in (CUT, 2)
        await is_as_good_as_new(hub, ended(hub))


async def test_draining(when):
    async with AsyncExitStack() as stack:
        hubs = [
            await stack.enter_async_context(gibbs.open_hub(Busy, workers=1, launcher=ScriptedLauncher()))
            for _ in range(10)
        ]
        tg = await stack.enter_async_context(anyio.create_task_group())
        answers = {hub: [] for hub in hubs}

        async def ask(hub, n, task_status):
            task_status.started()
            answers[hub].append(await hub.request(n))

        for hub in hubs:
            for n in range(3):
                await tg.start(ask, hub, n)
        async for _ in cut_at_every_step(lambda: hubs[-1].drain(), when):
            hub = hubs.pop()
            with pytest.raises(gibbs.HubClosed):
                await hub.request(1)
            await hub.drain()  # cut off or not, it drains
            while len(answers[hub]) < 3:
                await checkpoint()
            assert sorted(answers[hub]) == [0, 1, 4]


# ---------------------------------------------------------------------------------------------------- with real processes


class Naps:
    interruptible = True

    def __call__(self, x):
        time.sleep(0.05)  # longer than a machine that does not pause keeps the cut waiting
        return x * x


REAL = ["at once", "a tick later", "again and again"] if LONG else ["again and again"]


@pytest.fixture(params=REAL)
async def really(request, anyio_backend):
    return request.param if on_asyncio() else "a tick later"


@pytest.mark.slow
@pytest.mark.timeout(150)
async def test_the_whole_life_of_a_hub_with_real_workers(really, take_inventory):
    async def life():
        async with gibbs.open_hub(Naps, workers=1) as hub:
            await hub.wait_ready()
            answer = await hub.request(3)
            await hub.drain()
        return answer

    await life()  # what is imported late is imported now
    before = take_inventory()
    steps = 0
    async for outcome in cut_at_every_step(life, really):
        assert outcome in (CUT, 9)
        assert before.left() == {}
        steps += 1
    assert outcome == 9
    assert steps > 5


async def cut_requests(hub, really):
    """A request cut at every step; once more if none was met by its cut, which a machine that pauses may bring behind the answer."""
    for _ in range(5):
        async for outcome in cut_at_every_step(lambda: hub.request(3), really):
            yield outcome
        if hub.statistics().cancelled:
            return
    pytest.fail("no cut came before the answer")


ROADS = in_turn((on_cancel, abandon) for abandon in (True, False) for on_cancel in ("interrupt", "kill", "finish"))


@pytest.mark.slow
@pytest.mark.parametrize(("on_cancel", "abandon"), ROADS)
async def test_a_request_to_a_real_worker(on_cancel, abandon, really):
    async with gibbs.open_hub(Naps, workers=1, on_cancel=on_cancel, abandon_on_cancel=abandon) as hub:
        before = ended(hub)
        async for outcome in cut_requests(hub, really):
            assert outcome in (CUT, 9)
            await is_as_good_as_new(hub, before)
            before = ended(hub)
        assert outcome == 9


@pytest.mark.slow
@pytest.mark.parametrize(("on_cancel", "abandon"), ROADS)
async def test_a_request_that_waits_for_a_real_worker(on_cancel, abandon, really):
    options = {"on_cancel": on_cancel, "abandon_on_cancel": abandon}
    async with gibbs.open_hub(Naps, workers=1, **options) as hub, anyio.create_task_group() as tg:

        async def traffic():
            while True:
                assert await hub.request(2) == 4

        tg.start_soon(traffic)
        while not hub.statistics().done:
            await checkpoint()
        async for outcome in cut_requests(hub, really):
            assert outcome in (CUT, 9)
            with anyio.fail_after(20):
                assert await hub.request(4) == 16
        tg.cancel_scope.cancel()
