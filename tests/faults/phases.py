"""The roads into the phases: how a worker is brought to each, and how the fault is made to come just there. No road waits for a time."""

from __future__ import annotations

import os
import signal
from types import SimpleNamespace

import anyio
import pytest
from anyio.lowlevel import checkpoint

import gibbs
from tests.end_to_end.callers import until
from tests.faults.cells import Cell, interrupt_over
from tests.faults.families import state_of
from tests.faults.models import LARGE, LARGISH, Freed, Unpickled
from tests.faults.outcomes import NextCall, Nobody, StartFails


async def starting(cell: Cell) -> None:
    """In the model's __init__: while the hub opens, and in a hub that is open."""
    outcome = cell.outcome
    if not isinstance(outcome, StartFails):
        async with anyio.create_task_group() as tg:
            tg.start_soon(cell.strikes)
            async with cell.opened(starting=cell.action) as hub:
                cell.pid = cell.told("begins")[0][0]  # the worker that acted; another may be here by now
                await cell.ends(cell.ask_for_trouble("", 7), 49)
                assert hub.statistics().done == 1
        return
    error = await opening_fails(cell)
    outcome.check(SimpleNamespace(error=error), None)
    await cell.children_are_gone()
    again = cell.folder / "again"
    again.mkdir()
    cell.folder = again
    if outcome.hangs:
        await closed_while_it_starts(cell)
        return
    async with anyio.create_task_group() as tg:
        tg.start_soon(cell.strikes)
        async with cell.opened(starting=cell.action, ready=0):
            assert await cell.answered("", 7) == 49
            cell.pid = cell.told("begins")[0][0]


async def opening_fails(cell: Cell) -> gibbs.WorkerStartFailed:
    options = {"start_timeout": 0.3} if cell.outcome.hangs else {}
    async with anyio.create_task_group() as tg:
        tg.start_soon(cell.strikes)
        with anyio.fail_after(cell.outcome.watchdog):
            error = await cell.fails_to_open(starting=cell.action, **options)
        tg.cancel_scope.cancel()
    return error


async def closed_while_it_starts(cell: Cell) -> None:
    async with cell.opened(starting=cell.action, ready=0, close_timeout=0.2, epilogue=False) as hub:
        waiting = cell.ask("", 7, counts="refused")
        await cell.strikes()
        assert hub.statistics().queued == 1
    assert isinstance(waiting.error, gibbs.HubClosed)


async def idle(cell: Cell) -> None:
    async with cell.opened() as hub:
        await cell.answered("arms", cell.action)
        (cell.folder / "now").touch()
        await cell.strikes()
        if isinstance(cell.outcome, NextCall):
            call = cell.ask_for_trouble("", 7)
            if cell.outcome.ends.gives_up:
                await until(lambda: hub.statistics().running)
            await cell.ends(call, 49)
        else:
            assert isinstance(cell.outcome, Nobody)


async def receiving(cell: Cell) -> None:
    await in_a_call(cell, "takes", Unpickled(cell.folder, cell.action))


async def busy(cell: Cell) -> None:
    await in_a_call(cell, "busy", cell.action)


async def leased(cell: Cell) -> None:
    """What waits on the lease runs on the same worker, or not at all."""
    async with cell.opened(workers=2) as hub:
        async with hub.lease() as lease:
            cell.calls, cell.seat = lease, lease.seat
            cell.pid = hub.statistics().pids[lease.seat]
            before = cell.ask("holds")
            await cell.has_begun(before)
            call = cell.ask_for_trouble("busy", cell.action)
            await until(lambda: hub.statistics().queued == 1)
            waits = cell.ask("", 7, counts="crashed" if cell.outcome.restarts else "done")
            await until(lambda: hub.statistics().queued == 2)
            (cell.folder / "now").touch()
            await cell.strikes()
            await cell.ends(call, "acted")
            await waits.end()
            if not cell.outcome.restarts:
                assert waits.result == 49
            else:
                # Of a worker that has answered and must go all the same, the next may have begun.
                kinds = (
                    gibbs.LeaseBroken if cell.outcome.counts == "crashed" else gibbs.LeaseBroken | gibbs.WorkerCrashed
                )
                assert isinstance(waits.error, kinds), repr(waits.error)
                with pytest.raises(gibbs.LeaseBroken) as caught:
                    await lease.request(0, 7)
                assert (caught.value.seat, caught.value.incarnation) == (lease.seat, 1)
            cell.calls = hub
            assert await cell.answered("", 7) == 49


async def tracked(cell: Cell) -> None:
    async with cell.opened():
        call = cell.ask_for_trouble("tells", cell.action, tracks=True)
        await until(lambda: call.items or call.over.is_set())  # or who gives up might do so before it was read
        await cell.strikes()
        await cell.ends(call, "acted")
        assert call.items == ["before"], "what was said before the fault is heard"


async def batched(cell: Cell) -> None:
    async with cell.opened():
        call = cell.ask_for_trouble("in_a_batch", cell.action, batched=True)
        await cell.strikes()
        await cell.ends(call, "acted")


async def yielding(cell: Cell) -> None:
    async with cell.opened():
        call = cell.ask_for_trouble("yields", cell.action, streams=True)
        await until(lambda: call.items or call.over.is_set())
        await cell.strikes()
        await cell.ends(call, ["before", "acted"])
        assert call.items[:1] == ["before"], "what came before the fault stays"


async def replying(cell: Cell) -> None:
    await in_a_call(cell, "busy" if cell.row.returns else "replies", cell.action)


async def freeing(cell: Cell) -> None:
    await in_a_call(cell, "forgets", Freed(cell.folder, cell.action))


async def in_a_call(cell: Cell, method: str, argument: object) -> None:
    async with cell.opened():
        call = cell.ask_for_trouble(method, argument)
        await cell.strikes()
        await cell.ends(call, "acted")


async def half_received(cell: Cell) -> None:
    async with cell.opened() as hub:
        await cell.answered("arms", cell.action)
        os.kill(cell.pid, signal.SIGSTOP)  # or it might have taken all before this task runs again
        await until(lambda: state_of(cell.pid) == "T")
        call = cell.ask_for_trouble("length", bytes(LARGISH))
        while not hub.statistics().running:
            await checkpoint()
        assert not cell.link.flushed
        os.kill(cell.pid, signal.SIGCONT)
        cell.strikes_while_the_loop_stands()
        await cell.ends(call, LARGISH)


async def half_replied(cell: Cell) -> None:
    async with cell.opened():
        call = cell.ask_for_trouble("replies_at_length", cell.action)
        await cell.has_begun(call)
        cell.strikes_while_the_loop_stands()
        await cell.ends(call, bytes(LARGE))


async def cancelled(cell: Cell) -> None:
    async with cell.opened():
        call = cell.ask_for_trouble("waits_for_a_cancel", cell.action)
        await cell.has_begun(call)
        struck = interrupt_over(cell.link)
        await call.cancel()
        await cell.strikes_within_the_grace(struck)


async def awaited(cell: Cell) -> None:
    async with cell.opened() as hub:
        call = cell.ask_for_trouble("waits_for_a_cancel", cell.action, abandon_on_cancel=False)
        await cell.has_begun(call)
        struck = interrupt_over(cell.link)
        call.scope.cancel()
        await cell.strikes_within_the_grace(struck)
        await call.end()
        assert call.cancelled
        assert not hub.statistics().seats["interrupting"]


async def closing(cell: Cell) -> None:
    async with anyio.create_task_group() as tg:
        async with cell.opened(epilogue=False):
            await cell.answered("acts_at_exit", cell.action)
            tg.start_soon(cell.strikes)
        tg.cancel_scope.cancel()


ROADS = {
    road.__name__: road
    for road in (
        starting,
        idle,
        receiving,
        half_received,
        busy,
        leased,
        tracked,
        batched,
        yielding,
        replying,
        half_replied,
        freeing,
        cancelled,
        awaited,
        closing,
    )
}
