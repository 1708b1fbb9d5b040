"""How often an idle hub and its workers wake up in 10 s, and those of peers.

    python -m benchmarks.idle [--rounds N] [--backend trio] [--json PATH]

Each is a program of its own, which has answered requests and sits in its loop. From outside, the kernel's count of context switches of each
of its threads, and of its workers' threads, is read twice.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from benchmarks.measuring import program
from benchmarks.peers import GIBBS, peers_on
from benchmarks.processes import descendants, switches, wakings
from benchmarks.record import Check

if TYPE_CHECKING:
    from benchmarks.measuring import Plan
    from benchmarks.peers import Peer
    from benchmarks.record import Record

SETTLE = 1.0  # seconds in which a program may still put away what the requests have left
SECONDS = 10.0


class Sitting:
    """One such program."""

    def __init__(self, peer: Peer, loop: str) -> None:
        command = [sys.executable, "-m", "benchmarks.sitting", peer.name, loop]
        self.what = f"{peer.name} on {loop}"
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Sitting:
        return self

    def __exit__(self, *_: object) -> None:
        """A program that is killed leaves workers behind, if they are not gibbs's: these are ended too."""
        for pid in [self.process.pid, *descendants(self.process.pid)]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.communicate()

    def wait(self) -> None:
        assert self.process.stdout is not None
        if self.process.stdout.readline() != "sitting\n":
            raise RuntimeError(f"{self.what} did not come as far as to sit")

    def switches(self) -> dict[str, dict[int, int]]:
        workers: dict[int, int] = {}
        for pid in descendants(self.process.pid):
            workers |= switches(pid)
        return {"program": switches(self.process.pid), "workers": workers}


def measure(loop: str, plan: Plan, record: Record) -> None:
    settle, seconds = plan.pick((SETTLE, SECONDS), quick=(0.1, 0.2))
    peers = [GIBBS, *(peer for peer in peers_on(loop) if peer.installed)]
    best: dict[str, dict[str, int]] = {}
    for _ in range(plan.rounds):
        for name, woke in sit_together(peers, loop, settle, seconds).items():
            if name not in best or sum(woke.values()) < sum(best[name].values()):
                best[name] = woke
    for name, woke in best.items():
        for who, times in woke.items():
            record.figure(loop, name, f"wake-ups of the {who} in {seconds:g} s", times, "times")
    for who, times in best[GIBBS.name].items():
        record.checks.append(Check(loop, f"wake-ups of the {who} in {seconds:g} s", times, "<=", 0))


def sit_together(peers: list[Peer], loop: str, settle: float, seconds: float) -> dict[str, dict[str, int]]:
    """How often each has woken. They sit side by side: who sits does not disturb."""
    with ExitStack() as stack:
        sitting = {peer.name: stack.enter_context(Sitting(peer, loop)) for peer in peers}
        for each in sitting.values():
            each.wait()
        time.sleep(settle)
        before = {name: each.switches() for name, each in sitting.items()}
        time.sleep(seconds)
        after = {name: each.switches() for name, each in sitting.items()}
    return {name: {who: wakings(before[name][who], threads) for who, threads in after[name].items()} for name in after}


def main() -> int:
    return program("idle", "2 workers, 1,000 requests, and then nothing to do", measure, rounds=1)


if __name__ == "__main__":
    sys.exit(main())
