"""How many tiny requests a second: two workers, 256 in flight.

    python -m benchmarks.throughput [--rounds N] [--backend trio] [--json PATH]

256 tasks live long and ask again and again, of gibbs and of each peer. The best round of each counts.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from benchmarks.measuring import program, rate, rounds_of
from benchmarks.models import tiny
from benchmarks.peers import GIBBS, peers_on
from benchmarks.record import Check

if TYPE_CHECKING:
    from benchmarks.measuring import Plan
    from benchmarks.peers import Peer
    from benchmarks.record import Record

WORKERS = 2
IN_FLIGHT = 256
SECONDS = 0.8
MUST, AIM = 5.0, 8.0


async def answers_per_second(peer: Peer, seconds: float) -> float:
    async with peer.opened(tiny, WORKERS) as call:
        return await rate(call, IN_FLIGHT, seconds)


def measure(loop: str, plan: Plan, record: Record) -> None:
    seconds = plan.pick(SECONDS, quick=0.05)
    rounds = rounds_of(loop, plan, record, peers_on(loop), answers_per_second, seconds)
    best = {name: max(rates) for name, rates in rounds.items()}
    for name, value in best.items():
        record.figure(loop, name, f"{IN_FLIGHT} in flight", value, "requests/s")
    ours = best.pop(GIBBS.name)
    first = max(best, key=lambda name: best[name])
    record.checks.append(Check(loop, f"requests/s ÷ the best peer's ({first})", ours / best[first], ">=", MUST, AIM))


def main() -> int:
    return program("throughput", f"tiny requests, {WORKERS} workers, {IN_FLIGHT} in flight", measure, rounds=12)


if __name__ == "__main__":
    sys.exit(main())
