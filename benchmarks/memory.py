"""What is kept in memory: by a worker of a trivial model, and by the hub of a payload whose call has begun.

    python -m benchmarks.memory [--rounds N] [--backend trio] [--json PATH]

Private memory is what `smaps_rollup` calls so. The payload is looked at while it waits behind another call, and while its own call runs:
then one copy is the model's argument, and the hub must have none of its own. `all together` counts shared pages once, and leaves out the
caller's own object: then there must be the model's argument and no more.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from benchmarks.measuring import program, rounds_of, run
from benchmarks.models import hold, tiny
from benchmarks.peers import GIBBS, peers_on
from benchmarks.processes import MB, Memory, descendants
from benchmarks.record import Check

if TYPE_CHECKING:
    from benchmarks.measuring import Plan
    from benchmarks.peers import Call, Peer
    from benchmarks.record import Record

WORKERS = 2
PAYLOAD = 64  # MB
SETTLE = 0.1  # seconds from the model's word that it has begun, for what the hub does when it hears of it
MUST_MB = 16.0
MUST_KEEP = 0.1  # of the payload, beside the model's argument: who keeps nothing has allocated a little all the same


async def of_a_worker(peer: Peer) -> float:
    """Private MB of a worker that has answered; of several, the largest."""
    async with peer.opened(tiny, WORKERS) as call:
        async with anyio.create_task_group() as tg:
            for _ in range(WORKERS):
                tg.start_soon(ask_often, call)
        return max(Memory.of(pid).private for pid in descendants(os.getpid()) if answers(pid))


async def ask_often(call: Call) -> None:
    for x in range(100):
        await call(x)


def answers(pid: int) -> bool:
    """Whether it is a worker, and not what the multiprocessing of some peers starts beside them."""
    command = Path(f"/proc/{pid}/cmdline").read_bytes()
    return b"resource_tracker" not in command and b"semaphore_tracker" not in command


async def of_a_payload(payload: Any) -> dict[str, float]:
    """Copies of the payload: the hub's own, and those of all processes, while it waits and while its call runs."""
    size = getattr(payload, "nbytes", len(payload)) / MB
    with tempfile.TemporaryDirectory(prefix="gibbs-memory-") as name:
        folder = Path(name)
        async with GIBBS.opened(hold, 1) as call:
            await ask(call, payload[:1], folder, "warm", at_once=True)
            before = now()
            async with anyio.create_task_group() as tg:
                tg.start_soon(ask, call, payload[:1], folder, "first")
                await seen(folder / "first begun")
                tg.start_soon(ask, call, payload, folder, "second")
                await anyio.sleep(SETTLE)
                waiting = now()
                (folder / "first until").touch()
                await seen(folder / "second begun")
                await anyio.sleep(SETTLE)
                running = now()
                (folder / "second until").touch()
    return {
        "the hub, while it waits": (waiting[0] - before[0]) / size,
        "all together, while it waits": (waiting[1] - before[1]) / size,
        "the hub, while its call runs": (running[0] - before[0]) / size,
        "all together, while its call runs": (running[1] - before[1]) / size,
    }


async def ask(call: Call, payload: Any, folder: Path, name: str, at_once: bool = False) -> None:
    if at_once:
        (folder / f"{name} until").touch()
    await call(payload, str(folder / f"{name} begun"), str(folder / f"{name} until"))


async def seen(path: Path) -> None:
    while not path.exists():
        await anyio.sleep(0.001)


def now() -> tuple[float, float]:
    """Private MB of this process, and MB of it and its workers together."""
    every = {pid: Memory.of(pid) for pid in [os.getpid(), *descendants(os.getpid())]}
    return every[os.getpid()].private, sum(memory.part for memory in every.values())


def payloads(megabytes: int) -> dict[str, Any]:
    import numpy

    return {"bytes": bytes(b"x" * (megabytes * MB)), "float64": numpy.ones(megabytes * MB // 8)}


def measure(loop: str, plan: Plan, record: Record) -> None:
    for name, found in rounds_of(loop, plan, record, peers_on(loop), of_a_worker).items():
        record.figure(loop, name, "a worker of a trivial model", min(found), "MB private")
        if name == GIBBS.name:
            record.checks.append(Check(loop, "a worker of a trivial model, private MB", min(found), "<=", MUST_MB))
    for kind, payload in payloads(plan.pick(PAYLOAD, quick=16)).items():
        rounds = [run(loop, of_a_payload, payload) for _ in range(plan.rounds)]
        best = min(rounds, key=lambda copies: copies["the hub, while its call runs"])
        for what, copies in best.items():
            record.figure(loop, "gibbs", f"{kind}: {what}", copies, "copies")
        kept = best["the hub, while its call runs"]
        record.checks.append(Check(loop, f"copies of {kind} in the hub while its call runs", kept, "<=", MUST_KEEP))
        copies = best["all together, while its call runs"]
        record.checks.append(Check(loop, f"copies of {kind} anywhere while its call runs", copies, "<=", 1 + MUST_KEEP))


def main() -> int:
    return program("memory", f"a worker of a trivial model, and a payload of {PAYLOAD} MB", measure, rounds=1)


if __name__ == "__main__":
    sys.exit(main())
