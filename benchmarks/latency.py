"""How long one tiny request takes: one worker, one request at a time.

    python -m benchmarks.latency [--rounds N] [--backend trio] [--json PATH]

p50 and p99 of a round; of the rounds, the best of each.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from benchmarks.measuring import percentile, program, rounds_of
from benchmarks.models import tiny
from benchmarks.peers import GIBBS, TO_PROCESS, peers_on
from benchmarks.record import Check

if TYPE_CHECKING:
    from benchmarks.measuring import Plan
    from benchmarks.peers import Peer
    from benchmarks.record import Record

REQUESTS = 2000
WARM_UP = 300
MUST, AIM = 0.40, 0.15


async def one_at_a_time(peer: Peer, requests: int, warm_up: int) -> tuple[float, float]:
    """p50 and p99, in µs."""
    times = []
    async with peer.opened(tiny, 1) as call:
        for x in range(warm_up):
            await call(x)
        for x in range(requests):
            start = time.perf_counter()
            y = await call(x)
            times.append((time.perf_counter() - start) * 1e6)
            assert y == x + 1
    times.sort()
    return percentile(times, 50), percentile(times, 99)


def measure(loop: str, plan: Plan, record: Record) -> None:
    counts = plan.pick((REQUESTS, WARM_UP), quick=(20, 5))
    best = {}
    for name, rounds in rounds_of(loop, plan, record, peers_on(loop), one_at_a_time, *counts).items():
        best[name] = [min(values) for values in zip(*rounds, strict=True)]
        record.figure(loop, name, "p50", best[name][0], "µs")
        record.figure(loop, name, "p99", best[name][1], "µs")
    (p50, p99), (their_p50, their_p99) = best[GIBBS.name], best[TO_PROCESS.name]
    record.checks.append(Check(loop, "p50 ÷ anyio.to_process", p50 / their_p50, "<=", MUST, AIM))
    record.checks.append(Check(loop, "p99 ÷ anyio.to_process", p99 / their_p99, "<=", 1.0))


def main() -> int:
    return program("latency", "one tiny request at a time, 1 worker", measure, rounds=5)


if __name__ == "__main__":
    sys.exit(main())
