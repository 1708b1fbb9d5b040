"""How long it takes to start: a hub of eight light workers, and a seat whose worker was killed.

    python -m benchmarks.starting [--rounds N] [--backend trio] [--json PATH]

The first beside eight times a bare interpreter, `python -c pass`; the second, from the SIGKILL to the next answer, beside the first answer of
anyio.to_process in a loop that has no worker yet; and the same for a model that needs numpy, whose next worker is forked from a template that
has imported it, beside one that is spawned. The best round of each counts.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import gibbs
from benchmarks.measuring import program, run
from benchmarks.models import needs_numpy, tiny
from benchmarks.peers import GIBBS, TO_PROCESS, Peer, peers_on
from benchmarks.record import Check

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.measuring import Plan
    from benchmarks.record import Record

WORKERS = 8
MUST_OPEN, MUST_REVIVE, MUST_FORK = 2.5, 1.0, 0.1
LAUNCHERS: dict[str, gibbs.LocalLauncher] = {
    "spawned": gibbs.LocalLauncher(),
    "forked": gibbs.ForkLauncher(preload=["numpy", "benchmarks.models"]),
}


def bare_interpreter() -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return (time.perf_counter() - start) * 1e3


async def open_eight(workers: int) -> float:
    start = time.perf_counter()
    async with gibbs.open_hub(gibbs.function(tiny), workers=workers):
        return (time.perf_counter() - start) * 1e3


async def revive(function: Callable[[int], int] = tiny, launcher: gibbs.LocalLauncher | None = None) -> float:
    """From the death of the only worker to the next answer; whoever was told of the death asks again."""
    async with gibbs.open_hub(gibbs.function(function), workers=1, launcher=launcher or gibbs.LocalLauncher()) as hub:
        await hub.request(1)
        [pid] = hub.statistics().pids
        assert pid is not None
        start = time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        while True:
            try:
                await hub.request(1)
            except gibbs.WorkerCrashed:
                continue
            if hub.statistics().pids != (pid,):  # an answer of the killed one may have been on its way
                return (time.perf_counter() - start) * 1e3


async def first_answer(peer: Peer) -> float:
    start = time.perf_counter()
    async with peer.opened(tiny, 1) as call:
        await call(1)
        return (time.perf_counter() - start) * 1e3


def measure(loop: str, plan: Plan, record: Record) -> None:
    workers = plan.pick(WORKERS, quick=2)
    peers = [GIBBS, *(peer for peer in peers_on(loop) if peer.installed)]
    bare, opened, revived = [], [], []
    first: dict[str, list[float]] = {peer.name: [] for peer in peers}
    with_numpy: dict[str, list[float]] = {kind: [] for kind in LAUNCHERS}
    for _ in range(plan.rounds):
        bare += [bare_interpreter() for _ in range(workers)]
        opened.append(run(loop, open_eight, workers))
        revived.append(run(loop, revive))
        for kind, launcher in LAUNCHERS.items():
            with_numpy[kind].append(run(loop, revive, needs_numpy, launcher))
        for peer in peers:
            first[peer.name].append(run(loop, first_answer, peer))
    record.figure(loop, "python -c pass", "a bare interpreter", min(bare), "ms")
    record.figure(loop, "gibbs", f"opening with {workers} workers", min(opened), "ms")
    record.figure(loop, "gibbs", "an answer after a SIGKILL", min(revived), "ms")
    for kind, times in with_numpy.items():
        record.figure(loop, "gibbs", f"an answer after a SIGKILL, with numpy, {kind}", min(times), "ms")
    for name, times in first.items():
        record.figure(loop, name, "first answer, 1 worker", min(times), "ms")
    ratio = min(opened) / (workers * min(bare))
    record.checks.append(Check(loop, f"opening {workers} ÷ {workers} × a bare interpreter", ratio, "<=", MUST_OPEN))
    ratio = min(revived) / min(first[TO_PROCESS.name])
    record.checks.append(Check(loop, "serving after a kill ÷ anyio.to_process's first", ratio, "<=", MUST_REVIVE))
    ratio = min(with_numpy["forked"]) / min(with_numpy["spawned"])
    record.checks.append(Check(loop, "serving after a kill, with numpy, forked ÷ spawned", ratio, "<=", MUST_FORK))


def main() -> int:
    logging.getLogger("gibbs").setLevel(logging.ERROR)  # of each kill a warning
    return program("starting", "workers that start, and a seat whose worker was killed", measure, rounds=5)


if __name__ == "__main__":
    sys.exit(main())
