"""Every public await, and its worker dies at each tick of the loop: the right answer or the error that is true, and the hub serves on."""

from __future__ import annotations

from functools import partial

import anyio
import pytest

import gibbs
from gibbs._core.affinity import affinity_of, liking
from gibbs.testing import ScriptedLauncher
from tests.clocks import jumping_loops
from tests.hub.swept import (
    DEATHS,
    NEVER_GIVE_UP,
    WATCHDOG,
    Busy,
    Ledger,
    Outcome,
    Reaper,
    Sweeps,
    deliberate,
    ticking,
    until,
)

pytestmark = [pytest.mark.slow, pytest.mark.in_turn, pytest.mark.usefixtures("swept")]


@pytest.fixture(scope="module", params=jumping_loops())
def anyio_backend(request):
    return request.param


@pytest.fixture(params=[True, False], ids=["side", "in-band"])
def side(request):
    return request.param


@pytest.fixture(params=DEATHS)
def how(request):
    return request.param


def open_hub(launcher, *, workers=1, **options):
    return gibbs.open_hub(Busy, workers=workers, launcher=launcher, restarts=NEVER_GIVE_UP, **options)


# ------------------------------------------------------------------------------------------------------------- a request


async def test_a_request_to_an_idle_worker(how, side):
    launcher = ScriptedLauncher(deliberate, side=side)
    reaper = Reaper(launcher, how)
    async with open_hub(launcher) as hub:
        ledger = Ledger(hub, launcher, side=side)

        def scenario():
            nonlocal x, request
            reaper.spare()
            x = ledger.new()
            request = Outcome(partial(hub.request, x))
            return ticking(request)

        x, request = 0, Outcome(scenario)
        wanted = {"idle", "received", "running", "crashed", "answered"}
        async for step in Sweeps(scenario, at=reaper, wanted=wanted, met=reaper.met):
            k = step.k
            ledger.check(x, request, reaper.victim)
            reaper.met["crashed" if request.error is not None else "answered"] += 1
            await ledger.settle(reaper.victim)
            await ledger.balance()
    assert k > 8


async def test_two_requests_of_which_one_is_queued(how, side):
    launcher = ScriptedLauncher(deliberate, side=side)
    reaper = Reaper(launcher, how)
    async with open_hub(launcher) as hub:
        ledger = Ledger(hub, launcher, side=side)

        def scenario():
            nonlocal requests
            reaper.spare()
            requests = {x: Outcome(partial(hub.request, x)) for x in (ledger.new(), ledger.new())}
            return ticking(*requests.values())

        requests = {}
        wanted = {"running", "first crashed", "second crashed"}
        async for step in Sweeps(scenario, at=reaper, wanted=wanted, met=reaper.met):
            k = step.k
            lost = [n for n, (x, request) in enumerate(requests.items()) if request.error is not None]
            for x, request in requests.items():
                ledger.check(x, request, reaper.victim)
            assert len(lost) <= 1, "a worker has one request at a time"
            reaper.met.update(["first crashed", "second crashed"][n] for n in lost)
            await ledger.settle(reaper.victim)
            await ledger.balance()
    assert k > 16


async def test_three_requests_of_which_two_wait_and_are_one_call(how, side):
    launcher = ScriptedLauncher(deliberate, side=side)
    reaper = Reaper(launcher, how)
    async with open_hub(launcher) as hub:
        ledger = Ledger(hub, launcher, side=side)

        def scenario():
            nonlocal requests
            reaper.spare()
            batch = hub.method("batch")
            requests = {x: Outcome(partial(batch.request, x)) for x in [ledger.new() for _ in range(3)]}
            return ticking(*requests.values())

        requests = {}
        wanted = {"running", "one crashed", "two crashed"}
        async for _ in Sweeps(scenario, at=reaper, wanted=wanted, met=reaper.met):
            for x, request in requests.items():
                ledger.check(x, request, reaper.victim)
            lost = sum(request.error is not None for request in requests.values())
            assert lost <= 2
            reaper.met[("none", "one crashed", "two crashed")[lost]] += 1
            await ledger.settle(reaper.victim)
            await ledger.balance()


async def test_a_stream(how, side):
    """What came before the death stays, in its order; the crash comes last; and what did not begin is read from another worker."""
    launcher = ScriptedLauncher(deliberate, side=side)
    reaper = Reaper(launcher, how)
    found = []

    async def read(x):
        async with hub.using(buffer=2).method("items").stream(x, 4) as items:
            async for item in items:
                found.append(item)  # noqa: PERF401 - what was found before an error counts
        return x * x

    async with open_hub(launcher) as hub:
        ledger = Ledger(hub, launcher, side=side)

        def scenario():
            nonlocal x, stream
            reaper.spare()
            found.clear()
            x = ledger.new()
            stream = Outcome(partial(read, x))
            return ticking(stream)

        x, stream = 0, Outcome(scenario)
        wanted = {"idle", "received", "running", "crashed", "answered", "crashed after an item"}
        async for step in Sweeps(scenario, at=reaper, wanted=wanted, met=reaper.met):
            k = step.k
            ledger.check(x, stream, reaper.victim, stream=True)
            crashed = stream.error is not None
            assert found == [*range(len(found) if crashed else 4)]
            reaper.met["crashed" if crashed else "answered"] += 1
            reaper.met["crashed after an item"] += crashed and bool(found)
            await ledger.settle(reaper.victim)
            await ledger.balance()
    assert k > 8


async def test_a_conversation(how, side):
    """Of two requests on a lease the one that had begun crashed, and the other is told that the lease is broken: neither runs elsewhere."""
    launcher = ScriptedLauncher(deliberate, side=side)
    reaper = Reaper(launcher, how)
    likes_the_first = next(key for key in range(99) if liking(affinity_of(key), 0) > liking(affinity_of(key), 1))
    where = []

    async def converse(requests):
        where.clear()
        async with hub.using(key=likes_the_first).lease() as lease:
            where.append((lease.seat, lease.incarnation))
            async with anyio.create_task_group() as tg:
                for x in requests:
                    requests[x] = Outcome(partial(lease.request, x))
                    tg.start_soon(requests[x].run)

    async with open_hub(launcher, workers=2) as hub:
        ledger = Ledger(hub, launcher, side=side)

        def scenario():
            nonlocal requests, conversation
            reaper.spare()
            requests = dict.fromkeys((ledger.new(), ledger.new()))
            conversation = Outcome(partial(converse, requests))
            return ticking(conversation)

        requests, conversation = {}, Outcome(scenario)
        wanted = {"idle", "received", "running", gibbs.WorkerCrashed, gibbs.LeaseBroken, type(None)}
        async for step in Sweeps(scenario, at=reaper, wanted=wanted, met=reaper.met):
            k = step.k
            assert conversation.error is None
            broken = 0
            for x, request in requests.items():
                error = request.error
                reaper.met[type(error)] += 1
                if isinstance(error, gibbs.LeaseBroken):
                    assert Busy.runs.count(x) == 0
                    assert where == [(error.seat, error.incarnation)] == [(0, reaper.victim.spec.incarnation)]
                    assert error.__cause__.pid == reaper.victim.pid
                    broken += 1
                elif isinstance(error, gibbs.WorkerCrashed) and not side:
                    assert (error.seat, error.incarnation) == where[0]
                    ledger.ended["crashed"] += 1
                else:
                    ledger.check(x, request, reaper.victim)
            assert hub.statistics().leases == 0
            await ledger.settle(reaper.victim)
            await ledger.balance(cancelled=broken)
    assert k > 16


# ------------------------------------------------------------------------------------------------------- the life of a hub


def is_true(error, reaper, *, entered):
    """Whether an error that left a hub is true, of the one worker that died."""
    victim = reaper.victim
    assert victim is not None
    if isinstance(error, gibbs.WorkerStartFailed):
        assert not entered
        assert error.reason == "exited"
        return error.seat == victim.spec.seat and (error.exit_code, error.signal) == (
            victim.ending.exit_code,
            victim.ending.signal,
        )
    assert isinstance(error, gibbs.WorkerCrashed)
    assert entered
    return error.pid == victim.pid


@pytest.mark.parametrize("workers", [1, 2])
async def test_the_whole_life_of_a_hub(how, side, workers):
    launcher = ScriptedLauncher(deliberate, side=side)
    reaper = Reaper(launcher, how)
    entered = False

    async def life():
        nonlocal entered
        async with open_hub(launcher, workers=workers) as hub:
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
        return ticking(outcome)

    outcome = Outcome(life)
    wanted = {"starting", "idle", "nobody", gibbs.WorkerStartFailed, type(None)}
    if workers == 1:
        wanted |= {"received", "running", gibbs.WorkerCrashed}
    with anyio.fail_after(WATCHDOG):
        async for step in Sweeps(scenario, at=reaper, wanted=wanted, met=reaper.met):
            k = step.k
            if outcome.error is not None:
                assert is_true(outcome.error, reaper, entered=entered)
            else:
                assert outcome.value == 9
                assert Busy.runs == [3]
                assert reaper.phase != "starting", "a hub that opens does not try again"
            assert len(Busy.runs) <= 1
            reaper.met[type(outcome.error)] += 1
            assert all(worker.ending is not None for worker in launcher.workers)
    assert k > 20


async def test_waiting_for_workers(how, side):
    launcher = ScriptedLauncher(deliberate, side=side)
    reaper = Reaper(launcher, how)

    async def life():
        async with open_hub(launcher, workers=2, ready=0) as hub:
            await hub.wait_ready()
            serving = hub.statistics().seats["serving"]
            assert await hub.request(3) == 9
        return serving

    def scenario():
        nonlocal outcome
        reaper.spare()
        launcher.workers.clear()
        Busy.runs.clear()
        outcome = Outcome(life)
        return ticking(outcome)

    outcome = Outcome(life)
    with anyio.fail_after(WATCHDOG):
        async for step in Sweeps(scenario, at=reaper, wanted={"starting", "idle"}, met=reaper.met):
            k = step.k
            if outcome.error is not None:
                assert isinstance(outcome.error, gibbs.WorkerCrashed)
                assert is_true(outcome.error, reaper, entered=True)
            else:
                assert outcome.value == 2
            assert all(worker.ending is not None for worker in launcher.workers)
    assert k > 10


async def test_draining(how, side):
    launcher = ScriptedLauncher(deliberate, side=side)
    reaper = Reaper(launcher, how)
    requests = {}

    async def life():
        async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
            requests.update({x: Outcome(partial(hub.request, x)) for x in (1, 2, 3)})
            for request in requests.values():
                tg.start_soon(request.run)
            await until(lambda: hub.statistics().queued + hub.statistics().running == 3 or requests[1].over.is_set())
            await hub.drain()
            ended = [hub.statistics().running, hub.statistics().queued]
            with pytest.raises(gibbs.HubClosed, match="draining"):
                await hub.request(4)
        return ended

    def scenario():
        nonlocal outcome
        reaper.spare()
        requests.clear()
        launcher.workers.clear()
        Busy.runs.clear()
        outcome = Outcome(life)
        return ticking(outcome)

    outcome = Outcome(life)
    wanted = {"starting", "running", "first crashed", "second crashed", "last crashed"}
    with anyio.fail_after(WATCHDOG):
        async for step in Sweeps(scenario, at=reaper, wanted=wanted, met=reaper.met):
            k = step.k
            if outcome.error is not None:
                assert isinstance(outcome.error, gibbs.WorkerStartFailed)
                assert is_true(outcome.error, reaper, entered=bool(requests))
                continue
            assert outcome.value == [0, 0]
            assert all(Busy.runs.count(x) <= 1 for x in requests)
            lost = [x for x, request in requests.items() if request.error is not None]
            assert len(lost) <= 1
            for x, request in requests.items():
                if x in lost:
                    assert is_true(request.error, reaper, entered=True)
                    assert request.error.may_have_run == (x in Busy.runs or not side)
                else:
                    assert request.value == x * x
            reaper.met.update(["first crashed", "second crashed", "last crashed"][x - 1] for x in lost)
            assert all(worker.ending is not None for worker in launcher.workers)
    assert k > 30


@pytest.mark.parametrize("close_timeout", [5, 0])
async def test_leaving_the_block_while_a_call_runs(how, side, close_timeout):
    launcher = ScriptedLauncher(deliberate, side=side)
    reaper = Reaper(launcher, how)

    async def life():
        nonlocal request
        async with anyio.create_task_group() as tg:
            try:
                async with open_hub(launcher, close_timeout=close_timeout, on_cancel="finish") as hub:
                    request = Outcome(partial(hub.request, 3))
                    tg.start_soon(request.run)
                    await until(lambda: launcher.worker().running or request.over.is_set())
            except gibbs.WorkerStartFailed as error:
                return error
        return "left"

    def scenario():
        nonlocal outcome, request
        reaper.spare()
        launcher.workers.clear()
        Busy.runs.clear()
        request = None
        outcome = Outcome(life)
        return ticking(outcome)

    outcome = Outcome(life)
    request = None
    wanted = {"starting", "received", "running", "nobody", gibbs.HubClosed}
    with anyio.fail_after(WATCHDOG):
        async for step in Sweeps(scenario, at=reaper, wanted=wanted, met=reaper.met):
            k = step.k
            if outcome.value != "left":
                assert is_true(outcome.value, reaper, entered=request is not None)
                continue
            if isinstance(request.error, gibbs.WorkerCrashed):
                assert is_true(request.error, reaper, entered=True)
            elif request.error is not None:
                assert isinstance(request.error, gibbs.HubClosed)
                assert request.error.reason == "closed"
            else:
                assert request.value == 9
            assert len(Busy.runs) <= 1
            reaper.met[type(request.error)] += 1
            assert all(worker.ending is not None for worker in launcher.workers)
    assert k > 15
