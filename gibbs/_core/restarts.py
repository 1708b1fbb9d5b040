"""How often, how soon, and when to give up: the arithmetic of restarting, with time and chance as arguments.

After OTP's supervisor (`add_restart` in `lib/stdlib/src/supervisor.erl`): a limit is a number of failures within a period.
Two additions. Hanging starts come one per `start_timeout`, too slowly for any period, so more than `max_failures` in a row
with no worker becoming ready also exhaust it. And crashes of workers that *were* ready count apart, since a model that
served for an hour and died proves nothing about starting.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from .recycling import Recycle

FIRST_FAILURE_WAIT = 0.1  # seconds; doubles with each failed start of a seat in a row
LONGEST_FAILURE_WAIT = 30.0
QUICK_CRASH = 1.0  # a crash within this many seconds of *ready* is a quick one
FREE_QUICK_CRASHES = 2  # that many in a row are restarted at once
FIRST_CRASH_WAIT = 0.01
LONGEST_CRASH_WAIT = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """When a hub gives up restarting its workers.

    It is exhausted by more than `max_failures` failed starts of the whole hub within `period` seconds, or by more than
    `max_failures` failed starts in a row with no worker becoming ready between them. A worker that had been ready and died
    is restarted without being counted, unless `max_crashes` limits those in the same way, within `period`.

    Args:
        max_failures: a whole number, 0 or more, or `math.inf` for "never give up".
        period: seconds, more than 0.
        max_crashes: as `max_failures`, or None for no limit.
        recycle: when workers that are well are replaced, a `gibbs.Recycle`; None: never.

    Raises:
        TypeError, ValueError: an argument of the wrong kind, or out of range.

    Example:
        ```python
        open_hub(Model, workers=4, restarts=gibbs.RestartPolicy(max_failures=20, period=300))
        ```
    """

    max_failures: float = 5
    period: float = 60.0
    max_crashes: float | None = None
    recycle: Recycle | None = None

    def __post_init__(self) -> None:
        for name in ("max_failures", "max_crashes"):
            value = getattr(self, name)
            if value is None and name == "max_crashes":
                continue
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(f"{name} must be a whole number or math.inf, not {value!r}")
            if value != math.inf and not (value >= 0 and value == int(value)):
                raise ValueError(f"{name} must be a whole number ≥ 0 or math.inf, not {value!r}")
        if isinstance(self.period, bool) or not isinstance(self.period, int | float):
            raise TypeError(f"period must be a number of seconds, not {self.period!r}")
        if self.recycle is not None and not isinstance(self.recycle, Recycle):
            raise TypeError(f"recycle must be a gibbs.Recycle or None, not {self.recycle!r}")
        if not 0 < self.period <= math.inf:
            raise ValueError(f"period must be more than 0 seconds, not {self.period!r}")


RestartPolicy.__module__ = "gibbs"


class Restarts:
    """Counts what went wrong and says how long a seat waits, or that it is enough: None."""

    def __init__(self, policy: RestartPolicy) -> None:
        self._policy = policy
        self._failures: deque[float] = deque()  # times of failed starts, not older than the period
        self._crashes: deque[float] = deque()
        self._failures_in_a_row = 0  # of the whole hub, since a worker became ready
        self._seat_failures: dict[int, int] = {}  # by seat: failed starts in a row
        self._seat_quick_crashes: dict[int, int] = {}  # by seat: quick crashes in a row

    def ready(self, seat: int) -> None:
        """A worker became ready."""
        self._failures_in_a_row = 0
        self._seat_failures.pop(seat, None)

    def failed_start(self, seat: int, now: float, chance: float) -> float | None:
        """A worker did not become ready. Returns seconds to wait, or None: exhausted. `chance` is in [0, 1)."""
        self._failures_in_a_row += 1
        limit = self._policy.max_failures
        if self._failures_in_a_row > limit or _too_many(self._failures, now, self._policy.period, limit):
            return None
        before = self._seat_failures.get(seat, 0)
        self._seat_failures[seat] = before + 1
        return _wait(before, FIRST_FAILURE_WAIT, LONGEST_FAILURE_WAIT, chance)

    def crashed(self, seat: int, now: float, ready_since: float, chance: float) -> float | None:
        """A worker that had been ready died unplanned. Returns seconds to wait, or None: exhausted."""
        limit = self._policy.max_crashes
        if limit is not None and _too_many(self._crashes, now, self._policy.period, limit):
            return None
        if now - ready_since >= QUICK_CRASH:
            self._seat_quick_crashes.pop(seat, None)
            return 0.0
        before = self._seat_quick_crashes.get(seat, 0)
        self._seat_quick_crashes[seat] = before + 1
        if before < FREE_QUICK_CRASHES:
            return 0.0
        return _wait(before - FREE_QUICK_CRASHES, FIRST_CRASH_WAIT, LONGEST_CRASH_WAIT, chance)


def _too_many(times: deque[float], now: float, period: float, limit: float) -> bool:
    """Add `now`, forget what is older than the period, and compare."""
    times.append(now)
    while now - times[0] >= period:  # never `now` itself, however short the period
        times.popleft()
    return len(times) > limit


def _wait(doublings: int, first: float, longest: float, chance: float) -> float:
    """An exponential wait with up to a fifth of jitter taken off, so that seats do not march in step."""
    return min(longest, first * 2.0 ** min(doublings, 60)) * (1 - 0.2 * chance)
