"""Replaces workers that are well, when the policy says that they have served for long enough.

Knows what each worker has done, and asks the system what memory it takes. Must never decide: that is `_core.recycling`'s. Promises that one is
replaced at a time, and that a replacement which cannot be had is said, and tried again later.
"""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING

import anyio

from .._errors import HubClosed, WorkerStartFailed
from .memory import resident_bytes

if TYPE_CHECKING:
    from .._core.recycling import Recycle
    from .crew import Crew
    from .supervisor import Supervisor
    from .worker import Worker

logger = logging.getLogger("gibbs")

LOOK_EVERY = 1.0  # seconds
_AFTER_A_FAILURE = 30.0  # seconds, until the next attempt


class Recycler:
    """Looks at the workers of one hub, again and again."""

    def __init__(self, crew: Crew, recycle: Recycle) -> None:
        self._crew = crew
        self._recycle = recycle
        self._chances: dict[Worker, float] = {}

    async def run(self) -> None:
        """Until the hub closes. A task of the hub's own."""
        with anyio.CancelScope(shield=True):
            while self._crew.closed is None:
                with anyio.move_on_after(LOOK_EVERY):
                    await self._crew.closing.wait()
                    return
                for supervisor in list(self._crew.supervisors):
                    await self._look_at(supervisor)

    async def _look_at(self, supervisor: Supervisor) -> None:
        worker, recycle = supervisor.worker, self._recycle
        if worker is None or supervisor.served_since is None or self._crew.closed is not None:
            return
        origin, rss = worker.process.origin, 0.0
        if recycle.looks_at_memory and not origin.host and origin.pid is not None:
            rss = resident_bytes(origin.pid)
        if (why := recycle.too_large(rss)) is not None:
            worker.execute(why)
            return
        self._chances = {one: chance for one, chance in self._chances.items() if one.over is None}
        chance = self._chances.setdefault(worker, random.random())
        requests = supervisor.seat.last_link_id - supervisor.first_link_id
        age = anyio.current_time() - supervisor.served_since
        why = recycle.due(requests=requests, age=age, rss=rss, chance=chance)
        if why is None or supervisor.seat.dismissed:
            return
        name, seat = self._crew.options.name, supervisor.seat.index
        logger.info("worker %d of the hub %r (pid %s) is replaced: %s", seat, name, supervisor.pid, why)
        try:
            await self._crew.staffing.replace(supervisor.seat, surge=bool(recycle.surge))
        except HubClosed:
            pass
        except WorkerStartFailed as problem:
            logger.warning(
                "worker %d of the hub %r is not replaced, since no other became ready: %s", seat, name, problem
            )
            with anyio.move_on_after(_AFTER_A_FAILURE):
                await self._crew.closing.wait()
