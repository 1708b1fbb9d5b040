"""The sweep hits every checkpoint of a scenario once, in order, and nothing else."""

from __future__ import annotations

import anyio
import pytest
from anyio.lowlevel import checkpoint

from gibbs.testing import Step, sweep


async def test_a_scenario_is_cancelled_once_at_each_of_its_checkpoints():
    reached = []

    async def scenario():
        for place in "abc":
            reached.append(place)
            await checkpoint()
        return "done"

    steps = [step async for step in sweep(scenario)]
    assert all(step.cancelled for step in steps[:-1])
    assert steps[-1] == Step(len(steps), cancelled=False, value="done", complete=True)
    assert all(not step.complete for step in steps[:-1])
    assert [step.acted for step in steps] == [*((k,) for k in range(1, len(steps))), ()]
    runs = "".join(reached).split("a")[1:]
    assert runs == sorted(runs, key=len)
    assert {"", "b", "bc"} == set(runs)


async def test_a_scenario_without_a_checkpoint_runs_once():
    async def scenario():
        return 1

    assert [step async for step in sweep(scenario)] == [Step(1, cancelled=False, value=1, complete=True)]


async def test_a_wait_is_a_checkpoint():
    async def scenario():
        with anyio.move_on_after(0):
            await anyio.sleep_forever()
        return "waited"

    steps = [step async for step in sweep(scenario)]
    assert steps[0].cancelled
    assert steps[-1].value == "waited"


async def test_a_scenario_that_shields_itself_ends_all_the_same():
    async def scenario():
        with anyio.CancelScope(shield=True):
            await checkpoint()
        return "shielded"

    assert {step.value for step in [step async for step in sweep(scenario)]} == {"shielded"}


async def test_cleaning_up_in_a_cancelled_scenario_is_not_cut():
    cleaned = 0

    async def scenario():
        nonlocal cleaned
        try:
            await checkpoint()
        finally:
            with anyio.CancelScope(shield=True):
                await checkpoint()
                cleaned += 1

    runs = [step async for step in sweep(scenario)]
    assert cleaned == len(runs) > 1


async def test_checkpoints_of_other_tasks_do_not_count():
    async def other():
        for _ in range(20):
            await checkpoint()

    async def scenario():
        async with anyio.create_task_group() as tg:
            tg.start_soon(other)

    assert len([step async for step in sweep(scenario)]) < 10


async def test_an_error_says_at_which_checkpoint_it_was():
    async def scenario():
        try:
            await checkpoint()
            await checkpoint()
        except BaseException:  # noqa: BLE001 - what is wrong with the scenario
            raise ValueError("broken by a cancellation") from None

    with pytest.raises(ValueError, match="broken") as caught:
        [step async for step in sweep(scenario)]
    assert caught.value.__notes__ == ["in a sweep, disturbed at checkpoint 1"]


async def test_a_scenario_that_never_has_enough_is_stopped():
    runs = 0

    async def scenario():
        nonlocal runs
        runs += 1
        for _ in range(runs * 5):
            await checkpoint()

    with pytest.raises(AssertionError, match="more than 7 checkpoints"):
        [step async for step in sweep(scenario, most=7)]


async def test_what_a_coroutine_receives_and_catches_is_forwarded():
    async def scenario():
        with pytest.raises(ZeroDivisionError):
            async with anyio.create_task_group():
                raise ZeroDivisionError
        return "caught"

    async def lenient():
        try:
            return await scenario()
        except BaseExceptionGroup:
            return "grouped"

    steps = [step async for step in sweep(lenient)]
    assert steps[-1].value == "grouped"


# ------------------------------------------------------------------------------------- what else can be done to a scenario


async def test_what_is_to_be_done_is_done_once_at_each_checkpoint_and_the_scenario_goes_on():
    done, reached = [], 0

    async def scenario():
        nonlocal reached
        reached = 0
        for _ in range(4):
            reached += 1
            await checkpoint()
        return "done"

    steps = [step async for step in sweep(scenario, at=lambda scope: done.append(reached))]
    assert done == sorted(done)
    assert set(done) == {1, 2, 3, 4}
    assert len(done) == len(steps) - 1
    assert all(step.value == "done" and not step.cancelled for step in steps)


async def test_it_is_done_before_any_other_task_runs():
    others = 0

    async def other():
        nonlocal others
        while True:
            others += 1
            await checkpoint()

    async def scenario():
        nonlocal others
        for _ in range(5):
            others = 0
            await checkpoint()

    seen = []
    async with anyio.create_task_group() as tg:
        tg.start_soon(other)
        [step async for step in sweep(scenario, at=lambda scope: seen.append(others))]
        tg.cancel_scope.cancel()
    assert len(seen) >= 5
    assert set(seen) == {0}


@pytest.mark.parametrize("cancelled", [False, True])
async def test_it_may_wake_the_very_task_that_waits(cancelled):
    event = anyio.Event()

    async def scenario():
        await event.wait()
        await checkpoint()
        return "woken"

    def wake(scope):
        event.set()
        if cancelled:
            scope.cancel()

    with anyio.fail_after(10):
        async for step in sweep(scenario, at=wake):
            assert step.cancelled or step.value == "woken"
            assert cancelled or not step.cancelled
    assert event.is_set()


async def test_a_deadline_that_passes_at_a_checkpoint_is_a_cancellation():
    async def scenario():
        await checkpoint()
        await anyio.sleep(0.01)
        return "done"

    def deadline(scope):
        scope.deadline = anyio.current_time()

    steps = [step async for step in sweep(scenario, at=deadline)]
    assert steps[0].cancelled
    assert steps[-1].value == "done"


def cancel(scope):
    scope.cancel()


async def test_two_things_are_done_at_every_pair_of_checkpoints_the_second_never_first():
    done = []

    async def scenario():
        done.clear()
        for _ in range(3):
            await checkpoint()

    pairs = []
    async for step in sweep(scenario, at=[lambda scope: done.append("a"), lambda scope: done.append("b")]):
        assert done == ["a", "b"][: len(step.acted)]
        assert step.complete == (step.acted == ())
        pairs.append(step.acted)
    n = max(pair[0] for pair in pairs if pair)
    every = {(k, j) for k in range(1, n + 1) for j in range(k, n + 1)} | {(k,) for k in range(1, n + 1)} | {()}
    assert n >= 3
    assert len(pairs) == len(every)
    assert set(pairs) == every
    assert pairs[-1] == ()


async def test_each_of_two_cancellations_has_a_scope_and_the_second_is_outside():
    scopes = []

    async def scenario():
        scopes.clear()
        await checkpoint()
        await checkpoint()
        return "done"

    def note(scope):
        scopes.append(scope)

    async for step in sweep(scenario, at=[note, note]):
        assert len({*map(id, scopes)}) == len(step.acted)
    kinds = set()
    async for step in sweep(scenario, at=[note, cancel]):
        assert step.cancelled or step.value == "done"
        kinds.add(step.cancelled)
    assert kinds == {True, False}


async def test_a_second_cancellation_comes_while_the_first_is_cleaned_up_after():
    cut = 0

    async def scenario():
        nonlocal cut
        try:
            with anyio.CancelScope() as own:
                await checkpoint()
        finally:
            with anyio.CancelScope(shield=True):
                await checkpoint()
            if own.cancel_called:
                cut += 1
        await checkpoint()
        return "done"

    pairs = set()
    async for step in sweep(scenario, at=[cancel, cancel]):
        assert step.cancelled or step.value == "done"
        pairs.add(step.acted)
    assert len([pair for pair in pairs if len(pair) == 2 and pair[0] == 1]) >= 2
    assert cut == 0


async def test_what_goes_wrong_in_what_is_done_ends_the_sweep_and_cancels_the_run():
    async def scenario():
        with pytest.raises(anyio.get_cancelled_exc_class()):
            await anyio.sleep_forever()
        await anyio.sleep_forever()

    def broken(scope):
        raise LookupError("no worker")

    with anyio.fail_after(10), pytest.raises(LookupError, match="no worker") as caught:
        [step async for step in sweep(scenario, at=broken)]
    assert caught.value.__notes__ == ["in a sweep, raised by what was to be done, disturbed at checkpoint 1"]


async def test_nothing_to_do_is_one_undisturbed_run():
    async def scenario():
        await checkpoint()
        return 1

    assert [step async for step in sweep(scenario, at=[])] == [Step(1, cancelled=False, value=1, complete=True)]


async def test_a_loop_over_its_steps_may_be_left_and_taken_up_again():
    async def scenario():
        for _ in range(3):
            await checkpoint()

    steps = sweep(scenario)
    async for first in steps:
        assert first.k == 1
        break
    rest = [step.k async for step in steps]
    assert rest[0] == 2
    assert [step async for step in steps] == []
