"""Workers beyond those that serve: whose place they take, and when. Under a virtual clock."""

from __future__ import annotations

import re

import anyio
import pytest
from trio.testing import MockClock

import gibbs
from gibbs._parent.worker import Worker
from gibbs.testing import ScriptedLauncher, serve


@pytest.fixture(scope="module")
def anyio_backend():
    return "trio", {"clock": MockClock(autojump_threshold=0)}


class Echo:
    def __call__(self, x):
        return x


def open_hub(launcher, *, workers=1, spares=1, **options):
    return gibbs.open_hub(Echo, name="echo", workers=workers, spares=spares, launcher=launcher, **options)


def seats(hub):
    return {state: count for state, count in hub.statistics().seats.items() if count}


async def takes_a_minute(worker):
    await anyio.sleep(60)
    await serve(worker)


async def begins_and_hangs(worker):
    await worker.start()
    call = await worker.receive()
    worker.begin(call.link_id)
    await anyio.sleep_forever()


async def test_spares_are_started_with_the_rest_and_take_no_requests():
    launcher = ScriptedLauncher()
    async with open_hub(launcher, workers=2, spares=1) as hub:
        await anyio.wait_all_tasks_blocked()
        assert seats(hub) == {"serving": 2, "spare": 1}
        for n in range(10):
            await hub.request(n)
        assert sorted(len(worker.calls) for worker in launcher.workers)[0] == 0
        assert hub.health() == gibbs.Health(ready=True)
        with pytest.raises(ValueError, match="workers=2"):
            await hub.wait_ready(3)


async def test_those_that_are_ready_first_serve_and_nobody_waits_for_the_spare():
    async def slow_is_the_first(worker):
        await anyio.sleep(50 * (worker.spec.seat == 0))
        await serve(worker)

    before = anyio.current_time()
    async with open_hub(ScriptedLauncher(slow_is_the_first), workers=2, spares=1) as hub:
        assert anyio.current_time() == before
        assert await hub.request(1) == 1
        await anyio.sleep(61)
        assert seats(hub) == {"serving": 2, "spare": 1}


async def test_a_spare_that_does_not_start_does_not_keep_a_hub_from_opening_but_its_failures_count():
    async def not_the_last(worker):
        await (worker.unfit(ValueError("no")) if worker.spec.seat == 2 else serve(worker))

    with pytest.raises(gibbs.RestartsExhausted):
        async with open_hub(
            ScriptedLauncher(not_the_last), workers=2, spares=1, restarts=gibbs.RestartPolicy(max_failures=2)
        ) as hub:
            assert await hub.request(1) == 1
            await anyio.sleep_forever()


async def test_when_a_worker_dies_its_request_fails_and_the_next_goes_to_the_spare_at_once(ask):
    launcher = ScriptedLauncher(begins_and_hangs, takes_a_minute)
    async with open_hub(launcher, spares=1) as hub, anyio.create_task_group() as tg:
        asked = await ask(tg, hub.request, 1)
        waits = await ask(tg, hub.request, 2)
        await anyio.wait_all_tasks_blocked()
        [busy] = [worker for worker in launcher.workers if worker.calls]
        [spare] = [worker for worker in launcher.workers if not worker.calls]
        before = anyio.current_time()
        busy.die(code=1)
        with pytest.raises(gibbs.WorkerCrashed):
            await asked.outcome()
        await anyio.wait_all_tasks_blocked()
        assert [call.content[1] for call in spare.calls] == [(2,)]
        assert anyio.current_time() == before
        waits.cancel()
        assert seats(hub) in ({"serving": 1, "starting": 1}, {"interrupting": 1, "starting": 1})
        tg.cancel_scope.cancel()


async def test_a_request_after_one_that_was_killed_for_a_cancel_is_sent_to_the_spare_in_the_same_tick(ask, monkeypatch):
    clean_up, killing = Worker.clean_up, []
    monkeypatch.setattr(Worker, "clean_up", lambda *order: killing.append(order))
    launcher = ScriptedLauncher(begins_and_hangs, takes_a_minute)
    async with open_hub(launcher, on_cancel="kill") as hub, anyio.create_task_group() as tg:
        asked = await ask(tg, hub.request, 1)
        waits = await ask(tg, hub.request, 2)
        await anyio.wait_all_tasks_blocked()
        [busy] = [worker for worker in launcher.workers if worker.calls]
        [spare] = [worker for worker in launcher.workers if not worker.calls]
        asked.cancel()
        await asked.done.wait()
        assert hub.statistics().running == 1, "the other one is with the spare already"
        await anyio.wait_all_tasks_blocked()
        assert [call.content[1] for call in spare.calls] == [(2,)]
        assert busy.ending is None
        [order] = killing
        clean_up(*order)
        waits.cancel()
        tg.cancel_scope.cancel()


async def test_one_behind_the_spare_is_built_and_is_the_next_spare():
    launcher = ScriptedLauncher()
    async with open_hub(launcher, workers=1, spares=1) as hub:
        for incarnation in (1, 2, 3):
            await anyio.wait_all_tasks_blocked()
            assert seats(hub) == {"serving": 1, "spare": 1}
            serving = await served_by(hub, launcher, incarnation)
            serving.die(code=1)
        await anyio.wait_all_tasks_blocked()
        assert hub.statistics().restarts == 3


async def served_by(hub, launcher, n):
    before = {worker: len(worker.calls) for worker in launcher.workers}
    assert await hub.request(n) == n
    [served] = [worker for worker in launcher.workers if len(worker.calls) > before[worker]]
    return served


async def test_a_spare_that_dies_is_replaced_and_nobody_notices():
    launcher = ScriptedLauncher()
    async with open_hub(launcher, workers=1, spares=1) as hub:
        await anyio.wait_all_tasks_blocked()
        serving = await served_by(hub, launcher, 1)
        [spare] = [worker for worker in launcher.workers if worker is not serving]
        spare.die(code=1)
        assert await served_by(hub, launcher, 2) is serving
        await anyio.wait_all_tasks_blocked()
        assert seats(hub) == {"serving": 1, "spare": 1}
        assert hub.statistics().restarts == 1


async def test_what_was_to_be_killed_and_was_not_becomes_a_spare_itself(ask):
    """It had not begun what was cancelled, and says so when a spare serves in its place already."""

    async def reads_and_skips(worker):
        await worker.start()
        call = await worker.receive()
        while not call.is_call:
            call = await worker.receive()
        await anyio.sleep(0.0005)
        await worker.skip(call.link_id)
        await worker.work()

    launcher = ScriptedLauncher(reads_and_skips)
    async with open_hub(launcher, on_cancel="kill") as hub, anyio.create_task_group() as tg:
        await anyio.wait_all_tasks_blocked()
        asked = await ask(tg, hub.request, 1)
        await anyio.wait_all_tasks_blocked()
        asked.cancel()
        await asked.done.wait()
        await anyio.sleep(1)
        assert seats(hub) == {"serving": 1, "spare": 1}
        assert hub.statistics().restarts == 0
        tg.cancel_scope.cancel()


async def test_a_hub_with_spares_closes_them_too():
    launcher = ScriptedLauncher()
    async with open_hub(launcher, workers=2, spares=2):
        await anyio.wait_all_tasks_blocked()
    assert len(launcher.workers) == 4
    assert [worker.ending.exit_code for worker in launcher.workers] == [0] * 4


async def test_one_worker_and_a_spare_can_give_no_lease_away():
    async with open_hub(ScriptedLauncher(), workers=1, spares=1) as hub:
        with pytest.raises(ValueError, match="one worker"):
            async with hub.lease():
                pytest.fail("entered")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"spares": -1}, ValueError, "spares must be a whole number ≥ 0, not -1"),
        ({"spares": True}, TypeError, "spares must be a whole number ≥ 0, not True"),
        (
            {"spares": 1, "launcher": gibbs.LocalLauncher(devices=["left"])},
            ValueError,
            "spares=1 need a device each: the launcher has 1 devices for 2 workers",
        ),
    ],
)
def test_spares_that_make_no_sense_are_refused(options, error, words):
    with pytest.raises(error, match=re.escape(words)):
        gibbs.open_hub(Echo, workers=1, **options)
