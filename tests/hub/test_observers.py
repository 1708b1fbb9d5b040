"""What observers are told: each change in its order, right after it, whoever raises."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from collections import Counter
from functools import partial

import anyio
import pytest

import gibbs
from gibbs import events
from gibbs._core.dispatch import Dispatcher
from gibbs.history import History
from gibbs.testing import ScriptedLauncher, serve
from tests.clocks import jumping_loops
from tests.hub.swept import until


@pytest.fixture(scope="module", params=jumping_loops())
def anyio_backend(request):
    return request.param


class Model:
    interruptible = True

    def __call__(self, x):
        if x < 0:
            raise ValueError(x)
        return x

    def hangs(self):
        return anyio.sleep_forever()  # which the scripted worker awaits

    def takes(self, many):
        yield from range(many)


def open_hub(*observers, launcher=None, workers=1, **options):
    launcher = ScriptedLauncher() if launcher is None else launcher
    return gibbs.open_hub(Model, workers=workers, name="m", launcher=launcher, observers=observers, **options)


def of_requests(seen):
    """Of each request what it went through, in short."""
    told = {}
    for event in seen:
        match event:
            case events.RequestAccepted(number=number, method=method):
                told[number] = [method]
            case events.RequestSent(number=number, seat=seat, incarnation=incarnation):
                told[number].append(f"sent to {seat}.{incarnation}")
            case events.RequestReturned(number=number, seat=seat, incarnation=incarnation):
                told[number].append(f"back from {seat}.{incarnation}")
            case events.RequestEnded(number=number, outcome=outcome):
                told[number].append(outcome)
    return told


def states(seen, seat=0):
    return [event.after for event in seen if isinstance(event, events.SeatChanged) and event.seat == seat]


async def test_a_request_is_accepted_sent_and_ends_by_its_outcome():
    seen = []
    async with open_hub(seen.append) as hub:
        assert await hub.request(1) == 1
        with pytest.raises(ValueError, match="-1"):
            await hub.request(-1)
        assert await hub.method(Model.__call__).request(2) == 2
    assert of_requests(seen) == {
        1: ["__call__", "sent to 0.1", "done"],
        2: ["__call__", "sent to 0.1", "failed"],
        3: ["__call__", "sent to 0.1", "done"],
    }
    ended = [event for event in seen if isinstance(event, events.RequestEnded)]
    assert [(event.error, event.crash) for event in ended] == [("", None), ("ValueError", None), ("", None)]
    assert {event.hub for event in seen} == {"m"}
    assert [event.at for event in seen] == sorted(event.at for event in seen)


async def test_one_that_is_cancelled_says_so_and_what_became_of_its_worker(ask):
    seen = []
    async with open_hub(seen.append) as hub, anyio.create_task_group() as tg:
        first = await ask(tg, hub.method(Model.hangs).request)
        second = await ask(tg, hub.request, 2)
        await until(lambda: hub.statistics().running == 1)
        first.cancel()
        assert await second.outcome() == 2
    assert of_requests(seen) == {
        1: ["hangs", "sent to 0.1", "cancelled"],
        2: ["__call__", "sent to 0.1", "done"],
    }
    [cleaned] = [event for event in seen if isinstance(event, events.CleanedUp)]
    assert (cleaned.number, cleaned.seat, cleaned.kept) == (1, 0, True)
    ended = [event for event in seen if isinstance(event, events.RequestEnded)]
    [accepted] = [event.at for event in seen if isinstance(event, events.RequestAccepted) and event.number == 2]
    [sent] = [event.at for event in seen if isinstance(event, events.RequestSent) and event.number == 2]
    assert sent >= ended[0].at, "it waited until the worker was free"
    assert ended[1].waited >= sent - accepted


async def test_one_whose_call_runs_out_says_when_its_worker_is_free(ask, by_hand, begin):
    seen, history = [], History()
    launcher = ScriptedLauncher(by_hand)
    async with (
        open_hub(seen.append, history, launcher=launcher, close_timeout=0) as hub,
        anyio.create_task_group() as tg,
    ):
        first = await ask(tg, hub.using(on_cancel="finish").request, 1)
        call = await begin(launcher.worker())
        first.cancel()
        await until(lambda: hub.statistics().cancelled == 1)
        [seat] = history.of("m", anyio.current_time()).seats
        assert (seat.call.number, seat.call.left) == (1, True)
        assert not [event for event in seen if isinstance(event, events.CleanedUp)]
        await launcher.worker().answer(call.link_id, 1)
        await until(lambda: isinstance(seen[-1], events.CleanedUp))
        assert (seen[-1].number, seen[-1].seat, seen[-1].incarnation, seen[-1].kept) == (1, 0, 1, True)
        [seat] = history.of("m", anyio.current_time()).seats
        assert seat.call is None
        assert hub.statistics().interrupted == 0, "it was not"


async def test_a_worker_that_dies_is_told_with_its_cause_and_what_it_cost(ask, by_hand, begin):
    seen = []
    launcher = ScriptedLauncher(by_hand, serve)
    async with open_hub(seen.append, launcher=launcher) as hub, anyio.create_task_group() as tg:
        asked = await ask(tg, hub.request, 1)
        await begin(launcher.worker())
        launcher.worker().die(signal=signal.SIGSEGV, tail="last words")
        with pytest.raises(gibbs.WorkerCrashed):
            await asked.outcome()
        assert await hub.request(2) == 2
    assert of_requests(seen)[1] == ["__call__", "sent to 0.1", "crashed"]
    [lost] = [event for event in seen if isinstance(event, events.RequestEnded) and event.outcome == "crashed"]
    assert isinstance(lost.crash, gibbs.WorkerCrashed)
    assert "SIGSEGV" in str(lost.crash)
    died, left = [event for event in seen if isinstance(event, events.WorkerEnded)]
    assert (died.incarnation, died.reason, died.ending.signal, died.ending.tail) == (1, "died", "SIGSEGV", "last words")
    assert "native code" in died.probable_cause
    assert (left.incarnation, left.reason, left.probable_cause) == (2, "dismissed", "")
    assert [event.incarnation for event in seen if isinstance(event, events.WorkerReady)] == [1, 2]
    assert states(seen) == [*("starting", "serving", "dying", "vacant") * 2, "retired"]


async def test_one_that_goes_back_to_the_queue_is_told_to_have_been_returned(ask, by_hand):
    seen = []
    launcher = ScriptedLauncher(by_hand, serve)
    async with open_hub(seen.append, launcher=launcher) as hub, anyio.create_task_group() as tg:
        asked = await ask(tg, hub.request, 1)
        await launcher.worker().receive()
        launcher.worker().die(code=1)  # before it began
        assert await asked.outcome() == 1
    assert of_requests(seen)[1] == ["__call__", "sent to 0.1", "back from 0.1", "sent to 0.2", "done"]


async def test_one_that_went_back_and_ends_there_has_no_seat(ask, by_hand):
    seen = []

    async def is_never_ready(worker):
        await anyio.sleep_forever()

    launcher = ScriptedLauncher(by_hand, is_never_ready)
    async with open_hub(seen.append, launcher=launcher) as hub, anyio.create_task_group() as tg:
        asked = await ask(tg, hub.request, 1)
        await launcher.worker().receive()
        launcher.worker().die(code=1)  # before it began
        await until(lambda: "back from 0.1" in of_requests(seen)[1])
        asked.cancel()
        assert await asked.outcome() == "cancelled"
    [ended] = [event for event in seen if isinstance(event, events.RequestEnded)]
    assert (ended.seat, ended.took) == (None, 0.0)


async def test_a_start_that_fails_is_told_with_why():
    seen = []

    async def cannot(worker):
        await worker.unfit(ValueError("no weights"))

    with pytest.raises(gibbs.WorkerStartFailed) as caught:
        async with open_hub(seen.append, launcher=ScriptedLauncher(cannot)):
            pass
    [failed] = [event for event in seen if isinstance(event, events.StartFailed)]
    assert failed.error is caught.value
    assert (failed.seat, failed.incarnation) == (0, 1)
    assert [event.state for event in seen if isinstance(event, events.HubChanged)] == ["closed"]


async def test_what_becomes_of_the_hub_is_told():
    seen = []
    async with open_hub(seen.append, workers=2) as hub:
        await hub.resize(1)
        await hub.reload(Model)
        with pytest.raises(gibbs.ReloadFailed):
            await hub.reload(Model, "one argument too many")
        await hub.drain()
    told = [event for event in seen if isinstance(event, events.HubChanged | events.HubResized | events.HubReloaded)]
    for event in told:
        match event:
            case events.HubResized():
                assert (event.before, event.after) == (2, 1)
            case events.HubReloaded(error=None):
                pass
            case events.HubReloaded(error=error):
                assert isinstance(error, gibbs.WorkerStartFailed)
            case events.HubChanged():
                assert event.error is None
    kinds = [getattr(event, "state", type(event).__name__) for event in told]
    assert kinds == ["open", "HubResized", "HubReloaded", "HubReloaded", "draining", "closed"]


async def test_a_hub_that_fails_says_why(by_hand):
    seen = []
    launcher = ScriptedLauncher(by_hand)
    with pytest.raises(gibbs.RestartsExhausted) as caught:
        async with open_hub(seen.append, launcher=launcher, restarts=gibbs.RestartPolicy(max_crashes=0)):
            launcher.worker().die(code=1)
            await anyio.sleep_forever()
    [_, failed] = [event for event in seen if isinstance(event, events.HubChanged)]
    assert (failed.state, failed.error) == ("failed", caught.value)


async def test_who_asks_for_a_lease_has_it_as_an_outcome():
    seen = []
    async with open_hub(seen.append, workers=2) as hub, hub.lease() as lease:
        assert await lease.request(1) == 1
    assert [words[0] for words in of_requests(seen).values()] == ["", "__call__"]
    assert [words[-1] for words in of_requests(seen).values()] == ["leased", "done"]
    held, free = [event for event in seen if isinstance(event, events.SeatLeased)]
    assert (held.held, free.held, held.incarnation, held.seat) == (True, False, 1, free.seat)


async def test_who_is_turned_away_is_told_and_counted_and_was_never_accepted(ask):
    seen = []
    async with open_hub(seen.append, workers=2, max_pending=1) as hub, anyio.create_task_group() as tg:
        async with hub.lease() as lease:
            for _ in range(2):
                await ask(tg, hub.method(Model.hangs).request)
                await ask(tg, lease.method(Model.hangs).request)
            await until(lambda: hub.statistics().queued == 2)
            with pytest.raises(gibbs.HubOverloaded):
                await hub.request(1)
            with pytest.raises(gibbs.HubOverloaded):
                await lease.request(1)
            with pytest.raises(gibbs.HubOverloaded):
                async with hub.method(Model.takes).stream(1):
                    pytest.fail("it was entered")
            with pytest.raises(gibbs.HubOverloaded):
                async with hub.lease():
                    pytest.fail("it was entered")
            with pytest.raises(AttributeError):
                await hub.method("nonsense").request(1)
            assert hub.statistics().turned_away == 4
        tg.cancel_scope.cancel()
    turned_away = [event for event in seen if isinstance(event, events.RequestTurnedAway)]
    assert [(event.method, event.pending, event.needed) for event in turned_away] == [
        ("__call__", 1, None),
        ("__call__", 1, None),
        ("takes", 1, None),
        ("", 1, None),
    ]
    assert len(of_requests(seen)) == 5


async def test_every_request_that_is_accepted_ends_once_whatever_its_worker_does():
    seen = []

    async def dies_now_and_then(worker):
        if await worker.start():
            for _ in range(20):
                if (call := await worker.receive()).is_leave:
                    return
                await worker.run(call)
            await worker.receive()
            worker.die(code=1)

    launcher = ScriptedLauncher(dies_now_and_then)
    policy = gibbs.RestartPolicy(max_failures=float("inf"))
    found = Counter()
    async with open_hub(seen.append, launcher=launcher, workers=3, restarts=policy) as hub:

        async def caller(first):
            for x in range(first, first + 10):
                try:
                    await hub.request(x)
                    found["done"] += 1
                except gibbs.WorkerCrashed:
                    found["crashed"] += 1

        async with anyio.create_task_group() as tg:
            for n in range(20):
                tg.start_soon(caller, 10 * n)
    ends = Counter(event.outcome for event in seen if isinstance(event, events.RequestEnded))
    assert ends == found
    assert all(len([w for w in words if w in ("done", "crashed")]) == 1 for words in of_requests(seen).values())
    assert len(of_requests(seen)) == 200


async def test_it_is_told_after_the_change_and_may_read_the_statistics():
    seen = []

    def look(event):
        match event:
            case events.RequestSent():
                seen.append(("sent", hub.statistics().running))
            case events.RequestEnded():
                seen.append(("ended", hub.statistics().done))

    async with open_hub(look) as hub:
        for x in range(2):
            await hub.request(x)
    assert seen == [("sent", 1), ("ended", 1), ("sent", 1), ("ended", 2)]


async def test_one_that_raises_is_said_once_and_hurts_nobody(caplog):
    seen = []

    def raises(event):
        raise LookupError("of the observer's own")

    async with open_hub(raises, seen.append, raises) as hub:
        for x in range(3):
            assert await hub.request(x) == x
    assert len(of_requests(seen)) == 3
    said = [record for record in caplog.records if "observer" in record.getMessage()]
    assert [record.levelno for record in said] == [logging.ERROR] * 2, "once for each of them"
    assert all(isinstance(record.exc_info[1], LookupError) for record in said)


async def test_without_observers_nothing_is_written_down_and_nothing_is_imported():
    async with open_hub() as hub:
        crew = hub._desk.crew
        assert type(crew.dispatcher) is Dispatcher
        assert crew.observers is None
        assert all(seat.watch is None for seat in crew.dispatcher.seats)
    code = "import sys, gibbs; gibbs.open_hub; sys.exit('gibbs.events' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def never(event):
    raise AssertionError("nobody waits for it")


@pytest.mark.parametrize(
    "observers",
    [print, "print", [1], [never], (never,), None],
    ids=["a function", "a word", "a number", "an async function", "one in a tuple", "None"],
)
async def test_what_are_no_observers_are_refused(observers):
    with pytest.raises(TypeError, match="observers must"):
        gibbs.open_hub(Model, workers=1, observers=observers)


async def test_an_observer_may_be_any_callable():
    seen = []
    async with open_hub(partial(lambda seen, event: seen.append(event), seen)) as hub:
        await hub.request(1)
    assert of_requests(seen)
