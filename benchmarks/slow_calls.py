"""What polling costs where it can gain nothing: calls of 300 µs and 1 ms that fill both cores, 2 workers, 2 callers.

    python -m benchmarks.slow_calls [--rounds N] [--backend trio] [--json PATH]

The calls are busy, so a hub that polls takes a core from them. The same is measured with polling off: the hub polls only for a seat
whose service time is below `gibbs._core.pace.DUE_SOON`, which is 0 then. The best round of each counts.
"""

from __future__ import annotations

import importlib
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import anyio

from benchmarks.measuring import percentile, program, run
from benchmarks.models import busy
from benchmarks.peers import GIBBS
from benchmarks.record import Check

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.measuring import Plan
    from benchmarks.peers import Call
    from benchmarks.record import Record

WORKERS = CALLERS = 2
CALLS = {"300 µs": 300e-6, "1 ms": 1e-3}
SECONDS = 0.6
WARM_UP = 30
MUST = 1.1


@contextmanager
def polling(on: bool) -> Iterator[None]:
    pace: Any = switch()
    usual = pace.DUE_SOON
    if not on:
        pace.DUE_SOON = 0.0
    try:
        yield
    finally:
        pace.DUE_SOON = usual


def switch() -> Any:
    """The module that has it; None where gibbs does not poll yet."""
    try:
        pace = importlib.import_module("gibbs._core.pace")
    except ModuleNotFoundError:
        return None
    return pace if hasattr(pace, "DUE_SOON") else None


async def two_callers(call_seconds: float, seconds: float) -> list[float]:
    """How long each call took, in µs, sorted."""
    times: list[float] = []

    async def ask_again(call: Call) -> None:
        for _ in range(WARM_UP):
            await call(call_seconds)
        until = time.perf_counter() + seconds
        while (start := time.perf_counter()) < until:
            await call(call_seconds)
            times.append((time.perf_counter() - start) * 1e6)

    async with GIBBS.opened(busy, WORKERS) as call, anyio.create_task_group() as tg:
        for _ in range(CALLERS):
            tg.start_soon(ask_again, call)
    return sorted(times)


def measure(loop: str, plan: Plan, record: Record) -> None:
    if switch() is None:
        record.note("skipped: this gibbs has no gibbs._core.pace.DUE_SOON, so polling cannot be switched off")
        return
    seconds = plan.pick(SECONDS, quick=0.05)
    for name, call_seconds in CALLS.items():
        found: dict[bool, list[list[float]]] = {True: [], False: []}
        for number in range(plan.rounds):
            for on in (True, False) if number % 2 else (False, True):
                with polling(on):
                    found[on].append(run(loop, two_callers, call_seconds, seconds))
        p50 = {on: min(percentile(times, 50) for times in rounds) for on, rounds in found.items()}
        p99 = {on: min(percentile(times, 99) for times in rounds) for on, rounds in found.items()}
        for on, who in ((True, "as it is"), (False, "polling off")):
            record.figure(loop, who, f"calls of {name}, p50", p50[on], "µs")
            record.figure(loop, who, f"calls of {name}, p99", p99[on], "µs")
        record.checks.append(Check(loop, f"p50 of {name} ÷ with polling off", p50[True] / p50[False], "<=", MUST))


def main() -> int:
    return program(
        "slow_calls", f"calls that keep both cores busy, {WORKERS} workers, {CALLERS} callers", measure, rounds=16
    )


if __name__ == "__main__":
    sys.exit(main())
