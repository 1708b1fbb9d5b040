"""Who asks: callers that draw their requests from the seed, and write down what they hear.

Knows the public face of a hub. Each caller has dice of its own, so that its n-th request is the same in every run with this seed,
whatever the timing. Promises that each request is written down as asked and with exactly one outcome, and that a caller
never waits longer than PATIENCE: one whose worker was stopped for ever leaves by its own deadline.
"""

from __future__ import annotations

import random
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio

import gibbs
from benchmarks.soak.model import Task, answers_rightly
from gibbs._parent.waiter import running_loop
from tests.histories.history import f

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.histories.recorder import RealHalf

PATIENCE = 15.0  # seconds after which a caller leaves

SECONDS = [(0.00005, 600), (0.005, 300), (0.2, 40), (30.0, 20)]  # how long a call takes, and how often one is drawn
SIZES = [(10, 700), (1_000, 170), (100_000, 80), (200_000, 30), (1_000_000, 19), (32_000_000, 1)]
DEEDS = [("", 960), ("raises", 30), ("os._exit(0)", 3), ("segfault", 2), ("garbage", 5)]


class Drawn(NamedTuple):
    """A request, when its caller gives up, and what it asks for then."""

    task: Task
    leaves_after: float | None  # None: by PATIENCE only
    from_sending: bool  # whether that counts from when a worker gets it: then it is in the call that it is cut
    on_cancel: str | None
    abandon: bool


def draw(dice: random.Random, n: int) -> Drawn:
    seconds = one_of(dice, SECONDS)
    task = Task(n, seconds, one_of(dice, SIZES), one_of(dice, DEEDS), aside=dice.random() < 0.5)
    on_cancel = dice.choice([None, "interrupt", "kill", "finish"])
    leaves_after = None
    if seconds > 1:  # a call that would hold its worker for long is cut: nobody waits for its end
        on_cancel = dice.choice([None, "interrupt", "kill"])
        leaves_after = dice.uniform(0.05, 3)
    elif dice.random() < 0.1:
        leaves_after = dice.choice([0.0, dice.random() * 0.002, dice.random() * 2 * seconds, dice.random()])
    return Drawn(task, leaves_after, dice.random() < 0.5, on_cancel, dice.random() < 0.7)


def one_of(dice: random.Random, table: list[tuple[Any, int]]) -> Any:
    values, weights = zip(*table, strict=True)
    return dice.choices(values, weights)[0]


class Callers:
    """Many who ask one hub."""

    def __init__(self, half: RealHalf, hub: gibbs.Hub[Any], *, seed: int, number: int) -> None:
        self.half = half
        self.history = half.history
        self.hub = hub
        self.now = running_loop().now  # a request may be sent where no task runs, and AnyIO knows no time
        self.number = number
        self.dice = [random.Random(f"{seed}: caller {who}") for who in range(number)]
        self.made = [0] * number  # requests of each
        self.totals: Counter[str] = Counter()
        self.alive = 0

    async def run(self, goes_on: Callable[[], bool]) -> None:
        """Ask, one request after another each, as long as it goes on. Returns when all have heard."""
        async with anyio.create_task_group() as tg:
            for who in range(self.number):
                tg.start_soon(self.caller, who, goes_on)

    async def caller(self, who: int, goes_on: Callable[[], bool]) -> None:
        while goes_on():
            n = 1 + who + self.number * self.made[who]
            self.made[who] += 1
            await self.ask(draw(self.dice[who], n))

    async def ask(self, drawn: Drawn) -> None:
        task, record = drawn.task, self.history.record
        calls = self.hub.using(on_cancel=drawn.on_cancel, abandon_on_cancel=drawn.abandon)
        record("asked", task.n, "", {"abandon": drawn.abandon, "on_cancel": drawn.on_cancel})
        self.totals["asked"] += 1
        with anyio.move_on_after(PATIENCE) as scope:
            if drawn.leaves_after is not None and drawn.from_sending:
                self.half.when_sent[task.n] = partial(self.cut, scope, drawn.leaves_after)
            elif drawn.leaves_after is not None:
                self.cut(scope, drawn.leaves_after)
            try:
                answer = await calls.request(task.n, task, task.as_it_travels(task.blob()))
            except anyio.get_cancelled_exc_class():
                if scope.cancel_called:
                    record("cancels", task.n)
                self.heard("cancelled", task.n, detail="out of patience" if drawn.leaves_after is None else None)
                raise
            except FloatingPointError as error:
                n, model = error.args
                self.heard("model error", task.n, detail=(n,))
                record("by model", task.n, detail=model)
            except gibbs.HubClosed as error:
                self.heard("refused", task.n, detail=error.reason)
            except gibbs.WorkerCrashed as error:
                self.crashed(task.n, error)
            except Exception as error:  # noqa: BLE001 - nothing else may come out of a request
                self.history.problems.append(f"request {task.n} raised {error!r}")
            else:
                right = answers_rightly(task, answer)
                self.heard("answer", task.n, detail=f(task.n) if right else repr(answer)[:60])
                record("by model", task.n, detail=answer[1])
        self.half.when_sent.pop(task.n, None)

    def cut(self, scope: anyio.CancelScope, seconds: float) -> None:
        scope.deadline = min(scope.deadline, self.now() + seconds)

    def crashed(self, n: int, error: gibbs.WorkerCrashed) -> None:
        who = f"{error.seat}.{error.incarnation}"
        assert error.pid is not None
        told = {
            "pid": error.pid,
            "may_have_run": error.may_have_run,
            "may_still_run": error.may_still_run,
            "gone": self.half.is_gone(who, error.pid),
        }
        how = error.signal or f"exit status {error.exit_code}"
        how = f"{how} for what is no message" if "no message" in error.probable_cause else how
        self.totals[f"  of crashes: {how}{'' if error.may_have_run else ', not begun'}"] += 1
        self.heard("crashed", n, who, told)

    def heard(self, outcome: str, n: int, who: str = "", detail: Any = None) -> None:
        self.history.record(outcome, n, who, detail)
        self.totals[outcome] += 1
        if outcome == "cancelled" and detail:
            self.totals["  of cancels: out of patience"] += 1
