"""When a worker is old enough to make room for a new one: by what it has done, how long it has lived, how much memory it takes.

Pure: what is known of a worker goes in, and why it should go comes out. Chance is an argument: workers that were started together shall not
all be due together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Recycle:
    """When a hub replaces workers that are well, for what has piled up in them: `RestartPolicy(recycle=gibbs.Recycle(max_requests=10_000))`.

    Limits are looked at once a second, and a worker is replaced between two calls, one at a time: the new one is ready before the old one goes,
    so no request waits for it. With `hard_rss` the worker is killed, in the midst of a call too.

    Args:
        max_requests: how many requests a worker is sent at least before it is replaced; some more may follow until it is.
        max_age: seconds that it serves.
        max_rss: bytes of memory that are its own and in use; of workers on this machine, where there is a /proc. Shared pages count as well.
        hard_rss: bytes at which it is killed; its request raises WorkerCrashed, which says so.
        jitter: by what share limits are moved up or down, at random for each worker, so that not all are due at once.
        surge: 1: the new worker is built beside the old one; 0: in its place, where there is no memory for both, and one worker less serves
            for the time of a start.

    Raises:
        TypeError, ValueError: an argument of the wrong kind, or out of range.

    Example:
        ```python
        open_hub(Model, workers=4, restarts=gibbs.RestartPolicy(recycle=gibbs.Recycle(max_requests=10_000, max_rss=2 << 30)))
        ```
    """

    max_requests: float = math.inf
    max_age: float = math.inf
    max_rss: float = math.inf
    hard_rss: float = math.inf
    jitter: float = 0.1
    surge: int = 1

    def __post_init__(self) -> None:
        for name in ("max_requests", "max_age", "max_rss", "hard_rss"):
            value: Any = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(f"{name} must be a number, or math.inf for no limit, not {value!r}")
            if not value > 0:
                raise ValueError(f"{name} must be more than 0, not {value!r}")
        if isinstance(self.jitter, bool) or not isinstance(self.jitter, int | float):
            raise TypeError(f"jitter must be a number, not {self.jitter!r}")
        if not 0 <= self.jitter < 1:
            raise ValueError(f"jitter must be at least 0, and less than 1, not {self.jitter!r}")
        if self.surge not in (0, 1) or isinstance(self.surge, bool):
            raise ValueError(f"surge must be 0 or 1, not {self.surge!r}")

    @property
    def looks_at_memory(self) -> bool:
        """Whether memory has a limit."""
        return min(self.max_rss, self.hard_rss) < math.inf

    def due(self, *, requests: int, age: float, rss: float, chance: float) -> str | None:
        """Why a worker is to be replaced, in words; None: it is not. `chance` is in [0, 1), the same for all its life."""
        share = 1 + self.jitter * (2 * chance - 1)
        if requests >= self.max_requests * share:
            return f"it has had {requests} requests"
        if age >= self.max_age * share:
            return f"it has served for {age:.0f} seconds"
        if rss >= self.max_rss * share:
            return f"it takes {in_mib(rss)} of memory"
        return None

    def too_large(self, rss: float) -> str | None:
        """Why it is to be killed, in words; None: it is not."""
        if rss >= self.hard_rss:
            return f"it took {in_mib(rss)} of memory, and hard_rss is {in_mib(self.hard_rss)}"
        return None


def in_mib(size: float) -> str:
    return f"{size / (1 << 20):.0f} MiB"


Recycle.__module__ = "gibbs"
