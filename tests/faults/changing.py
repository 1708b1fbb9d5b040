"""The roads into the phases of a hub that changes: who stands by, who is new, who is to go. No road waits for a time."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import replace
from types import SimpleNamespace

import anyio

import gibbs
from tests.end_to_end.callers import is_settled, until
from tests.faults.cells import Cell
from tests.faults.models import Acts, Model
from tests.faults.outcomes import NextCall, Nobody, StartFails

Change = Callable[[gibbs.Hub], Awaitable[None]]


async def standing_by(cell: Cell) -> None:
    """The spare takes the place of the one that serves all the same, or another one does."""
    (cell.folder / "spare").write_text(cell.action)
    async with cell.opened(spares=1) as hub:
        serving = await there_is_a_spare(cell)
        (cell.folder / "spare").unlink()  # those that are built later do not act
        (cell.folder / f"now {cell.pid}").touch()
        await cell.strikes()
        if isinstance(cell.outcome, Nobody):
            await until(lambda: hub.statistics().restarts >= cell.outcome.restarts and is_settled(hub))
        await dies(cell, serving)
        if isinstance(cell.outcome, NextCall):
            call = cell.ask_for_trouble("", 7)
            if cell.outcome.ends.gives_up:
                await until(lambda: hub.statistics().running)
            await cell.ends(call, 49)


async def taking_over(cell: Cell) -> None:
    async with cell.opened(spares=1):
        await dies(cell, await there_is_a_spare(cell))
        call = cell.ask_for_trouble("busy", cell.action)
        await cell.strikes()
        await cell.ends(call, "acted")


async def there_is_a_spare(cell: Cell) -> int:
    """It is the one that the fault is for. Returns the pid of the other."""
    seats = cell.hub._desk.crew.dispatcher.seats
    await until(lambda: {seat.state for seat in seats} == {"spare", "serving"})
    cell.seat = next(seat.index for seat in seats if seat.state == "spare")
    pids = cell.hub.statistics().pids
    cell.pid = pids[cell.seat]
    return pids[1 - cell.seat]


async def dies(cell: Cell, pid: int) -> None:
    """The worker that serves: the spare does from now on, and another is built."""
    before = cell.hub.statistics().restarts
    os.kill(pid, signal.SIGKILL)
    cell.other_restarts = 1
    await until(lambda: cell.hub.statistics().restarts > before and is_settled(cell.hub))


# ------------------------------------------------------------------------------------------------------ in one that is new


async def reloading(cell: Cell) -> None:
    await in_another(cell, lambda hub: hub.reload(Model, cell.folder, cell.action))


async def checked(cell: Cell) -> None:
    await in_another(cell, lambda hub: hub.reload(Model, cell.folder, check=Acts(cell.folder, cell.action)))


async def recycling(cell: Cell) -> None:
    await in_another(cell, replaces_the_worker, starting=cell.action)


async def replaces_the_worker(hub: gibbs.Hub) -> None:
    """As the recycler does when one has had enough."""
    crew = hub._desk.crew
    await crew.staffing.replace(crew.dispatcher.seats[0])


async def in_another(cell: Cell, change: Change, starting: str | None = None) -> None:
    """One that is built to take the place of the one that serves, which serves on, unless the other is well."""
    outcome = cell.outcome
    if isinstance(outcome, StartFails):
        cell.outcome = Nobody()
    first = cell.folder / "first"
    first.touch()
    async with cell.opened(starting=starting) as hub:
        first.unlink()
        crew = hub._desk.crew
        options = crew.options
        if getattr(outcome, "hangs", False):
            crew.options = replace(options, start_timeout=0.3)
        error: BaseException | None = None
        async with anyio.create_task_group() as tg:
            tg.start_soon(cell.strikes)
            meanwhile = cell.ask("", 7)
            try:
                await change(hub)
            except gibbs.ReloadFailed as problem:
                error = problem.__cause__
            except gibbs.WorkerStartFailed as problem:
                error = problem
            if crew.options is not options:  # it may not even have come to act
                crew.options = options
                tg.cancel_scope.cancel()
        await meanwhile.end()
        assert meanwhile.result == 49
        if isinstance(outcome, StartFails):
            outcome.check(SimpleNamespace(error=error), None)
        else:
            assert error is None, repr(error)
            cell.pid = cell.told("begins")[0][0]
            cell.seat = hub.statistics().pids.index(cell.pid)


# -------------------------------------------------------------------------------------------------- in one that is to go


async def reloaded(cell: Cell) -> None:
    await while_another_starts(cell, lambda hub: hub.reload(Model, cell.folder))


async def recycled(cell: Cell) -> None:
    await while_another_starts(cell, replaces_the_worker)


async def while_another_starts(cell: Cell, change: Change) -> None:
    """It may have been built again before that one is ready, and goes then."""
    gate = cell.folder / "not yet"

    async def another_starts(hub: gibbs.Hub) -> None:
        gate.touch()
        await until(lambda: hub.statistics().seats["starting"])

    async def the_fault_is_over(hub: gibbs.Hub) -> None:
        await until(lambda: hub.statistics().restarts >= cell.outcome.restarts)
        gate.unlink()

    await busy_while(cell, change, begins=another_starts, ends=the_fault_is_over)


async def dismissed(cell: Cell) -> None:
    async def is_to_go(hub: gibbs.Hub) -> None:
        await until(lambda: hub._desk.crew.dispatcher.seats[0].dismissed)
        cell.ask("", 7)  # which waits for somebody to be there

    async def ends(hub: gibbs.Hub) -> None:
        await until(lambda: hub.statistics().seats["retired"])
        cell.other_restarts = -cell.outcome.restarts
        await hub.resize(1)

    await busy_while(cell, lambda hub: hub.resize(0), begins=is_to_go, ends=ends)


async def busy_while(cell: Cell, change: Change, *, begins: Change, ends: Change) -> None:
    """In a call, from when the change has begun; the last worker of the cell is another, of which nothing is said but that it serves."""
    cell.outcome = replace(cell.outcome, exits="anyhow")
    async with cell.opened() as hub:
        call = cell.ask_for_trouble("busy_when_told", cell.action)
        await cell.has_begun(call)
        changed = anyio.Event()

        async def changes() -> None:
            await change(hub)
            changed.set()

        cell.tg.start_soon(changes)
        await begins(hub)
        (cell.folder / "now").touch()
        await cell.strikes()
        await cell.ends(call, "acted")
        await ends(hub)
        await changed.wait()
        await until(lambda: cell.pid not in hub.statistics().pids and is_settled(hub))
        if not cell.outcome.restarts:
            cell.seat, cell.pid = next((seat, pid) for seat, pid in enumerate(hub.statistics().pids) if pid)


ROADS = {
    road.__name__: road
    for road in (standing_by, taking_over, reloading, checked, reloaded, recycling, recycled, dismissed)
}
