"""How long it takes to start: a hub of eight light workers, and a seat whose worker was killed.

    python -m benchmarks.starting [--rounds N] [--backend trio] [--json PATH]

The first beside eight times a bare interpreter, `python -c pass`; the second, from the SIGKILL to the next answer, beside the first answer of
anyio.to_process in a loop that has no worker yet. The best round of each counts.
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
from benchmarks.models import tiny
from benchmarks.peers import GIBBS, TO_PROCESS, Peer, peers_on
from benchmarks.record import Check

if TYPE_CHECKING:
    from benchmarks.measuring import Plan
    from benchmarks.record import Record

WORKERS = 8
MUST_OPEN, MUST_REVIVE = 2.5, 1.0


def bare_interpreter() -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return (time.perf_counter() - start) * 1e3


async def open_eight(workers: int) -> float:
    start = time.perf_counter()
    async with gibbs.open_hub(gibbs.function(tiny), workers=workers):
        return (time.perf_counter() - start) * 1e3


async def revive() -> float:
    """From the death of the only worker to the next answer; whoever was told of the death asks again."""
    async with gibbs.open_hub(gibbs.function(tiny), workers=1) as hub:
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
    for _ in range(plan.rounds):
        bare += [bare_interpreter() for _ in range(workers)]
        opened.append(run(loop, open_eight, workers))
        revived.append(run(loop, revive))
        for peer in peers:
            first[peer.name].append(run(loop, first_answer, peer))
    record.figure(loop, "python -c pass", "a bare interpreter", min(bare), "ms")
    record.figure(loop, "gibbs", f"opening with {workers} workers", min(opened), "ms")
    record.figure(loop, "gibbs", "an answer after a SIGKILL", min(revived), "ms")
    for name, times in first.items():
        record.figure(loop, name, "first answer, 1 worker", min(times), "ms")
    ratio = min(opened) / (workers * min(bare))
    record.checks.append(Check(loop, f"opening {workers} ÷ {workers} × a bare interpreter", ratio, "<=", MUST_OPEN))
    ratio = min(revived) / min(first[TO_PROCESS.name])
    record.checks.append(Check(loop, "serving after a kill ÷ anyio.to_process's first", ratio, "<=", MUST_REVIVE))


def main() -> int:
    logging.getLogger("gibbs").setLevel(logging.ERROR)  # of each kill a warning
    return program("starting", "workers that start, and a seat whose worker was killed", measure, rounds=5)


if __name__ == "__main__":
    sys.exit(main())
