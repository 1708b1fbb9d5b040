"""Promises of the contract that no other file here holds: what a hub makes of its own, counts, and says when it has failed."""

from __future__ import annotations

import copy
import itertools
import pickle

import anyio
import cloudpickle
import pytest

import gibbs
from gibbs.testing import ScriptedLauncher, serve


class Echo:
    def __call__(self, x):
        return x

    def embed(self, x):
        return x


def open_hub(launcher, *, workers=1, **options):
    return gibbs.open_hub(Echo, name="echo", workers=workers, launcher=launcher, **options)


async def replaced(hub, launcher, seat=0):
    """Let the worker of a seat die, and return when another is there."""
    before = hub.statistics().restarts
    launcher.worker(seat).die(code=1)
    with anyio.fail_after(20):
        while hub.statistics().restarts == before:
            await anyio.lowlevel.checkpoint()
        await hub.wait_ready()


async def unfit(worker):
    await worker.unfit(ValueError("no model came of it"))


# ------------------------------------------------------------------------------------------- numbers that are used once


async def test_a_launcher_is_told_the_seat_and_an_incarnation_that_is_never_used_again():
    launcher = ScriptedLauncher()
    async with open_hub(launcher, workers=2) as hub:
        for seat in (1, 0, 1):
            await replaced(hub, launcher, seat)
    specs = [worker.spec for worker in launcher.workers]
    assert {(spec.name, spec.workers) for spec in specs} == {("echo", 2)}
    told = [(spec.seat, spec.incarnation) for spec in specs]
    assert {*told[:2]} == {(0, 1), (1, 1)}
    assert told[2:] == [(1, 2), (0, 2), (1, 3)]


async def test_no_link_id_is_used_twice_not_even_by_the_next_worker_of_the_seat():
    launcher = ScriptedLauncher()
    async with open_hub(launcher) as hub:
        for n in range(3):
            assert [await hub.request(n), await hub.request(n)] == [n, n]
            await replaced(hub, launcher)
    ids = [call.link_id for worker in launcher.workers for call in worker.calls]
    assert len(ids) == 6
    assert all(sooner < later for sooner, later in itertools.pairwise([0, *ids]))


# --------------------------------------------------------------------------------------------------- what a hub is made of


async def test_a_request_has_no_task_of_its_own(ask, by_hand):
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        before = len(anyio.get_running_tasks())
        asked = [await ask(tg, hub.request, n) for n in range(20)]
        await anyio.wait_all_tasks_blocked()
        assert (hub.statistics().running, hub.statistics().queued) == (1, 19)
        assert len(anyio.get_running_tasks()) == before + len(asked)
        tg.cancel_scope.cancel()


async def test_statistics_are_of_their_moment_and_do_not_change_afterwards():
    async with open_hub(ScriptedLauncher()) as hub:
        before = hub.statistics()
        again = copy.deepcopy(before)
        await hub.request(1)
    assert before == again
    assert (before.done, hub.statistics().done) == (0, 1)


VIEWS = {
    "hub": lambda hub: hub,
    "using": lambda hub: hub.using(on_cancel="kill"),
    "method": lambda hub: hub.method(Echo.embed),
}


@pytest.mark.parametrize("pickler", [pickle, cloudpickle], ids=lambda module: module.__name__)
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
async def test_a_hub_and_each_view_of_it_refuse_to_be_pickled_and_say_why(view, pickler):
    async with open_hub(ScriptedLauncher()) as hub:
        with pytest.raises(TypeError, match="'echo' cannot be pickled: it belongs to the program that opened it"):
            pickler.dumps(view(hub))
        with pytest.raises(TypeError, match="'echo' cannot be pickled"):
            copy.deepcopy(view(hub))
        with pytest.raises(TypeError, match="'echo' cannot be pickled"):
            await hub.request([view(hub)])
        assert hub.statistics().running == hub.statistics().queued == 0


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
async def test_each_view_of_a_hub_says_whose_it_is(view):
    async with open_hub(ScriptedLauncher()) as hub:
        assert "'echo'" in repr(view(hub))


# ------------------------------------------------------------------------------------------------------------ what counts


async def test_a_worker_that_a_cancel_costs_is_no_crash_and_no_failure_to_the_policy(ask, by_hand, begin):
    launcher = ScriptedLauncher(by_hand)
    strict = gibbs.RestartPolicy(max_failures=0, max_crashes=0)
    options = {"on_cancel": "kill", "restarts": strict, "close_timeout": 0}
    async with open_hub(launcher, **options) as hub, anyio.create_task_group() as tg:
        for n in range(4):
            asked = await ask(tg, hub.request, n)
            await begin(launcher.worker())
            asked.cancel()
            assert await asked.outcome() == "cancelled"
            with anyio.fail_after(20):
                while hub.statistics().restarts <= n:
                    await anyio.lowlevel.checkpoint()
                await hub.wait_ready()
        seen = hub.statistics()
        assert (seen.killed, seen.restarts, seen.crashed) == (4, 4, 0)
        assert hub.health() == gibbs.Health(ready=True)


# ----------------------------------------------------------------------------------------------------- after it has failed


async def test_a_hub_that_has_failed_says_so_to_all_who_come_later_and_why():
    launcher = ScriptedLauncher(serve, unfit)
    with pytest.raises(gibbs.RestartsExhausted) as caught:
        async with open_hub(launcher, restarts=gibbs.RestartPolicy(max_failures=0)) as hub:
            launcher.worker().die(code=1)
            await anyio.sleep_forever()
    failure = caught.value
    assert isinstance(failure.failures[-1], gibbs.WorkerStartFailed)
    assert failure.__cause__ is failure.failures[-1]
    for late in (
        lambda: hub.request(1),
        hub.method("embed").using(on_cancel="kill").request,
        hub.wait_ready,
        hub.drain,
    ):
        with pytest.raises(gibbs.HubClosed) as caught:
            await late()
        assert (caught.value.reason, caught.value.__cause__) == ("failed", failure)
    health = hub.health()
    assert not health.ready
    assert str(failure) in health.reasons[0]
    assert "'echo' failed: 0 of 1 workers ready" in repr(hub)


async def test_a_hub_that_was_draining_when_it_was_left_says_that_it_is_closed():
    async with open_hub(ScriptedLauncher()) as hub:
        await hub.drain()
        with pytest.raises(gibbs.HubClosed) as caught:
            await hub.request(1)
        assert (caught.value.reason, caught.value.__cause__) == ("draining", None)
    with pytest.raises(gibbs.HubClosed) as caught:
        await hub.request(1)
    assert (caught.value.reason, caught.value.__cause__) == ("closed", None)
