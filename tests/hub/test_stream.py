"""Streams over workers in memory: who is told what when, and every way for a worker to die or to lie in the middle of one."""

from __future__ import annotations

import anyio
import pytest

import gibbs
from gibbs.testing import ScriptedLauncher

METHODS = {"__call__": "generator", "plain": "plain"}


@pytest.fixture(params=[True, False], ids=["side", "in-band"])
def side(request):
    return request.param


@pytest.fixture
def by_hand():
    """The script of a worker that a test drives: it is ready, and then does nothing by itself."""

    async def by_hand(worker):
        await worker.ready(interruptible=True, methods=METHODS)
        await anyio.sleep_forever()

    return by_hand


class Unused:
    def __call__(self):
        yield

    def plain(self):
        raise NotImplementedError


async def reads(found, stream):
    async with stream as items:
        async for item in items:
            found.append(item)


async def begin_stream(worker, window):
    call = await worker.receive()
    assert call.is_stream
    assert call.content == ("", ("x",), {})
    assert worker.begin(call.link_id)
    assert await worker.credit(call.link_id) == window
    return call.link_id


async def test_credit_is_given_again_when_half_of_it_was_used_and_taken(by_hand, ask, side):
    launcher = ScriptedLauncher(by_hand, side=side)
    async with (
        gibbs.open_hub(Unused, workers=1, close_timeout=0.0, launcher=launcher) as hub,
        anyio.create_task_group() as tg,
    ):
        found = []
        stream = await ask(tg, reads, found, hub.using(buffer=4).stream("x"))
        worker = launcher.worker()
        link_id = await begin_stream(worker, 4)
        await worker.give(link_id, 1)
        await worker.give(link_id, 2, 3)
        assert await worker.credit(link_id) == 2
        await worker.give(link_id, 4, 5, 6)
        assert await worker.credit(link_id) >= 2
        await worker.end(link_id)
        await stream.outcome()
        assert found == [1, 2, 3, 4, 5, 6]
        assert hub.statistics().done == 1


async def test_a_reader_that_does_not_read_gives_no_credit_and_is_told_of_the_end_last(by_hand, side):
    launcher = ScriptedLauncher(by_hand, side=side)
    async with gibbs.open_hub(Unused, workers=1, close_timeout=0.0, launcher=launcher) as hub:
        async with hub.using(buffer=40).stream("x") as items:
            worker = launcher.worker()
            link_id = await begin_stream(worker, 40)
            await worker.give(link_id, *range(40))  # more than are given in a row
            await worker.fail(link_id, LookupError("the end"))
            while hub.statistics().running:
                await anyio.sleep(0.001)
            assert hub.statistics().failed == 1
            assert [await anext(items) for _ in range(40)] == [*range(40)]
            with pytest.raises(LookupError, match="the end"):
                await anext(items)


LIES = {
    "more than it may": lambda worker, link_id: worker.give(link_id, 1, 2, 3),
    "of nothing": lambda worker, link_id: worker.give(link_id + 1, 1),
    "none": lambda worker, link_id: worker.give(link_id),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_worker_that_sends_items_that_it_may_not_is_killed_and_what_came_before_stays(by_hand, ask, lie, side):
    launcher = ScriptedLauncher(by_hand, side=side)
    async with (
        gibbs.open_hub(Unused, workers=1, close_timeout=0.0, launcher=launcher) as hub,
        anyio.create_task_group() as tg,
    ):
        found = []
        stream = await ask(tg, reads, found, hub.using(buffer=3).stream("x"))
        worker = launcher.worker()
        link_id = await begin_stream(worker, 3)
        await worker.give(link_id, 1)
        while not found:
            await anyio.sleep(0.001)
        await LIES[lie](worker, link_id)
        await worker.wait_ended()
        with pytest.raises(gibbs.WorkerCrashed, match="no message of the protocol"):
            await stream.outcome()
        assert found == [1]
        assert worker.kills
        tg.cancel_scope.cancel()


@pytest.mark.parametrize("how", ["dies", "hangs up"])
async def test_what_a_worker_said_last_is_read_after_its_death(by_hand, ask, how, side):
    launcher = ScriptedLauncher(by_hand, side=side)
    async with (
        gibbs.open_hub(Unused, workers=1, close_timeout=0.0, launcher=launcher) as hub,
        anyio.create_task_group() as tg,
    ):
        found = []
        stream = await ask(tg, reads, found, hub.stream("x"))
        worker = launcher.worker()
        link_id = await begin_stream(worker, 128)
        for item in range(5):
            await worker.give(link_id, item)
        if how == "dies":
            worker.die(signal=11)
        else:
            worker.hang_up()
        with pytest.raises(gibbs.WorkerCrashed) as caught:
            await stream.outcome()
        assert found == [0, 1, 2, 3, 4]
        assert caught.value.may_have_run
        tg.cancel_scope.cancel()


async def test_a_stream_whose_worker_dies_before_it_begins_is_read_from_another(by_hand, ask):
    launcher = ScriptedLauncher(by_hand)
    async with (
        gibbs.open_hub(Unused, workers=1, close_timeout=0.0, launcher=launcher) as hub,
        anyio.create_task_group() as tg,
    ):
        found = []
        stream = await ask(tg, reads, found, hub.using(buffer=2).stream("x"))
        first = launcher.worker()
        await first.receive()
        first.die(signal=9)
        while len(launcher.workers) < 2 or hub.statistics().seats["serving"] < 1:
            await anyio.sleep(0.001)
        second = launcher.worker()
        link_id = await begin_stream(second, 2)
        await second.give(link_id, 1)
        await second.end(link_id)
        await stream.outcome()
        assert found == [1]


async def test_items_that_come_after_their_reader_has_left_are_nobodys(by_hand, side):
    launcher = ScriptedLauncher(by_hand, side=side)
    async with gibbs.open_hub(Unused, workers=1, close_timeout=0.0, launcher=launcher, cancel_grace=60) as hub:
        worker = launcher.worker()
        async with hub.using(buffer=3).stream("x"):
            link_id = await begin_stream(worker, 3)
        await worker.give(link_id, 1, 2)
        assert await worker.credit(link_id) == 0
        await worker.give(link_id, 3)
        await worker.skip(link_id)
        while hub.statistics().seats["serving"] != 1:
            await anyio.sleep(0.001)
        assert hub.statistics().interrupted == 1
        assert not worker.kills
