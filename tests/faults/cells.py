"""One cell of the matrix, run: a hub, the books of all that was asked of it, the fault at its moment, and the epilogue that all cells share.

The road into a phase is `phases`'s. Here is what every phase needs: to ask and to enter it, to wait until the fault is there (with the
loop running, or standing still), and to look at hub, worker, files and processes afterwards.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import anyio
import pytest

import gibbs
from tests.end_to_end.callers import Call, alive, is_settled, until
from tests.faults.families import Row, state_of
from tests.faults.models import Model
from tests.faults.outcomes import PATIENCE, CallerGivesUp, Closes, NextCall

WATCHDOG = 10.0
SOON = 0.1  # seconds: a grace, or a close timeout, that is meant to run out
TALLY = ("done", "failed", "cancelled", "crashed", "refused")


class Asked(Call):
    """A call, entered: under which number, when it ended, and as what the statistics must count it."""

    def __init__(
        self,
        serial: int,
        counts: str,
        calls: Any,
        *args: Any,
        streams: bool = False,
        tracks: bool = False,
        batched: bool = False,
    ) -> None:
        super().__init__(calls, serial, *args)
        self.items: list[Any] = []  # of a stream, whose result they are; of a job, its words
        if streams:
            self._request = lambda: self._read(calls.stream(serial, *args))
        if batched:
            self._request = lambda: calls.request((serial, *args))
        if tracks:
            self._request = lambda: self._follow(calls.track(serial, *args))
        self.serial = serial
        self.counts = counts
        self.ended = 0.0

    async def _read(self, stream: Any) -> list[Any]:
        async with stream as items:
            async for item in items:
                self.items.append(item)
        return self.items

    async def _follow(self, job: Any) -> Any:
        async with job:
            async for word in job.progress:
                self.items.append(word)
            return await job.result()

    async def run(self) -> None:
        await super().run()
        self.ended = time.monotonic()


def interrupt_over(link: Any) -> anyio.Event:
    """An event that is set when the hub has sent its next interrupt over this link."""
    sent, strike = anyio.Event(), link.strike

    def strike_and_say_so(link_id: int) -> None:
        strike(link_id)
        sent.set()

    link.strike = strike_and_say_so
    return sent


class Cell:
    """A fault in a phase, of a worker that is a subprocess, unless another launcher is given."""

    def __init__(self, row: Row, phase: str, folder: Any, launcher: Any = None) -> None:
        outcome = row.cells[phase]
        assert not isinstance(outcome, str)
        self.row = row
        self.phase = phase
        self.outcome = outcome
        self.action = row.action or row.name
        self.folder = folder
        self.launcher = launcher or gibbs.LocalLauncher(output="discard")
        self.books: list[Asked] = []
        self.pid: int | None = None  # of the worker that the fault is for
        self.other_restarts = 0  # than those that the fault makes
        self._serials = count(1)

    # ---- the hub

    def open(self, starting: str | None, **options: Any):
        options = {"workers": 1, "launcher": self.launcher, "cancel_grace": self.cancel_grace} | options
        return gibbs.open_hub(Model, self.folder, starting, name="cell", **options)

    async def fails_to_open(self, starting: str, **options: Any) -> gibbs.WorkerStartFailed:
        with pytest.raises(gibbs.WorkerStartFailed) as caught:
            async with self.open(starting, **options):
                pytest.fail("it opened")
        return caught.value

    @asynccontextmanager
    async def opened(
        self, *, starting: str | None = None, epilogue: bool = True, close_timeout: float | None = None, **options: Any
    ):
        """A hub for this cell, with a task group around it; and afterwards the epilogue."""
        patience = self.close_timeout if close_timeout is None else close_timeout
        async with anyio.create_task_group() as self.tg:
            async with self.open(starting, close_timeout=patience, **options) as self.hub:
                self.calls, self.seat = self.hub, 0
                self.pid = self.hub.statistics().pids[0]
                yield self.hub
                self.calls = self.hub
                if epilogue:
                    await self.look_at_the_hub()
                pids = self.hub.statistics().pids
                leaving = time.monotonic()
            took = time.monotonic() - leaving
            assert took < PATIENCE * (patience + 0.5), f"{took:.1f} s to close"
            await self.look_at_what_is_left(pids)
            self.tg.cancel_scope.cancel()

    @property
    def close_timeout(self) -> float:
        outcome = self.outcome
        ends = isinstance(outcome, Closes) and outcome.by == "deadline"
        return 0.2 if ends or outcome.exits == "killed" else 1.0 if outcome.exits == "anyhow" else WATCHDOG

    @property
    def cancel_grace(self) -> float:
        outcome = self.outcome.ends if isinstance(self.outcome, NextCall) else self.outcome
        return (
            SOON
            if isinstance(outcome, CallerGivesUp) and outcome.worker == "replaced" and outcome.by_grace
            else WATCHDOG
        )

    # ---- calls

    def ask(
        self,
        method: str,
        *args: Any,
        counts: str = "done",
        streams: bool = False,
        tracks: bool = False,
        batched: bool = False,
        **using: Any,
    ) -> Asked:
        """Make a request, read a stream, or follow a job, in a task of its own."""
        calls = self.calls.method(method) if method else self.calls
        call = Asked(
            next(self._serials),
            counts,
            calls.using(**using) if using else calls,
            *args,
            streams=streams,
            tracks=tracks,
            batched=batched,
        )
        self.books.append(call)
        self.tg.start_soon(call.run)
        return call

    def ask_for_trouble(self, method: str, *args: Any, **using: Any) -> Asked:
        return self.ask(method, *args, counts=self.outcome.counts, **using)

    async def answered(self, method: str, *args: Any) -> Any:
        """The answer to a call that must be answered."""
        call = self.ask(method, *args)
        await call.end()
        assert call.error is None, repr(call.error)
        return call.result

    @property
    def link(self) -> Any:
        return self.hub._desk.crew.supervisors[0].worker.link

    async def has_begun(self, call: Asked) -> None:
        await until(lambda: call.serial in self.began())

    # ---- the fault

    def steps(self):
        """What must be true, one after the other, until the fault is there."""
        yield lambda: self.told("begins")
        pid, _ = self.told("begins")[0]
        if self.row.outside is not None:
            self.row.outside(pid, self.folder)
        if self.row.seen is not None:
            yield self.row.seen(pid, self.folder)
        if not self.row.endless:
            yield lambda: self.told("ends") or state_of(pid) in "ZX"

    async def strikes(self) -> None:
        """Return when the fault is there, the loop running."""
        for condition in self.steps():
            await until(condition)

    async def strikes_within_the_grace(self, struck: anyio.Event) -> None:
        """The fault comes when the hub has sent its interrupt. Where the grace is to run out, that of a loop that stands still is not over."""
        if self.cancel_grace > SOON:
            await self.strikes()
        else:
            await struck.wait()
            self.strikes_while_the_loop_stands()

    def strikes_while_the_loop_stands(self) -> None:
        (self.folder / "now").touch()
        for condition in self.steps():
            watchdog = time.monotonic() + WATCHDOG
            while not condition():
                assert time.monotonic() < watchdog, "in vain"
                time.sleep(0.001)

    async def ends(self, call: Asked, right: Any) -> None:
        """The call of the fault ends as the row says, in time."""
        outcome = self.outcome.ends if isinstance(self.outcome, NextCall) else self.outcome
        since = self.told("begins")[0][1] if self.told("begins") else time.monotonic()
        if outcome.gives_up and not call.over.is_set():
            since = time.monotonic()
            call.scope.cancel()
        await call.end()
        outcome.check(call, right)
        assert call.ended - since < outcome.watchdog, f"{call.ended - since:.1f} s"

    # ---- what the model entered

    def began(self) -> Counter[int]:
        return Counter(int(line.split()[0]) for line in self.lines("began"))

    def told(self, what: str) -> list[tuple[int, float]]:
        """When the action began or ended, and in which process."""
        return [(int(pid), float(at)) for word, pid, at in map(str.split, self.lines("acts")) if word == what]

    def lines(self, name: str) -> list[str]:
        try:
            return (self.folder / name).read_text().splitlines()
        except FileNotFoundError:
            return []

    # ---- the epilogue

    async def look_at_the_hub(self) -> None:
        """It serves on, with the worker that the row says, and its books balance."""
        outcome, hub = self.outcome, self.hub
        restarts = outcome.restarts + self.other_restarts
        await until(lambda: hub.statistics().restarts >= restarts and is_settled(hub))
        for n in range(4):
            assert await self.answered("", n) == n * n
        failing = self.ask("fails", "of the epilogue", counts="failed")
        await failing.end()
        assert type(failing.error) is ValueError
        assert failing.error.args == ("of the epilogue",)

        seen = hub.statistics()
        assert (seen.queued, seen.running, seen.restarts) == (0, 0, restarts)
        assert (seen.pids[self.seat] == self.pid) == (outcome.restarts == 0)
        assert {name: getattr(seen, name) for name in TALLY} == {**dict.fromkeys(TALLY, 0), **self.tally()}
        cleaned_up = seen.interrupted * ["interrupted"] + seen.killed * ["killed"]
        if getattr(outcome, "honest", False):  # it said that the call was over and went: the hub may see either first
            assert len(cleaned_up) == 1
        else:
            assert cleaned_up == [outcome.cleaned_up] * bool(outcome.cleaned_up)
        began = self.began()
        most = 2 if self.row.twice else 1
        assert all(times <= most for times in began.values()), f"run twice: {began}"
        assert began.keys() <= {call.serial for call in self.books}
        assert {call.serial for call in self.books[-5:]} <= began.keys()

    async def children_are_gone(self) -> None:
        children = [int(line) for line in self.lines("started")]
        if "out_of_the_group" in self.action:
            for pid in children:  # it left what is the hub's to kill, and lives
                os.kill(pid, signal.SIGKILL)
        await until(lambda: all(state_of(pid) in "ZX" for pid in children))

    def tally(self) -> Counter[str]:
        return Counter(call.counts for call in self.books)

    async def look_at_what_is_left(self, pids: tuple[int | None, ...]) -> None:
        """Nothing but files; and the last worker of the seat left as the row says."""
        for call in self.books:
            await call.end()
        assert self.hub.statistics().seats["retired"] == len(pids)
        assert self.hub.statistics().running == self.hub.statistics().queued == 0
        everybody = {int(line.split()[-1]) for line in self.lines("began")} | {pid for pid, _ in self.told("begins")}
        assert not [pid for pid in pids if pid is not None and alive(pid)]
        await self.children_are_gone()
        await until(lambda: all(state_of(pid) in "ZX" for pid in everybody))
        outcome = self.outcome
        gone = isinstance(outcome, Closes) and outcome.by != "itself"
        if outcome.exits != "anyhow" and (pid := pids[self.seat]) is not None:
            exited = (self.folder / f"exited {pid}").exists()
            assert exited == (outcome.exits == "itself" and not gone), f"its exit handlers ran: {exited}"
