"""The course of a soak: chapters of load under fire, a rest after each, and an end in the middle of it.

Each chapter is a history, judged in the rest after it and then forgotten, so that a soak of any length needs the memory of one
chapter. In a rest nobody asks, no worker runs anything, and the hub is as large as at first. The last chapter has no rest: the hub is left
while its callers wait and its workers run. Promises a verdict on every request, and figures that are counts.
"""

from __future__ import annotations

import math
import random
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
from benchmarks.soak.owner import Owner
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
RECYCLED = ("recycled", "not recycled")


@dataclass(frozen=True)
class Plan:
    """What is to be done. The seed decides every draw, not the timing."""

    seconds: float
    seed: int
    folder: Path  # for the worker's half, and the history of what went wrong
    workers: int = 4
    spares: int = 1
    callers: int = 64
    kill_every: float = 0.3
    chapter_seconds: float = 15.0
    chapter_requests: int = 5_000
    failing_starts: float = 0.1
    in_band: bool = False  # without the side channel: no page, no signal from outside

    @property
    def recycle(self) -> gibbs.Recycle:
        """Workers have little time between two kills, so their limits are narrow."""
        dice = random.Random(f"{self.seed}: recycling")
        return gibbs.Recycle(
            max_requests=dice.choice([100, 300]), max_age=dice.choice([2, 4]), jitter=0.5, surge=dice.choice([0, 1])
        )


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
    changes: Counter[str] = field(default_factory=Counter)  # what became of its owner's, and of the hub's own
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
            # What arenas have mapped stays as it was when most was on its way.
            own, mapped = last.rss - last.shared, last.shared - first.shared
            blocks = last.blocks - first.blocks
            grew = own > 1.5 * (first.rss - first.shared) + 64e6 or mapped > 128e6
            if grew or blocks > 5_000 + self.totals["asked"] / 10:
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
        args = (str(self.half.path), plan.seed, plan.workers + plan.spares, plan.failing_starts)
        until = time.monotonic() + plan.seconds
        async with anyio.create_task_group() as outside:
            async with gibbs.open_hub(
                Model,
                *args,
                0,
                workers=plan.workers,
                spares=plan.spares,
                name=NAME,
                launcher=launcher,
                restarts=gibbs.RestartPolicy(max_failures=math.inf, recycle=plan.recycle),
            ) as self.hub:
                callers = Callers(self.half, self.hub, seed=plan.seed, number=plan.callers)
                chaos = Chaos(self.hub, launcher, self.half.harmed, seed=plan.seed, kill_every=plan.kill_every)
                self.owner = Owner(self.history, self.hub, args, seed=plan.seed, workers=plan.workers)
                self.report.totals, self.report.chaos = callers.totals, chaos.counts
                self.report.changes = self.owner.counts
                while True:
                    await self.chapter(callers, chaos, until - LAST)
                    if time.monotonic() > until - LAST or self.report.problems:
                        break
                async with anyio.create_task_group() as fire:
                    fire.start_soon(chaos.run)
                    goes_on = lambda: not callers.totals["refused"]  # noqa: E731
                    outside.start_soon(callers.run, goes_on)
                    outside.start_soon(self.owner.run, goes_on)
                    await anyio.sleep(LAST)
                    fire.cancel_scope.cancel()
                self.history.record("leaving")
            self.history.record("closed")
        self.history.record("session over")
        self.read(chaos, {})
        self.count_starts()

    def count_starts(self) -> None:
        plan = self.plan
        starts = self.half.path.with_name(self.half.path.name + ".starts").stat().st_size
        sure = plan.workers + plan.spares
        drawn = [drawn_start(plan.seed, number, sure, plan.failing_starts) for number in range(1, starts + 1)]
        self.report.chaos["starts of a model"] = starts
        self.report.chaos["starts that were drawn to fail"] = sum(map(bool, drawn))

    async def chapter(self, callers: Callers, chaos: Chaos, until: float) -> None:
        """Load under fire, then a rest, then the verdict."""
        plan = self.plan
        until = min(until, time.monotonic() + plan.chapter_seconds)
        most = callers.totals["asked"] + plan.chapter_requests
        goes_on = lambda: time.monotonic() < until and callers.totals["asked"] < most  # noqa: E731
        async with anyio.create_task_group() as changes:
            changes.start_soon(self.owner.run, goes_on)
            async with anyio.create_task_group() as fire:
                fire.start_soon(chaos.run)
                await callers.run(goes_on)
                fire.cancel_scope.cancel()
            chaos.mercy()  # before the last change is over, that a stopped worker may hold up
        with anyio.move_on_after(REST) as rest:
            while not self.is_at_rest():
                await anyio.sleep(0.01)
        if rest.cancelled_caught:
            self.history.problems.append(f"after {REST} seconds of rest: {self.hub!r}")
        self.read(chaos, {"serving": plan.workers, "spare": plan.spares})
        if not self.report.problems:
            self.half.turn_the_page()
            self.owner.may_answer(self.owner.models)
            self.report.rests.append(Figures.take())

    def is_at_rest(self) -> bool:
        """Whether as many serve and stand by as should, and no other worker is there, nor anything that one has: no call that nobody waits for."""
        crew = self.hub._desk.crew
        states = Counter(seat.state for seat in crew.dispatcher.seats if not seat.held)
        states["retired"] = 0
        return crew.staffing.is_settled and +states == {"serving": self.plan.workers, "spare": self.plan.spares}

    def read(self, chaos: Chaos, seats_at_end: dict[str, int]) -> None:
        """Let the judge read this chapter. Seats that are in no state of these are retired."""
        said = self.hub.statistics()
        retired = len(said.pids) - sum(seats_at_end.values())
        self.history.facts["seats_at_end"] = seats_at_end | ({"retired": retired} if retired else {})
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
        self.report.changes.update(event.what for event in self.history.events if event.what in RECYCLED)
        if problems and not self.report.story:
            self.report.story = str(self.history)
        self.report.problems += problems
