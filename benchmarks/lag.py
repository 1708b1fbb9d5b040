"""How late an innocent task wakes up while the hub works in the same loop.

    python -m benchmarks.lag [--rounds N] [--backend trio] [--json PATH]

A task sleeps 1 ms again and again, and notes how much later it woke: with the hub idle, while 256 requests are in flight, while results of
128 MB arrive one after the other. The best round's p99 of each counts.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import anyio

from benchmarks.measuring import percentile, program, rounds_of
from benchmarks.models import give, tiny
from benchmarks.peers import GIBBS, TO_PROCESS
from benchmarks.processes import MB
from benchmarks.record import Check

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.measuring import Plan
    from benchmarks.peers import Call, Peer
    from benchmarks.record import Record

WORKERS = 2
SLEEP = 1e-3
IN_FLIGHT = 256
MEGABYTES = 128
SECONDS = 1.0
MUST = 4.0


async def lags(peer: Peer, function: Callable[[int], Any], x: int, callers: int, seconds: float) -> list[float]:
    """The lag in ms: p99 while idle, p99 and the worst while so many callers ask for `function(x)`."""
    stop = False

    async def ask_again(call: Call) -> None:
        while not stop:
            await call(x)

    async with peer.opened(function, WORKERS) as call:
        for _ in range(WORKERS):
            await call(x)
        idle = await lag(seconds)
        async with anyio.create_task_group() as tg:
            for _ in range(callers):
                tg.start_soon(ask_again, call)
            await anyio.sleep(seconds / 4)
            loaded = await lag(seconds)
            stop = True
    return [percentile(idle, 99), percentile(loaded, 99), loaded[-1]]


async def lag(seconds: float) -> list[float]:
    """How much later than asked for a task woke, each time, in ms; sorted."""
    late = []
    until = time.perf_counter() + seconds
    while (start := time.perf_counter()) < until:
        await anyio.sleep(SLEEP)
        late.append((time.perf_counter() - start - SLEEP) * 1e3)
    return sorted(late)


def measure(loop: str, plan: Plan, record: Record) -> None:
    megabytes, seconds = plan.pick((MEGABYTES, SECONDS), quick=(1, 0.05))
    loads: dict[str, tuple[Callable[[int], Any], int, int]] = {
        f"{IN_FLIGHT} requests in flight": (tiny, 1, IN_FLIGHT),
        f"{megabytes} MB results arrive": (give, megabytes * MB // 8, 1),
    }
    for load, asked in loads.items():
        rounds = rounds_of(loop, plan, record, [TO_PROCESS], lags, *asked, seconds)
        best = {name: [min(values) for values in zip(*found, strict=True)] for name, found in rounds.items()}
        for name, (idle, loaded, worst) in best.items():
            record.figure(loop, name, f"p99 idle, before {load}", idle, "ms")
            record.figure(loop, name, f"p99 while {load}", loaded, "ms")
            record.figure(loop, name, f"worst while {load}", worst, "ms")
        idle, loaded, _ = best[GIBBS.name]
        record.checks.append(Check(loop, f"p99 while {load} ÷ idle", loaded / idle, "<=", MUST))


def main() -> int:
    return program("lag", "a task that sleeps 1 ms again and again, beside a hub of 2 workers", measure, rounds=2)


if __name__ == "__main__":
    sys.exit(main())
