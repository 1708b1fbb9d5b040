"""Find a short round trip through many towns, as short as can be found in the time that the caller has.

    python examples/anytime.py --seconds 1

There is no time to look at every trip, and there is always a better one to look for. So the model asks how long its caller will wait, and
gives the best that it has found when that is nearly over. The caller says it as callers always do: with a scope.
"""

import argparse
import math
import random
import time

import anyio

import gibbs

Town = tuple[float, float]


class Planner:
    def __init__(self, spare: float) -> None:
        self.spare = spare  # seconds for the way back

    def trip(self, towns: list[Town]) -> tuple[float, list[Town]]:
        """Turn parts of a trip around as long as that makes it shorter, from one random trip after the other."""
        best = self.improved(random.sample(towns, len(towns)))
        while gibbs.remaining() > self.spare:
            best = min(best, self.improved(random.sample(towns, len(towns))))
        return best

    def improved(self, trip: list[Town]) -> tuple[float, list[Town]]:
        shorter = True
        while shorter and gibbs.remaining() > self.spare:
            shorter = False
            for i in range(1, len(trip) - 1):
                for j in range(i + 1, len(trip)):
                    a, b, c, d = trip[i - 1], trip[i], trip[j], trip[(j + 1) % len(trip)]
                    if math.dist(a, c) + math.dist(b, d) < math.dist(a, b) + math.dist(c, d) - 1e-9:
                        trip[i : j + 1] = reversed(trip[i : j + 1])
                        shorter = True
        return sum(math.dist(trip[k - 1], trip[k]) for k in range(len(trip))), trip


async def main(seconds: float, spare: float, towns: int, workers: int) -> None:
    places = [(random.random(), random.random()) for _ in range(towns)]
    found: list[float] = []

    async def plan(calls: gibbs.Endpoint[[list[Town]], tuple[float, list[Town]]]) -> None:
        with anyio.fail_after(seconds):
            length, _ = await calls.request(places)
        found.append(length)

    async with gibbs.open_hub(Planner, spare, workers=workers) as hub:
        started = time.perf_counter()
        async with anyio.create_task_group() as tg:
            for _ in range(workers):
                tg.start_soon(plan, hub.method(Planner.trip))
        print(f"{towns} towns, {time.perf_counter() - started:.1f} s: a trip of {min(found):.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--spare", type=float, default=0.05, help="seconds of them for the way back")
    parser.add_argument("--towns", type=int, default=80)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio")
    options = parser.parse_args()
    anyio.run(main, options.seconds, options.spare, options.towns, options.workers, backend=options.backend)
