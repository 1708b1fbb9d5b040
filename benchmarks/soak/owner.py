"""What the owner of the hub does with it meanwhile: other models, good and bad, and more workers or fewer, by two dice of his own.

Knows the public face of a hub. Models are numbered in the order in which they are tried. Promises to write down which of them may answer
what is sent from then on; that a reload which must fail did, and one that failed was done harm to; and that the hub is as large
as at first when `run` returns.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import anyio

import gibbs
from benchmarks.soak.model import Broken, Model, is_what_it_should_be, refuses

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.histories.history import History

RELOADS = [("another model", 10), ("a model that cannot be built", 2), ("a model that is refused", 2)]
SIZES = [(0, 1), (1, 1), (-2, 2), (-1, 3), (+1, 3), (+2, 2)]  # workers more than at first; 0 and 1 are that many
HARM = {"SIGKILL", "SIGSEGV", "exit status 3"}  # how a worker ends that the soak keeps from starting


class Owner:
    """Who reloads and resizes one hub."""

    def __init__(
        self, history: History, hub: gibbs.Hub[Any], args: tuple[Any, ...], *, seed: int, workers: int
    ) -> None:
        self.history = history
        self.hub = hub
        self.args = args  # of every model, before its number
        self.workers = workers
        self.dice = random.Random(f"{seed}: reloads")
        self.other_dice = random.Random(f"{seed}: sizes")
        self.tried = 0  # models
        self.counts: Counter[str] = Counter()
        self.may_answer(frozenset({0}))

    def may_answer(self, models: frozenset[int]) -> None:
        self.models = models
        self.history.record("models", detail=models)

    async def run(self, goes_on: Callable[[], bool]) -> None:
        """Change the hub as long as it goes on, or until it is closed. Returns when what was begun is over."""
        async with anyio.create_task_group() as tg:
            for changes in (self.reloads, self.sizes):
                tg.start_soon(self.until_closed, changes, goes_on)

    async def until_closed(self, changes: Any, goes_on: Callable[[], bool]) -> None:
        try:
            await changes(goes_on)
        except gibbs.HubClosed:
            self.counts["changes that the hub's end cut short"] += 1

    # ---- models

    async def reloads(self, goes_on: Callable[[], bool]) -> None:
        names, weights = zip(*RELOADS, strict=True)
        while goes_on():
            await anyio.sleep(self.dice.uniform(0.1, 1.0))
            what = self.dice.choices(names, weights)[0]
            patience = self.dice.uniform(0.0, 1.0) if self.dice.random() < 0.2 else 600.0
            await self.reload(what, patience)

    async def reload(self, what: str, patience: float) -> None:
        """One reload, whose caller leaves after so many seconds: then it is carried through, or undone, and nobody hears which."""
        before = self.models
        self.tried += 1
        new = frozenset({self.tried})
        self.may_answer(before | new)
        how = f"reload to {what}"
        factory = Broken if what == "a model that cannot be built" else Model
        check = refuses if what == "a model that is refused" else is_what_it_should_be
        with anyio.move_on_after(patience) as scope:
            try:
                await self.hub.reload(factory, *self.args, self.tried, check=check)
            except gibbs.ReloadFailed as error:
                self.counts[f"{how}: failed{'' if error.undone else ', and could not be undone'}"] += 1
                if factory is Model and check is not refuses and not self.was_harmed(error.__cause__):
                    self.history.problems.append(
                        f"reload {self.tried} failed, and nobody had done anything to it: {error}"
                    )
                if error.undone:
                    self.may_answer(before)
            else:
                self.counts[f"{how}: done"] += 1
                self.may_answer(new)
                if what != "another model":
                    self.history.problems.append(f"{how} succeeded")
        if scope.cancelled_caught:
            self.counts[f"{how}: its caller left"] += 1

    def was_harmed(self, problem: Any) -> bool:
        if problem.reason == "model":
            return type(problem.__cause__).__name__ == "StartFails"
        how = problem.signal or f"exit status {problem.exit_code}"
        return problem.reason == "timeout" or (problem.reason == "exited" and how in HARM)

    # ---- sizes

    async def sizes(self, goes_on: Callable[[], bool]) -> None:
        sizes, weights = zip(*SIZES, strict=True)
        dice = self.other_dice
        while goes_on():
            await anyio.sleep(dice.uniform(0.2, 1.5))
            drawn = dice.choices(sizes, weights)[0]
            patience = dice.uniform(0.0, 0.3) if dice.random() < 0.2 else 600.0
            await self.resize(drawn if drawn in (0, 1) else self.workers + drawn, patience)
            if drawn == 0:
                await anyio.sleep(dice.uniform(0.0, 0.3))  # callers wait
                await self.resize(1, 600.0)
        await self.resize(self.workers, 600.0)

    async def resize(self, workers: int, patience: float) -> None:
        with anyio.move_on_after(patience) as scope:
            await self.hub.resize(workers)
        self.counts["resizes" if not scope.cancelled_caught else "resizes whose caller left"] += 1
