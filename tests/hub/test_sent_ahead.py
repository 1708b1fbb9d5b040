"""Requests that are sent to a quick worker behind others: what runs where, what is taken back, and what a crash costs.

A worker in memory says how quick it is by `service_time`, which the hub hears with its next message: so each is asked once first.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from types import SimpleNamespace

import anyio
import pytest

import gibbs
from gibbs._core.dispatch import Dispatcher
from gibbs._core.pace import WINDOW
from gibbs._parent.patience import PatientAlarm
from gibbs._wire.frames import encode
from gibbs._wire.messages import ANSWER, GIVEN_BACK, SIZE
from gibbs.abc import Traits
from gibbs.testing import ScriptedLauncher
from tests.clocks import jumping_loops, stand_still
from tests.hub.swept import DEATHS, NEVER_GIVE_UP, Busy, Ledger, Outcome, Reaper, Sweeps, deliberate, ticking, until

QUICK = 5e-6  # seconds: many are sent ahead
TICKS = 0.02  # seconds; long enough for the hub to see twice that a call takes long
ON_ASYNCIO = pytest.mark.parametrize("anyio_backend", jumping_loops()[:-1], indirect=True)


@pytest.fixture(scope="module", params=jumping_loops())
def anyio_backend(request):
    return request.param


class Echo:
    def __call__(self, x):
        return x


@pytest.fixture(params=[True, False], ids=["page", "stream"])
def side(request):
    """Whether workers show on a page how long they take and what they have begun, or say it in their stream when they are asked."""
    return request.param


@pytest.fixture
def launched(side):
    return partial(ScriptedLauncher, side=side)


@asynccontextmanager
async def open_hub(launcher, *, workers=1, close_timeout=0, **options):
    options = {"workers": workers, "launcher": launcher, "close_timeout": close_timeout} | options
    with anyio.fail_after(60):  # what hangs ticks on, so a clock that jumps would never stand still
        async with gibbs.open_hub(Echo, name="echo", **options) as hub:
            yield hub


async def quick(worker):
    """The script of a worker that a test drives, and that says it is quick."""
    worker.service_time = QUICK
    await worker.ready(interruptible=True, methods={"__call__": "plain"})
    await anyio.sleep_forever()


def argument(call):
    return call.content[1][0]


def seats(hub):
    return hub._desk.crew.dispatcher.seats


def counts(hub):
    return hub.statistics().running, hub.statistics().queued


async def answer(worker, call, value=None):
    await worker.answer(call.link_id, argument(call) if value is None else value)


async def arrive(worker, number):
    """So many requests are there, and may be begun."""
    calls = [await worker.receive() for _ in range(number)]
    await until(lambda: worker.claims == number or worker._reads_on)
    return calls


def begins(worker, call):
    assert worker.begin(call.link_id)
    return call


async def taken_back(hub, worker):
    """Return when nothing waits any more behind what runs there, since that takes long."""
    await until(lambda: len(seats(hub)[worker.spec.seat].held) == 1)


async def skip_next(worker):
    """What was taken back, as a worker reads it."""
    call = await worker.receive()
    await until(lambda: not worker._reads_on or call.link_id in worker._unwanted)
    assert not worker.begin(call.link_id)
    await worker.skip(call.link_id)
    return argument(call)


@pytest.fixture
def warm(ask, begin):
    """`worker, other = await warm(hub, launcher, tg)`: the hub knows that the first is quick, and of the others nothing."""

    async def warm(hub, launcher, tg):
        first = await ask(tg, hub.request, "warm")
        [index] = [seat.index for seat in seats(hub) if seat.held]
        worker = launcher.worker(index)
        await answer(worker, await begin(worker))
        assert await first.outcome() == "warm"
        await until(lambda: seats(hub)[index].window == WINDOW)
        worker.calls.clear()
        return worker, *(one for one in launcher.workers if one is not worker)

    return warm


async def successor(hub, launcher, worker):
    """Who takes the place of a worker that died, when it serves."""
    seat = worker.spec.seat
    await until(lambda: launcher.worker(seat) is not worker and seats(hub)[seat].state == "serving")
    return launcher.worker(seat)


def all_wait():
    """Whether no other task of asyncio has anything to do, as AnyIO finds out."""
    waiters = [task._fut_waiter for task in asyncio.all_tasks() - {asyncio.current_task()}]
    return all(waiter is not None and not waiter.done() for waiter in waiters)


@pytest.fixture(autouse=True)
def ticks_when_all_wait(anyio_backend, monkeypatch):
    """On uvloop, whose clock does not jump, no tick comes either as long as a task has something to do, however long that takes."""

    async def sleep(seconds):
        await anyio.sleep(seconds)
        while not all_wait():
            await anyio.lowlevel.checkpoint()

    if anyio_backend[1].get("use_uvloop"):
        clocks = SimpleNamespace(sleep=sleep, current_time=anyio.current_time, CancelScope=anyio.CancelScope)
        monkeypatch.setattr("gibbs._parent.clock.anyio", clocks)


@pytest.fixture
def nobody_ticks(monkeypatch):
    """Nothing is taken back for being slow: where clocks jump, calls take as long as they like."""
    monkeypatch.setattr(Dispatcher, "tick", lambda _: [])


# ---------------------------------------------------------------------------------------------------- what is sent ahead


@pytest.mark.usefixtures("nobody_ticks")
async def test_what_is_sent_ahead_runs_in_order_and_each_caller_gets_its_own_answer(ask, warm, launched):
    launcher = launched(quick)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        [worker] = await warm(hub, launcher, tg)
        asked = [await ask(tg, hub.request, n) for n in range(10)]
        calls = await arrive(worker, 10)  # though none was answered
        assert [argument(call) for call in calls] == [*range(10)]
        for call in calls:
            await answer(worker, begins(worker, call), argument(call) * 10)
        assert [await one.outcome() for one in asked] == [n * 10 for n in range(10)]
        assert counts(hub) == (0, 0)


@pytest.mark.usefixtures("nobody_ticks")
async def test_a_request_may_be_begun_in_the_moment_in_which_it_is_read(ask, warm, launched):
    """Whatever stood before it in the outbox: a worker that finds no claim skips it, and would be killed for that."""
    launcher = launched(quick)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        [worker] = await warm(hub, launcher, tg)
        asked = []
        for n in range(20):
            asked.append(await ask(tg, hub.request, n))
            await anyio.lowlevel.checkpoint()  # the writer has begun
        for call in [await worker.receive() for _ in asked]:  # as in one piece
            worker.mark_over(begins(worker, call).link_id)
            worker._hub_hears.send_nowait(answer_of(call))
        assert [await one.outcome() for one in asked] == [*range(20)]


@pytest.mark.usefixtures("nobody_ticks")
async def test_no_more_is_sent_ahead_than_the_window_holds(ask, warm, launched):
    launcher = launched(quick)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        await warm(hub, launcher, tg)
        for n in range(WINDOW + 8):
            await ask(tg, hub.request, n)
        assert len(seats(hub)[0].held) == WINDOW
        assert counts(hub) == (1, WINDOW + 7)
        tg.cancel_scope.cancel()


async def test_to_a_worker_of_which_nothing_is_known_nothing_is_sent_ahead(ask, launched):
    launcher = launched(quick)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        for n in range(3):
            await ask(tg, hub.request, n)
        assert len(seats(hub)[0].held) == 1
        tg.cancel_scope.cancel()


async def test_the_pace_of_a_dead_worker_is_not_that_of_the_next(ask, warm, launched):
    async def slow(worker):
        await worker.ready(methods={"__call__": "plain"})
        await anyio.sleep_forever()

    launcher = launched(quick, slow)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        [worker] = await warm(hub, launcher, tg)
        worker.die(code=1)
        await successor(hub, launcher, worker)
        for n in range(3):
            await ask(tg, hub.request, n)
        assert len(seats(hub)[0].held) == 1
        tg.cancel_scope.cancel()


@pytest.mark.usefixtures("nobody_ticks")
async def test_statistics_and_max_pending_count_what_is_sent_ahead_as_waiting(ask, warm, launched):
    launcher = launched(quick)
    async with open_hub(launcher, max_pending=2) as hub, anyio.create_task_group() as tg:
        await warm(hub, launcher, tg)
        for n in range(3):
            await ask(tg, hub.request, n)
        assert len(seats(hub)[0].held) == 3
        assert counts(hub) == (1, 2)
        with pytest.raises(gibbs.HubOverloaded) as caught:
            await hub.request(3)
        assert caught.value.pending == 2
        assert not hub.health().ready
        tg.cancel_scope.cancel()


@pytest.mark.usefixtures("nobody_ticks")
async def test_with_max_pending_0_nothing_is_sent_ahead(ask, warm, launched):
    """The promise is: to an idle worker, or not at all."""
    launcher = launched(quick)
    async with open_hub(launcher, workers=2, max_pending=0) as hub, anyio.create_task_group() as tg:
        await warm(hub, launcher, tg)
        for n in range(2):
            await ask(tg, hub.request, n)
        assert [len(seat.held) for seat in seats(hub)] == [1, 1]
        assert counts(hub) == (2, 0)
        tg.cancel_scope.cancel()


@pytest.mark.usefixtures("nobody_ticks")
async def test_a_drain_waits_for_what_is_sent_ahead(ask, begin, warm, launched):
    launcher = launched(quick)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        [worker] = await warm(hub, launcher, tg)
        asked = [await ask(tg, hub.request, n) for n in range(3)]
        draining = await ask(tg, hub.drain)
        for n, call in enumerate(await arrive(worker, 3)):
            assert not draining.done.is_set()
            await answer(worker, begins(worker, call))
            assert await asked[n].outcome() == n
        await draining.outcome()


# ------------------------------------------------------------------------------------------------------------ a slow call


async def test_behind_a_slow_call_nothing_waits_while_another_worker_is_idle(ask, begin, warm, launched):
    launcher = launched(quick)
    async with open_hub(launcher, workers=2) as hub, anyio.create_task_group() as tg:
        worker, other = await warm(hub, launcher, tg)
        asked = [await ask(tg, hub.request, n) for n in range(4)]
        slow = await begin(worker)
        for n in (1, 2, 3):
            call = await begin(other)
            assert argument(call) == n
            await answer(other, call)
            assert await asked[n].outcome() == n
        await answer(worker, slow)
        assert await asked[0].outcome() == 0
        assert [await skip_next(worker) for _ in range(3)] == [1, 2, 3]
        await until(lambda: all(seat.has_room for seat in seats(hub)))


async def test_what_is_taken_back_keeps_its_place_before_those_that_came_later(ask, begin, warm, launched):
    launcher = launched(quick)
    async with open_hub(launcher, workers=2) as hub, anyio.create_task_group() as tg:
        worker, other = await warm(hub, launcher, tg)
        seats(hub)[worker.spec.seat].window = 3
        asked = [await ask(tg, hub.request, n) for n in range(6)]  # 0, 1, 2 here, 3 there, 4 and 5 in the queue
        assert [len(seats(hub)[one.spec.seat].held) for one in (worker, other)] == [3, 1]
        other.service_time = float("inf")
        slow = await begin(worker)
        await taken_back(hub, worker)
        for n in (3, 1, 2, 4, 5):
            call = await begin(other)
            assert argument(call) == n
            await answer(other, call)
            assert await asked[n].outcome() == n
        await answer(worker, slow)


async def test_nothing_is_sent_to_a_worker_that_has_not_read_what_was_taken_back(ask, begin, warm, launched):
    launcher = launched(quick)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        [worker] = await warm(hub, launcher, tg)
        asked = [await ask(tg, hub.request, n) for n in range(3)]
        slow = await begin(worker)
        await taken_back(hub, worker)
        await answer(worker, slow)
        assert await asked[0].outcome() == 0
        assert counts(hub) == (0, 2)  # in the queue, though the worker is idle
        assert [await skip_next(worker)] == [1]
        await anyio.wait_all_tasks_blocked()
        assert not seats(hub)[0].held
        assert [await skip_next(worker)] == [2]
        for n in (1, 2):
            call = await begin(worker)
            assert argument(call) == n
            await answer(worker, call)
            assert await asked[n].outcome() == n


async def test_after_a_slow_call_a_worker_is_sent_ahead_as_soon_as_it_is_measured_again(ask, begin, warm, launched):
    launcher = launched(quick)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        [worker] = await warm(hub, launcher, tg)
        asked = [await ask(tg, hub.request, n) for n in range(2)]
        slow = await begin(worker)
        worker.service_time = 0.3
        await taken_back(hub, worker)
        assert seats(hub)[0].window == 1, "it has said something, and answered nothing"
        await answer(worker, slow)
        await skip_next(worker)
        await until(lambda: len(seats(hub)[0].held) == 1)
        assert seats(hub)[0].window == 1
        worker.service_time = QUICK
        await answer(worker, await begin(worker))
        assert [await one.outcome() for one in asked] == [0, 1]
        await until(lambda: seats(hub)[0].window == WINDOW)


# ------------------------------------------------------------------------------------------------------ who leaves, closes


@pytest.mark.parametrize("on_cancel", ["interrupt", "kill", "finish"])
async def test_a_request_that_is_cancelled_behind_another_never_begins_and_its_neighbours_are_answered(
    ask, begin, warm, on_cancel, launched
):
    launcher = launched(quick)
    async with open_hub(launcher, on_cancel=on_cancel) as hub, anyio.create_task_group() as tg:
        [worker] = await warm(hub, launcher, tg)
        asked = [await ask(tg, hub.request, n) for n in range(3)]
        head = await begin(worker)
        asked[1].cancel()
        assert await asked[1].outcome() == "cancelled"
        assert worker.target == 0, "nobody aims at what did not begin"
        await answer(worker, head)
        assert await asked[0].outcome() == 0
        assert [await skip_next(worker) for _ in range(2)] == [1, 2]
        call = await begin(worker)
        assert argument(call) == 2
        await answer(worker, call)
        assert await asked[2].outcome() == 2
        assert (worker.kills, worker.interrupts) == (0, 0)
        assert (hub.statistics().done, hub.statistics().cancelled) == (3, 1)


async def test_without_abandoning_the_caller_of_what_did_not_begin_need_not_wait_for_the_call_before_it(
    ask, begin, warm, launched
):
    launcher = launched(quick)
    async with open_hub(launcher, abandon_on_cancel=False) as hub, anyio.create_task_group() as tg:
        [worker] = await warm(hub, launcher, tg)
        asked = [await ask(tg, hub.request, n) for n in range(2)]
        head = await begin(worker)
        asked[1].cancel()
        assert await asked[1].outcome() == "cancelled"
        await answer(worker, head)
        await skip_next(worker)
        assert await asked[0].outcome() == 0


async def test_when_the_running_call_is_cancelled_those_behind_it_go_to_another_worker(ask, begin, warm, launched):
    launcher = launched(quick)
    async with open_hub(launcher, workers=2) as hub, anyio.create_task_group() as tg:
        worker, other = await warm(hub, launcher, tg)
        asked = [await ask(tg, hub.request, n) for n in range(3)]
        head = await begin(worker)
        asked[0].cancel()
        assert await asked[0].outcome() == "cancelled"
        await worker.interrupted()
        for n in (1, 2):
            call = await begin(other)
            assert argument(call) == n
            await answer(other, call)
            assert await asked[n].outcome() == n
        await worker.skip(head.link_id)
        assert [await skip_next(worker) for _ in range(2)] == [1, 2]
        await until(lambda: all(seat.has_room for seat in seats(hub)))
        assert worker.kills == 0


async def test_when_the_running_call_must_be_killed_those_behind_it_are_answered_by_the_next_worker(
    ask, begin, warm, launched
):
    launcher = launched(quick)
    async with open_hub(launcher, on_cancel="kill") as hub, anyio.create_task_group() as tg:
        [worker] = await warm(hub, launcher, tg)
        asked = [await ask(tg, hub.request, n) for n in range(4)]
        await begin(worker)
        asked[0].cancel()
        worker = await successor(hub, launcher, worker)
        for n in (1, 2, 3):
            await answer(worker, await begin(worker))
            assert await asked[n].outcome() == n
        assert hub.statistics().crashed == 0


@pytest.mark.usefixtures("nobody_ticks")
async def test_a_request_whose_answer_is_on_its_way_keeps_it_though_another_is_cancelled(ask, begin, warm, launched):
    launcher = launched(quick)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        [worker] = await warm(hub, launcher, tg)
        asked = [await ask(tg, hub.request, n) for n in range(2)]
        first, second = await arrive(worker, 2)
        begins(worker, first)
        worker._hub_hears.send_nowait(answer_of(first))
        worker.mark_over(first.link_id)
        begins(worker, second)
        asked[1].cancel()
        assert await asked[0].outcome() == 0
        await worker.interrupted()
        await worker.skip(second.link_id)
        assert await asked[1].outcome() == "cancelled"
        await until(lambda: seats(hub)[0].has_room)


@pytest.mark.usefixtures("nobody_ticks")
async def test_what_was_answered_and_not_yet_heard_of_is_not_counted_as_waiting_when_its_neighbour_leaves(
    ask, begin, warm, launched
):
    """Both had begun: of the two, one is alive, and runs."""
    launcher = launched(quick)
    async with open_hub(launcher, on_cancel="finish") as hub, anyio.create_task_group() as tg:
        [worker] = await warm(hub, launcher, tg)
        asked = [await ask(tg, hub.request, n) for n in range(2)]
        calls = [begins(worker, call) for call in await arrive(worker, 2)]
        asked[1].cancel()
        assert await asked[1].outcome() == "cancelled"
        assert counts(hub) == (1, 0)
        for call in calls:
            await answer(worker, call)
        assert await asked[0].outcome() == 0


@pytest.mark.usefixtures("nobody_ticks")
async def test_when_the_hub_closes_all_that_was_sent_ahead_is_refused_and_never_begins(ask, begin, warm, launched):
    launcher = launched(quick)
    async with anyio.create_task_group() as tg:
        async with open_hub(launcher, close_timeout=5, on_cancel="finish") as hub:
            [worker] = await warm(hub, launcher, tg)
            asked = [await ask(tg, hub.request, n) for n in range(3)]
            head = await begin(worker)

            @tg.start_soon
            async def finish():
                for one in asked:
                    with pytest.raises(gibbs.HubClosed):
                        await one.outcome()
                assert [await skip_next(worker) for _ in range(2)] == [1, 2]
                await answer(worker, head)
                assert (await worker.receive()).is_leave
                worker.die(code=0)

        assert worker.ending.code == 0
        assert (counts(hub), hub.statistics().refused) == ((0, 0), 3)


# ----------------------------------------------------------------------------------------------------- a worker that dies


UNHEARD = {"dies, its stream stays open", "writes garbage"}  # without a page these tell nothing of what had begun


def deaths(*, heard):
    """Of workers with a page, and of those without whose last words are heard; or of the others."""
    cases = [(how, side) for how in DEATHS for side in (True, False) if heard == (side or how not in UNHEARD)]
    return pytest.mark.parametrize(
        ("how", "side"), cases, ids=[f"{how}-{('stream', 'page')[side]}" for how, side in cases]
    )


@deaths(heard=True)
@pytest.mark.usefixtures("nobody_ticks")
async def test_a_worker_that_dies_costs_the_call_that_had_begun_and_no_other_of_those_it_held(
    ask, begin, warm, how, launched
):
    launcher = launched(quick)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        [worker] = await warm(hub, launcher, tg)
        asked = [await ask(tg, hub.request, n) for n in range(5)]
        first, second, *_ = await arrive(worker, 5)
        await answer(worker, begins(worker, first))
        begins(worker, second)
        DEATHS[how](worker)
        assert await asked[0].outcome() == 0
        with pytest.raises(gibbs.WorkerCrashed) as caught:
            await asked[1].outcome()
        assert (caught.value.pid, caught.value.may_have_run) == (worker.pid, True)
        worker = await successor(hub, launcher, worker)
        for n in (2, 3, 4):
            call = await begin(worker)
            assert argument(call) == n
            await answer(worker, call)
            assert await asked[n].outcome() == n
        assert hub.statistics().crashed == 1


@deaths(heard=False)
@pytest.mark.usefixtures("nobody_ticks")
async def test_where_nobody_can_tell_what_had_begun_all_that_it_held_may_have_run(ask, warm, how, launched):
    launcher = launched(quick)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        [worker] = await warm(hub, launcher, tg)
        asked = [await ask(tg, hub.request, n) for n in range(3)]
        first, *_ = await arrive(worker, 3)
        await answer(worker, begins(worker, first))
        assert await asked[0].outcome() == 0
        DEATHS[how](worker)
        for one in asked[1:]:
            with pytest.raises(gibbs.WorkerCrashed) as caught:
                await one.outcome()
            assert caught.value.may_have_run


@pytest.mark.parametrize("pauses", [False, True])
@pytest.mark.parametrize("side", [False])
@pytest.mark.usefixtures("nobody_ticks")
async def test_a_worker_that_is_killed_for_a_cancel_is_asked_first_for_what_waits_behind(
    ask, warm, launched, monkeypatch, pauses
):
    """What it has said of that is enough, where the end of its stream proves nothing; also where the hub was too slow to hear it."""
    monkeypatch.setattr(ScriptedLauncher, "traits", Traits(same_host=True, kill_is_certain=True))
    wait_until = PatientAlarm.wait_until

    async def stands_still(alarm, *until, **deadline):
        monkeypatch.setattr(PatientAlarm, "wait_until", wait_until)
        stand_still(0.4)
        return await wait_until(alarm, *until, **deadline)

    launcher = launched(quick)
    async with open_hub(launcher, on_cancel="kill") as hub, anyio.create_task_group() as tg:
        [worker] = await warm(hub, launcher, tg)
        asked = [await ask(tg, hub.request, n) for n in range(3)]
        first, *_ = await arrive(worker, 3)
        begins(worker, first)
        if pauses:
            monkeypatch.setattr(PatientAlarm, "wait_until", stands_still)
        asked[0].cancel()
        assert await asked[0].outcome() == "cancelled"
        worker = await successor(hub, launcher, worker)
        assert PatientAlarm.wait_until is wait_until
        for n in (1, 2):
            [call] = await arrive(worker, 1)
            await answer(worker, begins(worker, call))
            assert await asked[n].outcome() == n


@pytest.mark.parametrize("side", [False])
@pytest.mark.usefixtures("nobody_ticks")
async def test_a_worker_that_gives_back_what_it_was_not_asked_for_is_killed(ask, warm, launched):
    launcher = launched(quick)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        [worker] = await warm(hub, launcher, tg)
        asked = await ask(tg, hub.request, 1)
        [call] = await arrive(worker, 1)
        await worker.say(encode(GIVEN_BACK, call.link_id, bytes(SIZE)))
        with pytest.raises(gibbs.WorkerCrashed) as caught:
            await asked.outcome()
        assert "not asked for" in caught.value.probable_cause


@pytest.mark.parametrize("side", [False])
@pytest.mark.usefixtures("nobody_ticks")
async def test_a_number_that_is_too_long_is_a_lie(ask, warm, launched):
    launcher = launched(quick)
    async with open_hub(launcher, on_cancel="finish") as hub, anyio.create_task_group() as tg:
        [worker] = await warm(hub, launcher, tg)
        asked = [await ask(tg, hub.request, n) for n in range(2)]
        calls = await arrive(worker, 2)
        asked[1].cancel()  # for which the worker is asked
        await worker.say(encode(GIVEN_BACK, calls[1].link_id, bytes(100)))
        with pytest.raises(gibbs.WorkerCrashed) as caught:
            await asked[0].outcome()
        assert "a number has 8 bytes" in caught.value.probable_cause


@pytest.mark.parametrize("side", [True])  # else the first that it holds counts as begun
async def test_to_be_taken_back_costs_a_request_none_of_its_two_chances(ask, begin, warm, launched):
    launcher = launched(quick)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        [worker] = await warm(hub, launcher, tg)
        asked = [await ask(tg, hub.request, n) for n in range(2)]
        slow = await begin(worker)
        await taken_back(hub, worker)
        await answer(worker, slow)
        await skip_next(worker)
        await until(lambda: len(seats(hub)[0].held) == 1)
        worker.die(code=1)  # before it begins: the first death
        worker = await successor(hub, launcher, worker)
        call = await begin(worker)
        assert argument(call) == 1
        await answer(worker, call)
        assert await asked[1].outcome() == 1


# ------------------------------------------------------------------------------------------------------ a worker that lies


def answer_of(call):
    from gibbs._wire import payload

    return encode(ANSWER, call.link_id, payload.dumps(argument(call)))


async def test_a_worker_that_answers_what_was_taken_back_is_killed_and_the_answer_of_the_other_counts(
    ask, begin, warm, launched
):
    launcher = launched(quick)
    async with open_hub(launcher, workers=2) as hub, anyio.create_task_group() as tg:
        worker, other = await warm(hub, launcher, tg)
        asked = [await ask(tg, hub.request, n) for n in range(2)]
        await begin(worker)
        call = await begin(other)
        assert argument(call) == 1
        liar = await worker.receive()
        await worker.answer(liar.link_id, "a lie")
        with pytest.raises(gibbs.WorkerCrashed) as caught:
            await asked[0].outcome()
        assert "protocol" in caught.value.probable_cause
        assert worker.kills > 0
        await answer(other, call)
        assert await asked[1].outcome() == 1


@pytest.mark.parametrize("side", [True])
async def test_a_worker_that_claims_what_it_was_not_offered_is_killed_when_it_answers_it(ask, begin, warm, launched):
    launcher = launched(quick)
    async with open_hub(launcher, workers=2) as hub, anyio.create_task_group() as tg:
        worker, other = await warm(hub, launcher, tg)
        asked = [await ask(tg, hub.request, n) for n in range(2)]
        await begin(worker)
        call = await begin(other)  # it was taken back
        worker.claims += 1
        liar = await worker.receive()
        assert worker.begin(liar.link_id)
        await worker.answer(liar.link_id, "a lie")
        with pytest.raises(gibbs.WorkerCrashed):
            await asked[0].outcome()
        await answer(other, call)
        assert await asked[1].outcome() == 1


async def test_a_request_that_had_begun_is_not_given_to_another_worker_by_a_lie_about_claims(
    ask, begin, warm, launched
):
    """The hub has seen that it began, and let its arguments go."""
    launcher = launched(quick)
    async with open_hub(launcher, workers=2) as hub, anyio.create_task_group() as tg:
        worker, other = await warm(hub, launcher, tg)
        asked = [await ask(tg, hub.request, n) for n in range(2)]
        first = await begin(worker)
        worker.claims += 1
        call = await begin(other)
        assert argument(call) == 1
        await answer(other, call)
        assert await asked[1].outcome() == 1
        await answer(worker, first)
        assert await asked[0].outcome() == 0


# ------------------------------------------------------------------------------------------------------------- the ticker


@pytest.fixture
def looks(monkeypatch):
    """Grows each time that the task that ticks looks whether it should."""
    looks = []
    wants_ticks = Dispatcher.wants_ticks.fget

    def looked(dispatcher):
        looks.append(wants_ticks(dispatcher))
        return looks[-1]

    monkeypatch.setattr(Dispatcher, "wants_ticks", property(looked))
    return looks


async def test_as_long_as_nothing_is_sent_ahead_nobody_ticks(ask, begin, warm, looks, launched):
    launcher = launched(quick)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        await anyio.sleep(TICKS)
        [worker] = await warm(hub, launcher, tg)
        asked = await ask(tg, hub.request, 1)  # long, and alone
        call = await begin(worker)
        await anyio.sleep(5 * TICKS)
        assert looks == []
        await answer(worker, call)
        assert await asked.outcome() == 1


async def test_a_large_payload_is_let_go_when_its_call_has_begun_and_where_nobody_can_know_nobody_looks_for_that(
    ask, begin, looks, side, launched
):
    launcher = launched(quick)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        asked = await ask(tg, hub.request, bytes(100_000))
        [ticket] = seats(hub)[0].held.values()
        await anyio.sleep(TICKS)
        assert ticket.payload, "it may have to be sent again"
        call = await begin(launcher.worker())
        await anyio.sleep(TICKS)
        assert bool(ticket.payload) is not side
        so_far = len(looks)
        await anyio.sleep(5 * TICKS)
        assert len(looks) == so_far
        await answer(launcher.worker(), call, 7)
        assert await asked.outcome() == 7


async def test_when_nothing_is_sent_ahead_any_more_the_ticks_end(ask, begin, warm, looks, launched):
    launcher = launched(quick)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        [worker] = await warm(hub, launcher, tg)
        for _ in range(3):
            asked = [await ask(tg, hub.request, n) for n in range(2)]
            await until(lambda: any(looks))
            await answer(worker, await begin(worker))
            if await asked[0].outcome() == 0 and not seats(hub)[0].recalled:
                await answer(worker, await begin(worker))
            else:
                await skip_next(worker)
                await answer(worker, await begin(worker))
            assert await asked[1].outcome() == 1
            await until(lambda: looks[-1] is False)
            so_far = len(looks)
            await anyio.sleep(5 * TICKS)
            assert len(looks) == so_far
            looks.clear()


@ON_ASYNCIO
@pytest.mark.parametrize("ahead", [0, 1], ids=["asleep", "ticking"])
async def test_the_ticker_that_other_code_cancels_ends_the_hub_in_words(ask, ahead, launched):
    launcher = launched(quick)
    with anyio.fail_after(10), pytest.raises(RuntimeError, match="was cancelled by other code"):
        async with open_hub(launcher) as hub:
            worker = launcher.worker()
            async with anyio.create_task_group() as tg:
                one = await ask(tg, hub.request, 1)
                call = await worker.receive()
                worker.begin(call.link_id)
                await answer(worker, call)
                await one.outcome()
            async with anyio.create_task_group() as tg:
                for n in range(2 * ahead):
                    tg.start_soon(hub.request, n)
                await anyio.sleep(0.001)
                [ticker] = [task for task in asyncio.all_tasks() if task.get_name() == "gibbs echo ticks"]
                ticker.cancel()
                await anyio.sleep_forever()
    assert all(worker.ending is not None for worker in launcher.workers)


# ------------------------------------------------------------------------------------------------------------- the sweeps


async def quick_and_deliberate(worker):
    worker.service_time = QUICK
    await deliberate(worker)


class Three:
    """Three requests, made in one tick of a worker that is sent ahead; one of them may leave."""

    def __init__(self, hub, ledger):
        self.hub = hub
        self.arguments = [ledger.new() for _ in range(3)]
        self.outcomes = [Outcome(partial(self.request, n)) for n in range(3)]
        self.scopes = {}
        self.must_not_run = None

    async def request(self, n):
        with anyio.CancelScope() as self.scopes[n]:
            return await self.hub.request(self.arguments[n])
        self.outcomes[n].cancelled = True
        return None

    def leave(self, n, worker):
        """Cancel one; if it waits behind another that runs, it must never run."""
        if n in self.scopes and not self.outcomes[n].over.is_set():
            x = self.arguments[n]
            if worker.running and x not in Busy.runs:
                self.must_not_run = x
            self.scopes[n].cancel()


@pytest.mark.slow
@pytest.mark.usefixtures("swept")
@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize("on_cancel", ["interrupt", "kill", "finish"])
async def test_one_of_three_that_is_cancelled_at_any_tick_hurts_no_other_and_if_it_waits_never_runs(
    which, on_cancel, side, launched
):
    launcher = launched(quick_and_deliberate)
    async with gibbs.open_hub(Busy, workers=1, launcher=launcher, restarts=NEVER_GIVE_UP, on_cancel=on_cancel) as hub:
        ledger = Ledger(hub, launcher, side=side)
        await ledger.balance()
        met = {}
        three = None

        def scenario():
            nonlocal three
            three = Three(hub, ledger)
            return ticking(*three.outcomes)

        def leave(_scope):
            three.leave(which, launcher.worker())

        wanted = {"waits", "answered"} if which else {"runs", "answered"}
        async for step in Sweeps(scenario, at=leave, wanted=wanted, met=met):
            k = step.k
            for n, (x, outcome) in enumerate(zip(three.arguments, three.outcomes, strict=True)):
                assert n == which or outcome.value == x * x
                ledger.check(x, outcome)
            left = three.outcomes[which].cancelled
            met["waits" if three.must_not_run else "runs" if left else "answered"] = True
            assert not side or three.must_not_run not in Busy.runs  # in the stream it may be begun before that is read
            await ledger.settle()
            await ledger.balance(cancelled=1)
    assert k > 10


@pytest.mark.slow
@pytest.mark.in_turn
@pytest.mark.usefixtures("swept")
@deaths(heard=True)
@pytest.mark.parametrize("workers", [1, 2])
async def test_three_whose_worker_dies_at_any_tick_lose_at_most_the_one_that_had_begun(how, workers, side, launched):
    launcher = launched(quick_and_deliberate)
    reaper = Reaper(launcher, how)
    async with gibbs.open_hub(Busy, workers=workers, launcher=launcher, restarts=NEVER_GIVE_UP) as hub:
        ledger = Ledger(hub, launcher, side=side)
        three = None

        def scenario():
            nonlocal three
            reaper.spare()
            three = Three(hub, ledger)
            return ticking(*three.outcomes)

        wanted = {"running", "crashed", "answered"}
        async for step in Sweeps(scenario, at=reaper, wanted=wanted, met=reaper.met):
            k = step.k
            for x, outcome in zip(three.arguments, three.outcomes, strict=True):
                ledger.check(x, outcome, reaper.victim)
            lost = [outcome.error for outcome in three.outcomes if outcome.error is not None]
            assert len(lost) <= 1
            assert all(error.may_have_run for error in lost)
            reaper.met["crashed" if lost else "answered"] += 1
            await ledger.settle(reaper.victim)
            await ledger.balance()
            await ledger.balance()  # the next worker is measured, so that the next three are sent ahead
    assert k > 15


# ------------------------------------------------------------------------------------------------------ to wait awake


@pytest.fixture
def stays_awake(monkeypatch):
    """`stays_awake(looks)`: so often a caller looks for its answer before it goes to sleep."""

    def stays_awake(looks):
        now = 0.0

        def perf_counter():
            nonlocal now
            now += 100e-6 / max(looks, 1e-9)
            return now

        monkeypatch.setattr("gibbs._desk.perf_counter", perf_counter)

    return stays_awake


FOR_EVER = float("inf")


@pytest.fixture
def nobody_sleeps():
    """`nobody_sleeps(hub)`: from now on a caller that would go to sleep fails the test."""

    def nobody_sleeps(hub):
        def new_waiter():
            raise AssertionError("a caller went to sleep")

        hub._desk.loop = hub._desk.loop._replace(new_waiter=new_waiter)

    return nobody_sleeps


async def test_an_answer_that_is_due_is_waited_for_awake(ask, begin, warm, stays_awake, nobody_sleeps):
    launcher = ScriptedLauncher(quick)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        [worker] = await warm(hub, launcher, tg)
        stays_awake(FOR_EVER)
        nobody_sleeps(hub)
        asked = await ask(tg, hub.request, 1)
        await answer(worker, await begin(worker))
        assert await asked.outcome() == 1


async def test_while_a_caller_waits_awake_others_run(ask, begin, warm, stays_awake):
    launcher = ScriptedLauncher(quick)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        [worker] = await warm(hub, launcher, tg)
        stays_awake(FOR_EVER)
        asked = await ask(tg, hub.request, 1)
        ran = [await begin(worker)]
        for _ in range(100):
            await anyio.lowlevel.checkpoint()
            ran.append("another task")
        assert not asked.done.is_set()
        await answer(worker, ran[0])
        assert await asked.outcome() == 1


async def test_a_caller_that_waits_awake_hears_that_its_worker_died(ask, begin, warm, stays_awake, nobody_sleeps):
    launcher = ScriptedLauncher(quick)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        [worker] = await warm(hub, launcher, tg)
        stays_awake(1000)
        asked = await ask(tg, hub.request, 1)
        await begin(worker)
        worker.die(code=3)
        with pytest.raises(gibbs.WorkerCrashed) as caught:
            await asked.outcome()
        assert caught.value.exit_code == 3


async def test_a_caller_that_waits_awake_hears_that_the_hub_closes(ask, begin, warm, stays_awake):
    launcher = ScriptedLauncher(quick)
    async with anyio.create_task_group() as tg:
        async with open_hub(launcher) as hub:
            [worker] = await warm(hub, launcher, tg)
            stays_awake(1000)
            asked = await ask(tg, hub.request, 1)
            await begin(worker)
        with pytest.raises(gibbs.HubClosed):
            await asked.outcome()


@pytest.mark.usefixtures("swept")
@pytest.mark.parametrize("on_cancel", ["interrupt", "kill", "finish"])
async def test_a_caller_that_waits_awake_can_be_cancelled_at_every_step(on_cancel, stays_awake):
    launcher = ScriptedLauncher(quick_and_deliberate)
    async with gibbs.open_hub(Busy, workers=1, launcher=launcher, restarts=NEVER_GIVE_UP, on_cancel=on_cancel) as hub:
        stays_awake(1000)
        ledger = Ledger(hub, launcher, side=True)
        await ledger.balance()
        x = 0

        def scenario():
            nonlocal x
            x = ledger.new()
            return hub.request(x)

        met = {}
        async for step in Sweeps(scenario, at=lambda scope: scope.cancel(), wanted={True, False}, met=met):
            met[step.cancelled] = True
            assert step.cancelled or step.value == x * x
            assert Busy.runs.count(x) <= 1
            if not step.cancelled:
                ledger.ended["done"] += 1
            await ledger.settle()
            await ledger.balance(cancelled=1)
            await ledger.balance()  # a worker that is new is not known to be quick
            k = max(step.k, 1)
    assert k > 5, "it slept"


@pytest.mark.parametrize("how", ["answers", "dies"])
async def test_whenever_a_caller_goes_to_sleep_it_is_woken(how, stays_awake):
    """It gives up one look later each time, so that the end comes before, in the very tick, and after."""

    async def script(worker):
        worker.service_time = QUICK
        await worker.start()
        await worker.run(await worker.receive())
        call = await worker.receive()
        worker.begin(call.link_id)
        for _ in range(6):
            await anyio.lowlevel.checkpoint()
        if how == "dies":
            worker.die(code=1)
        await answer(worker, call)
        await worker.receive()

    for looks in range(14):
        async with gibbs.open_hub(Echo, workers=1, launcher=ScriptedLauncher(script)) as hub:
            stays_awake(looks)
            with anyio.fail_after(10):
                assert await hub.request(1) == 1
                if how == "dies":
                    with pytest.raises(gibbs.WorkerCrashed):
                        await hub.request(2)
                else:
                    assert await hub.request(2) == 2
