"""asyncio's own `task.cancel()`, which no shield stops, at every tick of the loop: once, twice, beside a cancellation of AnyIO, and beside a death."""

from __future__ import annotations

from functools import partial

import anyio
import pytest

import gibbs
from gibbs.testing import ScriptedLauncher, serve, sweep
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

pytestmark = [pytest.mark.slow, pytest.mark.in_turn(share=4), pytest.mark.usefixtures("swept")]

DEATH = "hangs up"  # the one that takes longest to be noticed
ACTS = [
    ("native",),
    ("native", "native"),
    ("cancel", "native"),
    ("native", "cancel"),
    ("native", DEATH),
    (DEATH, "native"),
]


@pytest.fixture(scope="module", params=jumping_loops()[:2])  # Trio has no such thing
def anyio_backend(request):
    return request.param


@pytest.fixture(params=[True, False], ids=["side", "in-band"])
def side(request):
    return request.param


@pytest.fixture(params=ACTS, ids=", then ".join)
def what(request):
    return request.param


def acts_of(what, reaper, swept):
    """What is done; `swept()` is the outcome whose task is cancelled."""
    acts = {"native": lambda _: swept().cancel_natively(), "cancel": cancel, DEATH: reaper}
    return [acts[one] for one in what]


@pytest.mark.parametrize("on_cancel", ["interrupt", "kill", "finish"])
@pytest.mark.parametrize("abandon", [True, False], ids=["abandon", "wait"])
async def test_a_stream(what, on_cancel, abandon, side):
    launcher = ScriptedLauncher(side=side)
    reaper = Reaper(launcher, DEATH)
    found = []

    async def read(x):
        async with hub.using(buffer=2).method("items").stream(x, 4) as items:
            async for item in items:
                found.append(item)  # noqa: PERF401 - what was found before an error counts
        return x * x

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
            nonlocal x, stream
            reaper.spare()
            found.clear()
            x = ledger.new()
            stream = Outcome(partial(read, x))
            return ticking(stream)

        x, stream = 0, Outcome(scenario)
        async for _ in sweep(scenario, at=acts_of(what, reaper, lambda: stream)):
            ledger.check(x, stream, reaper.victim, stream=True)
            assert found == [*range(len(found))]
            await ledger.settle(reaper.victim)
            await ledger.balance(cancelled=1)


@pytest.mark.parametrize("on_cancel", ["interrupt", "kill"])
@pytest.mark.parametrize("abandon", [True, False], ids=["abandon", "wait"])
async def test_a_conversation_behind_another(what, on_cancel, abandon, side):
    """The second waits until the first is over, and is what the native cancellations are for."""
    launcher = ScriptedLauncher(side=side)
    reaper = Reaper(launcher, DEATH)
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
            return ticking(*asked.values())

        asked = {}
        async for _ in sweep(scenario, at=acts_of(what, reaper, lambda: [*asked.values()][1])):
            for x, outcome in asked.items():
                if x in broken:
                    assert broken[x].__cause__.pid == reaper.victim.pid
                    assert Busy.runs.count(x) == 0
                else:
                    ledger.check(x, outcome, reaper.victim)
            assert hub.statistics().leases == 0
            await ledger.settle(reaper.victim)
            await ledger.balance(cancelled=2)


@pytest.mark.parametrize("on_cancel", ["interrupt", "kill", "finish"])
@pytest.mark.parametrize("abandon", [True, False], ids=["abandon", "wait"])
async def test_a_request(what, on_cancel, abandon, side):
    launcher = ScriptedLauncher(side=side)
    reaper = Reaper(launcher, DEATH)
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
        acts = acts_of(what, reaper, lambda: request)
        async for step in Sweeps(scenario, at=acts, wanted={"cancelled", "answered"}, met=reaper.met):
            k = step.k
            assert request.cancelled or not request.cut, "a native cancellation was lost"
            if request.cancelled and not abandon:
                assert hub.statistics().seats["interrupting"] == 0
                assert not any(worker.running for worker in launcher.workers if worker.ending is None)
            ledger.check(x, request, reaper.victim)
            reaper.met["cancelled" if request.cancelled else "crashed" if request.error else "answered"] += 1
            await ledger.settle(reaper.victim)
            await ledger.balance(cancelled=request.cancelled)
    assert k > 5


async def clings(worker):
    """Does not leave when it is told to."""
    await serve(worker)
    await anyio.sleep_forever()


@pytest.mark.parametrize("script", [serve, clings])
async def test_the_whole_life_of_a_hub(what, side, script):
    launcher = ScriptedLauncher(script, side=side)
    reaper = Reaper(launcher, DEATH)
    entered = False

    async def life():
        nonlocal entered
        async with gibbs.open_hub(
            Busy, workers=1, launcher=launcher, restarts=NEVER_GIVE_UP, close_timeout=0.01 if script is clings else 5
        ) as hub:
            entered = True
            return await hub.request(3)

    def scenario():
        nonlocal entered, outcome
        entered = False
        reaper.spare()
        launcher.workers.clear()
        Busy.runs.clear()
        outcome = Outcome(life)
        return ticking(outcome, ticks=30)

    outcome = Outcome(life)
    acts = acts_of(what, reaper, lambda: outcome)
    with anyio.fail_after(WATCHDOG):
        async for step in Sweeps(scenario, at=acts, wanted={"cancelled", "answered"}, met=reaper.met):
            k = step.k
            assert all(worker.ending is not None for worker in launcher.workers)
            assert outcome.cancelled or outcome.error or not outcome.cut, "a native cancellation was lost"
            assert len(Busy.runs) <= 1
            if outcome.cancelled:
                reaper.met["cancelled"] += 1
            elif outcome.error is not None:
                assert type(outcome.error) is (gibbs.WorkerCrashed if entered else gibbs.WorkerStartFailed)
                assert reaper.victim is not None
                reaper.met["crashed"] += 1
            else:
                assert outcome.value == 9
                reaper.met["answered"] += 1
    assert k > 15


async def test_leaving_the_block_while_a_call_runs(what, side):
    launcher = ScriptedLauncher(side=side)
    reaper = Reaper(launcher, DEATH)

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
    acts = acts_of(what, reaper, lambda: outcome)
    with anyio.fail_after(WATCHDOG):
        async for step in Sweeps(scenario, at=acts, wanted={"cancelled", "closed"}, met=reaper.met):
            k = step.k
            assert all(worker.ending is not None for worker in launcher.workers)
            assert outcome.cancelled or not outcome.cut or outcome.value != "left", "a native cancellation was lost"
            assert len(Busy.runs) <= 1
            reaper.met["cancelled"] += outcome.cancelled
            if request is None:
                continue
            if isinstance(request.error, gibbs.WorkerCrashed):
                assert request.error.pid == reaper.victim.pid
            elif request.error is not None:
                assert isinstance(request.error, gibbs.HubClosed)
                reaper.met["closed"] += 1
            elif not request.cancelled:
                assert request.value == 9
    assert k > 6
