"""What cancelling a request does, with real workers: the caller leaves at once, and the worker is warm again or replaced.

Times are never asserted. What takes at most a second by contract is given ten before the watchdog barks.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import os
import random
import signal
import time
import tracemalloc

import anyio
import pytest

import gibbs
from gibbs._core.ticket import Ticket
from gibbs._model import interrupts
from tests.end_to_end.callers import WATCHDOG, alive, answer, is_settled, until
from tests.end_to_end.models_that_block import (
    INTERRUPT,
    LONG,
    Blocked,
    CleansUp,
    Exits,
    Imports,
    ImportsNumpy,
    OwnTimeout,
    Patient,
    Quick,
    Repairs,
    RepairsForEver,
    Shielded,
    Silent,
    SlowToLoad,
    SlowToSend,
    Stubborn,
    Swallowed,
    SwallowsOnce,
    plain,
)

EVERYWHERE = [
    "sleep",
    "lock",
    "event",
    "queue",
    "simple_queue",
    "socket",
    "select",
    "subprocess",
    "thread",
    "loop",
    "own_loop",
]

# ------------------------------------------------------------------------------------------------------- the interrupt


async def test_a_call_that_is_blocked_anywhere_is_interrupted_and_its_worker_kept(either_launcher, heard, start):
    async with gibbs.open_hub(Blocked, workers=1, launcher=either_launcher, cancel_grace=WATCHDOG) as hub:
        before = await answer(hub.method("pid"))
        for times, how in enumerate(EVERYWHERE, 1):
            call = start(hub, how)
            await heard.line("begun", times)
            await call.cancel()
            assert await answer(hub.method("pid")) == before, how
            assert hub.statistics().interrupted == times, how
        assert hub.statistics().killed == hub.statistics().restarts == 0


async def test_c_code_that_holds_the_gil_and_looks_at_signals_is_interrupted(launcher, heard, start):
    async with gibbs.open_hub(Blocked, workers=1, launcher=launcher, cancel_grace=WATCHDOG) as hub:
        before = await answer(hub.method("pid"))
        call = start(hub, "regex")
        await heard.line("begun")
        await call.cancel()
        assert await answer(hub.method("pid")) == before
        assert hub.statistics().interrupted == 1


async def test_the_caller_gets_its_cancellation_while_the_model_still_unwinds(either_launcher, heard, start, tmp_path):
    async with gibbs.open_hub(Patient, workers=1, launcher=either_launcher, cancel_grace=LONG) as hub:
        call = start(hub, tmp_path / "never", tmp_path / "unwound")
        await heard.line("begun")
        await call.cancel()
        await heard.line("unwinding")
        assert hub.statistics().seats["interrupting"] == 1
        (tmp_path / "unwound").touch()
        await until(lambda: is_settled(hub))
        assert hub.statistics().interrupted == 1


async def test_a_timeout_of_anyio_is_an_ordinary_cancellation(either_launcher):
    async with gibbs.open_hub(Blocked, workers=1, launcher=either_launcher, cancel_grace=WATCHDOG) as hub:
        before = await answer(hub.method("pid"))
        with pytest.raises(TimeoutError) as caught, anyio.fail_after(0.05):
            await hub.request("sleep")
        assert not hasattr(caught.value, "__notes__")
        assert await answer(hub.method("pid")) == before


async def test_a_timeout_error_of_the_model_says_that_it_came_from_the_worker():
    async with gibbs.open_hub(OwnTimeout, workers=1) as hub:
        with pytest.raises(TimeoutError, match="the database is slow") as caught:
            await answer(hub)
        assert f"Raised in 'OwnTimeout', worker 0 (pid {hub.statistics().pids[0]})" in caught.value.__notes__[-1]


async def test_a_native_cancel_of_asyncio_is_a_cancellation_like_any(anyio_backend_name, launcher, heard):
    if anyio_backend_name != "asyncio":
        pytest.skip("Trio has no such thing")
    async with gibbs.open_hub(Blocked, workers=1, launcher=launcher, cancel_grace=WATCHDOG) as hub:
        before = await answer(hub.method("pid"))
        task = asyncio.create_task(hub.request("sleep"))
        await heard.line("begun")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await answer(hub.method("pid")) == before
        assert hub.statistics().cancelled == hub.statistics().interrupted == 1


@pytest.mark.slow
async def test_calls_cancelled_around_the_moment_of_their_answer_never_hurt_another(either_launcher):
    chance = random.Random(2)
    wrong = []
    async with gibbs.open_hub(Quick, workers=2, launcher=either_launcher, cancel_grace=WATCHDOG) as hub:
        before = hub.statistics().pids

        async def cancel(number):
            seconds = chance.choice([0, 0.0005, 0.001])
            with anyio.move_on_after(chance.uniform(0, 2 * seconds + 0.0005)):
                if await hub.request(number, seconds) != number:
                    wrong.append(number)

        async def many(numbers):
            for number in numbers:
                await cancel(number)
                if await hub.request(-number, 0) != -number:
                    wrong.append(-number)

        with anyio.fail_after(5 * WATCHDOG):
            async with anyio.create_task_group() as tg:
                for part in range(3):
                    tg.start_soon(many, range(part, 360, 3))
            assert [await hub.request(number, 0) for number in range(20)] == [*range(20)]
        assert wrong == []
        assert hub.statistics().pids == before
        assert hub.statistics().killed == hub.statistics().restarts == hub.statistics().crashed == 0
        assert hub.statistics().cancelled > 0
        assert hub.statistics().failed == 0


@pytest.mark.parametrize("first", ["cancelled", "answered"])
async def test_a_call_cancelled_and_answered_in_the_same_tick_has_one_end_and_keeps_its_worker(
    first, either_launcher, start
):
    async with gibbs.open_hub(Quick, workers=1, launcher=either_launcher, cancel_grace=WATCHDOG) as hub:
        before = hub.statistics().pids
        dispatcher = hub._desk.crew.dispatcher
        answered_all = dispatcher.answered_all
        met = []

        def answered_meanwhile(*args):
            met.append(first)
            if first == "cancelled":
                call.scope.cancel()
            orders = answered_all(*args)
            call.scope.cancel()
            return orders

        dispatcher.answered_all = answered_meanwhile
        call = start(hub, 7, 0)
        await call.end()
        dispatcher.answered_all = answered_all
        assert met == [first]
        assert call.error is None
        assert call.cancelled or call.result == 7
        assert dispatcher.live == 0
        assert await answer(hub, 8, 0) == 8
        assert hub.statistics().pids == before
        assert hub.statistics().done + hub.statistics().cancelled == 2


async def test_an_answer_that_is_there_when_the_cancel_comes_hurts_nobody(either_launcher, heard, start, tmp_path):
    async with gibbs.open_hub(Patient, workers=1, launcher=either_launcher, cancel_grace=WATCHDOG) as hub:
        before = await answer(hub.method("pid"))
        call = start(hub, tmp_path / "go")
        await heard.line("begun")
        (tmp_path / "go").touch()
        time.sleep(0.1)  # the loop stands still: the answer is in the socket, and nobody has read it
        call.scope.cancel()
        await call.end()
        assert await answer(hub.method("pid")) == before


async def test_one_of_two_running_calls_is_cancelled_and_the_other_answered(either_launcher, heard, start, tmp_path):
    async with gibbs.open_hub(Patient, workers=2, launcher=either_launcher, cancel_grace=WATCHDOG) as hub:
        unwanted = start(hub, tmp_path / "never")
        other = start(hub, tmp_path / "other")
        await heard.line("begun", times=2)
        await unwanted.cancel()
        await until(lambda: is_settled(hub))
        assert not other.over.is_set()
        (tmp_path / "other").touch()
        await other.end()
        assert other.result == "other"
        assert hub.statistics().restarts == 0


# ------------------------------------------------------------------------------------------------------------- queued


async def test_a_queued_request_that_is_cancelled_never_runs(either_launcher, heard, start, tmp_path):
    async with gibbs.open_hub(Patient, workers=1, launcher=either_launcher) as hub:
        first = start(hub, tmp_path / "first")
        await heard.line("begun")
        queued = [start(hub, tmp_path / f"queued {number}") for number in range(8)]
        await until(lambda: hub.statistics().queued == 8)
        for call in queued:
            await call.cancel()
        assert hub.statistics().queued == 0
        (tmp_path / "first").touch()
        await first.end()
        assert await answer(hub.method("record")) == ["first", "end of first"]
        assert hub.statistics().killed == hub.statistics().interrupted == 0


async def test_3300_queued_requests_that_are_cancelled_leave_nothing(launcher, heard, start, tmp_path):
    async with gibbs.open_hub(Patient, workers=1, launcher=launcher) as hub:
        first = start(hub, tmp_path / "first")
        await heard.line("begun")
        gc.collect()
        tickets = sum(isinstance(thing, Ticket) for thing in gc.get_objects())
        argument = b"x" * 10_000
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as tg:
                    for _ in range(3_300):
                        tg.start_soon(hub.request, argument)
                    await until(lambda: hub.statistics().queued == 3_300)
                    scope.cancel()
            assert hub.statistics().queued == 0
            assert hub.statistics().cancelled == 3_300
            gc.collect()
            after, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak - before > 30_000_000  # they were there
        assert after - before < 3_000_000
        assert sum(isinstance(thing, Ticket) for thing in gc.get_objects()) == tickets
        (tmp_path / "first").touch()
        await first.end()
        assert first.result == "first"


async def test_a_request_in_a_cancelled_scope_is_not_even_queued(launcher):
    async with gibbs.open_hub(Quick, workers=1, launcher=launcher) as hub:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await hub.request(1, 0)
        assert scope.cancelled_caught
        assert hub.statistics().cancelled == 0
        assert hub._desk.crew.dispatcher.seats[0].last_link_id == 0


# ------------------------------------------------------------------------------------------------ who decides, and what


async def test_a_model_that_says_nothing_loses_its_worker_and_the_hub_says_once_how_to_keep_it(
    either_launcher, heard, start, caplog
):
    async with gibbs.open_hub(Silent, workers=1, launcher=either_launcher) as hub:
        pids = [await answer(hub.method("pid"))]
        for times in (1, 2):
            call = start(hub, "sleep")
            await heard.line("begun", times)
            await call.cancel()
            pids.append(await answer(hub.method("pid")))
            assert not alive(pids[-2])
        assert len({*pids}) == 3
        assert hub.statistics().killed == hub.statistics().restarts == 2
        assert hub.statistics().interrupted == 0
    said = [record for record in caplog.records if record.name == "gibbs" and record.levelno >= logging.WARNING]
    assert len(said) == 1
    assert "`interruptible = True`" in said[0].getMessage()


UNSET = object()
COUNTERS = ("killed", "interrupted")
PRECEDENCE = [
    # the model, the hub: what happens to calls that say nothing, that say the contrary, that leave it to the model
    (Silent, None, {UNSET: "kill", "interrupt": "interrupt"}),
    (Blocked, None, {UNSET: "interrupt", "kill": "kill"}),
    (Blocked, "kill", {UNSET: "kill", "interrupt": "interrupt", None: "interrupt"}),
    (Silent, "interrupt", {UNSET: "interrupt", "kill": "kill", None: "kill"}),
]


@pytest.mark.parametrize(("model", "of_hub", "of_calls"), PRECEDENCE)
async def test_on_cancel_of_the_call_precedes_that_of_the_hub_which_precedes_the_model(
    model, of_hub, of_calls, launcher, heard, start
):
    async with gibbs.open_hub(model, workers=1, launcher=launcher, on_cancel=of_hub, cancel_grace=WATCHDOG) as hub:
        seen = {}
        for times, of_call in enumerate(of_calls, 1):
            call = start(hub if of_call is UNSET else hub.using(on_cancel=of_call), "sleep")
            await heard.line("begun", times)
            before = hub.statistics()
            await call.cancel()
            await answer(hub.method("pid"))
            killed, interrupted = (getattr(hub.statistics(), name) - getattr(before, name) for name in COUNTERS)
            seen[of_call] = {(1, 0): "kill", (0, 1): "interrupt"}[killed, interrupted]
        assert seen == of_calls


async def test_finish_lets_the_call_run_out_and_drops_its_answer(either_launcher, heard, start, tmp_path):
    async with gibbs.open_hub(Patient, workers=1, launcher=either_launcher, on_cancel="finish", cancel_grace=0) as hub:
        before = await answer(hub.method("pid"))
        call = start(hub, tmp_path / "go")
        await heard.line("begun")
        await call.cancel()
        following = start(hub.method("record"))
        await until(lambda: hub.statistics().queued)
        (tmp_path / "go").touch()
        await following.end()
        assert following.result == ["go", "end of go"]
        assert await answer(hub.method("pid")) == before
        assert hub.statistics().interrupted == hub.statistics().killed == 0
        assert hub.statistics().done == 3  # not that of the cancelled one


# ------------------------------------------------------------------------------------------------------ grace, and kill


async def stubborn_call_is_killed(launcher, heard, start, how):
    async with gibbs.open_hub(Stubborn, workers=1, launcher=launcher, cancel_grace=0.1) as hub:
        before = await answer(hub.method("pid"))
        call = start(hub, how)
        await heard.line("begun")
        await call.cancel()
        assert await answer(hub.method("pid")) != before
        assert not alive(before)
        assert hub.statistics().killed == hub.statistics().restarts == 1
        assert hub.statistics().interrupted == 0


async def test_c_code_that_does_not_return_is_killed_when_grace_is_over(either_launcher, heard, start):
    await stubborn_call_is_killed(either_launcher, heard, start, "c_code")


async def test_a_model_that_swallows_everything_is_killed_when_grace_is_over(either_launcher, heard, start):
    await stubborn_call_is_killed(either_launcher, heard, start, "swallows_everything")


@pytest.mark.parametrize("how", ["blocks_the_signal", "ignores_the_signal", "takes_the_signal_over"])
async def test_a_model_that_blocks_or_takes_the_signal_is_killed_when_grace_is_over(how, launcher, heard, start):
    await stubborn_call_is_killed(launcher, heard, start, how)


async def test_a_model_whose_own_event_loop_swallows_the_interrupt_is_killed_when_grace_is_over(launcher, heard, start):
    await stubborn_call_is_killed(launcher, heard, start, "loop_that_swallows")


async def test_a_model_that_swallows_the_interrupt_and_returns_is_kept_and_its_answer_dropped(
    either_launcher, heard, start
):
    async with gibbs.open_hub(SwallowsOnce, workers=1, launcher=either_launcher, cancel_grace=WATCHDOG) as hub:
        before = await answer(hub.method("pid"))
        call = start(hub)
        await heard.line("begun")
        await call.cancel()
        assert await answer(hub.method("pid")) == before
        assert hub.statistics().interrupted == 1
        assert hub.statistics().done == 2


async def test_a_finally_block_is_hit_by_one_interrupt_only(either_launcher, heard, start, tmp_path):
    async with gibbs.open_hub(CleansUp, workers=1, launcher=either_launcher, cancel_grace=WATCHDOG) as hub:
        call = start(hub)
        await heard.line("begun")
        await call.cancel()
        assert await answer(hub.method("record")) == ["cleaned up"]


@pytest.mark.parametrize("model", [Blocked, Silent])
async def test_a_worker_that_was_stopped_is_killed_and_replaced_when_its_call_is_cancelled(
    model, either_launcher, heard, start
):
    async with gibbs.open_hub(model, workers=1, launcher=either_launcher, cancel_grace=0.1) as hub:
        before = await answer(hub.method("pid"))
        call = start(hub, "sleep")
        await heard.line("begun")
        os.kill(before, signal.SIGSTOP)
        await call.cancel()
        assert await answer(hub.method("pid")) != before
        assert hub.statistics().killed == 1


@pytest.mark.parametrize(("model", "size"), [(Blocked, 10), (Blocked, 3_000_000), (Silent, 3_000_000)])
async def test_a_worker_that_was_stopped_before_the_request_came_is_killed_and_replaced_when_it_is_cancelled(
    model, size, either_launcher, start
):
    async with gibbs.open_hub(model, workers=1, launcher=either_launcher, cancel_grace=0.1) as hub:
        before = await answer(hub.method("pid"))
        os.kill(before, signal.SIGSTOP)
        call = start(hub, "x" * size)
        await until(lambda: hub.statistics().running)
        await call.cancel()
        assert await answer(hub.method("pid")) != before


async def test_a_worker_that_dies_of_its_interrupt_is_replaced_and_nobody_else_notices(either_launcher, heard, start):
    async with gibbs.open_hub(Exits, workers=1, launcher=either_launcher, cancel_grace=WATCHDOG) as hub:
        before = await answer(hub.method("pid"))
        call = start(hub)
        await heard.line("begun")
        following = start(hub.method("pid"))
        await until(lambda: hub.statistics().queued)
        await call.cancel()
        await following.end()
        assert following.error is None
        assert following.result != before
        assert hub.statistics().crashed == 0


# ------------------------------------------------------------------------------------------------------- after_interrupt


async def test_after_interrupt_repairs_the_model_before_its_next_request(either_launcher, heard, start):
    async with gibbs.open_hub(Repairs, True, workers=1, launcher=either_launcher, cancel_grace=WATCHDOG) as hub:
        call = start(hub)
        await heard.line("begun")
        await call.cancel()
        assert await answer(hub.method("state")) == (False, ["repaired"])
        assert hub.statistics().interrupted == 1


async def test_a_model_whose_after_interrupt_raises_is_replaced_and_says_why(either_launcher, heard, start):
    async with gibbs.open_hub(Repairs, False, workers=1, launcher=either_launcher, cancel_grace=WATCHDOG) as hub:
        before = await answer(hub.method("pid"))
        call = start(hub)
        await heard.line("begun")
        await call.cancel()
        assert await answer(hub.method("pid")) != before
        assert await answer(hub.method("state")) == (False, [])
        assert hub.statistics().killed == hub.statistics().restarts == 1
    assert "RuntimeError: beyond repair" in heard.lines


async def test_after_interrupt_has_no_longer_than_grace(launcher, heard, start):
    async with gibbs.open_hub(RepairsForEver, workers=1, launcher=launcher, cancel_grace=0.1) as hub:
        before = await answer(hub.method("pid"))
        call = start(hub)
        await heard.line("begun")
        await call.cancel()
        assert await answer(hub.method("pid")) != before


# ------------------------------------------------------------------------------------------- where it must not be raised


SHIELDED = {
    "one": ["end of the block"],
    "nested": ["end of the inner block", "end of the outer block"],
    "the_same_nested": ["end of the inner block", "end of the outer block"],
    "raising": [],
    "in_another_thread": [],
}


async def test_an_interrupt_in_an_uninterruptible_block_is_raised_at_the_end_of_the_outermost(
    either_launcher, heard, start
):
    async with gibbs.open_hub(Shielded, workers=1, launcher=either_launcher, cancel_grace=WATCHDOG) as hub:
        before = await answer(hub.method("pid"))
        record = []
        for times, how in enumerate([*SHIELDED, *SHIELDED], 1):  # twice: the shield must be down again afterwards
            call = start(hub, how)
            await heard.line("begun", times)
            await call.cancel()
            record += SHIELDED[how]
            assert await answer(hub.method("record")) == record, how
        assert await answer(hub.method("pid")) == before
        assert hub.statistics().interrupted == 2 * len(SHIELDED)


def test_uninterruptible_has_no_effect_outside_a_worker():
    with gibbs.uninterruptible(), gibbs.uninterruptible():
        assert interrupts.depth == 0
    assert interrupts.depth == 0
    with pytest.raises(KeyError), gibbs.uninterruptible():
        raise KeyError


SLOW_MODULE = """
print("begun")
import time
for _ in range(100):
    time.sleep(0.002)  # ten times as long as the pause between two strikes
value = 42
"""


async def test_an_import_is_never_cut(either_launcher, heard, start, tmp_path):
    (tmp_path / "a_slow_module.py").write_text(SLOW_MODULE)
    async with gibbs.open_hub(Imports, workers=1, launcher=either_launcher, cancel_grace=WATCHDOG) as hub:
        before = await answer(hub.method("pid"))
        call = start(hub, tmp_path, "a_slow_module")
        await heard.line("begun")
        await call.cancel()
        assert await answer(hub.method("value"), "a_slow_module", "value") == 42
        assert await answer(hub.method("pid")) == before
        assert heard.lines.count("begun") == 1  # it was not imported twice


@pytest.mark.slow
@pytest.mark.parametrize("later", [0, 0.01, 0.04])
async def test_a_cancel_during_the_import_of_numpy_does_not_poison_the_worker(later, launcher, heard, start):
    pytest.importorskip("numpy")
    async with gibbs.open_hub(ImportsNumpy, workers=1, launcher=launcher, cancel_grace=WATCHDOG) as hub:
        before = await answer(hub.method("pid"))
        call = start(hub)
        await heard.line("begun")
        with anyio.move_on_after(later):
            await call.over.wait()
        await call.cancel()
        assert await answer(hub.method("add"), 5) == 10
        assert await answer(hub.method("pid")) == before


@pytest.mark.parametrize("how", ["finalizers", "weakref_callbacks"])
async def test_an_interrupt_that_the_interpreter_drops_is_raised_again(how, either_launcher, heard, start):
    async with gibbs.open_hub(Swallowed, workers=1, launcher=either_launcher, cancel_grace=WATCHDOG) as hub:
        before = await answer(hub.method("pid"))
        for times in range(1, 4):
            call = start(hub, how)
            await heard.line("begun", times)
            await call.cancel()
            assert await answer(hub.method("pid")) == before
        assert hub.statistics().interrupted == 3
    assert not [line for line in heard.lines if "Interrupted" in line]


@pytest.mark.parametrize("meant_for", ["nobody", "the call before"])
async def test_an_interrupt_that_is_not_meant_for_the_running_call_does_nothing(
    meant_for, either_launcher, heard, start, tmp_path
):
    async with gibbs.open_hub(Patient, workers=1, launcher=either_launcher, cancel_grace=WATCHDOG) as hub:
        pid = await answer(hub.method("pid"))
        if meant_for == "the call before":
            before = start(hub, tmp_path / "never")
            await heard.line("begun")
            await before.cancel()
            await heard.line("unwinding")
            await until(lambda: is_settled(hub))
        interrupted, begun = heard.lines.count("unwinding"), heard.lines.count("begun")
        call = start(hub, tmp_path / "go")
        await heard.line("begun", times=begun + 1)
        for _ in range(3):
            os.kill(pid, INTERRUPT)
        (tmp_path / "go").touch()
        await call.end()
        assert (call.result, call.error) == ("go", None)
        assert heard.lines.count("unwinding") == interrupted
        assert await answer(hub.method("pid")) == pid


async def test_a_call_is_interrupted_while_its_arguments_are_opened(either_launcher, heard, start):
    async with gibbs.open_hub(Quick, workers=1, launcher=either_launcher, cancel_grace=WATCHDOG) as hub:
        before = await answer(hub.method("pid"))
        call = start(hub, SlowToLoad(), 0)
        await heard.line("begun")
        await call.cancel()
        assert await answer(hub.method("pid")) == before
        assert hub.statistics().interrupted == 1


async def test_a_result_that_is_being_packed_is_finished_and_dropped(either_launcher, heard, start):
    async with gibbs.open_hub(SlowToSend, workers=1, launcher=either_launcher, cancel_grace=WATCHDOG) as hub:
        before = await answer(hub.method("pid"))
        call = start(hub)
        await heard.line("begun")
        await call.cancel()
        await heard.line("packed")
        assert await answer(hub.method("pid")) == before
        assert hub.statistics().killed == 0


# ----------------------------------------------------------------------------------------------------- abandon_on_cancel


async def test_without_abandon_on_cancel_the_cancellation_waits_until_the_seat_is_idle(
    either_launcher, heard, start, tmp_path
):
    async with gibbs.open_hub(
        Patient, workers=1, launcher=either_launcher, abandon_on_cancel=False, cancel_grace=LONG
    ) as hub:
        call = start(hub, tmp_path / "never", tmp_path / "unwound")
        await heard.line("begun")
        call.scope.cancel()
        await heard.line("unwinding")
        await anyio.wait_all_tasks_blocked()
        assert not call.over.is_set()
        (tmp_path / "unwound").touch()
        await call.end()
        assert call.cancelled
        assert hub.statistics().seats["serving"] == 1
        assert hub.statistics().running == 0


async def test_without_abandon_on_cancel_the_cancellation_waits_until_the_worker_is_reaped(
    either_launcher, heard, start
):
    async with gibbs.open_hub(Silent, workers=1, launcher=either_launcher) as hub:
        pid = await answer(hub.method("pid"))
        call = start(hub.using(abandon_on_cancel=False), "sleep")
        await heard.line("begun")
        await call.cancel()
        assert not alive(pid)


async def test_without_abandon_on_cancel_a_queued_request_is_cancelled_at_once(launcher, heard, start, tmp_path):
    async with gibbs.open_hub(Patient, workers=1, launcher=launcher, abandon_on_cancel=False) as hub:
        first = start(hub, tmp_path / "first")
        await heard.line("begun")
        queued = start(hub, tmp_path / "queued")
        await until(lambda: hub.statistics().queued)
        await queued.cancel()
        assert not first.over.is_set()


async def test_without_abandon_on_cancel_finish_waits_for_the_end_of_the_call(launcher, heard, start, tmp_path):
    async with gibbs.open_hub(
        Patient, workers=1, launcher=launcher, abandon_on_cancel=False, on_cancel="finish"
    ) as hub:
        call = start(hub, tmp_path / "go")
        await heard.line("begun")
        call.scope.cancel()
        await anyio.wait_all_tasks_blocked()
        assert not call.over.is_set()
        (tmp_path / "go").touch()
        await call.end()
        assert call.cancelled
        assert await answer(hub.method("record")) == ["go", "end of go"]


# ------------------------------------------------------------------------------------------------------ again and again


async def test_a_worker_survives_many_interrupts_in_a_row(either_launcher, heard, start):
    async with gibbs.open_hub(Blocked, workers=1, launcher=either_launcher, cancel_grace=WATCHDOG) as hub:
        before = await answer(hub.method("pid"))
        for times, how in enumerate(itertools.islice(itertools.cycle(["sleep", "loop", "lock", "queue"]), 30), 1):
            call = start(hub, how)
            await heard.line("begun", times)
            await call.cancel()
        assert await answer(hub.method("pid")) == before
        await until(lambda: hub.statistics().interrupted == 30)


async def test_a_cancelled_caller_may_ask_again_at_once(either_launcher, heard, tmp_path):
    async with gibbs.open_hub(Patient, workers=1, launcher=either_launcher, cancel_grace=WATCHDOG) as hub:
        (tmp_path / "there").touch()
        for _ in range(10):
            with anyio.move_on_after(0.005):
                await hub.request(tmp_path / "never")
            assert await answer(hub, tmp_path / "there") == "there"
        assert hub.statistics().restarts == 0


async def test_a_function_may_say_that_it_is_interruptible(either_launcher, heard, start, tmp_path, monkeypatch):
    (tmp_path / "there").touch()
    monkeypatch.setattr(plain, "interruptible", True, raising=False)
    async with gibbs.open_hub(
        gibbs.function(plain), workers=1, launcher=either_launcher, on_cancel="interrupt", cancel_grace=WATCHDOG
    ) as hub:
        call = start(hub, tmp_path / "never")
        await heard.line("begun")
        await call.cancel()
        assert await answer(hub, tmp_path / "there") == "there"
        assert hub.statistics().interrupted == 1
