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
    assert caught.value.__notes__ == ["in a sweep, cancelled at checkpoint 1"]


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
