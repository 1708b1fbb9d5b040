"""A seeded world: a whole hub, its workers, its callers and all that befalls them, decided by one integer.

Knows the scripted launcher and the public face of a hub. One `random.Random(seed)` is asked in the order in which things
happen, and the loops below make that order depend on the seed alone: virtual time, and no ordering by the address of an
object. So a seed replays exactly. What may befall a world is listed in the tables above `World`; what must be true of it is the judge's
affair (`history.py`).

The public way to a deterministic Trio is to import Hypothesis, whose plugin makes Trio sort each batch of tasks; there is
none to seed the generator by which it then shuffles them, so `replayable_trio` does as Trio's own test of it does. asyncio
runs its callbacks in order; what is left to chance there is the iteration of sets, by address.
"""

from __future__ import annotations

import contextlib
import logging
import math
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from typing import Any
from unittest.mock import patch

import anyio
import hypothesis  # noqa: F401 - its plugin makes Trio's scheduling deterministic
import trio
from anyio._backends import _asyncio as anyio_asyncio
from anyio.lowlevel import checkpoint
from trio.testing import MockClock

import gibbs
from gibbs._wire import payload
from gibbs._wire.frames import encode
from gibbs._wire.messages import ANSWER, READY, SKIPPED, UNFIT
from gibbs.testing import ScriptedLauncher, ScriptedWorker
from tests.clocks import VirtualTimeLoop
from tests.simulation.history import CALM_IN, LIE, History, f, name_of, number_of, recording

# ------------------------------------------------------------------------------------------------------------- the loops


@contextmanager
def replayable_trio(seed: int) -> Iterator[None]:
    scheduler = trio._core._run._r
    state = scheduler.getstate()
    scheduler.seed(seed)
    try:
        yield
    finally:
        scheduler.setstate(state)


@contextmanager
def in_one_order(seed: int) -> Iterator[None]:
    """What is random outside the world's own dice: the hub's jitter, Trio's scheduler, sets of AnyIO's cancel scopes."""
    state = random.getstate()
    random.seed(seed)
    log = logging.getLogger("gibbs")
    was = log.disabled
    log.disabled = True  # hundreds of crashes, each a line
    try:
        awake = (looks * 30e-6 for looks in count())  # who stays awake looks at the clock of the machine
        with (
            replayable_trio(seed),
            patch.object(anyio_asyncio.CancelScope, "__hash__", lambda _: 0),
            patch("gibbs._desk.perf_counter", lambda: next(awake)),
        ):
            yield
    finally:
        log.disabled = was
        random.setstate(state)


def run(seed: int, backend: str) -> History:
    """Live one world to its end and return what happened."""
    dice = random.Random(seed)
    world = World(dice)
    loops: list[VirtualTimeLoop] = []

    def new_loop() -> VirtualTimeLoop:
        loops.append(VirtualTimeLoop())
        return loops[-1]

    clock = {"clock": MockClock(autojump_threshold=0)} if backend == "trio" else {"loop_factory": new_loop}
    with in_one_order(seed), recording(world.history):
        try:
            anyio.run(world.live, backend=backend, backend_options=clock)
        except Exception as error:  # noqa: BLE001 - a finding
            world.history.problems.append(f"{type(error).__name__}: {describe(error)}")
    world.history.problems += [complaint for loop in loops for complaint in loop.complaints]
    return world.history


def describe(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(f"{type(inner).__name__}: {describe(inner)}" for inner in error.exceptions)
    trace, last = error.__traceback__, ""
    while trace is not None:
        code = trace.tb_frame.f_code
        last, trace = f"{code.co_filename.rpartition('/')[2]}:{trace.tb_lineno} in {code.co_name}", trace.tb_next
    return f"{error} ({last})"


# ------------------------------------------------------------------------------------------------------------- the world


class Model:
    """Never built: scripted workers say what they like."""

    def __call__(self, n: int) -> int:
        raise NotImplementedError


class BodyError(Exception):
    """What the hub's body raises in some worlds."""


START_FAULTS = ["unfit", "exits", "hangs", "garbage", "bad welcome", "hangs up", "no process", "slow launch"]
CALL_FAULTS = [
    # before it has begun
    "dies before it begins",
    "hangs up before it begins",
    "skips what is wanted",
    # in the call
    "dies as it begins",
    "dies in the call",
    "hangs up in the call",
    "dies and its stream stays",
    # with its answer
    "dies before its answer",
    "dies after its answer",
    "hangs up after its answer",
    "half an answer",
    "an answer in two pieces, and dies",
    "a neighbour's answer",
    "answers twice",
    "answer, then garbage",
    "garbage",
    "ready again",
    # about what was sent ahead
    LIE,
    "runs what was taken back",
]
# Seconds that workers say they take for a request: many of them slow; quick ones, to whom is sent ahead; and such as change.
PACES = [[math.inf], [math.inf], [5e-6, 40e-6], [5e-6, 55e-6, 80e-6, 400e-6, math.inf]]
KILLERS = ["dies", "dies and its stream stays", "exits", "hangs up", "garbage"]
PHASES = ["received", "begun", "computed", "said", "launched", "ready"]


class Chance:
    """Chance, in the shapes in which a world needs it."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.chance = lambda p: dice.random() < p
        self.pick = dice.choice

    def moment(self, longest: float) -> float:
        """A time: at once, soon, or somewhere before the longest."""
        return self.pick([0.0, self.dice.random() * 0.01, self.dice.random() * longest, self.dice.random() * longest])

    async def pause(self, longest: float) -> None:
        """Let a while or some steps of the loop pass."""
        if self.chance(0.5):
            for _ in range(self.dice.randrange(4)):
                await checkpoint()
        else:
            await anyio.sleep(self.moment(longest))


class World(Chance):
    """One hub, its workers and its callers."""

    def __init__(self, dice: random.Random) -> None:
        super().__init__(dice)
        dice, pick = self.dice, self.pick
        self.calm = False  # no further faults: whoever waits must be served
        self.fault_rate = pick([0.0, 0.05, 0.2, 0.5])
        self.start_fault_rate = pick([0.0, 0.0, 0.1, 0.4, 0.7])
        self.cancel_rate = pick([0.0, 0.2, 0.6])
        self.trigger_rate = pick([0.0, 0.02, 0.1])
        self.patient = self.chance(0.6)  # the body waits for all callers before it leaves
        self.requests = dice.randint(1, 24)
        self.busy = pick([0.0, 0.01, 0.5, 2.0])  # the longest call
        self.span = pick([0.0, 0.1, 3.0])  # in which the callers come
        self.interruptible = self.chance(0.6)
        self.paces = pick(PACES)
        if len(self.paces) > 1:
            self.requests, self.span = dice.randint(8, 48), pick([0.0, 0.0, 0.01, 0.1])
        self.options: dict[str, Any] = {
            "workers": (workers := dice.randint(1, 4)),
            "ready": pick(["all", "all", 0, 1]),
            "start_timeout": pick([1.0, 60.0]) + 1,
            "start_concurrency": pick([None, None, 1, 2]),
            "close_timeout": pick([0, 0.05, 1.0, 5.0]),
            "max_pending": pick([math.inf, math.inf, math.inf, 0, 2]),
            "on_cancel": pick([None, "interrupt", "kill", "finish"]),
            "abandon_on_cancel": self.chance(0.6),
            "cancel_grace": pick([0, 0.05, 1.0]),
        }
        restarts = pick([math.inf, math.inf, 0, 2])
        side = self.chance(0.7)
        self.history = History(
            self.options
            | {
                "interruptible": self.interruptible,
                "side": side,
                "restarts": restarts,
                "may_raise": {"BodyError", "WorkerStartFailed"}
                | ({"RestartsExhausted"} if restarts < math.inf else set()),
            }
        )
        self.record = self.history.record
        self.launcher = Launcher(self, side=side)
        self.options["restarts"] = gibbs.RestartPolicy(max_failures=restarts)
        self.workers = workers
        self.hub: Any = None
        self.hub_scope: anyio.CancelScope | None = None
        self.one_asks_in_the_body = False
        self.scopes: dict[int, anyio.CancelScope] = {}
        self.callers = 0
        self.callers_done: anyio.Event | None = None
        self.leave: anyio.Event | None = None

    # ---- its course

    async def live(self) -> None:
        self.leave, self.callers_done = anyio.Event(), anyio.Event()
        # Only a stalled world lives so long: whatever is in it has ended by then, or waits for nothing.
        with anyio.fail_after(3 * CALM_IN):
            async with anyio.create_task_group() as outside:
                await self.hub_life(outside)
                self.record("closed")
                if self.hub is not None:
                    self.record_statistics()
                outside.cancel_scope.deadline = anyio.current_time() + CALM_IN
        if outside.cancel_scope.cancelled_caught:
            self.history.problems.append(f"callers still wait {CALM_IN} seconds after the hub closed")

    async def hub_life(self, outside: Any) -> None:
        with anyio.CancelScope() as self.hub_scope:
            if self.chance(0.05):
                outside.start_soon(self.later, self.moment(1), self.cancel_the_hub)
            try:
                async with gibbs.open_hub(Model, name="sim", launcher=self.launcher, **self.options) as self.hub:
                    self.record("entered")
                    try:
                        await self.body(outside)
                    finally:
                        self.record("leaving")
            except BodyError:
                pass
            except gibbs.GibbsError as error:
                self.record("hub raised", detail=type(error).__name__)
            except BaseExceptionGroup as group:
                for error in group.exceptions:
                    self.record("hub raised", detail=type(error).__name__)

    async def body(self, outside: Any) -> None:
        async with anyio.create_task_group() as inside:
            self.callers = self.requests
            self.one_asks_in_the_body = self.chance(0.1)
            for n in range(1 + self.one_asks_in_the_body, self.requests + 1):
                outside.start_soon(self.caller, n)
            inside.start_soon(self.watcher)
            for _ in range(self.pick([0, 0, 1, 3])):
                inside.start_soon(self.killer)
            for _ in range(self.pick([0, 1])):
                outside.start_soon(self.waits_until_ready)
            if self.chance(0.2):
                outside.start_soon(self.drainer)
            if self.one_asks_in_the_body:
                await self.caller(1)
            await self.until_the_end()
            inside.cancel_scope.cancel()
        if self.chance(0.2):
            raise BodyError

    async def until_the_end(self) -> None:
        assert self.leave is not None
        assert self.callers_done is not None
        if not self.patient:
            with anyio.move_on_after(self.moment(4)):
                await self.leave.wait()
            return
        with anyio.move_on_after(self.span + 2):
            await self.callers_done.wait()
        self.calm = True
        self.record("calm")
        with anyio.move_on_after(CALM_IN) as scope:
            await self.callers_done.wait()
        if scope.cancelled_caught:
            self.history.problems.append(f"callers still wait after {CALM_IN} calm seconds: {[*self.scopes]}")

    async def later(self, seconds: float, do: Callable[[], object]) -> None:
        await anyio.sleep(seconds)
        do()

    def cancel_the_hub(self) -> None:
        assert self.hub_scope is not None
        self.record("the hub is cancelled")
        if self.one_asks_in_the_body and 1 in self.scopes:
            self.record("cancels", 1)
        self.hub_scope.cancel()

    # ---- who asks

    async def caller(self, n: int) -> None:
        on_cancel = self.options["on_cancel"]
        abandon = self.options["abandon_on_cancel"]
        calls: Any = self.hub
        if self.chance(0.5):
            on_cancel, abandon = self.pick([None, "interrupt", "kill", "finish"]), self.chance(0.5)
            calls = self.hub.using(on_cancel=on_cancel, abandon_on_cancel=abandon)
        deadline = self.moment(2) if self.chance(self.cancel_rate) else math.inf
        try:
            await self.pause(self.span)
            self.record("asked", n, detail={"on_cancel": on_cancel, "abandon": abandon})
            with anyio.CancelScope() as scope:
                self.scopes[n] = scope
                async with anyio.create_task_group() as tg:
                    if deadline < math.inf:
                        tg.start_soon(self.later, deadline, lambda: self.cancel(n))
                    await self.ask(calls, n)
                    tg.cancel_scope.cancel()
        finally:
            self.scopes.pop(n, None)
            self.callers -= 1
            if not self.callers:
                assert self.callers_done is not None
                self.callers_done.set()

    async def ask(self, calls: Any, n: int) -> None:
        try:
            value = await calls.request(n)
        except anyio.get_cancelled_exc_class():
            self.record("cancelled", n)
            raise
        except FloatingPointError as error:
            self.record("model error", n, detail=error.args)
        except gibbs.HubClosed as error:
            self.record("refused", n, detail=error.reason)
        except gibbs.HubOverloaded:
            self.record("overloaded", n)
        except gibbs.WorkerCrashed as error:
            who = f"{error.seat}.{error.incarnation}"
            worker = next((worker for worker in self.launcher.workers if name_of(worker) == who), None)
            if worker is None or worker.pid != error.pid:
                self.history.problems.append(f"request {n} died with worker {who} of pid {error.pid}, which never was")
            told = {"may_have_run": error.may_have_run, "may_still_run": error.may_still_run}
            self.record("crashed", n, who, told)
        else:
            self.record("answer", n, detail=value)

    def cancel(self, n: int) -> None:
        if n in self.scopes and not self.scopes[n].cancel_called:
            self.record("cancels", n)
            self.scopes[n].cancel()

    # ---- what else befalls the hub

    async def waits_until_ready(self) -> None:
        with (
            anyio.move_on_after(self.moment(3) if self.chance(0.3) else math.inf),
            contextlib.suppress(gibbs.HubClosed),
        ):
            await self.hub.wait_ready(self.dice.randint(0, self.workers))

    async def drainer(self) -> None:
        await self.pause(self.span + 1)
        with (
            anyio.move_on_after(self.moment(3) if self.chance(0.3) else math.inf),
            contextlib.suppress(gibbs.HubClosed),
        ):
            self.record("drains")
            draining = self.hub.drain()
            # It takes no new requests from the moment of the call: the first step is made here.
            self.record("draining")
            await draining
            statistics = self.hub.statistics()
            self.record("drained", detail=statistics.queued + statistics.running)

    async def watcher(self) -> None:
        """Looks at the hub at any time."""
        for _ in range(20):
            await self.pause(1)
            self.look()

    def look(self) -> None:
        statistics = self.hub.statistics()
        if sum(statistics.seats.values()) != self.workers:
            self.history.problems.append(f"{self.workers} seats, and {statistics.seats}")
        ends = statistics.done + statistics.failed + statistics.cancelled + statistics.crashed + statistics.refused
        accepted = sum(event.what == "accepted" for event in self.history.events)
        if ends + statistics.queued + statistics.running != accepted:
            self.history.problems.append(f"{accepted} requests were accepted, and {statistics}")
        dispatcher = self.hub._desk.crew.dispatcher
        if dispatcher.oldest and any(seat.has_room and not seat.held for seat in dispatcher.seats):
            self.history.problems.append(
                f"at {anyio.current_time():.4f} a request is queued while a worker is idle: {dispatcher.seats}"
            )
        self.hub.health()
        repr(self.hub)

    def record_statistics(self) -> None:
        statistics = self.hub.statistics()
        names = ["done", "failed", "cancelled", "crashed", "refused", "queued", "running"]
        seats = {state: number for state, number in statistics.seats.items() if number}
        self.record("statistics", detail={name: getattr(statistics, name) for name in names} | {"seats": seats})

    async def killer(self) -> None:
        while not self.calm:
            await self.pause(1)
            if self.calm:
                return
            alive = [worker for worker in self.launcher.workers if worker.ending is None]
            if alive:
                await self.harm(self.pick(alive), self.pick(KILLERS))
            await anyio.sleep(self.dice.random())

    async def harm(self, worker: ScriptedWorker, how: str) -> None:
        self.fault(worker, f"killer: {how}")
        if how == "garbage":
            with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                await worker._hub_hears.send(self.garbage())
        else:
            self.end(worker, how)

    def end(self, worker: ScriptedWorker, how: str) -> None:
        if how == "hangs up":
            worker.hang_up()
        elif how == "exits":
            worker.die(code=self.dice.randrange(3))
        else:
            worker.die(signal=self.pick([6, 9, 11]), hang_up="stays" not in how)

    def garbage(self) -> bytes:
        return self.pick(
            [
                b"x" * 40,
                self.dice.randbytes(30),
                encode(SKIPPED, 10**9),
                encode(ANSWER, 0, b"?"),
                encode(ANSWER, 2**64 - 1, b"?"),
                encode(READY, 0, b"?"),
                encode(UNFIT, 0),
                encode(2, 1),  # what only a hub says
            ]
        )

    def fault(self, worker: ScriptedWorker, how: str) -> None:
        self.record("fault", 0, name_of(worker), how)

    def reached(self, phase: str, n: int, worker: ScriptedWorker) -> None:
        """A worker has come so far: the moment for what must be tried exactly then."""
        self.record(phase, n, name_of(worker))
        if self.calm or not self.chance(self.trigger_rate):
            return
        assert self.leave is not None
        what = self.pick(["cancel", "cancel", "cancel", "cancel another", "leave", "cancel the hub"])
        if what == "cancel":
            self.cancel(n)
        elif what == "cancel another" and self.scopes:
            self.cancel(self.pick([*self.scopes]))
        elif what == "leave":
            self.leave.set()
        elif what == "cancel the hub" and self.chance(0.1):
            self.cancel_the_hub()

    # ---- a worker

    async def launching(self, spec: gibbs.abc.WorkerSpec) -> str | None:
        """Decide how this worker starts; some never come to be."""
        self.record("launching", 0, f"{spec.seat}.{spec.incarnation}")
        fault = None
        if not self.calm and self.chance(self.start_fault_rate):
            fault = self.pick(START_FAULTS)
        await self.pause(0.1)
        if fault == "no process":
            raise OSError(24, "Too many open files")
        if fault == "slow launch":
            await anyio.sleep(self.dice.random() * 2 * self.options["start_timeout"])
        return fault

    async def worker(self, worker: ScriptedWorker, fault: str | None) -> None:
        await Life(self, worker).live(fault)


class Life:
    """One worker, as it goes: a good one, until chance says otherwise."""

    def __init__(self, world: World, worker: ScriptedWorker) -> None:
        self.world = world
        self.worker = worker
        self.manners = world.pick(["unwinds", "unwinds", "slowly", "clings"])
        self.leaves = world.pick(["at once", "at once", "slowly", "never"])

    async def live(self, fault: str | None) -> None:
        world, worker = self.world, self.worker
        world.reached("launched", 0, worker)
        await world.pause(0.2)
        if fault is not None:
            await self.fail_to_start(fault)
            if fault != "slow launch":
                return
        world.reached("ready", 0, worker)
        await worker.ready(interruptible=world.interruptible, methods={"__call__": "plain"})
        while True:
            worker.service_time = world.pick(world.paces)
            message = await worker.receive()
            if message.is_leave:
                await self.go()
                return
            n = number_of(message.body)
            world.reached("received", n, worker)
            if not await self.serve(message.link_id, n):
                return

    async def fail_to_start(self, fault: str) -> None:
        world, worker = self.world, self.worker
        world.fault(worker, fault)
        if fault == "unfit":
            await worker.unfit(ArithmeticError("no model"))
        elif fault == "hangs":
            await anyio.sleep_forever()
        elif fault == "garbage":
            await worker.say(world.garbage())
            await anyio.sleep_forever()
        elif fault == "bad welcome":
            await worker.say(encode(READY, 0, b"no pickle"))
            await anyio.sleep_forever()
        elif fault == "hangs up":
            worker.hang_up()
            await anyio.sleep_forever()

    async def go(self) -> None:
        if self.leaves == "slowly":
            await self.world.pause(1)
        elif self.leaves == "never":
            await anyio.sleep_forever()

    async def serve(self, link_id: int, n: int) -> bool:
        """One request; False if it is the last one."""
        world, worker = self.world, self.worker
        fault = world.pick(CALL_FAULTS) if not world.calm and world.chance(world.fault_rate) else ""
        if fault:
            world.fault(worker, fault)
        if world.chance(0.3):
            await world.pause(0.05)
        if fault.endswith("before it begins"):
            return await self.stop(fault)
        if fault == "skips what is wanted":
            worker.claim()
            await self.say("skips", link_id, n)
            return True
        if fault == LIE:
            worker.claims += world.pick([1, 3])
        if not worker.begin(link_id):
            await self.say("answers" if fault == "runs what was taken back" else "skips", link_id, n)
            return True
        world.reached("begun", n, worker)
        if fault == "dies as it begins":
            return await self.stop(fault)
        if await self.compute(fault):
            world.reached("computed", n, worker)
            await self.say("skips", link_id, n)
            return True
        if fault in ("dies in the call", "hangs up in the call", "dies and its stream stays", "dies before its answer"):
            return await self.stop(fault)
        world.reached("computed", n, worker)
        if fault == "an answer in two pieces, and dies":
            world.record("answers", n, name_of(worker))
            data = encode(ANSWER, link_id, payload.dumps(f(n)))
            half = world.dice.randrange(1, len(data))
            with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                worker._hub_hears.send_nowait(data[:half])
                worker._hub_hears.send_nowait(data[half:])
                world.record("said", n, name_of(worker))
            return await self.stop(fault)
        if fault and not await self.answer_badly(fault, link_id, n):
            return False
        await self.say("fails" if n % 7 == 0 else "answers", link_id, n)
        world.reached("said", n, worker)
        if fault.endswith("after its answer"):
            return await self.stop(fault)
        if fault in ("answers twice", "answer, then garbage", "garbage", "ready again"):
            await worker.say(encode(ANSWER, link_id, b"") if fault == "answers twice" else world.garbage())
        return True

    async def compute(self, fault: str) -> bool:
        """The call itself; whether it was interrupted."""
        world, worker = self.world, self.worker
        seconds = 0.0 if len(world.paces) > 1 and world.chance(0.7) else world.moment(world.busy)
        if self.manners == "clings":
            await anyio.sleep(seconds)
            return False
        with anyio.move_on_after(seconds):
            await worker.interrupted()
            if self.manners == "slowly":
                with anyio.CancelScope(shield=True):
                    await world.pause(0.1)
            return True
        return False

    async def say(self, what: str, link_id: int, n: int) -> None:
        self.world.record(what, n, name_of(self.worker))
        if what == "skips":
            await self.worker.skip(link_id)
        elif what == "fails":
            await self.worker.fail(link_id, FloatingPointError(n))
        else:
            await self.worker.answer(link_id, f(n))

    async def answer_badly(self, fault: str, link_id: int, n: int) -> bool:
        """What goes wrong with an answer; whether the right one follows."""
        world, worker = self.world, self.worker
        if fault == "half an answer":
            await worker.say(encode(ANSWER, link_id, b"x" * 100)[: world.dice.randrange(1, 100)])
            return await self.stop(world.pick(["dies", "hangs up"]))
        if fault == "a neighbour's answer":
            await worker.say(encode(ANSWER, link_id + world.pick([-1, 100]), b"?"))
        return True

    async def stop(self, how: str) -> bool:
        world, worker = self.world, self.worker
        world.end(worker, "hangs up" if how.startswith("hangs up") else how)
        await anyio.sleep_forever()
        return False


class Launcher(ScriptedLauncher):
    """Workers of one world; notes who is alive when the hub gives its session back."""

    def __init__(self, world: World, *, side: bool) -> None:
        self.world = world
        self.faults: dict[str, str | None] = {}
        super().__init__(self.script, launching=self.decide, side=side)

    async def decide(self, spec: gibbs.abc.WorkerSpec) -> None:
        self.faults[f"{spec.seat}.{spec.incarnation}"] = await self.world.launching(spec)

    def script(self, worker: ScriptedWorker) -> Awaitable[object]:
        return self.world.worker(worker, self.faults[name_of(worker)])

    @asynccontextmanager
    async def session(self) -> Any:
        async with super().session() as session:
            try:
                yield session
            finally:
                self.world.record("session over")
