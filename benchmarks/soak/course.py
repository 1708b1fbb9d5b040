"""The course of a soak: chapters of load under fire, a rest after each, and an end in the middle of it.

Each chapter is a history, judged in the rest after it and then forgotten, so that a soak of any length needs the memory of one
chapter. In a rest nobody asks, no worker runs anything, and all seats serve. The last chapter has no rest: the hub is left
while its callers wait and its workers run. Promises a verdict on every request, and figures that are counts.
"""

from __future__ import annotations

import math
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio

import gibbs
from benchmarks.soak.callers import Callers
from benchmarks.soak.chaos import Chaos
from benchmarks.soak.model import Model, drawn_start
from gibbs.testing import InBand
from tests.histories.history import OUTCOMES, History
from tests.histories.judge import TALLY, Judge
from tests.histories.recorder import RealHalf, monotonic
from tests.leaks.figures import Figures

if TYPE_CHECKING:
    from pathlib import Path

NAME = "soak"
REST = 120.0  # seconds in which a hub that is left in peace has filled its seats: a watchdog
LAST = 2.0  # seconds of the chapter that ends with the hub's


@dataclass(frozen=True)
class Plan:
    """What is to be done. The seed decides every draw, not the timing."""

    seconds: float
    seed: int
    folder: Path  # for the worker's half, and the history of what went wrong
    workers: int = 4
    callers: int = 64
    kill_every: float = 0.3
    chapter_seconds: float = 15.0
    chapter_requests: int = 5_000
    failing_starts: float = 0.2
    in_band: bool = False  # without the side channel: no page, no signal from outside


@dataclass
class Report:
    """What came of it."""

    plan: Plan
    seconds: float = 0.0
    chapters: int = 0
    totals: Counter[str] = field(default_factory=Counter)  # what callers heard
    ledger: Counter[tuple[str, str]] = field(default_factory=Counter)  # settled by the hub as, heard as
    hub: Counter[str] = field(default_factory=Counter)  # what the hub's statistics say
    chaos: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    story: str = ""  # of the first chapter with a problem
    before: Figures | None = None  # before the hub was opened
    rests: list[Figures] = field(default_factory=list)  # in the rest after each chapter
    after: Figures | None = None  # when it was closed

    def balance(self) -> None:
        """Add to the problems what does not balance over the whole."""
        heard = sum(self.totals[outcome] for outcome in OUTCOMES)
        if heard != self.totals["asked"]:
            self.problems.append(f"{self.totals['asked']} requests were asked, {heard} outcomes were heard")
        assert self.before is not None
        assert self.after is not None
        if sum(self.ledger.values()) != self.totals["asked"]:
            self.problems.append(f"{self.totals['asked']} requests were asked, the ledger is {self.ledger}")
        for name in TALLY:
            if self.hub[name] != sum(count for (settled, _), count in self.ledger.items() if settled == name):
                self.problems.append(f"statistics say {self.hub[name]} {name}, the ledger is {self.ledger}")
        if self.before.counted != self.after.counted:
            self.problems.append(f"before: {self.before}; after: {self.after}")
        if self.rests:
            first, last = self.rests[0], self.rests[-1]
            if last.rss > 1.5 * first.rss + 64e6 or last.blocks > first.blocks + 5_000 + self.totals["asked"] / 10:
                self.problems.append(f"memory grew: {first} after the first chapter, {last} after the last")


async def soak(plan: Plan) -> Report:
    """Live through it on the loop that runs."""
    course = Course(plan)
    course.report.before = Figures.take()
    start = time.monotonic()
    with course.half.watching():
        try:
            await course.run()
        except Exception:  # noqa: BLE001 - whatever came out of the hub, or of the soak itself, is a finding
            course.half.merge()
            course.report.story = course.report.story or str(course.history)
            course.report.problems.append(traceback.format_exc())
    course.report.seconds = time.monotonic() - start
    course.report.after = Figures.take()
    course.report.balance()
    return course.report


class Course:
    """One hub and all that it goes through."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.report = Report(plan)
        path = plan.folder / "worker-half"
        path.touch(mode=0o600)
        facts = {
            "workers": plan.workers,
            "max_pending": math.inf,
            "close_timeout": 5.0,
            "close_slack": 20.0,  # a watchdog: the machine is busy with what the soak does to it
            "seats_at_end": {"serving": plan.workers},
            "may_raise": set(),
        }
        self.history = History(facts, clock=monotonic)
        self.half = RealHalf(self.history, NAME, path)
        self.hub: Any = None
        self.seen: Counter[str] = Counter()  # the hub's statistics when the chapter began

    async def run(self) -> None:
        plan = self.plan
        launcher: Any = gibbs.LocalLauncher(output="discard")
        if plan.in_band:
            launcher = InBand(launcher)
        until = time.monotonic() + plan.seconds
        async with anyio.create_task_group() as outside:
            async with gibbs.open_hub(
                Model,
                str(self.half.path),
                plan.seed,
                plan.workers,
                plan.failing_starts,
                workers=plan.workers,
                name=NAME,
                launcher=launcher,
                restarts=gibbs.RestartPolicy(max_failures=math.inf),
            ) as self.hub:
                callers = Callers(self.half, self.hub, seed=plan.seed, number=plan.callers)
                chaos = Chaos(self.hub, launcher, self.half.harmed, seed=plan.seed, kill_every=plan.kill_every)
                self.report.totals, self.report.chaos = callers.totals, chaos.counts
                while True:
                    await self.chapter(callers, chaos, until - LAST)
                    if time.monotonic() > until - LAST or self.report.problems:
                        break
                async with anyio.create_task_group() as fire:
                    fire.start_soon(chaos.run)
                    outside.start_soon(callers.run, lambda: not callers.totals["refused"])
                    await anyio.sleep(LAST)
                    fire.cancel_scope.cancel()
                self.history.record("leaving")
            self.history.record("closed")
        self.history.record("session over")
        self.history.facts["seats_at_end"] = {"retired": plan.workers}
        self.read(chaos)
        self.count_starts()

    def count_starts(self) -> None:
        plan = self.plan
        starts = self.half.path.with_name(self.half.path.name + ".starts").stat().st_size
        drawn = [drawn_start(plan.seed, number, plan.workers, plan.failing_starts) for number in range(1, starts + 1)]
        self.report.chaos["starts of a model"] = starts
        self.report.chaos["starts that were drawn to fail"] = sum(map(bool, drawn))

    async def chapter(self, callers: Callers, chaos: Chaos, until: float) -> None:
        """Load under fire, then a rest, then the verdict."""
        plan = self.plan
        until = min(until, time.monotonic() + plan.chapter_seconds)
        most = callers.totals["asked"] + plan.chapter_requests
        async with anyio.create_task_group() as fire:
            fire.start_soon(chaos.run)
            await callers.run(lambda: time.monotonic() < until and callers.totals["asked"] < most)
            fire.cancel_scope.cancel()
        chaos.mercy()
        with anyio.move_on_after(REST) as rest:
            while not self.is_at_rest():
                await anyio.sleep(0.01)
        if rest.cancelled_caught:
            self.history.problems.append(f"after {REST} seconds of rest: {self.hub!r}")
        self.read(chaos)
        if not self.report.problems:
            self.half.turn_the_page()
            self.report.rests.append(Figures.take())

    def is_at_rest(self) -> bool:
        """Whether all seats serve and no worker has anything, not even a call that nobody waits for."""
        seats = self.hub._desk.crew.dispatcher.seats
        return all(seat.state == "serving" and not seat.held for seat in seats)

    def read(self, chaos: Chaos) -> None:
        """Let the judge read this chapter."""
        said = self.hub.statistics()
        now = Counter({name: getattr(said, name) for name in (*TALLY, "restarts", "interrupted", "killed")})
        detail = {name: now[name] - self.seen[name] for name in TALLY}
        seats = {state: number for state, number in said.seats.items() if number}
        self.history.record(
            "statistics", detail=detail | {"queued": said.queued, "running": said.running, "seats": seats}
        )
        self.seen = self.report.hub = now
        self.half.merge()
        judge = Judge(self.history)
        problems = judge.problems() + chaos.problems
        self.report.ledger.update(judge.ledger())
        self.report.chapters += 1
        if problems and not self.report.story:
            self.report.story = str(self.history)
        self.report.problems += problems
