"""What happens to a request, and to its worker, when its caller is cancelled. Under a virtual clock, where time matters."""

from __future__ import annotations

import itertools
import logging

import anyio
import pytest
from trio.testing import MockClock

import gibbs
from gibbs._wire.messages import SKIPPED
from gibbs.testing import ScriptedLauncher, serve


@pytest.fixture(scope="module")
def anyio_backend():
    return "trio", {"clock": MockClock(autojump_threshold=0)}


@pytest.fixture(params=[True, False], ids=["side", "in-band"])
def side(request):
    return request.param


class Model:
    def __call__(self, x):
        return x


class Interruptible(Model):
    interruptible = True


def open_hub(launcher, *, workers=1, close_timeout=0, **options):
    return gibbs.open_hub(Model, workers=workers, launcher=launcher, close_timeout=close_timeout, **options)


async def test_a_queued_request_that_is_cancelled_is_never_sent(ask, by_hand, begin, side):
    launcher = ScriptedLauncher(by_hand, side=side)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        first = await ask(tg, hub.request, 1)
        queued = await ask(tg, hub.request, 2)
        last = await ask(tg, hub.request, 3)
        queued.cancel()
        assert await queued.outcome() == "cancelled"
        for asked in (first, last):
            call = await begin(launcher.worker())
            await launcher.worker().answer(call.link_id, "answer")
            await asked.outcome()
        assert [call.content[1] for call in launcher.worker().calls] == [(1,), (3,)]


@pytest.mark.parametrize("on_cancel", ["interrupt", "kill"])
async def test_a_request_that_was_sent_but_has_not_begun_is_withdrawn_and_its_worker_kept(
    ask, by_hand, begin, on_cancel
):
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher, on_cancel=on_cancel) as hub, anyio.create_task_group() as tg:
        worker = launcher.worker()
        sent = await ask(tg, hub.request, 1)
        call = await worker.receive()
        sent.cancel()
        assert await sent.outcome() == "cancelled"
        await worker.aimed()
        assert not worker.begin(call.link_id)
        await worker.skip(call.link_id)
        asked = await ask(tg, hub.request, 2)
        call = await begin(worker)
        await worker.answer(call.link_id, "two")
        assert await asked.outcome() == "two"
        assert len(launcher.workers) == 1
        assert (hub.statistics().interrupted, hub.statistics().killed) == (1, 0)


async def test_a_request_that_is_withdrawn_in_band_does_not_begin(ask, by_hand):
    launcher = ScriptedLauncher(by_hand, side=False)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        worker = launcher.worker()
        sent = await ask(tg, hub.request, 1)
        call = await worker.receive()
        sent.cancel()
        await anyio.wait_all_tasks_blocked()
        assert not worker.begin(call.link_id)
        await worker.skip(call.link_id)
        await anyio.wait_all_tasks_blocked()
        assert hub.statistics().interrupted == 1


async def test_the_caller_of_a_running_request_gets_its_cancellation_at_once(ask, by_hand, begin, side):
    launcher = ScriptedLauncher(by_hand, side=side)
    async with open_hub(launcher, cancel_grace=100) as hub, anyio.create_task_group() as tg:
        running = await ask(tg, hub.request, 1)
        await begin(launcher.worker())
        before = anyio.current_time()
        running.cancel()
        assert await running.outcome() == "cancelled"
        assert anyio.current_time() == before
        assert launcher.worker().running
        assert hub.statistics().seats["interrupting"] == 1


async def test_an_interrupted_worker_is_kept_and_serves_the_next_request(ask, by_hand, begin, side):
    launcher = ScriptedLauncher(by_hand, side=side)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        worker = launcher.worker()
        running = await ask(tg, hub.request, 1)
        following = await ask(tg, hub.request, 2)
        call = await begin(worker)
        running.cancel()
        await worker.interrupted()
        assert hub.statistics().queued == 1  # not before the worker is back
        await worker.skip(call.link_id)
        call = await begin(worker)
        await worker.answer(call.link_id, "two")
        assert await following.outcome() == "two"
        assert worker.kills == 0
        assert (hub.statistics().interrupted, hub.statistics().killed) == (1, 0)


async def test_a_cancelled_call_is_counted_once_also_when_its_worker_ends_in_the_moment_of_saying_so(
    ask, by_hand, begin, side
):
    launcher = ScriptedLauncher(by_hand, side=side)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        worker = launcher.worker()
        running = await ask(tg, hub.request, 1)
        call = await begin(worker)
        running.cancel()
        await worker.interrupted()
        (supervisor,) = hub._desk.crew.supervisors
        supervisor.worker._end(
            "exited"
        )  # its end is seen before its last words are heard, and both before any task runs
        supervisor.worker._take(SKIPPED, call.link_id, b"")
        while not hub.statistics().restarts:
            await anyio.sleep(0.01)
        assert (hub.statistics().interrupted, hub.statistics().killed) == (0, 1)


async def test_the_interrupt_is_repeated_until_the_call_unwinds(ask, by_hand, begin, side):
    launcher = ScriptedLauncher(by_hand, side=side)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        worker = launcher.worker()
        running = await ask(tg, hub.request, 1)
        call = await begin(worker)
        running.cancel()
        times = []
        for _ in range(5):
            await worker.interrupted()
            times.append(anyio.current_time())
        assert all(
            0.01 < later - sooner < 0.05 for sooner, later in itertools.pairwise(times[1:])
        )  # in band, aiming is an interrupt too
        await worker.skip(call.link_id)
        await anyio.wait_all_tasks_blocked()
        assert hub.statistics().seats["serving"] == 1
        before = worker.interrupts
        await anyio.sleep(10)
        assert worker.interrupts == before


async def test_no_interrupt_is_meant_for_the_next_request(ask, by_hand, begin, side):
    launcher = ScriptedLauncher(by_hand, side=side)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        worker = launcher.worker()
        running = await ask(tg, hub.request, 1)
        following = await ask(tg, hub.request, 2)
        call = await begin(worker)
        running.cancel()
        await anyio.sleep(0.5)
        assert worker.interrupts > 5
        await worker.skip(call.link_id)
        call = await begin(worker)
        with anyio.move_on_after(10):
            await worker.interrupted()
            raise AssertionError("a request that nobody cancelled was interrupted")
        await worker.answer(call.link_id, "two")
        assert await following.outcome() == "two"


async def test_an_answer_that_comes_after_the_cancel_is_dropped_and_the_worker_kept(ask, by_hand, begin, side):
    launcher = ScriptedLauncher(by_hand, side=side)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        worker = launcher.worker()
        running = await ask(tg, hub.request, 1)
        call = await begin(worker)
        running.cancel()
        await worker.interrupted()
        await worker.answer(call.link_id, "too late")
        asked = await ask(tg, hub.request, 2)
        call = await begin(worker)
        await worker.answer(call.link_id, "in time")
        assert await asked.outcome() == "in time"
        assert hub.statistics().cancelled == 1
        assert hub.statistics().done == 1


async def test_a_call_that_does_not_unwind_in_time_costs_its_worker(ask, by_hand, begin, side):
    launcher = ScriptedLauncher(by_hand, serve, side=side)
    async with open_hub(launcher, cancel_grace=3) as hub, anyio.create_task_group() as tg:
        worker = launcher.worker()
        running = await ask(tg, hub.request, 1)
        await begin(worker)
        before = anyio.current_time()
        running.cancel()
        assert (await worker.wait_ended()).signal == "SIGKILL"
        assert anyio.current_time() - before == pytest.approx(3, abs=0.1)
        assert await hub.request(2) == 2
        assert anyio.current_time() - before == pytest.approx(3, abs=0.1)  # its seat was filled again without a pause
        assert (hub.statistics().interrupted, hub.statistics().killed) == (0, 1)


async def test_grace_counts_from_the_moment_when_the_call_can_begin(ask, by_hand):
    launcher = ScriptedLauncher(by_hand, serve)
    async with open_hub(launcher, cancel_grace=3) as hub, anyio.create_task_group() as tg:
        worker = launcher.worker()
        sent = await ask(tg, hub.request, 1)  # not even read by the worker, which is stopped
        cancelled_at = anyio.current_time()
        sent.cancel()
        await anyio.sleep(2)
        call = await worker.receive()
        worker.begun = worker.running = call.link_id  # it looked at the page just before the hub aimed
        await worker.wait_ended()
        assert anyio.current_time() - cancelled_at == pytest.approx(5, abs=0.1)


async def test_a_worker_that_does_not_even_take_the_message_has_no_longer(ask, by_hand):
    launcher = ScriptedLauncher(by_hand, serve)
    async with open_hub(launcher, cancel_grace=3) as hub, anyio.create_task_group() as tg:
        worker = launcher.worker()
        sent = await ask(tg, hub.request, 1)
        cancelled_at = anyio.current_time()
        sent.cancel()
        await worker.wait_ended()
        assert anyio.current_time() - cancelled_at == pytest.approx(3)


async def test_in_kill_mode_the_worker_of_a_running_call_is_replaced_at_once(ask, by_hand, begin, side):
    launcher = ScriptedLauncher(by_hand, serve, side=side)
    async with open_hub(launcher, on_cancel="kill", cancel_grace=100) as hub, anyio.create_task_group() as tg:
        worker = launcher.worker()
        running = await ask(tg, hub.request, 1)
        await begin(worker)
        before = anyio.current_time()
        running.cancel()
        await worker.wait_ended()
        assert await hub.request(2) == 2
        assert anyio.current_time() == before
        assert worker.interrupts == 0
        assert hub.statistics().killed == 1
        assert hub.statistics().restarts == 1


async def test_in_finish_mode_the_call_runs_out_and_its_answer_is_dropped(ask, by_hand, begin, side):
    launcher = ScriptedLauncher(by_hand, side=side)
    async with open_hub(launcher, on_cancel="finish", cancel_grace=1) as hub, anyio.create_task_group() as tg:
        worker = launcher.worker()
        running = await ask(tg, hub.request, 1)
        following = await ask(tg, hub.request, 2)
        call = await begin(worker)
        running.cancel()
        assert await running.outcome() == "cancelled"
        await anyio.sleep(60)
        assert (worker.interrupts, worker.kills, len(worker.calls)) == (0, 0, 1)
        await worker.answer(call.link_id, "nobody wants it")
        call = await begin(worker)
        await worker.answer(call.link_id, "two")
        assert await following.outcome() == "two"
        assert hub.statistics().done == 1


@pytest.mark.parametrize(("model", "kept"), [(Interruptible, True), (Model, False)])
async def test_by_default_the_model_says_whether_it_bears_an_interrupt(ask, begin, model, kept):
    async def script(worker):
        await worker.start()
        await anyio.sleep_forever()

    launcher = ScriptedLauncher(script, serve)
    hub_of_it = gibbs.open_hub(model, workers=1, launcher=launcher, close_timeout=0)
    async with hub_of_it as hub, anyio.create_task_group() as tg:
        worker = launcher.worker()
        running = await ask(tg, hub.request, 1)
        await begin(worker)
        running.cancel()
        if kept:
            await worker.interrupted()
            assert worker.ending is None
        else:
            await worker.wait_ended()
            assert worker.interrupts == 0


async def test_a_call_may_be_made_with_another_mode_than_the_hub_s(ask, by_hand, begin):
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher, on_cancel="kill") as hub, anyio.create_task_group() as tg:
        worker = launcher.worker()
        running = await ask(tg, hub.using(on_cancel="interrupt").request, 1)
        await begin(worker)
        running.cancel()
        await worker.interrupted()
        assert worker.kills == 0


async def test_the_first_kill_that_the_model_could_have_spared_is_said_once(ask, begin, caplog):
    async def hangs(worker):
        await worker.start()
        worker.begin((await worker.receive()).link_id)
        await anyio.sleep_forever()

    launcher = ScriptedLauncher(hangs)
    with caplog.at_level(logging.WARNING, "gibbs"):
        async with open_hub(launcher) as hub:
            for calls, said in ((hub.using(on_cancel="kill"), 0), (hub, 1), (hub, 1)):
                with anyio.move_on_after(1):
                    await calls.request(1)
                await launcher.worker().wait_ended()
                await hub.wait_ready()
                assert caplog.text.count("interruptible = True") == said


async def test_without_abandoning_the_caller_waits_until_the_call_has_unwound(ask, by_hand, begin, side):
    launcher = ScriptedLauncher(by_hand, side=side)
    async with open_hub(launcher, abandon_on_cancel=False, cancel_grace=100) as hub, anyio.create_task_group() as tg:
        worker = launcher.worker()
        running = await ask(tg, hub.request, 1)
        call = await begin(worker)
        running.cancel()
        await worker.interrupted()
        await anyio.sleep(50)
        assert not running.done.is_set()
        await worker.skip(call.link_id)
        assert await running.outcome() == "cancelled"
        assert hub.statistics().seats["serving"] == 1


async def test_without_abandoning_the_caller_waits_until_the_worker_is_reaped(ask, by_hand, begin, side):
    launcher = ScriptedLauncher(by_hand, serve, side=side)
    async with open_hub(launcher, abandon_on_cancel=False, cancel_grace=7) as hub, anyio.create_task_group() as tg:
        worker = launcher.worker()
        running = await ask(tg, hub.request, 1)
        await begin(worker)
        before = anyio.current_time()
        running.cancel()
        assert await running.outcome() == "cancelled"
        assert anyio.current_time() - before == pytest.approx(7, abs=0.1)
        assert worker.ending is not None


async def test_without_abandoning_the_caller_of_a_finishing_call_waits_for_its_end(ask, by_hand, begin):
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        calls = hub.using(abandon_on_cancel=False, on_cancel="finish")
        running = await ask(tg, calls.request, 1)
        call = await begin(launcher.worker())
        running.cancel()
        await anyio.sleep(1000)
        assert not running.done.is_set()
        await launcher.worker().answer(call.link_id, 1)
        assert await running.outcome() == "cancelled"


async def test_without_abandoning_a_cancel_in_the_instant_of_the_close_waits_for_the_end_of_the_call(
    ask, by_hand, begin
):
    launcher = ScriptedLauncher(by_hand)
    async with anyio.create_task_group() as tg:
        async with open_hub(launcher, abandon_on_cancel=False, on_cancel="finish", close_timeout=3) as hub:
            running = await ask(tg, hub.request, 1)
            await begin(launcher.worker())
            hub._desk.crew.close(3)  # refuses the request; its caller is cancelled before it hears of that
            running.cancel()
            await anyio.sleep(2)
            assert not running.done.is_set()
        assert await running.outcome() == "cancelled"
        assert launcher.worker().ending is not None


async def test_without_abandoning_a_queued_request_leaves_at_once(ask, by_hand):
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher, abandon_on_cancel=False) as hub, anyio.create_task_group() as tg:
        await ask(tg, hub.request, 1)
        queued = await ask(tg, hub.request, 2)
        before = anyio.current_time()
        queued.cancel()
        assert await queued.outcome() == "cancelled"
        assert anyio.current_time() == before
        tg.cancel_scope.cancel()


async def test_in_a_cancelled_scope_nothing_is_queued_and_no_worker_touched(by_hand):
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher) as hub:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await hub.request(1)
        assert scope.cancelled_caught
        assert hub.statistics().cancelled == 0
        await anyio.sleep(1)
        assert not launcher.worker().calls


async def test_in_a_cancelled_scope_nothing_is_sent_when_others_wait_too(ask, by_hand, begin, side):
    launcher = ScriptedLauncher(by_hand, side=side)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        worker = launcher.worker()
        asked = [await ask(tg, hub.request, n) for n in (1, 2)]
        with anyio.CancelScope() as scope:
            scope.cancel()
            await hub.request(3)
        assert scope.cancelled_caught
        for one in asked:
            call = await begin(worker)
            await worker.answer(call.link_id, "answer")
            await one.outcome()
        assert [call.content[1] for call in worker.calls] == [(1,), (2,)]
        assert len(launcher.workers) == 1


async def test_a_timeout_of_the_caller_is_the_caller_s_own(by_hand):
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher) as hub:
        before = anyio.current_time()
        with pytest.raises(TimeoutError), anyio.fail_after(2):
            await hub.request(1)
        assert anyio.current_time() - before == pytest.approx(2)
        assert hub.statistics().cancelled == 1
