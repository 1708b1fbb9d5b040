"""What sweeps over workers in memory share: work that ticks, ways for a worker to die, and what must be true after every step.

A sweep counts the checkpoints of one task, and a request has one. So what is swept runs in a task beside, while the task that is
counted yields once in each tick of the loop: then a sweep meets every tick, whoever's it is.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from itertools import count

import anyio
from anyio.lowlevel import checkpoint

import gibbs
from gibbs.testing import sweep

WATCHDOG = 600  # seconds of a clock that jumps
ENDS = ("done", "failed", "cancelled", "crashed")
NEVER_GIVE_UP = gibbs.RestartPolicy(max_failures=float("inf"))


class Busy:
    """A model whose calls take some ticks. In memory what a model returns is awaited; `runs` has the argument of every call."""

    interruptible = True
    runs: list[int] = []  # noqa: RUF012 - of all copies together
    unwinding = 0  # ticks that an interrupted call takes to unwind

    def __call__(self, x):
        self.runs.append(x)

        async def steps():
            try:
                for _ in range(3):
                    await checkpoint()
            finally:
                with anyio.CancelScope(shield=True):
                    for _ in range(self.unwinding):
                        await checkpoint()
            return x * x

        return steps()

    async def items(self, x, count):
        """A stream that yields after some ticks, and takes some to be closed."""
        self.runs.append(x)
        try:
            for item in range(count):
                for _ in range(2):
                    await checkpoint()
                yield item
        finally:
            with anyio.CancelScope(shield=True):
                for _ in range(self.unwinding):
                    await checkpoint()

    @gibbs.batched(max_size=3)
    def batch(self, xs):
        self.runs.extend(xs)

        async def steps():
            for _ in range(3):
                await checkpoint()
            return [x * x for x in xs]

        return steps()


class Unwinds(Busy):
    """The same, and slow to unwind."""

    unwinding = 3


async def deliberate(worker):
    """A worker as it should be, that takes some ticks between any two things it does, so that all its stages can be met."""
    await checkpoint()
    await worker.start()
    await checkpoint()
    while not (call := await worker.receive()).is_leave:
        calls = [await worker.receive() for _ in range(call.batch_size)] if call.is_batch else []
        for _ in range(3):
            await checkpoint()
        await (worker.run_batch(calls) if calls else worker.run(call))
        await checkpoint()
    await checkpoint()


def garbage(worker):
    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
        worker._hub_hears.send_nowait(b"x" * 40)


DEATHS = {
    "exits": lambda worker: worker.die(code=1),
    "is killed": lambda worker: worker.die(signal=9),
    "dies, its stream stays open": lambda worker: worker.die(signal=11, hang_up=False),
    "hangs up": lambda worker: worker.hang_up(),
    "writes garbage": garbage,
}


def cancel(scope):
    scope.cancel()


class Outcome:
    """How an async function ended, run in a task of its own."""

    def __init__(self, work):
        self.value = self.error = self.task = None
        self.cancelled = False
        self.cut = False  # cancelled natively before it was over
        self.over = anyio.Event()
        self._work = work

    async def run(self):
        with suppress(RuntimeError):  # Trio has no asyncio, and nothing to cancel natively
            self.task = asyncio.current_task()
        try:
            self.value = await self._work()
        except anyio.get_cancelled_exc_class():
            self.cancelled = True
            raise
        except gibbs.GibbsError as error:
            self.error = error
        finally:
            self.over.set()

    def cancel_natively(self, _scope=None):
        """As other code does on asyncio, which no shield stops."""
        if self.task is not None and not self.over.is_set():
            self.cut = True
            self.task.cancel()


async def ticking(*outcomes, ticks=60, after=None):
    """Run them all in tasks beside, and tick until they are over. Cancelled, it goes on to tick, so that their end is met too.

    An event `after` is waited for first: what is before it is one checkpoint.
    """
    async with anyio.create_task_group() as tg:
        with anyio.CancelScope(shield=True):
            for outcome in outcomes:
                tg.start_soon(outcome.run)
            if after is not None:
                await after.wait()
            for _ in range(ticks):
                if all(outcome.over.is_set() for outcome in outcomes):
                    break
                await checkpoint()
            for outcome in outcomes:
                await outcome.over.wait()  # here a clock that jumps may jump
            await checkpoint()  # and what comes right after


class Sweeps:
    """A sweep, and again as long as something that is wanted was not met.

    One sweep meets it all where tasks run in their order. Trio shuffles them, so there a moment can be missed by chance.
    """

    def __init__(self, scenario, *, at, wanted, met):
        self._steps = [sweep(scenario, at=at) for _ in range(10)]
        self._wanted = wanted
        self._met = met

    def __aiter__(self):
        return self

    async def __anext__(self):
        while self._steps:
            async for step in self._steps[0]:
                return step
            self._steps.pop(0)
            if self._met.keys() >= self._wanted:
                raise StopAsyncIteration
        raise AssertionError(f"never met: {self._wanted - self._met.keys()}")


async def until(condition):
    """Return as soon as it is true: looks in every tick, and after many of them ever less often, so that a clock may jump."""
    for _ in range(20):
        if condition():
            return
        await checkpoint()
    pause = 0.001
    with anyio.fail_after(WATCHDOG):
        while not condition():
            await anyio.sleep(pause)
            pause *= 1.5


class Reaper:
    """Does to one worker, as it is in this moment, what a sweep says, and remembers what that one was doing.

    It is that of seat 0, or of all that live the oldest, or the newest.
    """

    def __init__(self, launcher, how, whom="seat 0"):
        self.victim = None
        self.phase = None
        self.met = Counter()
        self._launcher = launcher
        self._how = DEATHS[how]
        self._whom = whom

    def spare(self):
        """A new run begins."""
        self.victim = self.phase = None

    def __call__(self, _scope):
        worker = self._target()
        self.phase = phase_of(worker)
        self.met[self.phase] += 1
        if self.phase != "nobody":
            self.victim = worker
            self._how(worker)

    def _target(self):
        workers = self._launcher.workers
        if self._whom == "seat 0":
            return next((one for one in reversed(workers) if one.spec.seat == 0), None)
        alive = [one for one in workers if one.ending is None]
        return alive[0 if self._whom == "oldest" else -1] if alive else None


def phase_of(worker):
    if worker is None or worker.ending is not None:
        return "nobody"
    if worker.model is None:
        return "starting"
    if worker.running:
        return "running"
    if worker.calls and worker.calls[-1].link_id > worker.begun:
        return "received"
    return "idle"


class Ledger:
    """What a hub over one launcher was asked, and how each request must have ended. The arguments are all different."""

    def __init__(self, hub, launcher, *, side):
        self.hub = hub
        self.launcher = launcher
        self.side = side
        self.ended = Counter()
        self._arguments = count(10)
        self._before = hub.statistics()
        Busy.runs.clear()

    def new(self):
        return next(self._arguments)

    def check(self, x, outcome, victim=None, *, stream=False):
        """Whether this is how a request for `x` may have ended, when only that one worker died, if any.

        Of a stream the model does nothing before its first item is asked for, and has begun all the same.
        """
        runs = Busy.runs.count(x)
        assert runs <= 1, f"{x} ran {runs} times"
        if outcome.error is not None:
            crash = outcome.error
            assert isinstance(crash, gibbs.WorkerCrashed)
            assert victim is not None
            who = victim.pid, victim.spec.seat, victim.spec.incarnation
            assert (crash.pid, crash.seat, crash.incarnation) == who
            assert crash.may_have_run if stream else crash.may_have_run == (bool(runs) or not self.side)
            assert runs or not self.side or stream, "never begun, it goes to another worker"
            self.ended["crashed"] += 1
        elif not outcome.cancelled:
            assert outcome.value == x * x
            assert runs == 1
            self.ended["done"] += 1

    async def settle(self, victim=None):
        """Return when every seat serves again, or stands by, or was left, and no worker is there but those that do."""

        def is_settled():
            said = self.hub.statistics()
            leaving = any(seat.dismissed and seat.state != "retired" for seat in self.hub._desk.crew.dispatcher.seats)
            at_rest = said.seats["serving"] + said.seats["spare"] + said.seats["retired"]
            return (victim is None or victim.pid not in said.pids) and at_rest == len(said.pids) and not leaving

        await until(is_settled)
        alive = [worker.pid for worker in self.launcher.workers if worker.ending is None]
        assert sorted(alive) == sorted(pid for pid in self.hub.statistics().pids if pid is not None)

    async def balance(self, cancelled=0):
        """The hub answers, every request has ended once, and all that ended was asked. So many requests of this step were cancelled."""
        x = self.new()
        with anyio.fail_after(WATCHDOG):
            assert await self.hub.request(x) == x * x
        self.ended["done"] += 1
        now, before = self.hub.statistics(), self._before
        assert now.refused == now.running == now.queued == 0
        counted = Counter({name: getattr(now, name) - getattr(before, name) for name in ENDS})
        # Whoever was cancelled was never submitted, or counts as cancelled, or had just been answered or lost.
        assert counted >= self.ended, (counted, self.ended)
        assert counted.total() - self.ended.total() <= cancelled, (counted, self.ended)
        assert self.hub.health() == gibbs.Health(ready=True)
        self._before, self.ended = now, Counter()
