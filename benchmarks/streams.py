"""How many items a second: one worker's generator that takes about a microsecond for each, and one reader.

    python -m benchmarks.streams [--rounds N] [--backend trio] [--json PATH]

Beside it requests of such a worker, 256 in flight, and one at a time. The best round of each counts. No peer has streams.
"""

from __future__ import annotations

import sys
from time import perf_counter
from typing import TYPE_CHECKING

import gibbs
from benchmarks.measuring import program, rate, run
from benchmarks.models import items, tiny
from benchmarks.peers import GIBBS
from benchmarks.record import Check

if TYPE_CHECKING:
    from benchmarks.measuring import Plan
    from benchmarks.record import Record

IN_FLIGHT = 256
SECONDS = 0.8
COUNT = 400_000
MUST = 5.0


async def answers_per_second(in_flight: int, seconds: float) -> float:
    async with GIBBS.opened(tiny, 1) as call:
        return await rate(call, in_flight, seconds)


async def items_per_second(count: int) -> float:
    async with gibbs.open_hub(gibbs.function(items), workers=1) as hub:
        async with hub.stream(count // 10) as warming:
            async for _ in warming:
                pass
        started, read = perf_counter(), 0
        async with hub.stream(count) as stream:
            async for _ in stream:
                read += 1
        seconds = perf_counter() - started
    assert read == count
    return count / seconds


def measure(loop: str, plan: Plan, record: Record) -> None:
    seconds, count = plan.pick((SECONDS, COUNT), quick=(0.05, 1000))
    streamed, many, single = [], [], []
    for _ in range(plan.rounds):
        streamed.append(run(loop, items_per_second, count))
        many.append(run(loop, answers_per_second, IN_FLIGHT, seconds))
        single.append(run(loop, answers_per_second, 1, seconds))
    record.figure(loop, "gibbs", "items of a stream", max(streamed), "items/s")
    record.figure(loop, "gibbs", f"requests, {IN_FLIGHT} in flight", max(many), "requests/s")
    record.figure(loop, "gibbs", "requests, one at a time", max(single), "requests/s")
    record.checks.append(
        Check(loop, f"items/s ÷ requests/s with {IN_FLIGHT} in flight", max(streamed) / max(many), ">=", MUST)
    )


def main() -> int:
    return program("streams", "the items of a stream, 1 worker, about 1 µs each", measure, rounds=3)


if __name__ == "__main__":
    sys.exit(main())
