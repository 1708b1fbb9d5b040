"""What a hub's restarts must look like, by one who remembers everything that ever went wrong and counts it anew each time."""

from dataclasses import dataclass, field

from gibbs import RestartPolicy


@dataclass
class FailureLog:
    """The history of one hub. `step` adds to it and judges it; a wait is the one without jitter."""

    policy: RestartPolicy
    log: list = field(default_factory=list)  # (what, seat, now, lived)
    granted: dict[str, list[float]] = field(default_factory=lambda: {"failed": [], "crashed": []})

    def step(self, what: str, seat: int, now: float, lived: float = 0.0) -> float | None:
        """One more "failed" start, "crashed" worker or "ready" one. Returns how long to wait, or None: it is enough."""
        self.log.append((what, seat, now, lived))
        wait = {"failed": self._failed, "crashed": self._crashed, "ready": lambda *_: 0.0}[what](seat, now)
        if wait is not None and what != "ready":
            self.granted[what].append(now)
        return wait

    def _failed(self, seat, now):
        in_a_row = self._row(lambda w, *_: w == "failed", lambda w, *_: w == "ready")
        of_seat = self._row(lambda w, s, *_: (w, s) == ("failed", seat), lambda w, s, *_: (w, s) == ("ready", seat))
        if in_a_row > self.policy.max_failures or self._too_many("failed", now, self.policy.max_failures):
            return None
        return min(30.0, 0.1 * 2 ** (of_seat - 1))

    def _crashed(self, seat, now):
        if self.policy.max_crashes is not None and self._too_many("crashed", now, self.policy.max_crashes):
            return None
        quick = self._row(
            lambda w, s, n, lived: (w, s) == ("crashed", seat) and lived < 1,
            lambda w, s, n, lived: (w, s) == ("crashed", seat) and lived >= 1,
        )
        return 0.0 if quick <= 2 else min(0.25, 0.01 * 2 ** (quick - 3))

    def _too_many(self, what, now, limit):
        return sum(w == what and now - at < self.policy.period for w, _, at, _ in self.log) > limit

    def _row(self, counts, ends):
        """How many of the last entries count, before one ends the row."""
        n = 0
        for entry in reversed(self.log):
            if ends(*entry):
                break
            n += counts(*entry)
        return n

    def assert_no_window_saw_too_many(self) -> None:
        """However a window as long as the period is laid, no more restarts than the limit were granted within it."""
        limits = {"failed": self.policy.max_failures, "crashed": self.policy.max_crashes}
        for what, times in self.granted.items():
            for start in times if limits[what] is not None else []:
                within = sum(start <= time and time - start < self.policy.period for time in times)
                assert within <= limits[what], f"{within} {what} within one period"
