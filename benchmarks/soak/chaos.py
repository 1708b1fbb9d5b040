"""What befalls the hub: two tasks that do harm, each by dice of its own.

Knows pids, signals and the public face of a hub. Promises that what it stopped is running or dead when `mercy` returns, and that
it hits only children of this program.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import anyio

import gibbs

if TYPE_CHECKING:
    from collections.abc import Callable

MISCHIEF = [
    ("stopped for a while", 3),
    ("stopped for ever", 2),
    ("segmentation fault from outside", 2),
    ("loop blocked", 2),
    ("second hub", 1),
]


def what_it_does(target: Any) -> str:
    """The worker of this supervisor, in words."""
    if target.on_trial:
        return "is tried"
    if target.seat.dismissed:
        return "is to go"
    return {"starting": "starts", "spare": "stands by", "dying": "dies"}.get(target.seat.state, "serves")


class Second:
    """The model of the hub beside the hub."""

    def __call__(self, x: int) -> int:
        return -x


class Chaos:
    """Harm, counted by kind."""

    def __init__(
        self,
        hub: gibbs.Hub[Any],
        launcher: gibbs.abc.Launcher,
        harmed: Callable[[int, signal.Signals], None],
        *,
        seed: int,
        kill_every: float,
    ) -> None:
        self.hub = hub
        self.harmed = harmed  # told before each signal
        self.launcher = launcher
        self.kill_every = kill_every
        self.dice = random.Random(f"{seed}: chaos")
        self.killer_dice = random.Random(f"{seed}: killer")
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        self.stopped: set[int] = set()

    async def run(self) -> None:
        """Do harm until cancelled."""
        async with anyio.create_task_group() as tg:
            tg.start_soon(self.kills)
            tg.start_soon(self.mischief)

    def mercy(self) -> None:
        """End what is stopped."""
        for pid in self.stopped:
            self.hit(pid, signal.SIGKILL)
        self.stopped.clear()

    # ---- the killer

    async def kills(self) -> None:
        """Every worker that has a process is a target: one that serves, stands by, starts, is to take another's place, or is on its way out."""
        while True:
            await anyio.sleep(self.kill_every * self.killer_dice.uniform(0.5, 1.5))
            targets = [one for one in self.hub._desk.crew.supervisors if one.pid is not None]
            if not targets:
                self.counts["kill missed: no process"] += 1
                continue
            target = self.killer_dice.choice(targets)
            what = what_it_does(target)
            if self.hit(target.pid, signal.SIGKILL):
                self.counts[f"SIGKILL of a worker that {what}"] += 1

    def hit(self, pid: int, number: signal.Signals) -> bool:
        """Send a signal, if this is a child of ours that was not reaped: then its pid is nobody else's."""
        try:
            gone = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        if gone is not None:
            return False
        self.harmed(pid, number)
        os.kill(pid, number)
        return True

    # ---- the rest

    async def mischief(self) -> None:
        names, weights = zip(*MISCHIEF, strict=True)
        while True:
            await anyio.sleep(self.dice.uniform(0.2, 1.0))
            what = self.dice.choices(names, weights)[0]
            pids = [pid for pid in self.hub.statistics().pids if pid is not None]
            victim = self.dice.choice(pids) if pids else 0
            if what == "loop blocked":
                time.sleep(self.dice.uniform(0.05, 0.5))
            elif what == "second hub":
                await self.second_hub()
            elif not victim:
                continue
            elif what == "segmentation fault from outside":
                self.hit(victim, signal.SIGSEGV)
            elif what == "stopped for ever":
                self.stop(victim)
            else:
                await self.stop_for_a_while(victim)
            self.counts[what] += 1

    def stop(self, pid: int) -> None:
        if self.hit(pid, signal.SIGSTOP):
            self.stopped.add(pid)

    async def stop_for_a_while(self, pid: int) -> None:
        self.stop(pid)
        await anyio.sleep(self.dice.uniform(0.05, 1.5))  # cut, it stays among the stopped
        with contextlib.suppress(KeyError):
            self.stopped.remove(pid)
            self.hit(pid, signal.SIGCONT)

    async def second_hub(self) -> None:
        """Open another hub, ask it, leave it: sometimes in the middle of a call."""
        async with gibbs.open_hub(
            Second, workers=self.dice.choice([1, 2]), name="second", launcher=self.launcher
        ) as hub:
            for x in range(self.dice.randrange(4)):
                if (answer := await hub.request(x)) != -x:
                    self.problems.append(f"the second hub answered {answer} to {x}")
