"""What it costs to have more workers than the work needs: tiny requests, 1,000 in flight, 32 workers and one.

    python -m benchmarks.many_workers [--rounds N] [--backend trio] [--json PATH]

The best round of each counts.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from benchmarks.measuring import program, rate, run
from benchmarks.models import tiny
from benchmarks.peers import GIBBS
from benchmarks.record import Check

if TYPE_CHECKING:
    from benchmarks.measuring import Plan
    from benchmarks.record import Record

FEW, MANY = 1, 32
IN_FLIGHT = 1000
SECONDS = 0.8
MUST = {"asyncio": 0.7, "uvloop": 0.7, "trio": 0.5}
AIM = 0.9


async def answers_per_second(workers: int, in_flight: int, seconds: float) -> float:
    async with GIBBS.opened(tiny, workers) as call:
        return await rate(call, in_flight, seconds)


def measure(loop: str, plan: Plan, record: Record) -> None:
    many, in_flight, seconds = plan.pick((MANY, IN_FLIGHT, SECONDS), quick=(4, 20, 0.05))
    rates: dict[int, list[float]] = {FEW: [], many: []}
    for _ in range(plan.rounds):
        for workers, found in rates.items():
            found.append(run(loop, answers_per_second, workers, in_flight, seconds))
    best = {workers: max(found) for workers, found in rates.items()}
    for workers, value in best.items():
        record.figure(loop, "gibbs", f"{workers} worker{'s' * (workers > 1)}", value, "requests/s")
    record.checks.append(
        Check(loop, f"requests/s, {many} workers ÷ {FEW}", best[many] / best[FEW], ">=", MUST[loop], AIM)
    )


def main() -> int:
    return program(
        "many_workers", f"tiny requests, {IN_FLIGHT:,} in flight, {MANY} workers and {FEW}", measure, rounds=3
    )


if __name__ == "__main__":
    sys.exit(main())
