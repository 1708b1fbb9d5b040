"""What a hub does and has done, in numbers. Reads, and changes nothing."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from .._core.seat import SeatState
from .._records import HubStatistics

if TYPE_CHECKING:
    from .crew import Crew


def statistics_of(crew: Crew) -> HubStatistics:
    """As it is now."""
    dispatcher, tally = crew.dispatcher, crew.dispatcher.tally
    states = Counter(str(seat.state) for seat in dispatcher.seats)
    oldest = dispatcher.oldest
    return HubStatistics(
        seats={str(state): states[state] for state in SeatState},
        pids=tuple(supervisor.pid for supervisor in crew.supervisors),
        queued=dispatcher.live - dispatcher.running,
        running=dispatcher.running,
        done=tally.done,
        failed=tally.failed,
        cancelled=tally.cancelled,
        crashed=tally.lost,
        expired=tally.expired,
        turned_away=dispatcher.turned_away,
        retried=dispatcher.retried,
        leases=len(dispatcher.leases.held),
        refused=tally.refused,
        restarts=crew.restarts,
        interrupted=crew.cleanups.kept,
        killed=crew.cleanups.killed,
        oldest_wait=max(0.0, crew.loop.now() - oldest.created) if oldest is not None else 0.0,
    )
