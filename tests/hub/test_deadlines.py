"""A worker asks how long the caller of its request will wait, and is always told: by the caller, or in its place."""

from __future__ import annotations

import math

import anyio
import pytest

import gibbs
from gibbs._wire.frames import encode
from gibbs._wire.messages import ASKS
from gibbs.testing import ScriptedLauncher


class Echo:
    def __call__(self, x):
        return x

    def tell(self, x):
        yield x


METHODS = {"__call__": "plain", "tell": "generator"}


@pytest.fixture(params=[True, False], ids=["direct", "in band"])
def launcher(request):
    async def by_hand(worker):
        await worker.ready(interruptible=True, methods=METHODS)
        await anyio.sleep_forever()

    return ScriptedLauncher(by_hand, side=request.param)


def open_hub(launcher, **options):
    return gibbs.open_hub(Echo, workers=1, launcher=launcher, close_timeout=0, cancel_grace=600, **options)


async def left(worker, link_id):
    """What the worker is told."""
    worker.seconds_left.pop(link_id, None)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tg:
            tg.start_soon(worker.receive)
            await worker.say(encode(ASKS, link_id))
            while link_id not in worker.seconds_left:
                await anyio.lowlevel.checkpoint()
            tg.cancel_scope.cancel()
    return worker.seconds_left[link_id]


async def test_the_nearest_deadline_around_the_caller_counts_as_it_is_when_it_is_asked_for(launcher, begin):
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:

        async def caller():
            with anyio.move_on_after(600), scope:
                await hub.request(1)

        scope = anyio.CancelScope(deadline=anyio.current_time() + 300)
        tg.start_soon(caller)
        worker = launcher.worker()
        call = await begin(worker)
        assert 290 < await left(worker, call.link_id) < 300.001
        scope.deadline += 200
        assert 490 < await left(worker, call.link_id) <= 500
        scope.deadline = math.inf
        assert 590 < await left(worker, call.link_id) <= 600
        tg.cancel_scope.cancel()


async def test_without_a_deadline_there_is_no_end(launcher, begin, ask):
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        asked = await ask(tg, hub.request, 1)
        worker = launcher.worker()
        call = await begin(worker)
        assert await left(worker, call.link_id) == math.inf
        await worker.answer(call.link_id, "answer")
        assert await asked.outcome() == "answer"
        tg.cancel_scope.cancel()


async def test_of_a_stream_and_of_a_map_it_is_the_deadline_of_the_block(launcher, begin):
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        worker = launcher.worker()
        with anyio.move_on_after(300):
            async with hub.method("tell").stream(1):
                call = await begin(worker)
                assert 290 < worker.seconds_left[call.link_id] < 300.001, "told before"
                with anyio.move_on_after(5):
                    assert 290 < await left(worker, call.link_id) < 300.001
                await worker.end(call.link_id)
            async with hub.map([1]) as _:
                call = await begin(worker)
                assert 290 < await left(worker, call.link_id) < 300.001
                await worker.answer(call.link_id, 1)
        tg.cancel_scope.cancel()


async def wait(hub, scope):
    with anyio.move_on_after(300), scope:
        await hub.request(1)


@pytest.mark.parametrize("on_cancel", ["finish", "interrupt"])
async def test_whenever_the_caller_leaves_the_worker_is_told_something_once(on_cancel, begin):
    """Cancelled after each of many passes of the loop, before, while and after its task answers."""
    told = set()
    for passes in range(12):

        async def by_hand(worker):
            await worker.ready(interruptible=True, methods=METHODS)
            await anyio.sleep_forever()

        launcher = ScriptedLauncher(by_hand)
        async with open_hub(launcher, on_cancel=on_cancel) as hub, anyio.create_task_group() as tg:
            scope = anyio.CancelScope()
            tg.start_soon(wait, hub, scope)
            worker = launcher.worker()
            call = await begin(worker)
            tg.start_soon(worker.receive)
            await worker.say(encode(ASKS, call.link_id))
            for _ in range(passes):
                await anyio.lowlevel.checkpoint()
            scope.cancel()
            with anyio.fail_after(10):
                while call.link_id not in worker.seconds_left:
                    await anyio.lowlevel.checkpoint()
            seconds = worker.seconds_left.pop(call.link_id)
            assert seconds == -math.inf or 290 < seconds < 300.001
            told.add(seconds == -math.inf)
            await anyio.wait_all_tasks_blocked()
            assert call.link_id not in worker.seconds_left
            tg.cancel_scope.cancel()
    assert told == {True, False}, "both are met"


async def test_a_worker_that_asks_about_what_it_does_not_hold_is_not_believed(launcher, begin, ask):
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        asked = await ask(tg, hub.request, 1)
        worker = launcher.worker()
        await begin(worker)
        await worker.say(encode(ASKS, 99))
        with anyio.fail_after(10), pytest.raises(gibbs.WorkerCrashed, match="asks about request 99"):
            await asked.outcome()
        tg.cancel_scope.cancel()
