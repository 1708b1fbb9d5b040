"""How long megabytes take: float64 arrays there and back, one way, and other things that are large.

    python -m benchmarks.arrays [--rounds N] [--backend trio] [--json PATH]

One worker, one call at a time. Of a round the median call, of the rounds the best. `memcpy` copies as much once within the program, into
memory that was used before.
"""

from __future__ import annotations

import importlib.util
import statistics
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.measuring import program, rounds_of
from benchmarks.models import carry
from benchmarks.peers import GIBBS, TO_PROCESS
from benchmarks.processes import MB
from benchmarks.record import Check

if TYPE_CHECKING:
    from benchmarks.measuring import Plan
    from benchmarks.peers import Peer
    from benchmarks.record import Record

MUST = {1: 4.0, 32: 12.0, 128: 20.0}  # MB: times faster than anyio.to_process
CALLS = {1: 100, 32: 3, 128: 2}
OTHERS = 32  # MB of what is measured of other kinds
AIM = 2.0  # plain copies at 128 MB


@dataclass(frozen=True)
class Case:
    """What travels, and which way."""

    name: str
    way: str
    thing: Any
    calls: int

    def check(self, result: Any) -> None:
        """All that came back is what was sent."""
        if self.way == "there":
            right = result == len(self.thing)
        elif self.way == "back":
            right = len(result) == self.thing and float(result[-1]) == self.thing - 1
        elif hasattr(self.thing, "equals"):
            right = self.thing.equals(result)
        else:
            right = bool((self.thing == result).all()) if hasattr(self.thing, "all") else self.thing == result
        if not right:
            raise AssertionError(f"{self.name}: what came back is not what was sent")


def float64(megabytes: float) -> Any:
    import numpy

    return numpy.arange(int(megabytes * MB / 8), dtype="float64")


def memcpy(megabytes: float, calls: int) -> float:
    """ms of one plain copy."""
    import numpy

    source, target = float64(megabytes), float64(megabytes)
    return min(timed(lambda: numpy.copyto(target, source)) for _ in range(calls))


def timed(function: Any) -> float:
    start = time.perf_counter()
    function()
    return (time.perf_counter() - start) * 1e3


def cases(plan: Plan, record: Record) -> list[Case]:
    found = []
    for size in sizes(plan):
        found.append(Case(f"{size} MB there and back", "there and back", float64(size), CALLS[size]))
        found.append(Case(f"{size} MB there", "there", float64(size), CALLS[size] // 2 or 1))
        found.append(Case(f"{size} MB back", "back", int(size * MB / 8), CALLS[size] // 2 or 1))
    size = plan.pick(OTHERS, quick=1)
    for kind, thing in other_kinds(size, record).items():
        found.append(Case(f"{size} MB of {kind}", "there and back", thing, 2))
    return found


def sizes(plan: Plan) -> list[int]:
    return plan.pick([*MUST], quick=[1])


def other_kinds(megabytes: int, record: Record) -> dict[str, Any]:
    """Of what is installed."""
    numbers = float64(megabytes)
    kinds = {"bytes": numbers.tobytes(), "every second column": float64(2 * megabytes).reshape(-1, 16)[:, ::2]}
    table = numbers.reshape(-1, 8)
    if here("pandas", record):
        import pandas

        kinds["pandas"] = pandas.DataFrame(table, columns=list("abcdefgh"))
    if here("pyarrow", record):
        import pyarrow

        kinds["pyarrow"] = pyarrow.table({name: table[:, column].copy() for column, name in enumerate("abcdefgh")})
    if here("torch", record):
        import torch

        kinds["torch"] = torch.from_numpy(numbers)
    return kinds


def here(module: str, record: Record) -> bool:
    if importlib.util.find_spec(module):
        return True
    record.note(f"{module} is not installed: not measured")
    return False


async def carried(peer: Peer, every: list[Case]) -> dict[str, float]:
    """ms of the median call of each case. A result is let go before the next is asked for."""
    medians = {}
    async with peer.opened(carry, 1) as call:
        for case in every:
            case.check(await call(case.way, case.thing))
            times = []
            for _ in range(case.calls):
                start = time.perf_counter()
                result = await call(case.way, case.thing)
                times.append((time.perf_counter() - start) * 1e3)
                del result
            medians[case.name] = statistics.median(times)
    return medians


def measure(loop: str, plan: Plan, record: Record) -> None:
    every = cases(plan, record)
    best: dict[str, dict[str, float]] = {}
    for name, rounds in rounds_of(loop, plan, record, [TO_PROCESS], carried, every).items():
        best[name] = {case.name: min(found[case.name] for found in rounds) for case in every}
    copies = {size: memcpy(size, 10) for size in sizes(plan)}
    for case in every:
        for name, times in best.items():
            record.figure(loop, name, case.name, times[case.name], "ms")
    for size, copy in copies.items():
        what = f"{size} MB there and back"
        ours, theirs = best[GIBBS.name][what], best[TO_PROCESS.name][what]
        record.figure(loop, "memcpy", what, copy, "ms")
        record.figure(loop, "gibbs", f"{what}, in plain copies", ours / copy, f"copies (aim {AIM:g} at 128 MB)")
        record.checks.append(Check(loop, f"{what}: anyio.to_process ÷", theirs / ours, ">=", MUST[size]))


def main() -> int:
    return program("arrays", "float64 and others there and back, 1 worker", measure, rounds=5)


if __name__ == "__main__":
    sys.exit(main())
