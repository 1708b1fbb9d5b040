"""Jobs over workers in memory: which words a reader gets, what ends them, and every way for a worker to lie about them."""

from __future__ import annotations

from functools import partial

import anyio
import pytest

import gibbs
from gibbs.testing import ScriptedLauncher
from tests.hub.swept import until

METHODS = {"__call__": "plain", "items": "generator", "batch": "plain"}


@pytest.fixture(params=[True, False], ids=["side", "in-band"])
def side(request):
    return request.param


@pytest.fixture
def by_hand():
    async def by_hand(worker):
        await worker.ready(interruptible=True, methods=METHODS)
        await anyio.sleep_forever()

    return by_hand


class Unused:
    def __call__(self, x):
        raise NotImplementedError

    def items(self):
        yield

    @gibbs.batched()
    def batch(self, xs):
        raise NotImplementedError


@pytest.fixture
def opened(by_hand, side):
    launcher = ScriptedLauncher(by_hand, side=side)
    options = {"workers": 1, "close_timeout": 0.0, "launcher": launcher, "cancel_grace": 600}
    return launcher, partial(gibbs.open_hub, Unused, **options)


async def reads(found, words):
    async for word in words:
        found.append(word)


async def begun(worker):
    call = await worker.receive()
    assert call.is_call
    assert worker.begin(call.link_id)
    return call.link_id


async def test_words_come_as_they_are_said_and_end_with_the_call(opened, ask):
    launcher, open_hub = opened
    async with open_hub() as hub, anyio.create_task_group() as tg, hub.track("x") as job:
        worker, found = launcher.worker(), []
        reader, result = await ask(tg, reads, found, job.progress), await ask(tg, job.result)
        link_id = await begun(worker)
        for word in (0.5, "half", None, {"n": 1}):
            await worker.report(link_id, word)
            await until(lambda word=word: found[-1:] == [word])
        assert not reader.done.is_set()
        await worker.answer(link_id, 9)
        assert await result.outcome() == 9
        await reader.outcome()
        assert found == [0.5, "half", None, {"n": 1}]
        assert hub.statistics().done == 1


async def test_the_last_word_wins_and_comes_before_the_end(opened):
    launcher, open_hub = opened
    async with open_hub() as hub, hub.track("x") as job:
        worker, found = launcher.worker(), []
        link_id = await begun(worker)
        for word in range(100):
            await worker.report(link_id, word)
        await worker.answer(link_id, "done")
        assert await job.result() == "done"
        await reads(found, job.progress)
        assert found == [99]
        await reads(found, job.progress)
        assert found == [99], "nothing is told twice"


async def test_a_result_is_told_to_all_who_ask_as_often_as_they_ask_and_after_the_block(opened, ask):
    launcher, open_hub = opened
    async with open_hub() as hub, anyio.create_task_group() as tg:
        async with hub.track("x") as job:
            asked = [await ask(tg, job.result) for _ in range(3)]
            worker = launcher.worker()
            await worker.answer(await begun(worker), [1])
            assert [await one.outcome() for one in asked] == [[1]] * 3
        assert await job.result() is await asked[0].outcome()
        async for _ in job.progress:
            raise AssertionError("nothing was said")


async def test_an_exception_is_the_results_and_ends_the_words_in_peace(opened):
    launcher, open_hub = opened
    async with open_hub() as hub, hub.track("x") as job:
        worker, found = launcher.worker(), []
        link_id = await begun(worker)
        await worker.report(link_id, 1)
        await worker.fail(link_id, LookupError("not there"))
        await until(lambda: hub.statistics().failed == 1)
        await reads(found, job.progress)
        assert found == [1]
        for _ in range(2):
            with pytest.raises(LookupError, match="not there"):
                await job.result()


async def test_a_worker_that_dies_ends_the_words_and_is_the_results_crash(opened, ask):
    launcher, open_hub = opened
    async with open_hub() as hub, anyio.create_task_group() as tg, hub.track("x") as job:
        worker, found = launcher.worker(), []
        reader = await ask(tg, reads, found, job.progress)
        link_id = await begun(worker)
        await worker.report(link_id, 1)
        await until(lambda: found == [1])
        await worker.report(link_id, 2)
        worker.die(signal=11)
        await reader.outcome()
        assert found == [1, 2], "its last words"
        with pytest.raises(gibbs.WorkerCrashed) as caught:
            await job.result()
        assert caught.value.may_have_run


async def test_a_job_whose_worker_dies_before_it_begins_goes_on_at_another(by_hand):
    """In band nobody knows that it had not."""
    launcher = ScriptedLauncher(by_hand)
    async with (
        gibbs.open_hub(Unused, workers=1, close_timeout=0.0, launcher=launcher) as hub,
        hub.track("x") as job,
    ):
        first = launcher.worker()
        await first.receive()
        first.die(signal=9)
        await until(lambda: len(launcher.workers) == 2 and hub.statistics().seats["serving"])
        second = launcher.worker()
        link_id = await begun(second)
        await second.report(link_id, 1)
        await second.answer(link_id, 2)
        assert await anext(job.progress) == 1
        assert await job.result() == 2


async def test_a_job_that_may_be_tried_again_tells_what_each_worker_says(opened):
    launcher, open_hub = opened
    async with open_hub() as hub, hub.using(retries=1).track("x") as job:
        first = launcher.worker()
        await first.report(await begun(first), "first")
        assert await anext(job.progress) == "first"
        first.die(signal=9)
        await until(lambda: len(launcher.workers) == 2 and hub.statistics().seats["serving"])
        second = launcher.worker()
        link_id = await begun(second)
        await second.report(link_id, "second")
        assert await anext(job.progress) == "second"
        await second.answer(link_id, 2)
        assert await job.result() == 2


async def test_leaving_the_block_withdraws_what_runs_and_says_so_to_who_still_waits(opened, ask):
    launcher, open_hub = opened
    async with open_hub() as hub, anyio.create_task_group() as tg:
        worker, found = launcher.worker(), []
        async with hub.track("x") as job:
            reader, result = await ask(tg, reads, found, job.progress), await ask(tg, job.result)
            link_id = await begun(worker)
        for waiting in (reader, result):
            with pytest.raises(anyio.ClosedResourceError):
                await waiting.outcome()
        with pytest.raises(anyio.ClosedResourceError):
            await job.result()
        with pytest.raises(anyio.ClosedResourceError):
            await anext(job.progress)
        await worker.report(link_id, "for nobody")
        await worker.interrupted()
        await worker.skip(link_id)
        await until(lambda: hub.statistics().seats["serving"] == 1)
        assert hub.statistics().interrupted == hub.statistics().cancelled == 1
        assert not worker.kills


async def test_a_job_that_waits_in_the_line_is_withdrawn_unseen(opened, ask):
    launcher, open_hub = opened
    async with open_hub() as hub, anyio.create_task_group() as tg:
        worker = launcher.worker()
        asked = await ask(tg, hub.request, 1)
        link_id = await begun(worker)
        async with hub.track("x"):
            assert hub.statistics().queued == 1
        assert hub.statistics().queued == 0
        await worker.answer(link_id, 1)
        assert await asked.outcome() == 1
        assert len(worker.calls) == 1


async def test_a_reader_and_an_asker_that_are_cancelled_lose_nothing(opened, ask):
    launcher, open_hub = opened
    async with open_hub() as hub, anyio.create_task_group() as tg, hub.track("x") as job:
        worker = launcher.worker()
        link_id = await begun(worker)
        reader, result = await ask(tg, anext, job.progress), await ask(tg, job.result)
        await worker.report(link_id, 1)
        reader.cancel()
        result.cancel()
        await reader.outcome()
        assert await result.outcome() == "cancelled"
        await worker.report(link_id, 2)
        while await anext(job.progress) != 2:
            assert reader.cancelled, "a word that was taken does not come again"
        await worker.answer(link_id, 3)
        assert await job.result() == 3


async def test_a_word_that_cannot_be_opened_is_an_error_in_its_place(opened):
    launcher, open_hub = opened
    async with open_hub() as hub, hub.track("x") as job:
        worker = launcher.worker()
        link_id = await begun(worker)
        await worker.report(link_id, Unopened())
        with pytest.raises(gibbs.RemoteError, match="no more") as caught:
            await anext(job.progress)
        assert caught.value.stage == "result"
        await worker.report(link_id, 2)
        assert await anext(job.progress) == 2
        await worker.answer(link_id, 3)
        assert await job.result() == 3


def refuse():
    raise ValueError("no more")


class Unopened:
    def __reduce__(self):
        return refuse, ()


async def says_it_of_a_plain_request(worker, hub, tg, ask):
    asked = await ask(tg, hub.request, "x")
    await worker.report(await begun(worker), 1)
    return asked


async def says_it_of_nothing(worker, hub, tg, ask):
    asked = await ask(tg, hub.request, "x")
    await worker.report(await begun(worker) + 1, 1)
    return asked


async def says_it_of_what_is_over(worker, hub, tg, ask):
    async def follow():
        async with hub.track("x") as job:
            await job.result()

    asked = await ask(tg, follow)
    link_id = await begun(worker)
    await worker.answer(link_id, 1)
    await asked.outcome()
    asked = await ask(tg, hub.request, "x")
    await begun(worker)
    await worker.report(link_id, 1)
    return asked


async def says_it_in_a_batch(worker, hub, tg, ask):
    async def follow():
        async with hub.method("batch").track("x") as job:
            return await job.result()

    asked = await ask(tg, follow)
    batch = await worker.receive()
    assert batch.is_batch
    link_id = await begun(worker)
    await worker.answer(link_id, 1)
    assert await asked.outcome() == 1, "it can be tracked, and nothing is told of it"
    return await says_it_of_what_is_over(worker, hub, tg, ask)


LIES = [says_it_of_a_plain_request, says_it_of_nothing, says_it_of_what_is_over, says_it_in_a_batch]


@pytest.mark.parametrize("lie", LIES)
async def test_a_worker_that_says_how_something_is_getting_on_and_was_not_asked_is_killed(opened, ask, lie):
    launcher, open_hub = opened
    async with open_hub() as hub, anyio.create_task_group() as tg:
        worker = launcher.worker()
        asked = await lie(worker, hub, tg, ask)
        await worker.wait_ended()
        with pytest.raises(gibbs.WorkerCrashed, match="no message of the protocol"):
            await asked.outcome()
        assert worker.kills


async def test_a_word_is_evidence_that_the_call_had_begun(opened):
    launcher, open_hub = opened
    async with open_hub() as hub, hub.track("x") as job:
        worker = launcher.worker()
        call = await worker.receive()
        await worker.report(call.link_id, 1)
        assert await anext(job.progress) == 1
        worker.die(signal=9)
        with pytest.raises(gibbs.WorkerCrashed) as caught:
            await job.result()
        assert caught.value.may_have_run


@pytest.mark.parametrize("what", ["a job", "a stream", "a stream that was read to its end"])
async def test_draining_ends_when_the_last_call_does_though_its_block_is_still_open(opened, ask, what):
    launcher, open_hub = opened
    async with open_hub() as hub, anyio.create_task_group() as tg:
        worker = launcher.worker()
        async with hub.track("x") if what == "a job" else hub.method("items").stream() as open_one:
            link_id = await begun(worker)
            reader = await ask(tg, reads, [], open_one) if "read" in what else None
            drained = await ask(tg, hub.drain)
            await anyio.wait_all_tasks_blocked()
            await (worker.answer(link_id, 1) if what == "a job" else worker.end(link_id))
            assert await drained.outcome() is None
            if reader is not None:
                await reader.outcome()


async def test_a_hub_that_closes_is_the_end_of_a_job(opened, ask):
    launcher, open_hub = opened
    async with anyio.create_task_group() as tg:
        found = []

        async def follow():
            async with hub.track("x") as job:
                entered.set()
                await reads(found, job.progress)
                return await job.result()

        entered = anyio.Event()
        async with open_hub() as hub:
            following = await ask(tg, follow)
            await entered.wait()
            await begun(launcher.worker())
        with pytest.raises(gibbs.HubClosed):
            await following.outcome()


async def test_two_readers_at_once_are_refused(opened, ask):
    _, open_hub = opened
    async with open_hub() as hub, anyio.create_task_group() as tg, hub.track("x") as job:
        reader = await ask(tg, anext, job.progress)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(anyio.BusyResourceError):
            await anext(job.progress)
        reader.cancel()


async def test_a_job_is_used_once_and_within_its_block(opened):
    launcher, open_hub = opened
    async with open_hub() as hub:
        job = hub.track("x")
        assert "not entered" in repr(job)
        with pytest.raises(RuntimeError, match="within its block"):
            await job.result()
        with pytest.raises(RuntimeError, match="within its block"):
            await anext(job.progress)
        async with job:
            worker = launcher.worker()
            await worker.answer(await begun(worker), 1)
            assert await job.result() == 1
            assert "answered" in repr(job)
        with pytest.raises(RuntimeError, match="call track"):
            async with job:
                raise AssertionError


async def test_what_cannot_be_tracked_is_refused_on_entering_and_nothing_is_sent(opened):
    launcher, open_hub = opened
    async with open_hub() as hub:
        with pytest.raises(TypeError, match="use stream"):
            async with hub.method("items").track():
                raise AssertionError
        with pytest.raises(AttributeError, match="nothing_such"):
            async with hub.method("nothing_such").track():
                raise AssertionError
        with pytest.raises((TypeError, AttributeError), match="generator"):
            async with hub.track(one for one in ()):
                raise AssertionError
        assert not launcher.worker().calls
        await hub.drain()
        with pytest.raises(gibbs.HubClosed):
            async with hub.track("x"):
                raise AssertionError


async def test_with_abandon_on_cancel_false_the_block_is_left_when_the_worker_is_idle(opened, ask):
    launcher, open_hub = opened
    async with open_hub() as hub, anyio.create_task_group() as tg:
        worker = launcher.worker()

        async def follow():
            async with hub.using(abandon_on_cancel=False).track("x") as job:
                await job.result()

        following = await ask(tg, follow)
        link_id = await begun(worker)
        following.cancel()
        await worker.interrupted()
        assert not following.done.is_set()
        await worker.skip(link_id)
        assert await following.outcome() == "cancelled"
        assert hub.statistics().seats["serving"] == 1
