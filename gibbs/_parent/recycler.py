"""Replaces workers that are well, when the policy says that they have served for long enough.

Knows what each worker has done, and asks the system what memory it takes. Must never decide: that is `_core.recycling`'s. Promises that one is
replaced at a time, and that a replacement which cannot be had is said, and tried again later.
"""

from __future__ import annotations

import logging
import math
import random
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import anyio

from .._errors import HubClosed, WorkerStartFailed

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
        self._chances: WeakKeyDictionary[Worker, float] = WeakKeyDictionary()

    def start(self) -> None:
        """Begin to look."""
        self._crew.spawn(self.run, "recycling")
        self._crew.spawn(self.watch, "memory")

    async def run(self) -> None:
        """Replace one after the other, until the hub closes. A task of the hub's own."""
        with anyio.CancelScope(shield=True):
            while not await self._closes_within(LOOK_EVERY):
                for supervisor in list(self._crew.supervisors):
                    await self._look_at(supervisor)

    async def watch(self) -> None:
        """Kill what takes far too much, also while somebody is replaced. A task of the hub's own."""
        with anyio.CancelScope(shield=True):
            while self._recycle.hard_rss < math.inf and not await self._closes_within(LOOK_EVERY):
                for supervisor in self._crew.supervisors:
                    worker = supervisor.worker
                    if worker is not None and (why := self._recycle.too_large(supervisor.resident_bytes())) is not None:
                        worker.execute(why)

    async def _closes_within(self, seconds: float) -> bool:
        with anyio.move_on_after(seconds):
            await self._crew.closing.wait()
        return self._crew.closed is not None

    async def _look_at(self, supervisor: Supervisor) -> None:
        worker, recycle = supervisor.worker, self._recycle
        if worker is None or supervisor.served_since is None or self._crew.closed is not None:
            return
        if supervisor.seat.lease is not None and not recycle.surge:
            return  # nobody knows how long it will be held
        rss = supervisor.resident_bytes() if recycle.looks_at_memory else 0
        chance = self._chances.setdefault(worker, random.random())
        requests = supervisor.seat.last_link_id - supervisor.first_link_id
        age = anyio.current_time() - supervisor.served_since
        why = recycle.due(requests=requests, age=age, rss=rss, chance=chance)
        if why is None or supervisor.seat.dismissed:
            return
        name, seat = self._crew.options.name, supervisor.seat.index
        logger.info("worker %d of the hub %r (pid %s) is replaced: %s", seat, name, supervisor.pid, why)
        supervisor.recycled = why
        try:
            await self._crew.staffing.replace(supervisor.seat, surge=bool(recycle.surge))
        except HubClosed:
            pass
        except WorkerStartFailed as problem:
            logger.warning(
                "worker %d of the hub %r is not replaced, since no other became ready: %s", seat, name, problem
            )
            await self._closes_within(_AFTER_A_FAILURE)
        finally:
            if not (supervisor.closing or supervisor.seat.dismissed):  # it stays
                supervisor.recycled = ""
