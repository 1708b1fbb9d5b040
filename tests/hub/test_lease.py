"""One worker for a conversation: who is given it and when, what is sent to it, and every way for it to end. Workers are scripted."""

from __future__ import annotations

import math
from contextlib import AsyncExitStack

import anyio
import anyio.to_thread
import pytest
from anyio.lowlevel import checkpoint

import gibbs
from gibbs._core.affinity import affinity_of, liking
from gibbs.testing import ScriptedLauncher


class Echo:
    def __call__(self, x):
        return x

    def items(self, x):
        yield x

    @gibbs.batched(max_size=8, max_wait=600.0)
    def batch(self, xs):
        return xs


METHODS = {"__call__": "plain", "items": "generator", "batch": "plain"}


@pytest.fixture
def by_hand():
    """The script of a worker that a test drives: it is ready, and then does nothing by itself."""

    async def by_hand(worker):
        await worker.ready(interruptible=True, methods=METHODS)
        await anyio.sleep_forever()

    return by_hand


async def work(worker):
    """The script of a worker that does all that it should."""
    if await worker.start():
        await worker.work()


def open_hub(launcher, workers=2, **options):
    return gibbs.open_hub(Echo, workers=workers, launcher=launcher, close_timeout=0, **options)


def argument(call):
    return call.content[1][0]


async def answer(worker, call):
    await worker.answer(call.link_id, argument(call))


class Holder:
    """Somebody who holds a lease in a task of his own, until he is told to leave."""

    def __init__(self, lease):
        self.lease = lease
        self.has_it = anyio.Event()
        self.may_leave = anyio.Event()

    async def hold(self):
        async with self.lease:
            self.has_it.set()
            await self.may_leave.wait()
        return "left"


@pytest.fixture
def hold(ask):
    async def hold(tg, lease):
        holder = Holder(lease)
        holder.task = await ask(tg, holder.hold)
        await anyio.wait_all_tasks_blocked()
        return holder

    return hold


# ----------------------------------------------------------------------------------------------------------- who has it


async def test_what_is_asked_on_it_runs_on_one_worker_in_the_order_asked_one_at_a_time(ask, by_hand, begin):
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher, workers=3) as hub, anyio.create_task_group() as tg:
        async with hub.lease() as lease:
            worker = launcher.worker(lease.seat)
            assert (worker.spec.seat, worker.spec.incarnation) == (lease.seat, lease.incarnation)
            asked = [await ask(tg, lease.request, n) for n in range(4)]
            await anyio.wait_all_tasks_blocked()
            assert (hub.statistics().running, hub.statistics().queued) == (1, 3)
            for n in range(4):
                call = await begin(worker)
                assert argument(call) == n
                await answer(worker, call)
                assert await asked[n].outcome() == n


async def test_nothing_else_is_sent_to_its_worker(ask, by_hand, begin):
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        async with hub.lease() as lease:
            others = [await ask(tg, hub.request, n) for n in range(3)]
            other = launcher.worker(1 - lease.seat)
            for n in range(3):
                call = await begin(other)
                assert argument(call) == n
                await answer(other, call)
                assert await others[n].outcome() == n
        last = [await ask(tg, hub.request, n) for n in "ab"]
        for seat in (0, 1):
            await answer(launcher.worker(seat), await begin(launcher.worker(seat)))
        assert [await one.outcome() for one in last] == ["a", "b"], "and when it is left, both serve"


async def test_it_is_given_first_come_first_served_as_a_request_is_sent(ask, hold, by_hand, begin):
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        running = [await ask(tg, hub.request, n) for n in range(2)]
        await ask(tg, hub.request, "before")
        holder = await hold(tg, hub.lease())
        behind = await ask(tg, hub.request, "behind")
        first, second = launcher.worker(0), launcher.worker(1)
        await answer(first, await begin(first))
        assert argument(await begin(first)) == "before"
        assert not holder.has_it.is_set()
        await answer(second, await begin(second))
        await holder.has_it.wait()
        assert holder.lease.seat == 1
        assert not behind.done.is_set()
        assert [await one.outcome() for one in running] == [0, 1]
        holder.may_leave.set()
        assert argument(await begin(second)) == "behind"
        tg.cancel_scope.cancel()


async def test_what_is_more_important_is_given_it_first(ask, hold, by_hand, begin):
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        for n in range(2):
            await ask(tg, hub.request, n)
        await ask(tg, hub.request, "waits")
        holder = await hold(tg, hub.using(priority=1).lease())
        worker = launcher.worker(0)
        await answer(worker, await begin(worker))
        await holder.has_it.wait()
        tg.cancel_scope.cancel()


@pytest.mark.slow
async def test_seats_that_are_sent_ahead_without_end_become_idle_for_who_asks_for_a_lease():
    """Those who come later wait behind him; or no seat would ever hold nothing."""
    most_ahead = 0

    async def quick(worker):
        worker.service_time = 1e-6
        await work(worker)

    async with open_hub(ScriptedLauncher(quick)) as hub, anyio.create_task_group() as tg:

        async def ask():
            nonlocal most_ahead
            while True:
                await hub.request(1)
                most_ahead = max(most_ahead, *(len(seat.held) for seat in hub._desk.crew.dispatcher.seats))

        for _ in range(300):
            tg.start_soon(ask)
        while most_ahead < 2:
            await checkpoint()
        with anyio.fail_after(60):
            for n in range(10):
                async with hub.lease() as lease:
                    assert await lease.request(n) == n
        tg.cancel_scope.cancel()


async def test_the_worker_that_a_key_likes_is_given_if_it_is_idle(by_hand):
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher, workers=4) as hub:
        for key in ("a", "b", 3, b"d"):
            async with hub.using(key=key).lease() as lease:
                assert lease.seat == max(range(4), key=lambda seat: liking(affinity_of(key), seat))


# ------------------------------------------------------------------------------------------------------------ the limit


async def test_with_one_worker_there_is_none(by_hand):
    async with open_hub(ScriptedLauncher(by_hand), workers=1) as hub:
        lease = hub.lease()
        with pytest.raises(ValueError, match="open it with workers=2 or more"):
            await lease.__aenter__()


async def test_one_worker_is_always_left_for_others_and_who_asks_for_one_too_many_holds_nobody_up(
    ask, hold, by_hand, begin
):
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        first, second, third = [await hold(tg, hub.lease()) for _ in range(3)]
        assert [holder.has_it.is_set() for holder in (first, second, third)] == [True, False, False]
        assert (hub.statistics().leases, hub.statistics().queued) == (1, 2)
        other = launcher.worker(1 - first.lease.seat)
        for n in range(5):
            asked = await ask(tg, hub.request, n)
            await answer(other, await begin(other))
            assert await asked.outcome() == n
        first.may_leave.set()
        await second.has_it.wait()
        await anyio.wait_all_tasks_blocked()
        assert not third.has_it.is_set()
        second.may_leave.set()
        await third.has_it.wait()
        third.may_leave.set()
        assert [await one.task.outcome() for one in (first, second, third)] == ["left"] * 3
        assert hub.statistics().leases == 0


async def test_who_waits_for_one_too_many_and_leaves_is_not_in_the_way_of_the_next(hold, by_hand):
    async with open_hub(ScriptedLauncher(by_hand)) as hub, anyio.create_task_group() as tg:
        first, second, third = [await hold(tg, hub.lease()) for _ in range(3)]
        second.task.cancel()
        assert await second.task.outcome() == "cancelled"
        first.may_leave.set()
        await third.has_it.wait()
        tg.cancel_scope.cancel()


async def test_whoever_asks_for_no_lease_is_served_however_many_ask_for_one():
    served = 0
    async with open_hub(ScriptedLauncher(work), workers=3) as hub, anyio.create_task_group() as tg:

        async def converse():
            while True:
                async with hub.lease() as lease:
                    for n in range(3):
                        assert await lease.request(n) == n

        for _ in range(12):
            tg.start_soon(converse)
        with anyio.fail_after(60):
            while served < 100:
                assert await hub.request(served) == served
                served += 1
                assert hub.statistics().leases <= 2
        tg.cancel_scope.cancel()


# -------------------------------------------------------------------------------------------------- waiting, and giving up


async def test_who_is_cancelled_while_he_waits_leaves_nothing(ask, hold, by_hand, begin):
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        for n in range(2):
            await ask(tg, hub.request, n)
        holder = await hold(tg, hub.lease())
        behind = await ask(tg, hub.request, "behind")
        holder.task.cancel()
        assert await holder.task.outcome() == "cancelled"
        worker = launcher.worker(0)
        await answer(worker, await begin(worker))
        await answer(worker, await begin(worker))
        assert await behind.outcome() == "behind"
        statistics = hub.statistics()
        assert (statistics.leases, statistics.queued, statistics.cancelled) == (0, 0, 1)
        tg.cancel_scope.cancel()


async def test_who_is_cancelled_when_he_is_given_it_and_before_he_knows_has_none(hold, by_hand):
    """Enough others go on in this pass of the loop: his turn is in a later one."""
    async with open_hub(ScriptedLauncher(by_hand)) as hub, anyio.create_task_group() as tg:
        turns = hub._desk.crew.turns
        first = hub.lease()
        await first.__aenter__()
        second = await hold(tg, hub.lease())
        turns._left = 0
        await first.__aexit__(None, None, None)
        assert hub.statistics().leases == 1
        second.task.cancel()
        assert await second.task.outcome() == "cancelled"
        assert not second.has_it.is_set()
        assert hub.statistics().leases == 0
        turns._left = math.inf
        turns.wake_put_off()
        async with hub.lease():
            assert hub.statistics().leases == 1


async def test_entering_in_a_cancelled_scope_is_a_checkpoint_that_takes_nothing(by_hand):
    async with open_hub(ScriptedLauncher(by_hand)) as hub:
        with anyio.CancelScope() as scope:
            scope.cancel()
            async with hub.lease():
                pytest.fail("it was entered")
        assert hub.statistics().leases == hub.statistics().cancelled == 0


@pytest.mark.parametrize("why", ["all are held", "all are busy"])
async def test_who_is_given_none_in_time_is_told_so(why, ask, hold, by_hand):
    async with open_hub(ScriptedLauncher(by_hand)) as hub, anyio.create_task_group() as tg:
        if why == "all are held":
            await hold(tg, hub.lease())
        else:
            for n in range(2):
                await ask(tg, hub.request, n)
        with anyio.fail_after(10), pytest.raises(gibbs.HubOverloaded, match=r"within max_wait=0\.02 seconds"):
            async with hub.using(max_wait=0.02).lease():
                pytest.fail("it was entered")
        assert hub.statistics().expired == 1
        tg.cancel_scope.cancel()


async def test_max_pending_bounds_those_who_wait_for_a_lease_and_they_take_no_room_of_others(ask, hold, by_hand, begin):
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher, max_pending=2) as hub, anyio.create_task_group() as tg:
        first = await hold(tg, hub.lease())
        for _ in range(2):
            await hold(tg, hub.lease())
        with pytest.raises(gibbs.HubOverloaded) as caught:
            await hub.lease().__aenter__()
        assert caught.value.pending == 2
        assert hub.health().ready
        other = launcher.worker(1 - first.lease.seat)
        asked = [await ask(tg, hub.request, n) for n in range(3)]
        for n in range(3):
            await answer(other, await begin(other))
            assert await asked[n].outcome() == n
        tg.cancel_scope.cancel()


async def test_where_nobody_may_wait_an_idle_worker_is_given_and_else_none(hold, by_hand):
    async with open_hub(ScriptedLauncher(by_hand), max_pending=0) as hub, anyio.create_task_group() as tg:
        holder = await hold(tg, hub.lease())
        assert holder.has_it.is_set()
        with pytest.raises(gibbs.HubOverloaded):
            await hub.lease().__aenter__()
        holder.may_leave.set()
        await holder.task.done.wait()


async def test_as_many_may_wait_on_each_lease_as_max_pending_says(ask, by_hand, begin):
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher, max_pending=1) as hub, anyio.create_task_group() as tg:
        async with hub.lease() as lease:
            worker = launcher.worker(lease.seat)
            asked = [await ask(tg, lease.request, n) for n in range(2)]
            with pytest.raises(gibbs.HubOverloaded) as caught:
                await lease.request("one too many")
            assert caught.value.pending == 1
            others = [await ask(tg, hub.request, n) for n in range(2)]
            await anyio.wait_all_tasks_blocked()
            for _ in range(2):
                await answer(worker, await begin(worker))
                other = launcher.worker(1 - lease.seat)
                await answer(other, await begin(other))
            assert [await one.outcome() for one in asked + others] == [0, 1, 0, 1]


async def test_a_request_on_a_lease_that_its_worker_does_not_take_in_time_is_refused(ask, by_hand, begin):
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        async with hub.lease() as lease:
            runs = await ask(tg, lease.request, "runs")
            with anyio.fail_after(10), pytest.raises(gibbs.HubOverloaded, match=r"max_wait=0\.02"):
                await lease.using(max_wait=0.02).request("waits")
            worker = launcher.worker(lease.seat)
            await answer(worker, await begin(worker))
            assert await runs.outcome() == "runs"


# ---------------------------------------------------------------------------------------------------- where it may be used


async def test_it_is_used_within_its_block_and_once(by_hand):
    async with open_hub(ScriptedLauncher(by_hand)) as hub:
        lease = hub.lease()
        for ask in (lease.request, lease.method("__call__").request, lease.using(priority=1).request):
            with pytest.raises(RuntimeError, match="within its block"):
                await ask(1)
        with pytest.raises(RuntimeError, match="within its block"):
            async with lease.map([1]):
                pytest.fail("it was entered")
        for name in ("seat", "incarnation"):
            with pytest.raises(RuntimeError, match="within its block"):
                getattr(lease, name)
        assert repr(lease) == "<gibbs.Lease of 'Echo', not entered>"
        async with lease as entered:
            assert entered is lease
            assert repr(lease) == f"<gibbs.Lease of 'Echo', held worker {lease.seat}.1>"
            with pytest.raises(RuntimeError, match="entered before"):
                await lease.__aenter__()
        assert repr(lease) == f"<gibbs.Lease of 'Echo', over worker {lease.seat}.1>"
        for ask in (lease.request, lease.method("__call__").request, lease.using(priority=1).request):
            with pytest.raises(anyio.ClosedResourceError, match="has been left"):
                await ask(1)
        with pytest.raises(anyio.ClosedResourceError):
            async with lease.method("items").stream(1):
                pytest.fail("it was entered")
        with pytest.raises(RuntimeError, match="entered before"):
            await lease.__aenter__()


async def test_none_can_be_had_on_a_lease(by_hand):
    async with open_hub(ScriptedLauncher(by_hand)) as hub:
        lease = hub.lease()
        for calls in (lease, lease.using(priority=1)):
            with pytest.raises(TypeError, match=r"call lease\(\) of the hub"):
                calls.lease()


async def test_another_thread_is_refused(by_hand):
    async with open_hub(ScriptedLauncher(by_hand)) as hub:

        def in_a_thread():
            return anyio.run(hub.lease().__aenter__)

        with pytest.raises(RuntimeError, match="event loop of another thread"):
            await anyio.to_thread.run_sync(in_a_thread)


async def test_a_stream_and_a_map_run_on_it_too():
    async with open_hub(ScriptedLauncher(work)) as hub, hub.lease() as lease:
        async with lease.method(Echo.items).stream("x") as items:
            assert [item async for item in items] == ["x"]
        async with lease.map(range(30), limit=4) as results:
            assert [result async for result in results] == [*range(30)]
        assert hub.statistics().done == 31


async def test_what_is_batched_runs_alone_and_waits_for_no_company(ask):
    async with open_hub(ScriptedLauncher(work)) as hub, anyio.create_task_group() as tg:
        elsewhere = await ask(tg, hub.method(Echo.batch).request, "waits for company")
        async with hub.lease() as lease:
            with anyio.fail_after(60):
                assert await lease.method(Echo.batch).request("alone") == "alone"
                async with lease.method(Echo.batch).map("abc") as results:
                    assert [result async for result in results] == ["a", "b", "c"]
        assert not elsewhere.done.is_set()
        tg.cancel_scope.cancel()


# ------------------------------------------------------------------------------------------------------------ its worker dies


@pytest.mark.parametrize("retries", [0, 3])
async def test_what_had_begun_crashed_and_what_had_not_is_told_that_the_lease_is_broken(retries, ask, by_hand, begin):
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        async with hub.using(retries=retries).lease() as lease:
            begun = await ask(tg, lease.request, "begun")
            waits = await ask(tg, lease.request, "waits")
            worker = launcher.worker(lease.seat)
            await begin(worker)
            worker.die(code=3)
            with pytest.raises(gibbs.WorkerCrashed) as crashed:
                await begun.outcome()
            assert crashed.value.may_have_run
            for ask_again in (waits.outcome, lambda: lease.request("later"), lambda: lease.using(retries=9).request(1)):
                with pytest.raises(gibbs.LeaseBroken, match=r"worker [01] of the hub 'Echo'") as broken:
                    await ask_again()
                error = broken.value
                assert (error.name, error.seat, error.incarnation) == ("Echo", lease.seat, 1)
                assert "exited with status 3" in str(error)
                assert isinstance(error.__cause__, gibbs.WorkerCrashed)
                assert error.__cause__.exit_code == 3
                assert not error.__cause__.may_have_run
            assert repr(lease) == f"<gibbs.Lease of 'Echo', broken worker {lease.seat}.1>"
        statistics = hub.statistics()
        assert (statistics.crashed, statistics.retried, statistics.leases) == (2, 0, 0)


@pytest.mark.parametrize("side", [True, False], ids=["side", "in-band"])
async def test_what_was_sent_and_not_begun_is_sent_to_nobody_else(side, ask, by_hand):
    """Without a page nobody knows that it had not begun."""
    launcher = ScriptedLauncher(by_hand, side=side)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        async with hub.lease() as lease:
            sent = await ask(tg, lease.request, "sent")
            worker = launcher.worker(lease.seat)
            await worker.receive()
            worker.die(code=1)
            with pytest.raises(gibbs.LeaseBroken if side else gibbs.WorkerCrashed):
                await sent.outcome()
        assert all(not one.calls for one in launcher.workers if one is not worker)


async def test_a_worker_that_dies_between_two_requests_breaks_it_and_its_seat_is_anybodys(ask, by_hand, begin):
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        holder_is_left = await ask(tg, hub.request, "elsewhere")
        async with hub.lease() as lease:
            launcher.worker(lease.seat).die(signal=9)
            await anyio.wait_all_tasks_blocked()
            asked = await ask(tg, hub.request, "anybody's")
            await hub.wait_ready()
            new = launcher.worker(lease.seat)
            assert new.spec.incarnation == 2
            await answer(new, await begin(new))
            assert await asked.outcome() == "anybody's"
            with pytest.raises(gibbs.LeaseBroken, match="ended by SIGKILL"):
                await lease.request(1)
            async with hub.lease() as another:
                assert (another.seat, another.incarnation) == (lease.seat, 2)
                await answer_one(ask, tg, begin, another, new)
            assert lease.incarnation == 1
        assert not holder_is_left.done.is_set()
        tg.cancel_scope.cancel()


async def answer_one(ask, tg, begin, lease, worker):
    asked = await ask(tg, lease.request, "on it")
    await answer(worker, await begin(worker))
    assert await asked.outcome() == "on it"


async def test_when_one_is_broken_the_next_who_waits_may_have_one(hold, by_hand):
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        first, second = [await hold(tg, hub.lease()) for _ in range(2)]
        launcher.worker(first.lease.seat).die(code=1)
        await second.has_it.wait()
        assert not first.task.done.is_set()
        tg.cancel_scope.cancel()


# ------------------------------------------------------------------------------------------------------------- cancelling


async def test_a_cancelled_request_is_interrupted_and_the_lease_goes_on(ask, by_hand, begin):
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        async with hub.lease() as lease:
            worker = launcher.worker(lease.seat)
            asked = await ask(tg, lease.request, "cancelled")
            behind = await ask(tg, lease.request, "behind")
            call = await begin(worker)
            asked.cancel()
            assert await asked.outcome() == "cancelled"
            await worker.interrupted()
            await worker.skip(call.link_id)
            call = await begin(worker)
            assert argument(call) == "behind"
            await answer(worker, call)
            assert await behind.outcome() == "behind"
        assert hub.statistics().interrupted == 1


async def test_a_cancelled_request_that_costs_its_worker_breaks_the_lease(ask, by_hand, begin):
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher, on_cancel="kill") as hub, anyio.create_task_group() as tg:
        async with hub.lease() as lease:
            asked = await ask(tg, lease.request, "cancelled")
            behind = await ask(tg, lease.request, "behind")
            await begin(launcher.worker(lease.seat))
            asked.cancel()
            assert await asked.outcome() == "cancelled"
            with pytest.raises(gibbs.LeaseBroken, match="killed by the hub, since a cancelled call"):
                await behind.outcome()
        assert hub.statistics().killed == 1


async def test_a_request_that_waits_on_a_lease_and_is_cancelled_is_never_sent(ask, by_hand, begin):
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        async with hub.lease() as lease:
            worker = launcher.worker(lease.seat)
            asked = [await ask(tg, lease.request, n) for n in range(3)]
            asked[1].cancel()
            assert await asked[1].outcome() == "cancelled"
            for n in (0, 2):
                call = await begin(worker)
                assert argument(call) == n
                await answer(worker, call)


async def test_a_cancelled_caller_on_an_idle_lease_sends_nothing_though_others_wait_for_the_hub(ask, by_hand):
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        async with hub.lease() as lease:
            for n in range(3):
                await ask(tg, hub.request, n)
            with anyio.CancelScope() as scope:
                scope.cancel()
                await lease.request("never")
            assert hub.statistics().cancelled == 0, "it was never handed in"
        tg.cancel_scope.cancel()


# ---------------------------------------------------------------------------------------------------------------- leaving


async def test_leaving_withdraws_what_is_on_its_way_and_tells_who_waits_for_it(ask, by_hand, begin):
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        async with hub.lease() as lease:
            worker = launcher.worker(lease.seat)
            asked = [await ask(tg, lease.request, n) for n in range(3)]
            call = await begin(worker)
        for one in asked:
            with pytest.raises(anyio.ClosedResourceError, match="was left before"):
                await one.outcome()
        assert (hub.statistics().leases, hub.statistics().cancelled) == (0, 3)
        await worker.interrupted()
        await worker.skip(call.link_id)
        others = [await ask(tg, hub.request, n) for n in "ab"]
        for one in launcher.workers:
            await answer(one, await begin(one))
        assert [await one.outcome() for one in others] == ["a", "b"]


async def test_a_stream_and_a_map_that_are_read_when_it_is_left_end(ask, by_hand, begin):
    launcher = ScriptedLauncher(by_hand)

    async def reads(results):
        async with results:
            async for _ in results:
                pass

    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        async with hub.lease() as lease:
            readers = [
                await ask(tg, reads, lease.method(Echo.items).stream(1)),
                await ask(tg, reads, lease.map([1, 2, 3])),
            ]
            await anyio.wait_all_tasks_blocked()
        for one in readers:
            with pytest.raises(anyio.ClosedResourceError, match="was left before"):
                await one.outcome()
        tg.cancel_scope.cancel()


async def test_an_error_of_the_body_leaves_as_itself(by_hand):
    async with open_hub(ScriptedLauncher(by_hand)) as hub:
        with pytest.raises(LookupError):
            async with hub.lease():
                raise LookupError
        assert hub.statistics().leases == 0


async def test_who_does_not_abandon_leaves_when_the_worker_is_idle_again(ask, by_hand, begin):
    """And so do those whose requests were cancelled before."""
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher, abandon_on_cancel=False) as hub, anyio.create_task_group() as tg:
        lease = hub.lease()
        await lease.__aenter__()
        worker = launcher.worker(lease.seat)
        asked = await ask(tg, lease.request, 1)
        call = await begin(worker)
        asked.cancel()
        await anyio.wait_all_tasks_blocked()
        leaving = await ask(tg, lease.__aexit__, None, None, None)
        await anyio.wait_all_tasks_blocked()
        assert not asked.done.is_set()
        assert not leaving.done.is_set()
        await worker.skip(call.link_id)
        await leaving.done.wait()
        assert await asked.outcome() == "cancelled"


async def test_who_abandons_leaves_at_once(ask, by_hand, begin):
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        lease = hub.lease()
        await lease.__aenter__()
        await ask(tg, lease.request, 1)
        await begin(launcher.worker(lease.seat))
        leave = lease.__aexit__(None, None, None)
        with pytest.raises(StopIteration):
            leave.send(None)
        tg.cancel_scope.cancel()


# ------------------------------------------------------------------------------------------------------ draining and closing


async def test_draining_refuses_who_waits_and_every_further_request_and_waits_for_no_lease(ask, hold, by_hand, begin):
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        async with hub.lease() as lease:
            worker = launcher.worker(lease.seat)
            aside = await hold(tg, hub.lease())
            accepted = [await ask(tg, lease.request, n) for n in range(2)]
            drained = await ask(tg, hub.drain)
            with pytest.raises(gibbs.HubClosed, match="draining"):
                await aside.task.outcome()
            for calls in (lease, hub):
                with pytest.raises(gibbs.HubClosed, match="draining"):
                    await calls.request("new")
            with pytest.raises(gibbs.HubClosed, match="draining"):
                await hub.lease().__aenter__()
            assert not drained.done.is_set()
            for n in range(2):
                await answer(worker, await begin(worker))
                assert await accepted[n].outcome() == n
            await drained.outcome()


async def test_draining_lets_those_go_on_who_stand_behind_one_that_asks_for_a_lease(ask, hold, by_hand, begin):
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        asked = [await ask(tg, hub.request, n) for n in range(2)]
        waits = await hold(tg, hub.lease())
        asked.append(await ask(tg, hub.request, 2))
        drained = await ask(tg, hub.drain)
        with pytest.raises(gibbs.HubClosed):
            await waits.task.outcome()
        for worker in (launcher.worker(0), launcher.worker(1), launcher.worker(0)):
            await answer(worker, await begin(worker))
            await anyio.wait_all_tasks_blocked()
        await drained.outcome()
        assert [await one.outcome() for one in asked] == [0, 1, 2]


async def test_closing_refuses_who_waits_and_what_is_on_its_way(ask, hold, by_hand, begin):
    launcher = ScriptedLauncher(by_hand)
    async with anyio.create_task_group() as tg, AsyncExitStack() as stack:
        async with open_hub(launcher) as hub:
            lease = await stack.enter_async_context(hub.lease())
            aside = await hold(tg, hub.lease())
            asked = [await ask(tg, lease.request, n) for n in range(3)]
            await begin(launcher.worker(lease.seat))
        for one in (*asked, aside.task):
            with pytest.raises(gibbs.HubClosed, match="is closed"):
                await one.outcome()
        with pytest.raises(gibbs.HubClosed):
            await lease.request(1)
        assert hub.statistics().leases == hub.statistics().queued == 0
        with pytest.raises(gibbs.HubClosed):
            await hub.lease().__aenter__()


async def test_a_hub_that_fails_cancels_its_body_also_while_that_waits_for_a_lease(ask):
    async def dies_when_asked(worker):
        await worker.ready(interruptible=True, methods=METHODS)
        await worker.receive()
        worker.die(code=1)

    policy = gibbs.RestartPolicy(max_crashes=0)
    with pytest.raises(gibbs.RestartsExhausted):
        async with open_hub(ScriptedLauncher(dies_when_asked), restarts=policy) as hub, anyio.create_task_group() as tg:
            for n in range(2):
                tg.start_soon(suppressed, hub.request, n)
            await anyio.wait_all_tasks_blocked()
            async with hub.lease():
                await anyio.sleep_forever()


async def suppressed(f, *args):
    try:
        await f(*args)
    except gibbs.GibbsError:
        pass
