"""How many workers a hub should have: by how long requests wait, how long they take, and which workers have had nothing to do.

Pure: what is known goes in with the time, and a number comes out. It grows by need and shrinks by idleness, so what makes it grow
cannot make it shrink: under a load that stays the same the number comes to rest, and stays.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

_MOMENT = 0.001  # seconds; a rest that rounding leaves is not worth a look


@dataclass(frozen=True, slots=True)
class Elastic:
    """As many workers as the load needs, within bounds: `open_hub(Model, workers=gibbs.Elastic(1, 8))`.

    When the first of the queue has waited for longer than `target_wait`, and all workers that are wanted serve, more are started: as many as
    would work off the queue in that time, by the measured time of a call. A worker that has had nothing to do for `idle` seconds goes.
    Nothing is looked at while nothing waits and no more than `least` workers are there.

    Args:
        least: how many workers there are always, 0 or more. With 0 the first request waits for a start.
        most: how many there are at most.
        idle: seconds without a request after which a worker goes.
        target_wait: seconds that a request may wait before more workers are started.

    Raises:
        TypeError, ValueError: an argument of the wrong kind, or out of range.

    Example:
        ```python
        open_hub(Model, workers=gibbs.Elastic(1, 8, idle=300))
        ```
    """

    least: int
    most: int
    _: KW_ONLY
    idle: float = 60.0
    target_wait: float = 0.05

    def __post_init__(self) -> None:
        for name in ("least", "most"):
            value: Any = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name} must be a whole number of workers, not {value!r}")
        if not 0 <= self.least <= self.most or not self.most:
            raise ValueError(
                f"least and most must be 0 ≤ least ≤ most, and most 1 or more, not {self.least} and {self.most}"
            )
        for name in ("idle", "target_wait"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(f"{name} must be a number of seconds, not {value!r}")
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be more than 0 seconds, and finite, not {value!r}")


Elastic.__module__ = "gibbs"


class Use(NamedTuple):
    """What is known of a worker that serves."""

    sent: int  # requests so far; only grows
    busy: bool


class Size:
    """The number for one hub, as time passes.

    Invariants: `elastic.least` ≤ `wanted` ≤ `elastic.most`; `next_at` is when to look again, if nothing happens before. `_unused` has for each
    worker what it had been sent when it was last seen to have done something, and when that was.
    """

    def __init__(self, elastic: Elastic) -> None:
        self.wanted = elastic.least
        self.next_at = math.inf
        self._elastic = elastic
        self._unused: dict[int, tuple[int, float]] = {}

    def take(self, workers: int) -> None:
        """So many are wanted now, whoever said so: it goes on from there."""
        self.wanted = min(max(workers, self._elastic.least), self._elastic.most)

    def look(self, now: float, *, queued: int, waited: float, service_time: float, uses: Mapping[int, Use]) -> int:
        """How many are wanted, now that so many are queued, of whom the first has waited for so long. `uses`: of those that serve."""
        self._see(now, uses)
        elastic = self._elastic
        if queued:
            late = waited >= elastic.target_wait or not uses
            if late and len(uses) >= self.wanted:
                more = max(1, min(queued, math.ceil(min(queued * service_time / elastic.target_wait, elastic.most))))
                self.wanted = min(elastic.most, self.wanted + more)
            if late:
                self.next_at = now + (elastic.target_wait if self.wanted < elastic.most else elastic.idle)
            else:
                self.next_at = now + max(_MOMENT, elastic.target_wait - waited)
            return self.wanted
        due = [worker for worker, (_, since) in self._unused.items() if now - since >= elastic.idle]
        for worker in due[: self.wanted - elastic.least]:
            del self._unused[worker]
            self.wanted -= 1
        oldest = min((since for _, since in self._unused.values()), default=now)
        self.next_at = (
            math.inf if self.wanted == elastic.least else max(oldest + elastic.idle, now + elastic.target_wait)
        )
        return self.wanted

    def _see(self, now: float, uses: Mapping[int, Use]) -> None:
        seen = {}
        for worker, use in uses.items():
            sent, since = self._unused.get(worker, (-1, now))
            seen[worker] = (use.sent, now) if use.busy or use.sent != sent else (sent, since)
        self._unused = seen
