"""One tiny request at a time, and many at once, to a worker that is a Ray actor: beside one on this machine, and beside calls of actors.

    python -m benchmarks.ray [--rounds N] [--backend trio] [--json PATH]

Starts a small Ray on this machine, and ends it. Needs `gibbs[ray]`; not among the rows of `python -m benchmarks`.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from itertools import cycle
from typing import TYPE_CHECKING, Any

import anyio

import gibbs
from benchmarks.measuring import percentile, program, run
from benchmarks.models import tiny
from benchmarks.record import Check
from gibbs.contrib.ray import RayLauncher
from gibbs.testing import InBand

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from benchmarks.measuring import Plan
    from benchmarks.record import Record

REQUESTS, WARM_UP, MANY, IN_FLIGHT, WORKERS = 1500, 400, 6000, 256, 2


@asynccontextmanager
async def open_over(launcher: Any, workers: int) -> AsyncIterator[Callable[[int], Awaitable[int]]]:
    async with gibbs.open_hub(gibbs.function(tiny), workers=workers, launcher=launcher, start_timeout=100) as hub:
        yield hub.request


@asynccontextmanager
async def open_actors(count: int) -> AsyncIterator[Callable[[int], Awaitable[int]]]:
    """Ray's own calls, awaited by what their futures tell the loop: from Trio as well as from asyncio."""
    import ray

    from gibbs.contrib._ray_words import Word

    class Actor:
        def call(self, x: int) -> int:
            return tiny(x)

    actors: list[Any] = [ray.remote(Actor).options(num_cpus=0).remote() for _ in range(count)]
    turn = cycle(actors)

    async def call(x: int) -> Any:
        word = Word(lambda: None)
        word.follow(next(turn).call.remote(x))
        await word.said.wait()
        return word.result

    yield call
    for actor in actors:
        ray.kill(actor)


OPENED: dict[str, Callable[[int], Any]] = {
    "local, in band": lambda workers: open_over(InBand(gibbs.LocalLauncher()), workers),
    "over Ray, in the clear": lambda workers: open_over(RayLauncher(num_cpus=0, encrypt=False), workers),
    "over Ray, encrypted": lambda workers: open_over(RayLauncher(num_cpus=0), workers),
    "calls of Ray actors": open_actors,
}


async def figures_of(opened: Callable[[int], Any], requests: int, warm_up: int, many: int) -> tuple[float, float]:
    """p50 in µs of one worker, and requests a second of two with many in flight."""
    times = []
    async with opened(1) as call:
        for x in range(warm_up):
            await call(x)
        for x in range(requests):
            start = time.perf_counter()
            y = await call(x)
            times.append((time.perf_counter() - start) * 1e6)
            assert y == x + 1

    async def client(call: Callable[[int], Awaitable[int]], left: Iterator[int]) -> None:
        for x in left:
            await call(x)

    async def clients(call: Callable[[int], Awaitable[int]], count: int) -> None:
        left = iter(range(count))
        async with anyio.create_task_group() as tg:
            for _ in range(IN_FLIGHT):
                tg.start_soon(client, call, left)

    async with opened(WORKERS) as call:
        await clients(call, warm_up)
        start = time.perf_counter()
        await clients(call, many)
        return percentile(sorted(times), 50), many / (time.perf_counter() - start)


def measure(loop: str, plan: Plan, record: Record) -> None:
    counts = plan.pick((REQUESTS, WARM_UP, MANY), quick=(20, 5, 50))
    best: dict[str, tuple[float, float]] = {}
    for _ in range(plan.rounds):
        for name, opened in OPENED.items():
            p50, rate = run(loop, figures_of, opened, *counts)
            before = best.get(name, (p50, rate))
            best[name] = min(p50, before[0]), max(rate, before[1])
    for name, (p50, rate) in best.items():
        record.figure(loop, name, "p50", p50, "µs")
        record.figure(loop, name, f"{IN_FLIGHT} in flight, {WORKERS} workers", rate, "requests/s")
    local, clear, encrypted, actor = best.values()
    record.checks.append(Check(loop, "over Ray in the clear, p50 ÷ local in band", clear[0] / local[0], "<=", 2.0, 1.5))
    record.checks.append(
        Check(loop, "over Ray encrypted, p50 ÷ local in band", encrypted[0] / local[0], "<=", 4.0, 2.5)
    )
    record.checks.append(
        Check(loop, "over Ray in the clear, throughput ÷ calls of actors", clear[1] / actor[1], ">=", 5.0)
    )


def main() -> int:
    os.environ["RAY_AUTH_MODE"] = "disabled"  # its ports are those of the loopback, for a minute
    import ray

    with tempfile.TemporaryDirectory(prefix="gibbs-ray-", ignore_cleanup_errors=True) as directory:
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False, _temp_dir=directory)
        try:
            return program("ray", "workers that are Ray actors, beside one on this machine", measure, rounds=3)
        finally:
            ray.shutdown()


if __name__ == "__main__":
    sys.exit(main())
