"""More and fewer workers, other workers, other models, while requests come. Under a virtual clock."""

from __future__ import annotations

import contextlib
import logging
import math
import pickle
import re

import anyio
import pytest
from trio.testing import MockClock

import gibbs
from gibbs.testing import ScriptedLauncher, serve

pytestmark = pytest.mark.usefixtures("calm")


@pytest.fixture(scope="module")
def anyio_backend():
    return "trio", {"clock": MockClock(autojump_threshold=0)}


@pytest.fixture
def calm(monkeypatch):
    """So that what takes time in a test is what it says."""
    monkeypatch.setattr("gibbs._parent.worker.EXIT_PATIENCE", 0.01)


class Echo:
    def __call__(self, x):
        return x


class Louder:
    def __init__(self, factor=2):
        self.factor = factor

    def __call__(self, x):
        return x * self.factor

    def whisper(self):
        return "psst"


class Broken:
    def __init__(self):
        raise ValueError("no weights there")


def answers_as_expected(model):
    assert model(3) == 6


def answers_otherwise(model):
    raise AssertionError(f"{model(3)} is not what was expected")


def open_hub(launcher, workers=2, **options):
    return gibbs.open_hub(Echo, name="echo", workers=workers, launcher=launcher, **options)


def seats(hub):
    """Those that are of any use, by state."""
    return {state: count for state, count in hub.statistics().seats.items() if count and state != "retired"}


async def takes_a_minute(worker):
    await anyio.sleep(60)
    await serve(worker)


async def works_for_a_minute(worker):
    """On each request."""
    await worker.start()
    while not (call := await worker.receive()).is_leave:
        worker.begin(call.link_id)
        await anyio.sleep(60)
        await worker.answer(call.link_id, worker.spec.incarnation)


# ------------------------------------------------------------------------------------------------------------ resizing


async def test_a_hub_that_is_to_be_larger_starts_more_workers_and_returns_when_they_serve():
    launcher = ScriptedLauncher(takes_a_minute)
    async with open_hub(launcher, 2, start_timeout=math.inf) as hub:
        before = anyio.current_time()
        await hub.resize(5)
        assert anyio.current_time() == before + 60
        assert seats(hub) == {"serving": 5}
        assert {worker.spec.seat for worker in launcher.workers} == {0, 1, 2, 3, 4}
        assert hub.health() == gibbs.Health(ready=True)
        await hub.wait_ready(5)


async def test_a_hub_that_is_to_be_smaller_lets_those_go_that_have_nothing_to_do(ask):
    launcher = ScriptedLauncher(works_for_a_minute)
    async with open_hub(launcher, 4) as hub, anyio.create_task_group() as tg:
        asked = [await ask(tg, hub.request, n) for n in range(2)]
        await anyio.wait_all_tasks_blocked()
        before = anyio.current_time()
        await hub.resize(2)
        assert anyio.current_time() < before + 1
        assert seats(hub) == {"serving": 2}
        assert [await one.outcome() for one in asked] == [1, 1]
        assert sorted(worker.ending.exit_code for worker in launcher.workers if worker.ending) == [0, 0]


async def test_who_is_busy_finishes_before_it_goes_and_nothing_more_is_sent_to_it(ask):
    launcher = ScriptedLauncher(works_for_a_minute)
    async with open_hub(launcher, 2) as hub, anyio.create_task_group() as tg:
        asked = [await ask(tg, hub.request, n) for n in range(6)]
        await anyio.wait_all_tasks_blocked()
        before = anyio.current_time()
        await hub.resize(1)
        assert anyio.current_time() == pytest.approx(before + 60, abs=1)
        for one in asked:
            await one.outcome()
        assert sorted(len(worker.calls) for worker in launcher.workers) == [1, 5]


async def test_with_no_workers_requests_wait_and_are_answered_when_there_are_some_again(ask):
    launcher = ScriptedLauncher()
    async with open_hub(launcher, 2) as hub, anyio.create_task_group() as tg:
        await hub.resize(0)
        assert seats(hub) == {}
        assert not hub.health().ready
        asked = await ask(tg, hub.request, 1)
        await anyio.wait_all_tasks_blocked()
        assert hub.statistics().queued == 1
        await hub.resize(1)
        assert await asked.outcome() == 1


async def test_a_seat_that_was_left_is_filled_again_under_its_number_with_an_incarnation_that_is_new():
    launcher = ScriptedLauncher()
    async with open_hub(launcher, 2) as hub:
        for workers in (1, 2, 1, 2):
            await hub.resize(workers)
    told = [(worker.spec.seat, worker.spec.incarnation) for worker in launcher.workers]
    assert {*told} == {(0, 1), (1, 1), (1, 2), (1, 3)}
    assert len(told) == 4


async def test_of_two_numbers_the_later_one_counts(ask):
    launcher = ScriptedLauncher(serve, takes_a_minute)
    async with open_hub(launcher, 1) as hub, anyio.create_task_group() as tg:
        larger = await ask(tg, hub.resize, 4)
        smaller = await ask(tg, hub.resize, 1)
        assert (await larger.outcome(), await smaller.outcome()) == (None, None)
        assert seats(hub) == {"serving": 1}
        assert await hub.request(1) == 1


async def test_a_resize_whose_caller_leaves_goes_on():
    launcher = ScriptedLauncher(takes_a_minute)
    async with open_hub(launcher, 1, start_timeout=math.inf) as hub:
        with anyio.move_on_after(1):
            await hub.resize(3)
        await hub.wait_ready(3)


async def test_a_worker_that_dies_on_its_way_out_is_not_replaced(ask):
    launcher = ScriptedLauncher(works_for_a_minute)
    async with open_hub(launcher, 2) as hub, anyio.create_task_group() as tg:
        asked = [await ask(tg, hub.request, n) for n in range(2)]
        await anyio.wait_all_tasks_blocked()
        smaller = await ask(tg, hub.resize, 0)
        await anyio.wait_all_tasks_blocked()
        [call] = launcher.worker(0).calls
        launcher.worker(0).die(code=1)
        with pytest.raises(gibbs.WorkerCrashed):
            await asked[call.content[1][0]].outcome()
        await smaller.outcome()
        assert hub.statistics().restarts == 0
        assert seats(hub) == {}


async def test_spares_are_kept_whatever_the_size():
    async with open_hub(ScriptedLauncher(), 2, spares=1) as hub:
        for workers in (5, 1, 3):
            await hub.resize(workers)
            await anyio.wait_all_tasks_blocked()
            assert seats(hub) == {"serving": workers, "spare": 1}


async def test_leases_follow_the_size():
    async with open_hub(ScriptedLauncher(), 2) as hub:
        await hub.resize(3)
        async with hub.lease(), hub.lease():
            assert await hub.request(1) == 1
        await hub.resize(1)
        with pytest.raises(ValueError, match="one worker"):
            async with hub.lease():
                pytest.fail("entered")


async def test_a_leased_worker_is_not_let_go_before_its_lease_is_left(ask):
    launcher = ScriptedLauncher()
    async with open_hub(launcher, 2) as hub, anyio.create_task_group() as tg:
        async with hub.lease() as lease:
            smaller = await ask(tg, hub.resize, 0)
            await anyio.sleep(100)
            assert not smaller.done.is_set()
            assert await lease.request(1) == 1
        await smaller.outcome()
        assert seats(hub) == {}


@pytest.mark.parametrize(
    ("workers", "error"), [(-1, ValueError), (1.0, TypeError), (True, TypeError), ("2", TypeError)]
)
async def test_a_size_that_is_none_is_refused(workers, error):
    async with open_hub(ScriptedLauncher()) as hub:
        with pytest.raises(error, match="workers must be a whole number"):
            await hub.resize(workers)


async def test_a_hub_that_is_closed_is_not_resized():
    async with open_hub(ScriptedLauncher()) as hub:
        pass
    with pytest.raises(gibbs.HubClosed):
        await hub.resize(1)


# ------------------------------------------------------------------------------------------------------------- elastic


async def works_for_a_second(worker):
    await worker.start()
    while not (call := await worker.receive()).is_leave:
        worker.begin(call.link_id)
        await anyio.sleep(1)
        await worker.answer(call.link_id, "done")


async def test_an_elastic_hub_grows_with_its_load_and_shrinks_when_that_is_over(caplog):
    launcher = ScriptedLauncher(works_for_a_second)
    elastic = gibbs.Elastic(1, 4, idle=100, target_wait=0.5)
    with caplog.at_level(logging.INFO, "gibbs"):
        async with open_hub(launcher, elastic) as hub:
            assert seats(hub) == {"serving": 1}
            async with anyio.create_task_group() as tg:
                for _ in range(40):
                    tg.start_soon(hub.request, 1)
                await anyio.sleep(5)
                assert seats(hub) == {"serving": 4}
            assert {worker.spec.workers for worker in launcher.workers} == {4}
            await anyio.sleep(250)
            assert seats(hub) == {"serving": 1}
            assert hub.health() == gibbs.Health(ready=True)
            assert await hub.request(1) == "done"
    assert "is to have 4 workers, it had 1" in caplog.text


async def test_an_elastic_hub_of_which_nothing_is_asked_is_not_looked_at(monkeypatch):
    looks = []
    monkeypatch.setattr("gibbs._parent.scaler.Scaler._look", lambda _: looks.append(1))
    async with open_hub(ScriptedLauncher(), gibbs.Elastic(2, 4, idle=1)) as hub:
        await hub.request(1)
        await anyio.sleep(1000)
    assert looks == []


async def test_with_nobody_there_the_first_request_asks_for_a_worker():
    async with open_hub(ScriptedLauncher(), gibbs.Elastic(0, 2, idle=10)) as hub:
        assert seats(hub) == {}
        assert await hub.request(1) == 1
        await anyio.sleep(25)
        assert seats(hub) == {}
        assert await hub.request(2) == 2


async def test_an_elastic_hub_whose_items_come_by_a_map_grows_too():
    async with open_hub(ScriptedLauncher(works_for_a_second), gibbs.Elastic(1, 4)) as hub:
        async with hub.map(range(30), limit=8) as results:
            assert [result async for result in results] == ["done"] * 30
        assert hub.statistics().seats["serving"] == 4


async def test_an_elastic_hub_may_be_resized_by_hand_and_scales_on_from_there():
    async with open_hub(ScriptedLauncher(works_for_a_second), gibbs.Elastic(1, 4, idle=100)) as hub:
        await hub.resize(3)
        assert seats(hub) == {"serving": 3}
        await anyio.sleep(90)
        assert seats(hub) == {"serving": 3}
        await anyio.sleep(120)
        assert seats(hub) == {"serving": 1}


# ----------------------------------------------------------------------------------------------------------- reloading


async def test_after_a_reload_the_new_model_answers_and_no_worker_of_the_old_one_is_left():
    launcher = ScriptedLauncher()
    async with open_hub(launcher, 3) as hub:
        assert await hub.request(3) == 3
        await hub.reload(Louder, 10)
        assert [await hub.request(n) for n in range(9)] == [10 * n for n in range(9)]
        assert await hub.method("whisper").request() == "psst"
        assert seats(hub) == {"serving": 3}
    assert len(launcher.workers) == 6


async def test_while_it_reloads_no_request_fails_and_none_waits_for_a_start(ask):
    launcher = ScriptedLauncher(takes_a_minute)
    waits = []
    async with gibbs.open_hub(Echo, workers=3, launcher=launcher, start_timeout=math.inf) as hub:
        async with anyio.create_task_group() as tg:
            reloading = await ask(tg, hub.reload, Louder)

            async def asks():
                while not reloading.done.is_set():
                    before = anyio.current_time()
                    assert await hub.request(1) in (1, 2)
                    waits.append(anyio.current_time() - before)
                    await anyio.sleep(0.5)

            for _ in range(10):
                tg.start_soon(asks)
        assert await hub.request(1) == 2
        assert max(waits) == 0
        assert len(waits) > 100


async def test_a_request_ends_on_the_model_on_which_it_began(ask):
    launcher = ScriptedLauncher(works_for_a_minute)
    async with open_hub(launcher, 1) as hub, anyio.create_task_group() as tg:
        asked = await ask(tg, hub.request, 1)
        await anyio.wait_all_tasks_blocked()
        reloading = await ask(tg, hub.reload, Louder)
        assert await asked.outcome() == 1
        await reloading.outcome()
        assert len(launcher.workers) == 2


@pytest.mark.parametrize(
    ("factory", "check", "words"),
    [
        (Broken, None, "no weights there"),
        (Louder, answers_otherwise, "6 is not what was expected"),
    ],
)
async def test_a_model_that_cannot_be_served_changes_nothing(factory, check, words):
    launcher = ScriptedLauncher()
    async with open_hub(launcher, 2) as hub:
        with pytest.raises(gibbs.ReloadFailed, match=words) as caught:
            await hub.reload(factory, check=check)
        assert isinstance(caught.value.__cause__, gibbs.WorkerStartFailed)
        assert [await hub.request(n) for n in range(5)] == [*range(5)]
        assert seats(hub) == {"serving": 2}
        assert hub.statistics().restarts == 0
        [launcher.worker(seat).die(code=1) for seat in (0, 1)]
        assert await hub.request(3) == 3
    assert launcher.workers[2].ending.exit_code is not None


async def test_a_check_is_asked_of_the_first_new_worker_only():
    async with open_hub(ScriptedLauncher(), 2) as hub:
        await hub.reload(Louder, check=answers_as_expected)
        assert await hub.request(2) == 4


async def test_a_reload_that_fails_at_a_later_worker_is_undone_and_nothing_is_dropped():
    async def the_third_new_one_fails(worker):
        new = sum(one.spec.incarnation > 1 or one.spec.seat > 2 for one in launcher.workers)
        await (worker.unfit(ValueError("out of memory")) if new == 3 else serve(worker))

    launcher = ScriptedLauncher(the_third_new_one_fails)
    async with open_hub(launcher, 3) as hub:
        with pytest.raises(gibbs.ReloadFailed, match="out of memory"):
            await hub.reload(Louder)
        assert [await hub.request(n) for n in range(6)] == [*range(6)]
        assert seats(hub) == {"serving": 3}


async def test_a_reload_that_fails_when_those_that_were_replaced_are_gone_is_undone_all_the_same(ask):
    async def the_second_new_one_fails(worker):
        if len(launcher.workers) <= 3:
            await serve(worker)
        else:
            await anyio.sleep(30)
            await (serve(worker) if len(launcher.workers) > 5 else worker.unfit(ValueError("out of memory")))

    launcher = ScriptedLauncher(the_second_new_one_fails)
    async with open_hub(launcher, 2) as hub, anyio.create_task_group() as tg:
        reloading = await ask(tg, hub.reload, Louder)
        await anyio.sleep(1)
        await hub.resize(1)  # of the two that serve the new one goes, and who is to be tried
        with pytest.raises(gibbs.ReloadFailed, match="out of memory"):
            await reloading.outcome()
        await hub.resize(2)
        assert [await hub.request(n) for n in range(6)] == [*range(6)]
        with pytest.raises(AttributeError, match="whisper"):
            await hub.method("whisper").request()


async def test_of_a_reload_that_cannot_be_undone_no_worker_is_started_again():
    async def the_next_two_fail(worker):
        await (worker.unfit(ValueError("out of memory")) if len(launcher.workers) in (4, 5) else serve(worker))

    launcher = ScriptedLauncher(the_next_two_fail)
    async with open_hub(launcher, 2) as hub:
        with pytest.raises(gibbs.ReloadFailed, match="could not be put back") as caught:
            await hub.reload(Louder)
        assert not caught.value.undone
        assert "nor could it be undone: worker 0" in caught.value.__cause__.__notes__[0]
        async with anyio.create_task_group() as tg:
            answers = []
            for _ in range(2):
                tg.start_soon(note, answers, hub.request, 1)
        assert {*answers} == {1, 2}
        launcher.workers[2].die(code=1)
        await anyio.wait_all_tasks_blocked()
        assert [await hub.request(n) for n in range(6)] == [*range(6)]


async def note(answers, f, *args):
    answers.append(await f(*args))


async def test_a_second_reload_waits_for_the_first(ask):
    async with open_hub(ScriptedLauncher(serve), 2) as hub, anyio.create_task_group() as tg:
        first = await ask(tg, hub.reload, Louder, 2)
        second = await ask(tg, hub.reload, Louder, 3)
        await first.outcome()
        await second.outcome()
        assert [await hub.request(1) for _ in range(4)] == [3] * 4


async def test_a_reload_whose_caller_is_cancelled_is_carried_through_and_then_the_cancellation_is_delivered(ask):
    launcher = ScriptedLauncher(takes_a_minute)
    async with open_hub(launcher, 2, start_timeout=math.inf) as hub:
        with anyio.move_on_after(1) as scope:
            await hub.reload(Louder)
        assert scope.cancelled_caught
        assert [await hub.request(1) for _ in range(4)] == [2] * 4


async def test_a_worker_that_dies_while_the_hub_reloads_is_replaced_by_a_new_one(ask):
    launcher = ScriptedLauncher(takes_a_minute)
    async with open_hub(launcher, 2, start_timeout=math.inf) as hub, anyio.create_task_group() as tg:
        reloading = await ask(tg, hub.reload, Louder)
        await anyio.sleep(10)
        launcher.worker(0).die(code=1)
        await reloading.outcome()
        await hub.wait_ready()
        assert [await hub.request(1) for _ in range(6)] == [2] * 6


async def test_spares_are_reloaded_too():
    launcher = ScriptedLauncher()
    async with open_hub(launcher, 1, spares=2) as hub:
        await anyio.wait_all_tasks_blocked()
        await hub.reload(Louder)
        for _ in range(3):
            assert await hub.request(1) == 2
            [worker.die(code=1) for worker in launcher.workers if worker.calls and worker.ending is None]
            await anyio.wait_all_tasks_blocked()


async def test_no_worker_of_the_old_model_is_called_while_a_hub_with_spares_reloads():
    launcher = ScriptedLauncher()
    async with open_hub(launcher, 3, spares=2) as hub:
        await anyio.wait_all_tasks_blocked()
        await hub.reload(Louder)
        await anyio.wait_all_tasks_blocked()
        assert len(launcher.workers) == 10, "each is replaced once"
        assert seats(hub) == {"serving": 3, "spare": 2}


async def test_a_hub_that_closes_while_it_reloads_says_so(ask):
    async def the_first_one_starts(worker):
        await (serve(worker) if len(launcher.workers) == 1 else takes_a_minute(worker))

    launcher = ScriptedLauncher(the_first_one_starts)
    async with anyio.create_task_group() as tg:
        async with open_hub(launcher, 1, close_timeout=0) as hub:
            reloading = await ask(tg, hub.reload, Louder)
            await anyio.sleep(1)
        with pytest.raises(gibbs.HubClosed):
            await reloading.outcome()


async def test_what_cannot_be_a_model_is_refused_and_nothing_begins():
    launcher = ScriptedLauncher()
    async with open_hub(launcher, 1) as hub:
        with pytest.raises(TypeError, match="the factory must be callable"):
            await hub.reload(3)
        with pytest.raises(TypeError, match="check must be callable"):
            await hub.reload(Louder, check=3)
        with pytest.raises((TypeError, pickle.PicklingError)):
            await hub.reload(Louder, (n for n in range(3)))
    assert len(launcher.workers) == 1


# ----------------------------------------------------------------------------------------------------------- recycling


def recycling(**limits):
    return gibbs.RestartPolicy(recycle=gibbs.Recycle(jitter=0, **limits))


async def test_a_worker_that_has_had_enough_requests_is_replaced_and_nobody_waits(caplog):
    launcher = ScriptedLauncher(takes_a_minute)
    with caplog.at_level(logging.INFO, "gibbs"):
        async with open_hub(launcher, 1, restarts=recycling(max_requests=10), start_timeout=math.inf) as hub:
            for n in range(10):
                assert await hub.request(n) == n
            before = anyio.current_time()
            await anyio.sleep(30)
            assert await hub.request(1) == 1, "while the new one is built"
            await anyio.sleep(40)
            assert await hub.request(2) == 2
            assert len(launcher.workers) == 2
            assert launcher.workers[0].ending.exit_code == 0
            assert len(launcher.workers[1].calls) == 1
            assert anyio.current_time() - before < 80
    assert "is replaced: it has had 10 requests" in caplog.text


async def test_what_the_worker_before_was_sent_does_not_count():
    launcher = ScriptedLauncher()
    async with open_hub(launcher, 1, restarts=recycling(max_requests=10)) as hub:
        for n in range(9):
            await hub.request(n)
        launcher.worker().die(code=1)
        for n in range(9):
            await hub.request(n)
        await anyio.sleep(10)
        assert len(launcher.workers) == 2


async def test_workers_that_have_served_long_enough_are_replaced_one_after_the_other():
    launcher = ScriptedLauncher(takes_a_minute)
    async with open_hub(launcher, 3, restarts=recycling(max_age=1000), start_timeout=math.inf) as hub:
        await anyio.sleep(1010)
        starting = []
        for _ in range(200):
            starting.append(hub.statistics().seats["starting"])
            assert hub.statistics().seats["serving"] >= 3
            await anyio.sleep(1)
        assert max(starting) == 1
        await anyio.sleep(60)
        assert seats(hub) == {"serving": 3}
        assert len(launcher.workers) == 6


async def test_without_surge_the_old_one_is_gone_before_the_new_one_starts():
    launcher = ScriptedLauncher(takes_a_minute)
    async with open_hub(launcher, 2, restarts=recycling(max_age=1000, surge=0), start_timeout=math.inf) as hub:
        await anyio.sleep(1005)
        alive = sum(worker.ending is None for worker in launcher.workers)
        assert alive == 2
        assert seats(hub) == {"serving": 1, "starting": 1}
        await anyio.sleep(200)
        assert seats(hub) == {"serving": 2}


class Fragile(Echo):
    broken = False

    def __init__(self):
        if self.broken:
            raise ValueError("no weights there any more")


async def test_a_hub_whose_model_cannot_be_built_any_more_is_reloaded_though_one_was_to_be_replaced_in_its_place(
    monkeypatch,
):
    policy = gibbs.RestartPolicy(max_failures=math.inf, recycle=gibbs.Recycle(max_age=10, surge=0, jitter=0))
    async with gibbs.open_hub(Fragile, workers=2, launcher=ScriptedLauncher(), restarts=policy) as hub:
        monkeypatch.setattr(Fragile, "broken", True)
        await anyio.sleep(15)
        assert hub.statistics().seats["serving"] == 1
        with anyio.fail_after(100):
            await hub.reload(Louder)
            await hub.wait_ready()
        assert [await hub.request(1) for _ in range(4)] == [2] * 4


async def test_who_was_replaced_by_a_reload_before_its_turn_came_is_not_replaced_again():
    launcher = ScriptedLauncher(takes_a_minute)
    async with open_hub(launcher, 3, restarts=recycling(max_age=1000), start_timeout=math.inf) as hub:
        await anyio.sleep(999)
        await hub.reload(Louder)  # takes three minutes, and the third has the seat of the first
        await anyio.sleep(100)
        assert len(launcher.workers) == 6


async def test_a_worker_whose_replacement_does_not_start_serves_on(caplog):
    async def no_second_one(worker):
        await (serve(worker) if len(launcher.workers) == 1 else worker.unfit(ValueError("no memory")))

    launcher = ScriptedLauncher(no_second_one)
    async with open_hub(launcher, 1, restarts=recycling(max_age=100)) as hub:
        await anyio.sleep(200)
        assert await hub.request(1) == 1
        assert seats(hub) == {"serving": 1}
        assert 1 < len(launcher.workers) < 8
    assert "is not replaced, since no other became ready" in caplog.text


@pytest.mark.parametrize(
    ("limits", "error", "words"),
    [
        ({"max_requests": 0}, ValueError, "max_requests must be more than 0"),
        ({"max_age": "1h"}, TypeError, "max_age must be a number"),
        ({"max_rss": math.nan}, ValueError, "max_rss must be more than 0"),
        ({"hard_rss": True}, TypeError, "hard_rss must be a number"),
        ({"jitter": 1}, ValueError, "jitter must be at least 0, and less than 1"),
        ({"surge": 2}, ValueError, "surge must be 0 or 1"),
    ],
)
def test_limits_that_make_no_sense_are_refused(limits, error, words):
    with pytest.raises(error, match=re.escape(words)):
        gibbs.Recycle(**limits)
    with pytest.raises(TypeError, match=re.escape("recycle must be a gibbs.Recycle or None")):
        gibbs.RestartPolicy(recycle=limits)


# --------------------------------------------------------------------------------- what a hostile reader found, once each


async def test_a_hub_that_closes_while_a_second_reload_waits_closes(ask):
    launcher = ScriptedLauncher(takes_a_minute)
    async with anyio.create_task_group() as tg:
        async with open_hub(launcher, 1, start_timeout=math.inf, close_timeout=0) as hub:
            reloads = [await ask(tg, hub.reload, Louder) for _ in range(2)]
            await anyio.sleep(1)
        for reload in reloads:
            with pytest.raises(gibbs.HubClosed):
                await reload.outcome()
    assert all(worker.ending for worker in launcher.workers)


async def test_a_hub_that_closes_while_a_worker_is_replaced_in_its_place_closes():
    launcher = ScriptedLauncher(works_for_a_minute)
    async with anyio.create_task_group() as tg:
        async with open_hub(launcher, 1, restarts=recycling(max_requests=1, surge=0), close_timeout=0) as hub:
            tg.start_soon(swallow, hub.request, 1)
            await anyio.sleep(30)
    assert all(worker.ending for worker in launcher.workers)


async def swallow(f, *args):
    with contextlib.suppress(gibbs.HubClosed):
        await f(*args)


async def test_a_reload_of_a_hub_without_workers_tries_the_model_and_keeps_it():
    launcher = ScriptedLauncher()
    async with open_hub(launcher, 1) as hub:
        await hub.resize(0)
        with pytest.raises(gibbs.ReloadFailed, match="no weights there"):
            await hub.reload(Broken)
        await hub.reload(Louder, check=answers_as_expected)
        await hub.resize(1)
        assert await hub.request(2) == 4


async def test_a_second_reload_that_fails_leaves_the_first_as_it_is(ask):
    async with open_hub(ScriptedLauncher(), 2) as hub, anyio.create_task_group() as tg:
        first = await ask(tg, hub.reload, Louder)
        second = await ask(tg, hub.reload, Broken)
        await first.outcome()
        with pytest.raises(gibbs.ReloadFailed):
            await second.outcome()
        assert [await hub.request(1) for _ in range(4)] == [2] * 4


@pytest.mark.parametrize("workers", [1, 3])
async def test_a_hub_that_is_resized_while_it_reloads_is_as_large_as_it_should_be(workers, ask):
    launcher = ScriptedLauncher(takes_a_minute)
    async with open_hub(launcher, 2, start_timeout=math.inf) as hub, anyio.create_task_group() as tg:
        reloading = await ask(tg, hub.reload, Louder)
        await anyio.sleep(70)
        await hub.resize(workers)
        await reloading.outcome()
        await hub.wait_ready()
        await anyio.sleep(100)
        assert seats(hub) == {"serving": workers}
        assert [await hub.request(1) for _ in range(4)] == [2] * 4


async def test_a_hub_that_becomes_smaller_lets_the_leased_worker_go_and_keeps_one_for_the_others(ask):
    async with open_hub(ScriptedLauncher(), 2) as hub, anyio.create_task_group() as tg:
        async with hub.lease() as lease:
            smaller = await ask(tg, hub.resize, 1)
            await anyio.wait_all_tasks_blocked()
            assert await hub.request(1) == 1
            assert await lease.request(2) == 2
        await smaller.outcome()
        assert seats(hub) == {"serving": 1}


async def test_who_waits_for_workers_is_content_when_fewer_are_wanted(ask):
    async with open_hub(ScriptedLauncher(takes_a_minute), 3, ready=0, start_timeout=math.inf) as hub:
        async with anyio.create_task_group() as tg:
            waits = await ask(tg, hub.wait_ready)
            await hub.resize(1)
            await waits.outcome()


async def test_a_worker_that_takes_anothers_place_has_its_place():
    launcher = ScriptedLauncher()
    async with open_hub(launcher, 3) as hub:
        await hub.reload(Louder)
        await hub.reload(Louder)
    assert sorted(worker.spec.turn for worker in launcher.workers[3:6]) == [0, 1, 2]
    assert sorted(worker.spec.turn for worker in launcher.workers[6:]) == [0, 1, 2]


class Together:
    @gibbs.batched(max_size=4, max_wait=5)
    def __call__(self, xs):
        return xs


async def test_a_model_whose_methods_run_together_does_not_take_the_place_of_one_whose_do_not():
    async with open_hub(ScriptedLauncher(), 2) as hub:
        with pytest.raises(gibbs.ReloadFailed, match="run many requests in one call"):
            await hub.reload(Together)
        assert [await hub.request(n) for n in range(4)] == [0, 1, 2, 3]


async def test_a_lone_request_that_waits_for_company_calls_for_a_worker_too():
    async with gibbs.open_hub(Together, workers=gibbs.Elastic(0, 2), launcher=ScriptedLauncher()) as hub:
        with anyio.fail_after(60):
            assert await hub.request(1) == 1


async def test_an_elastic_hub_that_drains_still_calls_for_workers(ask):
    async with open_hub(ScriptedLauncher(), gibbs.Elastic(0, 2)) as hub, anyio.create_task_group() as tg:
        asked = await ask(tg, hub.request, 1)
        drained = await ask(tg, hub.drain)
        assert await asked.outcome() == 1
        await drained.outcome()


async def test_a_hub_without_workers_that_drains_may_be_given_some(ask):
    async with open_hub(ScriptedLauncher(), 1) as hub, anyio.create_task_group() as tg:
        await hub.resize(0)
        asked = await ask(tg, hub.request, 1)
        drained = await ask(tg, hub.drain)
        await hub.resize(1)
        assert await asked.outcome() == 1
        await drained.outcome()


async def test_an_elastic_hub_gives_leases_and_grows_for_them():
    async with open_hub(ScriptedLauncher(), gibbs.Elastic(1, 3)) as hub:
        with anyio.fail_after(60):
            async with hub.lease() as one, hub.lease() as another:
                assert (await one.request(1), await another.request(2), await hub.request(3)) == (1, 2, 3)


async def test_an_elastic_hub_with_nobody_there_is_ready_and_one_that_was_emptied_says_why_not():
    async with open_hub(ScriptedLauncher(), gibbs.Elastic(0, 2)) as hub:
        assert hub.health() == gibbs.Health(ready=True)
    async with open_hub(ScriptedLauncher(), 1) as hub:
        await hub.resize(0)
        assert not hub.health().ready
        assert "resize() has let all of them go" in hub.health().reasons[0]


async def test_what_an_elastic_hub_cannot_be_is_refused():
    async with open_hub(ScriptedLauncher(), gibbs.Elastic(1, 2)) as hub:
        for workers in (0, 3):
            with pytest.raises(ValueError, match="between 1 and 2"):
                await hub.resize(workers)
    with pytest.raises(ValueError, match="max_pending must be 1 or more with an Elastic"):
        open_hub(ScriptedLauncher(), gibbs.Elastic(1, 2), max_pending=0)
