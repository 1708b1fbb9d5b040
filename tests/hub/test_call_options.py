"""What callers may ask of the way a request is run: priority, retries, key, max_wait. Workers are scripted."""

from __future__ import annotations

import math
from collections import Counter

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gibbs
from gibbs._core.affinity import affinity_of, liking
from gibbs._core.queue import AGEING
from gibbs.testing import ScriptedLauncher


class Echo:
    def __call__(self, x):
        return x


def open_hub(launcher, workers=1, **options):
    return gibbs.open_hub(Echo, workers=workers, launcher=launcher, close_timeout=0, **options)


async def work(worker):
    """The script of a worker that does all that it should."""
    if await worker.start():
        await worker.work()


def argument(call):
    return call.content[1][0]


async def answer_all(worker, begin, count):
    """So many, one after the other: their arguments."""
    asked = []
    for _ in range(count):
        call = await begin(worker)
        asked.append(argument(call))
        await worker.answer(call.link_id, argument(call))
    return asked


# ------------------------------------------------------------------------------------------------------------ how it is told


@pytest.mark.parametrize(
    ("option", "bad", "error"),
    [
        ("priority", "high", TypeError),
        ("priority", 1.0, TypeError),
        ("priority", True, TypeError),
        ("priority", 101, ValueError),
        ("retries", -1, ValueError),
        ("retries", 1.5, TypeError),
        ("retries", True, TypeError),
        ("retries", math.inf, TypeError),
        ("key", ("a", "tuple"), TypeError),
        ("key", 1.0, TypeError),
        ("key", True, TypeError),
        ("max_wait", -0.1, ValueError),
        ("max_wait", math.nan, ValueError),
        ("max_wait", None, TypeError),
        ("max_wait", "1", TypeError),
    ],
)
async def test_an_option_that_makes_no_sense_is_refused_at_once(option, bad, error, by_hand):
    async with open_hub(ScriptedLauncher(by_hand)) as hub:
        for calls in (hub, hub.using(priority=1), hub.method("__call__")):
            with pytest.raises(error, match=option) as caught:
                calls.using(**{option: bad})
            assert repr(bad) in str(caught.value)


async def test_an_unknown_option_is_refused_at_once(by_hand):
    async with open_hub(ScriptedLauncher(by_hand)) as hub:
        for calls in (hub, hub.method("__call__")):
            with pytest.raises(TypeError, match="urgency"):
                calls.using(urgency=1)


# -------------------------------------------------------------------------------------------------------------- priority


async def test_what_is_more_important_comes_first_and_equals_in_the_order_in_which_they_came(ask, by_hand, begin):
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        await ask(tg, hub.request, "runs")
        for n in range(2):
            for priority in (-1, 0, 2, 1):
                await ask(tg, hub.using(priority=priority).request, (priority, n))
        assert await answer_all(launcher.worker(), begin, 9) == [
            "runs",
            *[(priority, n) for priority in (2, 1, 0, -1) for n in range(2)],
        ]


async def test_nobody_waits_longer_for_what_is_more_important_than_that_is_worth(ask, by_hand, begin, monkeypatch):
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        await ask(tg, hub.request, "runs")
        before = anyio.current_time()
        await ask(tg, hub.request, "waits")
        await ask(tg, hub.using(priority=1).request, "important")
        worth = anyio.current_time() - before + 0.01  # more than lies between these two
        monkeypatch.setattr("gibbs._core.queue.AGEING", worth)
        await anyio.sleep(2 * worth)
        await ask(tg, hub.using(priority=1).request, "important, and too late")
        assert await answer_all(launcher.worker(), begin, 4) == [
            "runs",
            "important",
            "waits",
            "important, and too late",
        ]


async def test_what_is_most_important_is_not_sent_for_a_caller_who_is_cancelled_already(ask, by_hand, begin):
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        await ask(tg, hub.request, "runs")
        await ask(tg, hub.request, "waits")
        with anyio.CancelScope() as scope:
            scope.cancel()
            await hub.using(priority=1).request("never")
        assert hub.statistics().cancelled == 0, "it was never handed in"
        assert await answer_all(launcher.worker(), begin, 2) == ["runs", "waits"]


# --------------------------------------------------------------------------------------------------------------- retries


async def die_with(worker, begin):
    """The worker begins the next request, and dies of it."""
    call = await begin(worker)
    worker.die(code=1)
    await anyio.wait_all_tasks_blocked()
    return argument(call)


async def test_a_request_whose_worker_died_is_run_again_before_those_behind_it(ask, by_hand, begin):
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        asked = await ask(tg, hub.using(retries=1).request, "once more")
        behind = await ask(tg, hub.request, "behind")
        assert await die_with(launcher.worker(), begin) == "once more"
        assert await answer_all(launcher.worker(), begin, 2) == ["once more", "behind"]
        assert [await one.outcome() for one in (asked, behind)] == ["once more", "behind"]
        statistics = hub.statistics()
        assert (statistics.retried, statistics.crashed, statistics.done) == (1, 0, 2)


async def test_without_retries_it_is_not(ask, by_hand, begin):
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        asked = await ask(tg, hub.request, "once")
        await die_with(launcher.worker(), begin)
        with pytest.raises(gibbs.WorkerCrashed) as caught:
            await asked.outcome()
        assert type(caught.value) is gibbs.WorkerCrashed
        assert caught.value.may_have_run


@pytest.mark.parametrize("retries", [1, 5])
async def test_a_request_that_has_killed_two_workers_is_given_no_third(retries, ask, by_hand, begin):
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        poison = await ask(tg, hub.using(retries=retries).request, "poison")
        innocent = await ask(tg, hub.request, "innocent")
        for _ in range(2):
            await die_with(launcher.worker(), begin)
        assert await answer_all(launcher.worker(), begin, 1) == ["innocent"]
        assert await innocent.outcome() == "innocent"
        with pytest.raises(gibbs.PoisonRequest, match="2 workers of the hub 'Echo' died with this request") as caught:
            await poison.outcome()
    error = caught.value
    assert isinstance(error, gibbs.WorkerCrashed)
    assert error.may_have_run
    assert (error.incarnation, error.exit_code) == (2, 1)
    (first,) = error.crashes
    assert (first.incarnation, error.__cause__) == (1, first)


async def test_what_the_model_raised_is_not_tried_again(ask, by_hand, begin):
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        asked = await ask(tg, hub.using(retries=3).request, 1)
        call = await begin(launcher.worker())
        await launcher.worker().fail(call.link_id, ValueError("no"))
        with pytest.raises(ValueError, match="no"):
            await asked.outcome()
        assert hub.statistics().retried == 0


async def test_a_request_that_is_tried_again_and_left_is_withdrawn(ask, by_hand, begin):
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        asked = await ask(tg, hub.using(retries=1).request, "left")
        call = await begin(launcher.worker())
        assert call
        launcher.worker().die(code=1)
        asked.cancel()
        assert await asked.outcome() == "cancelled"
        await ask(tg, hub.request, "next")
        await anyio.wait_all_tasks_blocked()
        assert await answer_all(launcher.worker(), begin, 1) == ["next"]


async def test_two_workers_that_died_before_they_began_it_are_one_retry(ask, by_hand, begin):
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        asked = await ask(tg, hub.using(retries=1).request, 1)
        for _ in range(2):
            await launcher.worker().receive()
            launcher.worker().die(code=1)
            await anyio.wait_all_tasks_blocked()
        assert await answer_all(launcher.worker(), begin, 1) == [1]
        assert await asked.outcome() == 1
        assert hub.statistics().retried == 1


# ------------------------------------------------------------------------------------------------------------------- key


@given(st.integers(0, (1 << 64) - 1), st.integers(1, 40))
def test_a_seat_more_moves_a_key_to_that_seat_or_not_at_all(affinity, seats):
    def best(count):
        return max(range(count), key=lambda index: liking(affinity, index))

    assert best(seats + 1) in (best(seats), seats)


def test_keys_spread_over_seats_evenly():
    liked = Counter(max(range(8), key=lambda index: liking(affinity_of(key), index)) for key in range(8000))
    assert sorted(liked) == [*range(8)]
    assert min(liked.values()) > 850


@given(st.lists(st.text() | st.binary() | st.integers(), unique_by=lambda key: (type(key), key)))
def test_keys_that_differ_are_told_apart(keys):
    assert len({affinity_of(key) for key in keys}) == len(keys)


async def test_the_same_key_finds_the_same_worker_and_others_take_what_is_free(ask, by_hand, begin):
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher, workers=4) as hub, anyio.create_task_group() as tg:
        for key in ("a", "b", 3, b"d"):
            liked = max(range(4), key=lambda seat: liking(affinity_of(key), seat))
            for n in range(3):
                asked = await ask(tg, hub.using(key=key).request, n)
                assert await answer_all(launcher.worker(liked), begin, 1) == [n]
                assert await asked.outcome() == n


async def test_who_finds_the_favourite_worker_busy_waits_for_none(ask, by_hand, begin):
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher, workers=3) as hub, anyio.create_task_group() as tg:
        by_liking = sorted(range(3), key=lambda seat: liking(affinity_of("a"), seat), reverse=True)
        asked = [await ask(tg, hub.using(key="a").request, n) for n in range(3)]
        for n, seat in enumerate(by_liking):
            assert await answer_all(launcher.worker(seat), begin, 1) == [n]
        assert [await one.outcome() for one in asked] == [0, 1, 2]


# -------------------------------------------------------------------------------------------------------------- max_wait


async def test_who_is_not_taken_in_time_is_refused_and_who_is_taken_has_all_the_time_it_takes(ask, by_hand, begin):
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        taken = await ask(tg, hub.using(max_wait=0.01).request, "taken")
        patient = await ask(tg, hub.request, "patient")
        waits = await ask(tg, hub.using(max_wait=0.02).request, "not taken")
        call = await begin(launcher.worker())
        with pytest.raises(gibbs.HubOverloaded, match=r"no worker took this request within max_wait=0\.02") as caught:
            await waits.outcome()
        assert (caught.value.max_wait, caught.value.pending) == (0.02, 1)
        assert not taken.done.is_set()
        await launcher.worker().answer(call.link_id, "taken")
        assert await taken.outcome() == "taken"
        assert await answer_all(launcher.worker(), begin, 1) == ["patient"]
        assert await patient.outcome() == "patient"
        assert hub.statistics().expired == 1


async def test_with_no_time_to_wait_it_is_taken_at_once_or_refused(ask, by_hand, begin):
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        now_or_never = hub.using(max_wait=0)
        taken = await ask(tg, now_or_never.request, "taken")
        with anyio.fail_after(10), pytest.raises(gibbs.HubOverloaded):
            await now_or_never.request("refused")
        assert await answer_all(launcher.worker(), begin, 1) == ["taken"]
        assert await taken.outcome() == "taken"


async def test_the_shortest_wait_ends_first_whoever_came_first(ask, by_hand):
    async with open_hub(ScriptedLauncher(by_hand)) as hub, anyio.create_task_group() as tg:
        await ask(tg, hub.request, "runs")
        patient = await ask(tg, hub.using(max_wait=600).request, 1)
        for max_waits in ((0.01,), (0.02, 0.01)):
            waiting = [await ask(tg, hub.using(max_wait=max_wait).request, 1) for max_wait in max_waits]
            for one in waiting:
                with anyio.fail_after(10), pytest.raises(gibbs.HubOverloaded):
                    await one.outcome()
            assert not patient.done.is_set()
        tg.cancel_scope.cancel()


async def test_no_worker_at_all_takes_nothing_in_time():
    async def never_ready(worker):
        await anyio.sleep_forever()

    async with open_hub(ScriptedLauncher(never_ready), ready=0) as hub:
        with anyio.fail_after(10), pytest.raises(gibbs.HubOverloaded):
            await hub.using(max_wait=0.01).request(1)


async def test_a_request_that_a_worker_had_in_time_is_not_refused_when_that_has_died(ask, by_hand, begin):
    may_start = anyio.Event()

    async def launching(spec):
        if spec.incarnation > 1:
            await may_start.wait()

    launcher = ScriptedLauncher(by_hand, launching=launching)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        runs = await ask(tg, hub.request, "runs")
        asked = await ask(tg, hub.using(max_wait=60, retries=1).request, "asked")
        assert await answer_all(launcher.worker(), begin, 1) == ["runs"]
        assert await runs.outcome() == "runs"
        assert await die_with(launcher.worker(), begin) == "asked"
        await ask(tg, hub.using(priority=9).request, "comes first")
        crew = hub._desk.crew
        crew.carry_out(crew.dispatcher.expire(anyio.current_time() + 60))
        may_start.set()
        await hub.wait_ready()
        assert not asked.done.is_set()
        assert await answer_all(launcher.worker(), begin, 2) == ["comes first", "asked"]
        assert await asked.outcome() == "asked"


async def test_who_will_not_wait_for_company_as_long_as_others_does_not(ask, by_hand, begin):
    class Batched:
        @gibbs.batched(max_size=8, max_wait=600.0)
        def __call__(self, items):
            return items

    launcher = ScriptedLauncher(work)
    async with gibbs.open_hub(Batched, workers=1, launcher=launcher, close_timeout=0) as hub:
        with anyio.fail_after(10):
            assert await hub.using(max_wait=0.02).request("alone") == "alone"


def test_ten_seconds_of_waiting_are_a_level_of_priority():
    assert AGEING == 10.0, "as docs/options.md and `using` say"
