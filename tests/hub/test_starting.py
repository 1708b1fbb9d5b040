"""How workers come to be: opening, timeouts, slots, restarts and giving up. Under a virtual clock."""

from __future__ import annotations

import itertools
import math

import anyio
import pytest
from trio.testing import MockClock

import gibbs
from gibbs._wire import payload
from gibbs._wire.failure import dump_failure
from gibbs._wire.frames import encode
from gibbs._wire.messages import UNFIT
from gibbs.testing import ScriptedLauncher, serve


@pytest.fixture(scope="module")
def anyio_backend():
    return "trio", {"clock": MockClock(autojump_threshold=0)}


class Echo:
    def __call__(self, x):
        return x


class NoModelError(Exception):
    pass


def open_hub(launcher, *, workers=1, **options):
    return gibbs.open_hub(Echo, name="echo", workers=workers, launcher=launcher, **options)


def takes(seconds):
    async def script(worker):
        await anyio.sleep(seconds)
        await serve(worker)

    return script


async def never_ready(worker):
    await anyio.sleep_forever()


async def unfit(worker):
    await worker.unfit(NoModelError(f"seat {worker.spec.seat}"))


async def dies_before_it_is_ready(worker):
    await worker.receive()
    worker.die(code=9, tail="cannot open shared object file")


async def dies_once_it_serves(worker):
    await worker.ready(methods={"__call__": "plain"})
    await anyio.wait_all_tasks_blocked()
    worker.die(code=1)


# -------------------------------------------------------------------------------------------------------------- opening


async def test_workers_start_side_by_side():
    before = anyio.current_time()
    async with open_hub(ScriptedLauncher(takes(20)), workers=5):
        assert anyio.current_time() - before == pytest.approx(20)


async def test_the_body_is_entered_when_as_many_are_ready_as_were_asked_for():
    async def script(worker):
        await anyio.sleep(worker.spec.seat)
        await serve(worker)

    before = anyio.current_time()
    async with open_hub(ScriptedLauncher(script), workers=5, ready=3) as hub:
        assert anyio.current_time() - before == pytest.approx(2)
        assert hub.statistics().seats["serving"] == 3
        assert hub.health() == gibbs.Health(ready=True, reasons=("2 of 5 workers are not ready",))
        await hub.wait_ready(4)
        assert anyio.current_time() - before == pytest.approx(3)
        await hub.wait_ready()
        assert anyio.current_time() - before == pytest.approx(4)


async def test_with_ready_0_the_body_is_entered_at_once():
    async with open_hub(ScriptedLauncher(never_ready), ready=0, close_timeout=0) as hub:
        assert not hub.health().ready
        await hub.wait_ready(0)


async def test_no_more_workers_start_at_once_than_start_concurrency_allows():
    starting = most = 0

    async def script(worker):
        nonlocal starting, most
        starting += 1
        most = max(most, starting)
        await anyio.sleep(10)
        starting -= 1
        await serve(worker)

    before = anyio.current_time()
    async with open_hub(ScriptedLauncher(script), workers=5, start_concurrency=2):
        assert most == 2
        assert anyio.current_time() - before == pytest.approx(30)


async def test_start_timeout_counts_from_the_seat_s_start_slot():
    before = anyio.current_time()
    async with open_hub(ScriptedLauncher(takes(40)), workers=3, start_concurrency=1, start_timeout=50):
        assert anyio.current_time() - before == pytest.approx(120)


async def test_a_slot_that_a_failed_start_held_is_given_on():
    async def script(worker):
        await (unfit(worker) if worker.spec.seat == 0 else serve(worker))

    async with open_hub(ScriptedLauncher(script), workers=3, ready=2, start_concurrency=1) as hub:
        assert await hub.request(1) == 1


async def test_a_start_that_hangs_fails_at_start_timeout_and_names_the_option():
    launcher = ScriptedLauncher(never_ready)
    before = anyio.current_time()
    with pytest.raises(gibbs.WorkerStartFailed, match=r"not ready after start_timeout=7 seconds") as caught:
        async with open_hub(launcher, start_timeout=7):
            raise AssertionError("entered")
    assert anyio.current_time() - before == pytest.approx(7)
    assert (caught.value.reason, caught.value.seat) == ("timeout", 0)
    assert launcher.worker().ending


async def test_a_launch_that_hangs_fails_at_start_timeout_too():
    async def launching(spec):
        await anyio.sleep_forever()

    before = anyio.current_time()
    with pytest.raises(gibbs.WorkerStartFailed, match="start_timeout=7"):
        async with open_hub(ScriptedLauncher(launching=launching), start_timeout=7):
            raise AssertionError("entered")
    assert anyio.current_time() - before == pytest.approx(7)


async def test_a_slow_launch_counts_towards_start_timeout():
    async def launching(spec):
        await anyio.sleep(5)

    with pytest.raises(gibbs.WorkerStartFailed, match="start_timeout=7"):
        async with open_hub(ScriptedLauncher(takes(5), launching=launching), start_timeout=7):
            raise AssertionError("entered")


async def test_a_start_that_hangs_does_not_hold_up_other_seats():
    async def script(worker):
        await (never_ready(worker) if worker.spec.seat == 0 else serve(worker))

    before = anyio.current_time()
    async with open_hub(ScriptedLauncher(script), workers=3, ready=2, close_timeout=0) as hub:
        assert await hub.request(1) == 1
        assert anyio.current_time() == before
        launcher_hangs = hub.statistics().seats["starting"]
        assert launcher_hangs == 1


async def test_a_process_that_cannot_be_made_is_a_failure_for_want_of_resources():
    no_more = OSError(24, "Too many open files")

    async def launching(spec):
        raise no_more

    with pytest.raises(gibbs.WorkerStartFailed, match="Too many open files") as caught:
        async with open_hub(ScriptedLauncher(launching=launching)):
            raise AssertionError("entered")
    assert caught.value.reason == "resources"
    assert caught.value.__cause__ is no_more


async def test_a_worker_that_dies_before_it_is_ready_fails_with_its_status_and_last_lines():
    with pytest.raises(gibbs.WorkerStartFailed) as caught:
        async with open_hub(ScriptedLauncher(dies_before_it_is_ready)):
            raise AssertionError("entered")
    assert (caught.value.reason, caught.value.exit_code) == ("exited", 9)
    assert "cannot open shared object file" in str(caught.value)


async def test_why_there_is_no_model_is_told_although_the_end_of_the_process_is_seen_first():
    async def script(worker):
        await worker.receive()
        report = dump_failure(NoModelError("last words"), stage="call", where="here")
        for byte in encode(UNFIT, 0, payload.dumps(("model", report))):
            worker._hub_hears.send_nowait(bytes([byte]))  # nobody runs between the first and the end

    with pytest.raises(gibbs.WorkerStartFailed, match="last words") as caught:
        async with open_hub(ScriptedLauncher(script)):
            raise AssertionError("entered")
    assert caught.value.reason == "model"
    assert isinstance(caught.value.__cause__, NoModelError)


async def test_a_worker_that_speaks_out_of_turn_while_it_starts_fails_with_the_reason():
    async def script(worker):
        await worker.receive()
        await worker.say(b"Welcome to this model!\n")
        await anyio.sleep_forever()

    with pytest.raises(gibbs.WorkerStartFailed, match="no message of the protocol") as caught:
        async with open_hub(ScriptedLauncher(script)):
            raise AssertionError("entered")
    assert caught.value.reason == "exited"


async def test_opening_ends_at_once_when_not_enough_can_become_ready_any_more():
    async def script(worker):
        await (unfit(worker) if worker.spec.seat == 1 else takes(50)(worker))

    launcher = ScriptedLauncher(script)
    before = anyio.current_time()
    with pytest.raises(gibbs.WorkerStartFailed) as caught:
        async with open_hub(launcher, workers=3):
            raise AssertionError("entered")
    assert anyio.current_time() == before
    assert (caught.value.seat, caught.value.reason) == (1, "model")
    assert isinstance(caught.value.__cause__, NoModelError)
    assert caught.value.__cause__.args == ("seat 1",)
    assert len(launcher.workers) == 3  # none was tried again
    assert all(worker.ending for worker in launcher.workers)


async def test_further_failures_are_notes_of_the_first():
    async def script(worker):
        await anyio.sleep(worker.spec.seat)
        await unfit(worker)

    with pytest.raises(gibbs.WorkerStartFailed) as caught:
        async with open_hub(ScriptedLauncher(script), workers=3, ready=1):
            raise AssertionError("entered")
    assert caught.value.seat == 0
    assert [("seat 1" in note, "seat 2" in note) for note in caught.value.__notes__] == [(True, False), (False, True)]


async def test_no_failed_start_is_retried_while_the_hub_opens():
    async def script(worker):
        await (unfit(worker) if worker.spec.seat == 0 else takes(50)(worker))

    launcher = ScriptedLauncher(script)
    async with open_hub(launcher, workers=2, ready=1):
        assert len(launcher.workers) == 2


async def test_seats_that_failed_while_the_hub_opened_are_filled_once_it_has():
    async def script(worker):
        await (unfit(worker) if worker.spec.seat == 0 else takes(5)(worker))

    launcher = ScriptedLauncher(script, serve)
    async with open_hub(launcher, workers=2, ready=1) as hub:
        before = anyio.current_time()
        await hub.wait_ready()
        assert 0.08 <= anyio.current_time() - before <= 0.1
        assert launcher.worker(0).spec.incarnation == 2


async def test_a_timeout_while_the_hub_opens_is_retried_once_it_has():
    async def script(worker):
        await (never_ready(worker) if worker.spec.seat == 0 else takes(50)(worker))

    launcher = ScriptedLauncher(script, serve)
    async with open_hub(launcher, workers=2, ready=1, start_timeout=49.9 + 10) as hub:
        await hub.wait_ready()
        assert launcher.worker(0).spec.incarnation == 2


async def test_cancelled_while_opening_no_worker_is_left():
    launcher = ScriptedLauncher(never_ready)
    with anyio.move_on_after(1) as scope:
        async with open_hub(launcher, workers=3):
            raise AssertionError("entered")
    assert scope.cancelled_caught
    assert [worker.ending is not None for worker in launcher.workers] == [True] * 3


async def test_cancelled_while_opening_workers_that_are_ready_are_not_waited_for():
    async def clings(worker):
        await worker.ready(methods={"__call__": "plain"})
        await anyio.sleep_forever()

    async def script(worker):
        await (clings(worker) if worker.spec.seat == 0 else never_ready(worker))

    launcher = ScriptedLauncher(script)
    before = anyio.current_time()
    with anyio.move_on_after(1):
        async with open_hub(launcher, workers=2, close_timeout=1000):
            raise AssertionError("entered")
    assert anyio.current_time() == before + 1
    assert {worker.ending.signal for worker in launcher.workers} == {"SIGKILL"}


async def test_opened_in_a_cancelled_scope_no_worker_is_started():
    launcher = ScriptedLauncher()
    with anyio.CancelScope() as scope:
        scope.cancel()
        async with open_hub(launcher, workers=3):
            raise AssertionError("entered")
    assert scope.cancelled_caught
    assert not launcher.workers


async def test_cancelled_while_processes_are_launched_none_appears_later():
    async def launching(spec):
        await anyio.sleep(10)

    launcher = ScriptedLauncher(launching=launching)
    with anyio.move_on_after(1) as scope:
        async with open_hub(launcher, workers=3):
            raise AssertionError("entered")
    assert scope.cancelled_caught
    await anyio.sleep(100)
    assert not launcher.workers


# ------------------------------------------------------------------------------------------------------------- restarts


async def test_a_worker_that_had_been_ready_is_replaced_at_once():
    launcher = ScriptedLauncher()
    async with open_hub(launcher) as hub:
        await anyio.sleep(100)
        before = anyio.current_time()
        launcher.worker().die(code=1)
        assert await hub.request(1) == 1
        assert anyio.current_time() == before


async def test_failed_starts_of_a_seat_wait_twice_as_long_each_time():
    started = []

    async def launching(spec):
        started.append(anyio.current_time())

    launcher = ScriptedLauncher(serve, *[unfit] * 5, serve, launching=launching)
    async with open_hub(launcher) as hub:
        launcher.worker().die(code=1)
        await anyio.wait_all_tasks_blocked()
        await hub.wait_ready()
        at_once, *pauses = [later - sooner for sooner, later in itertools.pairwise(started)]
        assert at_once == 0
        assert len(pauses) == 5
        for n, pause in enumerate(pauses):
            assert 0.8 * 0.1 * 2**n <= pause <= 0.1 * 2**n


async def test_quick_crashes_of_a_seat_in_a_row_are_slowed_down():
    started = []

    async def launching(spec):
        started.append(anyio.current_time())

    launcher = ScriptedLauncher(*[dies_once_it_serves] * 6, serve, launching=launching)
    async with open_hub(launcher, ready=0) as hub:
        while hub.statistics().restarts < 6:
            await anyio.sleep(0.001)
        pauses = [later - sooner for sooner, later in itertools.pairwise(started)]
        assert pauses[:2] == [0, 0]
        assert 0.008 <= pauses[2] <= 0.01
        assert 0.016 <= pauses[3] <= 0.02


async def test_a_seat_that_waits_for_its_restart_does_not_keep_others_waiting(ask):
    async def script(worker):
        await (unfit(worker) if worker.spec.seat == 0 else serve(worker))

    async with open_hub(ScriptedLauncher(script), workers=2, ready=1) as hub:
        before = anyio.current_time()
        for n in range(10):
            assert await hub.request(n) == n
        assert anyio.current_time() == before


# ------------------------------------------------------------------------------------------------------------ giving up


FRAGILE = gibbs.RestartPolicy(max_failures=2, period=60)


async def test_the_hub_that_gives_up_cancels_its_body_and_raises_why():
    launcher = ScriptedLauncher(serve, unfit)
    cancelled = False
    with pytest.raises(gibbs.RestartsExhausted) as caught:
        async with open_hub(launcher, restarts=FRAGILE):
            launcher.worker().die(code=1)
            try:
                await anyio.sleep_forever()
            except anyio.get_cancelled_exc_class():
                cancelled = True
                raise
    assert cancelled
    assert caught.value.name == "echo"
    kinds = [type(problem) for problem in caught.value.failures]
    assert kinds == [gibbs.WorkerCrashed] + [gibbs.WorkerStartFailed] * 3
    assert caught.value.__cause__ is caught.value.failures[-1]
    assert len(launcher.workers) == 4


async def test_starts_that_hang_exhaust_the_policy_although_they_are_slow():
    launcher = ScriptedLauncher(serve, never_ready)
    before = anyio.current_time()
    with pytest.raises(gibbs.RestartsExhausted):
        async with open_hub(launcher, restarts=FRAGILE, start_timeout=1000):
            launcher.worker().die(code=1)
            await anyio.sleep_forever()
    assert anyio.current_time() - before > 3000


async def test_a_worker_that_becomes_ready_ends_a_row_of_failures():
    scripts = [serve, *[unfit, unfit, serve] * 5]
    launcher = ScriptedLauncher(*scripts)
    patient = gibbs.RestartPolicy(max_failures=2, period=1)
    async with open_hub(launcher, restarts=patient) as hub:
        for n in range(5):
            launcher.worker().die(code=1)
            await anyio.sleep(5)
            assert await hub.request(n) == n


async def test_crashes_of_workers_that_were_ready_are_not_counted():
    launcher = ScriptedLauncher()
    async with open_hub(launcher, restarts=gibbs.RestartPolicy(max_failures=0)) as hub:
        for n in range(30):
            assert await hub.request(n) == n
            launcher.worker().die(code=1)
            await anyio.sleep(1)


async def test_crashes_are_counted_if_the_policy_says_so():
    launcher = ScriptedLauncher()
    with pytest.raises(gibbs.RestartsExhausted):
        async with open_hub(launcher, restarts=gibbs.RestartPolicy(max_crashes=3)) as hub:
            for n in range(30):
                assert await hub.request(n) == n
                launcher.worker().die(code=1)
                await anyio.sleep(1)
    assert len(launcher.workers) == 4


async def test_who_waits_for_a_hub_that_gives_up_is_told_why(ask):
    launcher = ScriptedLauncher(serve, unfit)
    async with anyio.create_task_group() as tg:
        with pytest.raises(gibbs.RestartsExhausted) as caught:
            async with open_hub(launcher, restarts=FRAGILE) as hub:
                launcher.worker().die(code=1)
                await anyio.wait_all_tasks_blocked()
                request = await ask(tg, hub.request, 1)
                waiting = await ask(tg, hub.wait_ready)
                draining = await ask(tg, hub.drain)
                await anyio.sleep_forever()
        for asked in (request, waiting, draining):
            with pytest.raises(gibbs.HubClosed) as told:
                await asked.outcome()
            assert told.value.reason == "failed"
            assert told.value.__cause__ is caught.value
        with pytest.raises(gibbs.HubClosed) as told:
            await hub.request(1)
        assert (told.value.reason, told.value.__cause__) == ("failed", caught.value)
        assert not hub.health().ready
        assert "gave up" in hub.health().reasons[0]


async def test_a_request_in_the_body_itself_gets_the_cancellation_and_not_hubclosed():
    launcher = ScriptedLauncher(serve, unfit)
    got = None
    with pytest.raises(gibbs.RestartsExhausted):
        async with open_hub(launcher, restarts=FRAGILE) as hub:
            launcher.worker().die(code=1)
            await anyio.wait_all_tasks_blocked()
            try:
                await hub.request(1)
            except BaseException as error:
                got = error
                raise
    assert isinstance(got, anyio.get_cancelled_exc_class())


async def test_a_policy_without_an_end_never_gives_up():
    launcher = ScriptedLauncher(serve, *[unfit] * 40, serve)
    async with open_hub(launcher, restarts=gibbs.RestartPolicy(max_failures=math.inf)) as hub:
        launcher.worker().die(code=1)
        assert await hub.request(1) == 1


async def test_it_does_not_matter_how_the_closing_goes_when_the_hub_gives_up():
    async def clings(worker):
        await worker.start()
        await anyio.sleep_forever()

    async def script(worker):
        await (clings(worker) if worker.spec.seat else serve(worker))

    async def later(worker):
        await (clings(worker) if worker.spec.seat else unfit(worker))

    launcher = ScriptedLauncher(script, later)
    with pytest.raises(gibbs.RestartsExhausted):
        async with open_hub(launcher, workers=2, restarts=FRAGILE, close_timeout=3):
            launcher.worker(0).die(code=1)
            await anyio.sleep_forever()
    assert all(worker.ending for worker in launcher.workers)


async def test_a_script_that_builds_nothing_offers_a_model_that_can_be_called():
    async def builds_nothing(worker):
        await worker.ready()
        call = await worker.receive()
        worker.begin(call.link_id)
        await worker.answer(call.link_id, 7)
        await anyio.sleep_forever()

    async with gibbs.open_hub(Echo, workers=1, launcher=ScriptedLauncher(builds_nothing), close_timeout=0) as hub:
        assert await hub.request(3) == 7
