"""How long tiny calls wait beside long ones: 2 workers, 64 callers, one of whom asks for 500 ms again and again.

    python -m benchmarks.fairness [--rounds N] [--backend trio] [--json PATH]

Each call has a number, which the model writes down when it runs: none may run twice, and none that was asked may be missing. The
best round's worst wait counts; of numbers, every round's. A peer that sends nothing ahead is beside it.
"""

from __future__ import annotations

import math
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from benchmarks.measuring import percentile, program, rounds_of
from benchmarks.models import recorded
from benchmarks.peers import GIBBS, TO_PROCESS
from benchmarks.record import Check

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.measuring import Plan
    from benchmarks.peers import Call, Peer
    from benchmarks.record import Record

WORKERS = 2
CALLERS = 64
TINY, LONG = 20e-6, 0.5
SECONDS = 3.0
WARM_UP = 200
MUST_MS = 30.0


@dataclass
class Round:
    waits: list[float] = field(default_factory=list)  # of tiny calls, in ms
    longs: int = 0
    asked: int = 0
    twice: int = 0
    lost: int = 0


async def tiny_among_long(peer: Peer, callers: int, long: float, seconds: float) -> Round:
    result = Round()
    numbers = count()
    with tempfile.TemporaryDirectory(prefix="gibbs-fairness-") as folder:
        async with peer.opened(recorded, WORKERS) as call:
            for _ in range(WARM_UP):
                await ask(call, numbers, TINY, folder)
            until = time.perf_counter() + seconds
            async with anyio.create_task_group() as tg:
                tg.start_soon(ask_for_long, call, numbers, long, folder, until, result)
                for _ in range(callers - 1):
                    tg.start_soon(ask_for_tiny, call, numbers, folder, until, result)
        result.asked = next(numbers)
        ran: Counter[int] = Counter()
        for file in Path(folder).iterdir():
            record = file.read_bytes()
            ran.update(int.from_bytes(record[at : at + 8], "little") for at in range(0, len(record), 8))
    result.twice = sum(times > 1 for times in ran.values())
    result.lost = len(set(range(result.asked)) - set(ran))
    result.waits.sort()
    return result


async def ask(call: Call, numbers: Iterator[int], seconds: float, folder: str) -> None:
    number = next(numbers)
    if await call(number, seconds, folder) != number:
        raise AssertionError("the answer of another call")


async def ask_for_tiny(call: Call, numbers: Iterator[int], folder: str, until: float, result: Round) -> None:
    while (start := time.perf_counter()) < until:
        await ask(call, numbers, TINY, folder)
        result.waits.append((time.perf_counter() - start) * 1e3)


async def ask_for_long(
    call: Call, numbers: Iterator[int], long: float, folder: str, until: float, result: Round
) -> None:
    while time.perf_counter() < until:
        await ask(call, numbers, long, folder)
        result.longs += 1


def measure(loop: str, plan: Plan, record: Record) -> None:
    counts = plan.pick((CALLERS, LONG, SECONDS), quick=(8, 0.1, 0.2))
    worst = math.inf
    for name, rounds in rounds_of(loop, plan, record, [TO_PROCESS], tiny_among_long, *counts).items():
        best = min(rounds, key=lambda found: found.waits[-1])
        record.figure(loop, name, "worst wait of a tiny call", best.waits[-1], "ms")
        record.figure(loop, name, "99.9 % of them wait less than", percentile(best.waits, 99.9), "ms")
        record.figure(loop, name, "half of them", percentile(best.waits, 50), "ms")
        record.figure(loop, name, "tiny calls", len(best.waits), "calls")
        record.figure(loop, name, "long calls", best.longs, "calls")
        if name == GIBBS.name:
            worst = best.waits[-1]
            twice, lost = sum(found.twice for found in rounds), sum(found.lost for found in rounds)
    record.checks.append(Check(loop, "worst wait of a tiny call, ms", worst, "<=", MUST_MS))
    record.checks.append(Check(loop, "calls that ran twice", twice, "<=", 0))
    record.checks.append(Check(loop, "calls that were lost", lost, "<=", 0))


def main() -> int:
    return program(
        "fairness", f"calls of 20 µs among calls of 500 ms, {WORKERS} workers, {CALLERS} callers", measure, rounds=2
    )


if __name__ == "__main__":
    sys.exit(main())
