"""Whatever changes a hub, and a worker dies at each tick of the loop: what was asked for has come to be, or it was said why not and all is as before."""

from __future__ import annotations

import gc
from functools import partial
from types import SimpleNamespace

import anyio
import numpy
import pytest
from anyio.lowlevel import checkpoint

import gibbs
from gibbs.testing import ScriptedLauncher, sweep
from tests.clocks import jumping_loops
from tests.hub.swept import DEATHS, NEVER_GIVE_UP, Busy, Ledger, Outcome, Reaper, Sweeps, cancel, deliberate, ticking

pytestmark = [pytest.mark.slow, pytest.mark.in_turn(share=6), pytest.mark.usefixtures("swept")]


@pytest.fixture(scope="module", params=jumping_loops())
def anyio_backend(request):
    return request.param


@pytest.fixture(params=[True, False], ids=["side", "in-band"])
def side(request):
    return request.param


@pytest.fixture(params=DEATHS)
def how(request):
    return request.param


@pytest.fixture(params=["oldest", "newest"])
def whom(request):
    return request.param


class Negative(Busy):
    """Another version of it, that is known by its answers."""

    def __call__(self, x):
        async def steps():
            await checkpoint()
            return -x * x

        return steps()


def open_hub(launcher, *, workers=1, **options):
    return gibbs.open_hub(Busy, workers=workers, launcher=launcher, restarts=NEVER_GIVE_UP, **options)


async def replace(hub):
    """As the recycler does when a worker has had enough, in a task that nobody cancels."""
    crew = hub._desk.crew
    with anyio.CancelScope(shield=True):
        for seat in [seat for seat in crew.dispatcher.seats if seat.state == "serving"][:1]:
            await crew.staffing.replace(seat)


def was_not_built(error, victim):
    """Whether this says how that worker died before its model was built."""
    error = error.__cause__ if isinstance(error, gibbs.ReloadFailed) else error
    return isinstance(error, gibbs.WorkerStartFailed) and error.seat == victim.spec.seat and error.reason == "exited"


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1), (1, 0)])
async def test_resizing(before, after, how, whom, side):
    launcher = ScriptedLauncher(deliberate, side=side)
    reaper = Reaper(launcher, how, whom)
    async with open_hub(launcher, workers=before) as hub:
        ledger = Ledger(hub, launcher, side=side)

        def scenario():
            nonlocal resize
            reaper.spare()
            resize = Outcome(partial(hub.resize, after))
            return ticking(resize)

        resize = Outcome(scenario)
        async for _ in Sweeps(scenario, at=reaper, wanted={"idle"}, met=reaper.met):
            assert resize.error is None
            await ledger.settle(reaper.victim)
            assert hub.statistics().seats["serving"] == after
            await hub.resize(before)
            await ledger.settle()
            await ledger.balance()


@pytest.mark.parametrize("spares", [0, 1])
async def test_reloading(spares, how, whom, side):
    launcher = ScriptedLauncher(deliberate, side=side)
    reaper = Reaper(launcher, how, whom)
    async with open_hub(launcher, workers=2, spares=spares) as hub:
        ledger = Ledger(hub, launcher, side=side)
        await ledger.settle()

        def scenario():
            nonlocal reload
            reaper.spare()
            reload = Outcome(partial(hub.reload, Negative))
            return ticking(reload, ticks=150)

        async def answers():
            asked = [Outcome(partial(hub.request, 3)) for _ in range(4)]
            await ticking(*asked)
            return {one.value for one in asked}

        reload = Outcome(scenario)
        wanted = {"starting", "idle", gibbs.ReloadFailed, type(None)} if whom == "newest" else {"idle", type(None)}
        async for _ in Sweeps(scenario, at=reaper, wanted=wanted, met=reaper.met):
            reaper.met[type(reload.error)] += 1
            await ledger.settle(reaper.victim)
            if reload.error is None:
                assert await answers() == {-9}
                await hub.reload(Busy)
                await ledger.settle()
            else:
                assert was_not_built(reload.error, reaper.victim)
            assert await answers() == {9}
            assert hub.statistics().failed == hub.statistics().crashed == 0
            seats = hub.statistics().seats
            assert (seats["serving"], seats["spare"]) == (2, spares)


async def test_replacing_a_worker_of_which_something_is_asked(how, whom, side):
    launcher = ScriptedLauncher(deliberate, side=side)
    reaper = Reaper(launcher, how, whom)
    async with open_hub(launcher) as hub:
        ledger = Ledger(hub, launcher, side=side)

        def scenario():
            nonlocal x, request, replacing
            reaper.spare()
            x = ledger.new()
            request, replacing = Outcome(partial(hub.request, x)), Outcome(partial(replace, hub))
            return ticking(request, replacing)

        x, request, replacing = 0, Outcome(scenario), Outcome(scenario)
        wanted = {"idle", "starting" if whom == "newest" else "running"}
        async for _ in Sweeps(scenario, at=reaper, wanted=wanted, met=reaper.met):
            ledger.check(x, request, reaper.victim)
            assert replacing.error is None or was_not_built(replacing.error, reaper.victim)
            await ledger.settle(reaper.victim)
            await ledger.balance()


async def test_a_request_to_a_hub_with_a_spare(how, whom, side):
    launcher = ScriptedLauncher(deliberate, side=side)
    reaper = Reaper(launcher, how, whom)
    async with open_hub(launcher, spares=1) as hub:
        ledger = Ledger(hub, launcher, side=side)
        await ledger.settle()

        def scenario():
            nonlocal x, request
            reaper.spare()
            x = ledger.new()
            request = Outcome(partial(hub.request, x))
            return ticking(request)

        x, request = 0, Outcome(scenario)
        async for _ in Sweeps(scenario, at=reaper, wanted={"idle"}, met=reaper.met):
            ledger.check(x, request, reaper.victim)
            await ledger.settle(reaper.victim)
            assert hub.statistics().seats["spare"] == 1
            await ledger.balance()


async def test_a_request_that_calls_for_the_first_worker(how, side):
    launcher = ScriptedLauncher(deliberate, side=side)
    reaper = Reaper(launcher, how, "newest")
    async with open_hub(launcher, workers=gibbs.Elastic(0, 1)) as hub:
        ledger = Ledger(hub, launcher, side=side)

        def scenario():
            nonlocal x, request
            reaper.spare()
            x = ledger.new()
            request = Outcome(partial(hub.request, x))
            return ticking(request)

        x, request = 0, Outcome(scenario)
        async for _ in Sweeps(scenario, at=reaper, wanted={"nobody", "starting", "running"}, met=reaper.met):
            ledger.check(x, request, reaper.victim)
            await ledger.settle(reaper.victim)
            await ledger.balance()
            await hub.resize(0)


# ------------------------------------------------------------------------------------------------------------- cancelled


async def test_a_request_that_calls_for_the_first_worker_is_cancelled(side):
    launcher = ScriptedLauncher(deliberate, side=side)
    async with open_hub(launcher, workers=gibbs.Elastic(0, 1)) as hub:
        ledger = Ledger(hub, launcher, side=side)
        x = 0

        def scenario():
            nonlocal x
            x = ledger.new()
            return hub.request(x)

        async for step in sweep(scenario, at=cancel):
            assert step.cancelled or step.value == x * x
            ledger.ended["done"] += not step.cancelled
            await ledger.balance(cancelled=1)
            await hub.resize(0)
            await ledger.settle()


async def test_replacing_a_worker_while_its_request_is_cancelled(side):
    """At each tick: while the other is started, when it is there, and when the first one goes."""
    launcher = ScriptedLauncher(deliberate, side=side)
    async with open_hub(launcher) as hub:
        ledger = Ledger(hub, launcher, side=side)

        def scenario():
            nonlocal x, request, replacing
            x = ledger.new()
            request, replacing = Outcome(partial(hub.request, x)), Outcome(partial(replace, hub))
            return ticking(request, replacing)

        x, request, replacing = 0, Outcome(scenario), Outcome(scenario)
        async for _ in sweep(scenario, at=cancel):
            ledger.check(x, request)
            await ledger.settle()
            await ledger.balance(cancelled=1)
    assert hub.statistics().restarts == hub.statistics().crashed == 0


class Holds:
    def __init__(self, arrays):
        self.arrays = arrays

    def __call__(self):
        return float(self.arrays.sum())


@pytest.fixture
def unmapped():
    """Models in memory are mapped here, as long as anybody has them."""
    yield
    gc.collect()


@pytest.mark.usefixtures("unmapped")
async def test_reloading_a_hub_with_other_arrays_frees_those_of_one_model_and_keeps_those_of_the_other(side):
    current = gibbs.share(numpy.ones(1))
    async with gibbs.open_hub(Holds, current, workers=2, launcher=ScriptedLauncher(side=side)) as hub:

        def scenario():
            nonlocal new
            new = gibbs.share(numpy.ones(step.k + 1))
            return hub.reload(Holds, new)

        new = None
        step = SimpleNamespace(k=1)
        async for step in sweep(scenario, at=cancel):
            if step.k == 1:  # it has not begun, and nobody has taken them
                new.close()
            [current] = [one for one in (current, new) if "freed" not in repr(one)]
            assert await hub.request() == current.arrays().sum()
        assert not step.cancelled
    assert "freed" in repr(current)
