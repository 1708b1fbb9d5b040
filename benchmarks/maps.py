"""How many tiny requests a second a map makes in one task, beside as many tasks with a request each: two workers, 256 in flight.

    python -m benchmarks.maps [--rounds N] [--backend trio] [--json PATH]

The best round of each counts.
"""

from __future__ import annotations

import itertools
import sys
from time import perf_counter
from typing import TYPE_CHECKING

import gibbs
from benchmarks.measuring import program, rate, run
from benchmarks.models import tiny
from benchmarks.peers import GIBBS
from benchmarks.record import Check

if TYPE_CHECKING:
    from benchmarks.measuring import Plan
    from benchmarks.record import Record

WORKERS = 2
IN_FLIGHT = 256
SECONDS = 0.8
MUST = 1.5


async def answers_to_tasks(seconds: float) -> float:
    async with GIBBS.opened(tiny, WORKERS) as call:
        return await rate(call, IN_FLIGHT, seconds)


async def answers_to_one(seconds: float) -> float:
    async with gibbs.open_hub(gibbs.function(tiny), workers=WORKERS) as hub:
        async with hub.map(itertools.count(), limit=IN_FLIGHT) as results:
            for _ in range(4 * IN_FLIGHT):
                await anext(results)
            count, started = 0, perf_counter()
            async for _ in results:
                count += 1
                if not count & 0xFF and perf_counter() - started > seconds:
                    break
            return count / (perf_counter() - started)


def measure(loop: str, plan: Plan, record: Record) -> None:
    seconds = plan.pick(SECONDS, quick=0.05)
    one: list[float] = []
    tasks: list[float] = []
    for _ in range(plan.rounds):
        one.append(run(loop, answers_to_one, seconds))
        tasks.append(run(loop, answers_to_tasks, seconds))
    record.figure(loop, "gibbs", "a map, one task", max(one), "requests/s")
    record.figure(loop, "gibbs", f"{IN_FLIGHT} tasks", max(tasks), "requests/s")
    record.checks.append(Check(loop, f"requests/s of a map ÷ of {IN_FLIGHT} tasks", max(one) / max(tasks), ">=", MUST))


def main() -> int:
    return program("maps", f"a map beside {IN_FLIGHT} tasks, tiny requests, {WORKERS} workers", measure, rounds=6)


if __name__ == "__main__":
    sys.exit(main())
