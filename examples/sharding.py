"""How to choose among several hubs: a simulation of queues, on paper, without gibbs. `python examples/sharding.py [requests]`

Many programs, each with a hub of its own, stand behind a balancer that picks one for each request. What does a request wait for, by the
rule with which the balancer picks? Time is in units of the mean service time. "Stale" is a load that the balancer reads once in such a
unit, as one does that scrapes metrics.
"""

from __future__ import annotations

import heapq
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

Services = Callable[[random.Random], float]


def exponential(chance: random.Random) -> float:
    return chance.expovariate(1.0)


def bimodal(chance: random.Random) -> float:
    """Nine of ten are short, the tenth is eleven times as long."""
    return 0.5 if chance.random() < 0.9 else 5.5


@dataclass
class Hub:
    """First come, first served, by so many workers."""

    workers: int
    free_at: list[float] = field(default_factory=list)  # of each worker
    ends: list[float] = field(default_factory=list)  # of all that is here
    seen: int = 0  # its load, as a balancer knows it that looks now and then

    def __post_init__(self) -> None:
        self.free_at = [0.0] * self.workers

    def take(self, now: float, service: float) -> float:
        """A request comes. Returns when it is answered."""
        end = max(now, self.free_at[0]) + service
        heapq.heapreplace(self.free_at, end)
        heapq.heappush(self.ends, end)
        return end

    def load(self, now: float) -> int:
        """How many requests are here."""
        while self.ends and self.ends[0] <= now:
            heapq.heappop(self.ends)
        return len(self.ends)


def times(
    rule: str, services: Services, *, hubs: int, workers: int, busy: float, requests: int, seed: int = 1
) -> list[float]:
    """How long each request is in the system, sorted."""
    chance = random.Random(seed)
    if rule == "one global queue":
        hubs, workers = 1, hubs * workers
    all_hubs = [Hub(workers) for _ in range(hubs)]
    stale = rule.endswith("stale")
    took, now, looked = [], 0.0, 0.0
    for number in range(requests):
        now += chance.expovariate(busy * hubs * workers)
        if stale and now - looked >= 1.0:
            looked = now
            for hub in all_hubs:
                hub.seen = hub.load(now)
        match rule.partition(",")[0]:
            case "round robin":
                hub = all_hubs[number % hubs]
            case "two choices":
                hub = min(chance.sample(all_hubs, 2), key=lambda one: one.seen if stale else one.load(now))
            case "least loaded":
                least = min(one.seen if stale else one.load(now) for one in all_hubs)
                hub = chance.choice([one for one in all_hubs if (one.seen if stale else one.load(now)) == least])
            case _:
                hub = chance.choice(all_hubs)
        took.append(hub.take(now, services(chance)) - now)
    return sorted(took)


RULES = [
    "one global queue",
    "random",
    "round robin",
    "two choices",
    "least loaded",
    "two choices, stale",
    "least loaded, stale",
]
CASES: list[tuple[str, Services, int, int, float]] = [
    ("exponential, 16 hubs of 4, 90 % busy", exponential, 16, 4, 0.9),
    ("bimodal, 16 hubs of 4, 90 % busy", bimodal, 16, 4, 0.9),
    ("bimodal, 16 hubs of 4, 70 % busy", bimodal, 16, 4, 0.7),
    ("bimodal, 8 hubs of 32, 90 % busy", bimodal, 8, 32, 0.9),
]


def main(requests: int) -> None:
    print(f"{'p50 / p99 / p99.9 of the time in the system':40}" + "".join(f"{rule:>22}" for rule in RULES))
    for name, services, hubs, workers, busy in CASES:
        cells = []
        for rule in RULES:
            took = times(rule, services, hubs=hubs, workers=workers, busy=busy, requests=requests)
            cells.append(" / ".join(f"{took[int(share * len(took))]:.2f}" for share in (0.5, 0.99, 0.999)))
        print(f"{name:40}" + "".join(f"{cell:>22}" for cell in cells))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 150_000)
