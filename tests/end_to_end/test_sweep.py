"""The sweep with real workers: a cancellation, or a real SIGKILL of the worker, at every checkpoint of every public await.

The long sweeps are in `tests/hub`, over workers in memory. This one shows that processes are no different.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from contextlib import asynccontextmanager, suppress
from functools import partial

import anyio
import pytest
from anyio.lowlevel import checkpoint

import gibbs
from gibbs.testing import sweep
from tests.end_to_end.callers import WATCHDOG, alive, answer, is_settled, until
from tests.hub.swept import Outcome, cancel

pytestmark = [pytest.mark.slow, pytest.mark.in_turn]


class Waits:
    """A model whose calls last until a file is there."""

    interruptible = True

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, x):
        print("begun", x, flush=True)
        while not (self.folder / str(x)).exists():
            time.sleep(0.001)
        return x * x

    def square(self, x):
        return x * x


def send_sigkill(pid):
    if pid is not None:
        with suppress(ProcessLookupError):  # it is reaped
            os.kill(pid, signal.SIGKILL)


# ------------------------------------------------------------------------------------------------------------- a request


class Requests:
    """Requests one after the other, each lasting for some ticks before it begins and for some while it runs."""

    def __init__(self, hub, heard, folder):
        self.hub = hub
        self.heard = heard
        self.folder = folder
        self.x = 0
        self.call = None
        self.victim = None
        self.met = Counter()

    async def one(self):
        self.x += 1
        self.victim = None
        self.call = Outcome(partial(self.hub.request, self.x))
        begun_or_over = anyio.Event()

        async def ask():
            try:
                await self.call.run()
            finally:
                begun_or_over.set()

        async def hear():
            await self.heard.line(f"begun {self.x}")
            begun_or_over.set()

        async with anyio.create_task_group() as tg, anyio.create_task_group() as hearing:
            with anyio.CancelScope(shield=True):  # what is swept is the request, in a task beside
                tg.start_soon(ask)
                hearing.start_soon(hear)
                for _ in range(6):
                    await checkpoint()
                await begun_or_over.wait()
                for _ in range(6):
                    await checkpoint()
                (self.folder / str(self.x)).touch()
                await self.call.over.wait()
                hearing.cancel_scope.cancel()

    def kill(self, _scope):
        [self.victim] = self.hub.statistics().pids
        self.met["killed while it ran" if self.runs else "killed beside"] += 1
        send_sigkill(self.victim)

    def cancel(self, scope):
        self.met["cancelled while it ran" if self.runs else "cancelled beside"] += 1
        cancel(scope)

    @property
    def runs(self):
        return f"begun {self.x}" in self.heard.lines and not self.call.over.is_set()

    async def check(self, before):
        """How it ended is true, and the hub is as good as new; nobody is left but the workers that serve."""
        error = self.call.error
        if error is not None:
            assert isinstance(error, gibbs.WorkerCrashed)
            assert (error.pid, error.signal, error.may_have_run) == (self.victim, "SIGKILL", True)
        elif not self.call.cancelled:
            assert self.call.value == self.x**2
        assert self.heard.lines.count(f"begun {self.x}") <= 1
        await until(lambda: self.victim is None or not alive(self.victim))
        await until(lambda: is_settled(self.hub))
        assert await answer(self.hub.method(Waits.square), 7) == 49
        now = self.hub.statistics()
        assert now.done - before.done in (1, 2)
        assert now.crashed - before.crashed == (error is not None)
        assert now.failed == now.refused == now.queued == now.running == 0
        ended = [getattr(now, name) - getattr(before, name) for name in ("done", "cancelled", "crashed")]
        assert sum(ended) in (1, 2)
        assert self.hub.health() == gibbs.Health(ready=True)


@pytest.mark.parametrize("abandon", [True, False], ids=["abandon", "wait"])
@pytest.mark.parametrize("on_cancel", ["interrupt", "kill"])
async def test_a_request_is_cancelled_at_every_checkpoint(on_cancel, abandon, launcher, heard, tmp_path):
    async with gibbs.open_hub(
        Waits,
        tmp_path,
        workers=1,
        launcher=launcher,
        on_cancel=on_cancel,
        abandon_on_cancel=abandon,
        cancel_grace=WATCHDOG,
    ) as hub:
        requests = Requests(hub, heard, tmp_path)
        seen = set(hub.statistics().pids)
        before = hub.statistics()
        async for step in sweep(requests.one, at=requests.cancel):
            if requests.call.cancelled and not abandon:
                assert hub.statistics().seats["interrupting"] == 0
            await requests.check(before)
            before = hub.statistics()
            seen.update(before.pids)
            assert [pid for pid in seen if alive(pid)] == list(before.pids)
            k = step.k
        assert k > 10
        assert requests.met["cancelled while it ran"] >= 5
        assert before.interrupted + before.killed >= 5
        if on_cancel == "kill":
            assert before.killed == before.restarts >= 5
        else:
            assert before.restarts == before.killed == 0


async def test_the_worker_is_killed_at_every_checkpoint_of_a_request(launcher, heard, tmp_path):
    policy = gibbs.RestartPolicy(max_failures=float("inf"))
    async with gibbs.open_hub(Waits, tmp_path, workers=1, launcher=launcher, restarts=policy) as hub:
        requests = Requests(hub, heard, tmp_path)
        before = hub.statistics()
        async for step in sweep(requests.one, at=requests.kill):
            assert not requests.call.cancelled
            await requests.check(before)
            before = hub.statistics()
            k = step.k
        assert k > 10
        assert requests.met["killed while it ran"] >= 5
        assert before.crashed >= 5
        assert before.restarts == k - 1


# ------------------------------------------------------------------------------------------------------- the life of a hub


class Noting:
    """The local launcher, and a note of every process that it made."""

    def __init__(self):
        self.pids = []
        self.launcher = gibbs.LocalLauncher(output="discard")

    @property
    def traits(self):
        return self.launcher.traits

    @asynccontextmanager
    async def session(self):
        async with self.launcher.session() as self._session:
            yield self

    async def launch(self, spec):
        process = await self._session.launch(spec)
        self.pids.append(process.origin.pid)
        return process


class Life:
    """A hub's whole life, again and again."""

    def __init__(self, folder):
        self.launcher = Noting()
        self.folder = folder
        self.entered = False
        self.victim = None
        self.met = Counter()

    async def live(self):
        self.launcher.pids.clear()
        self.entered = False
        self.victim = None
        try:
            async with gibbs.open_hub(Waits, self.folder, workers=1, launcher=self.launcher) as hub:
                self.entered = True
                await hub.wait_ready()
                await hub.request(3)
                value = await hub.method(Waits.square).request(3)
                await hub.drain()
                for _ in range(3):
                    await checkpoint()
            return value
        except gibbs.GibbsError as error:
            return error

    def check(self, outcome):
        """What came of the life is true, and no process is left of it."""
        assert not [pid for pid in self.launcher.pids if alive(pid)]
        if isinstance(outcome, gibbs.WorkerCrashed):
            assert self.entered
            assert (outcome.pid, outcome.signal) == (self.victim, "SIGKILL")
        elif isinstance(outcome, gibbs.WorkerStartFailed):
            assert not self.entered
            assert self.victim is not None
            assert (outcome.reason, outcome.signal) == ("exited", "SIGKILL")
        else:
            assert outcome == 9

    def kill(self, _scope):
        if self.launcher.pids:
            self.victim = self.launcher.pids[-1]
            self.met["killed inside" if self.entered else "killed while it opened"] += 1
            send_sigkill(self.victim)


async def test_the_whole_life_of_a_hub_is_cancelled_at_every_checkpoint(tmp_path):
    (tmp_path / "3").touch()
    life = Life(tmp_path)
    entered = 0
    async for step in sweep(life.live):
        life.check(9 if step.cancelled else step.value)
        entered += life.entered
        k = step.k
    assert step.value == 9
    assert k > 8
    assert 4 < entered < k


async def test_the_worker_is_killed_at_every_checkpoint_of_a_hub_s_life(tmp_path):
    (tmp_path / "3").touch()
    life = Life(tmp_path)
    async for step in sweep(life.live, at=life.kill):
        life.check(step.value)
        k = step.k
    assert step.value == 9
    assert k > 8
    assert life.met["killed inside"] >= 4
