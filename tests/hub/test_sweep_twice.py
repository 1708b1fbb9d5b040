"""Two things at once: a cancellation and another while it is cleaned up after, or a death before or after it, at every two ticks of the loop."""

from __future__ import annotations

from functools import partial

import anyio
import pytest

import gibbs
from gibbs.testing import ScriptedLauncher, serve
from tests.clocks import jumping_loops
from tests.hub.swept import (
    NEVER_GIVE_UP,
    WATCHDOG,
    Busy,
    Ledger,
    Outcome,
    Reaper,
    Sweeps,
    Unwinds,
    cancel,
    ticking,
    until,
)

pytestmark = [pytest.mark.slow, pytest.mark.in_turn(share=12), pytest.mark.usefixtures("swept")]

HOW = ["is killed", "hangs up", "writes garbage"]
PAIRS = [("cancel", "cancel"), *[("cancel", how) for how in HOW], *[(how, "cancel") for how in HOW]]


@pytest.fixture(scope="module", params=jumping_loops())
def anyio_backend(request):
    return request.param


@pytest.fixture(params=[True, False], ids=["side", "in-band"])
def side(request):
    return request.param


@pytest.fixture(params=PAIRS, ids=", then ".join)
def pair(request):
    return request.param


def acts_of(pair, launcher):
    """What is done, and the reaper that does it if one of both is a death."""
    reapers = {what: Reaper(launcher, what) for what in pair if what != "cancel"}
    reaper = next(iter(reapers.values()), None) or Reaper(launcher, HOW[0])
    return [reapers.get(what, cancel) for what in pair], reaper


# ------------------------------------------------------------------------------------------------------------- a request


@pytest.mark.parametrize("on_cancel", ["interrupt", "kill", "finish"])
@pytest.mark.parametrize("abandon", [True, False], ids=["abandon", "wait"])
async def test_a_request_to_an_idle_worker(pair, on_cancel, abandon, side):
    launcher = ScriptedLauncher(side=side)
    acts, reaper = acts_of(pair, launcher)
    async with gibbs.open_hub(
        Unwinds,
        workers=1,
        launcher=launcher,
        restarts=NEVER_GIVE_UP,
        on_cancel=on_cancel,
        abandon_on_cancel=abandon,
    ) as hub:
        ledger = Ledger(hub, launcher, side=side)

        def scenario():
            nonlocal x, request
            reaper.spare()
            x = ledger.new()
            request = Outcome(partial(hub.request, x))
            return ticking(request, ticks=20)

        x, request = 0, Outcome(scenario)
        wanted = {"cancelled", "answered"} | ({"running", "idle"} if pair != ("cancel", "cancel") else set())
        async for step in Sweeps(scenario, at=acts, wanted=wanted, met=reaper.met):
            k = step.k
            assert not request.cancelled or "cancel" in pair[: len(step.acted)]
            if request.cancelled and not abandon:
                assert hub.statistics().seats["interrupting"] == 0
                assert not any(worker.running for worker in launcher.workers if worker.ending is None)
            ledger.check(x, request, reaper.victim)
            reaper.met["cancelled" if request.cancelled else "crashed" if request.error else "answered"] += 1
            await ledger.settle(reaper.victim)
            await ledger.balance(cancelled=request.cancelled)
        assert hub.statistics().cancelled > 0
        if (
            on_cancel != "finish" and pair[0] == "cancel"
        ):  # of a worker that is dead already nothing is to be cleaned up
            assert hub.statistics().interrupted + hub.statistics().killed > 0
    assert k > 5


@pytest.mark.parametrize("on_cancel", ["interrupt", "kill"])
@pytest.mark.parametrize("abandon", [True, False], ids=["abandon", "wait"])
async def test_a_conversation_behind_another(pair, on_cancel, abandon, side):
    """Whatever befalls both, no lease is left, and whoever asks next has one."""
    launcher = ScriptedLauncher(side=side)
    acts, reaper = acts_of(pair, launcher)
    broken = {}

    async def converse(x):
        async with hub.lease() as lease:
            try:
                return await lease.request(x)
            except gibbs.LeaseBroken as error:
                broken[x] = error

    async with gibbs.open_hub(
        Unwinds,
        workers=2,
        launcher=launcher,
        restarts=NEVER_GIVE_UP,
        on_cancel=on_cancel,
        abandon_on_cancel=abandon,
    ) as hub:
        ledger = Ledger(hub, launcher, side=side)

        def scenario():
            nonlocal asked
            reaper.spare()
            broken.clear()
            asked = {x: Outcome(partial(converse, x)) for x in (ledger.new(), ledger.new())}
            return ticking(*asked.values(), ticks=30)

        asked = {}
        async for _ in Sweeps(scenario, at=acts, wanted={"cancelled", "answered"}, met=reaper.met):
            for x, outcome in asked.items():
                reaper.met["cancelled" if outcome.cancelled else "crashed" if outcome.error else "answered"] += 1
                if x in broken:
                    assert broken[x].__cause__.pid == reaper.victim.pid
                    assert Busy.runs.count(x) == 0
                else:
                    ledger.check(x, outcome, reaper.victim)
            assert hub.statistics().leases == 0
            await ledger.settle(reaper.victim)
            await ledger.balance(cancelled=2)
            with anyio.fail_after(WATCHDOG):
                async with hub.lease() as lease:
                    assert await lease.request(2) == 4
            ledger.ended["done"] += 1


@pytest.mark.parametrize("on_cancel", ["interrupt", "kill"])
async def test_the_first_of_two_requests_is_cancelled_and_the_other_is_answered_or_its_worker_dies(
    pair, on_cancel, side
):
    launcher = ScriptedLauncher(side=side)
    acts, reaper = acts_of(pair, launcher)
    async with gibbs.open_hub(Busy, workers=1, launcher=launcher, restarts=NEVER_GIVE_UP, on_cancel=on_cancel) as hub:
        ledger = Ledger(hub, launcher, side=side)

        def scenario():
            nonlocal x, first, second
            reaper.spare()
            x = ledger.new(), ledger.new()
            first, second = Outcome(partial(hub.request, x[0])), Outcome(partial(sheltered, x[1]))
            return ticking(first, second, ticks=30)

        async def sheltered(x):
            with anyio.CancelScope(shield=True):  # this one is not for the sweep
                return await hub.request(x)

        x, first, second = (0, 0), Outcome(scenario), Outcome(scenario)
        async for step in Sweeps(scenario, at=acts, wanted={"cancelled", "answered"}, met=reaper.met):
            k = step.k
            ledger.check(x[0], first, reaper.victim)
            ledger.check(x[1], second, reaper.victim)
            assert not second.cancelled
            assert second.error is None or reaper.victim is not None
            assert first.error is None or second.error is None
            reaper.met["cancelled" if first.cancelled else "answered" if first.error is None else "crashed"] += 1
            await ledger.settle(reaper.victim)
            await ledger.balance(cancelled=first.cancelled)
    assert k > 10


# ------------------------------------------------------------------------------------------------------- the life of a hub


async def clings(worker):
    """Does not leave when it is told to."""
    await serve(worker)
    await anyio.sleep_forever()


@pytest.mark.parametrize("script", [serve, clings])
async def test_the_whole_life_of_a_hub(pair, side, script):
    launcher = ScriptedLauncher(script, side=side)
    acts, reaper = acts_of(pair, launcher)
    entered = False

    async def life():
        nonlocal entered
        async with gibbs.open_hub(
            Busy, workers=1, launcher=launcher, restarts=NEVER_GIVE_UP, close_timeout=0.01 if script is clings else 5
        ) as hub:
            entered = True
            await hub.wait_ready()
            answer = await hub.request(3)
            await hub.drain()
        return answer

    def scenario():
        nonlocal entered, outcome
        entered = False
        reaper.spare()
        launcher.workers.clear()
        Busy.runs.clear()
        outcome = Outcome(life)
        return ticking(outcome, ticks=35)

    outcome = Outcome(life)
    wanted = {"cancelled", "answered"} | ({"idle", "running"} if pair != ("cancel", "cancel") else set())
    with anyio.fail_after(WATCHDOG):
        async for step in Sweeps(scenario, at=acts, wanted=wanted, met=reaper.met):
            k = step.k
            assert all(worker.ending is not None for worker in launcher.workers)
            assert len(Busy.runs) <= 1
            if (
                entered and script is serve and reaper.victim is None
            ):  # it closed in peace, however often it was cancelled
                assert [str(worker.ending) for worker in launcher.workers] == ["exited with status 0"]
            if outcome.cancelled:
                assert "cancel" in pair[: len(step.acted)]
                reaper.met["cancelled"] += 1
            elif outcome.error is not None:
                expected = gibbs.WorkerCrashed if entered else gibbs.WorkerStartFailed
                assert type(outcome.error) is expected
                assert reaper.victim is not None
                reaper.met["crashed"] += 1
            else:
                assert outcome.value == 9
                reaper.met["answered"] += 1
    assert k > 15


async def test_leaving_the_block_while_a_call_runs(pair, side):
    launcher = ScriptedLauncher(side=side)
    acts, reaper = acts_of(pair, launcher)

    async def life():
        nonlocal request
        async with anyio.create_task_group() as tg:
            try:
                async with gibbs.open_hub(
                    Unwinds, workers=1, launcher=launcher, restarts=NEVER_GIVE_UP, on_cancel="interrupt"
                ) as hub:
                    request = Outcome(partial(hub.request, 3))
                    tg.start_soon(request.run)
                    await until(lambda: launcher.worker().running or request.over.is_set())
                    leaving.set()
            except gibbs.WorkerStartFailed as error:
                return error
            finally:
                leaving.set()
        return "left"

    def scenario():
        nonlocal outcome, request, leaving
        reaper.spare()
        launcher.workers.clear()
        Busy.runs.clear()
        request, leaving = None, anyio.Event()
        outcome = Outcome(life)
        return ticking(outcome, ticks=18, after=leaving)

    outcome = Outcome(life)
    request, leaving = None, anyio.Event()
    wanted = {"cancelled", gibbs.HubClosed} | ({"running"} if pair != ("cancel", "cancel") else set())
    with anyio.fail_after(WATCHDOG):
        async for step in Sweeps(scenario, at=acts, wanted=wanted, met=reaper.met):
            k = step.k
            assert all(worker.ending is not None for worker in launcher.workers)
            assert len(Busy.runs) <= 1
            if outcome.cancelled:
                assert "cancel" in pair[: len(step.acted)]
                reaper.met["cancelled"] += 1
            elif outcome.value != "left":
                assert isinstance(outcome.value, gibbs.WorkerStartFailed)
                assert reaper.victim is not None
            if request is None:
                continue
            reaper.met[type(request.error)] += 1
            if isinstance(request.error, gibbs.WorkerCrashed):
                assert request.error.pid == reaper.victim.pid
            elif request.error is not None:
                assert isinstance(request.error, gibbs.HubClosed)
                assert request.error.reason == "closed"
            elif not request.cancelled:
                assert request.value == 9
    assert k > 6
