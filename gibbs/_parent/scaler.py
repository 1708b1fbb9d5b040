"""Has as many workers as the load needs. Sleeps while nothing waits and nobody is too many.

Knows what the dispatcher shows. Must never decide: that is `_core.elastic`'s.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

import anyio

from .._core.elastic import Size, Use
from .waiter import Alarm

if TYPE_CHECKING:
    from .._core.elastic import Elastic
    from .crew import Crew

logger = logging.getLogger("gibbs")


class Scaler:
    """That of one hub."""

    def __init__(self, crew: Crew, elastic: Elastic) -> None:
        self.something_waits = Alarm()
        self._crew = crew
        self._size = Size(elastic)

    async def run(self) -> None:
        """Until the hub closes; one that drains still owes answers. A task of the hub's own."""
        crew = self._crew
        with anyio.CancelScope(shield=True):
            while not crew.is_over:
                with anyio.CancelScope(deadline=self._size.next_at):
                    await self.something_waits.wait()
                if not crew.is_over:
                    self._look()

    def _look(self) -> None:
        crew, dispatcher = self._crew, self._crew.dispatcher
        serving = [seat for seat in dispatcher.seats if seat.in_service]
        times = [seat.service_time for seat in serving if seat.service_time < math.inf]
        first, now = dispatcher.longest_queued, crew.loop.now()
        self._size.take(crew.staffing.wanted)  # somebody may have said otherwise
        wanted = self._size.look(
            now,
            queued=dispatcher.queued,
            waited=0.0 if first is None else now - first.created,
            service_time=sum(times) / len(times) if times else math.inf,
            uses={seat.index: Use(seat.last_link_id, bool(seat.held) or seat.lease is not None) for seat in serving},
        )
        if wanted != crew.staffing.wanted:
            logger.info("the hub %r is to have %d workers, it had %d", crew.options.name, wanted, crew.staffing.wanted)
            crew.staffing.resize(wanted)
