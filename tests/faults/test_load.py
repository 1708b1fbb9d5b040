"""What no single worker shows: many requests, many deaths, and workers that hurt one another."""

from __future__ import annotations

import math
import os
import random
import signal
import time
from contextlib import suppress

import anyio
import pytest

import gibbs
from tests.end_to_end.callers import Call, answer, until

LONG = "GIBBS_LONG" in os.environ


class Model:
    """Answers at once, or when a file is there; kills whom it is told to."""

    interruptible = True

    def __call__(self, x):
        return x * x

    def waits_for(self, path):
        path.with_name(f"waits {os.getpid()}").touch()
        while not path.exists():
            time.sleep(0.001)
        return path.name

    def kills(self, path, pids):
        """The others first, each in the same moment; some may be dead and reaped already, and then it is the only one left."""
        self.waits_for(path)
        for pid in pids:
            if pid != os.getpid():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    def echo(self, body):
        return body


def open_hub(workers=1, **options):
    return gibbs.open_hub(Model, workers=workers, **options)


async def ask_all(hub, xs):
    """Ask for the square of each, all at once; the answer or the error of each."""
    ends = {}

    async def ask(x):
        try:
            ends[x] = await hub.request(x)
        except gibbs.WorkerCrashed as error:
            ends[x] = error

    async with anyio.create_task_group() as tg:
        for x in xs:
            tg.start_soon(ask, x)
    return ends


def books(hub):
    seen = hub.statistics()
    return {
        name: getattr(seen, name) for name in ("queued", "running", "done", "failed", "cancelled", "crashed", "refused")
    }


def balanced(**ends):
    return {**dict.fromkeys(("queued", "running", "done", "failed", "cancelled", "crashed", "refused"), 0), **ends}


# --------------------------------------------------------------------------------------------------------------- load


@pytest.mark.cell(0)
async def test_while_one_of_two_workers_is_in_a_long_call_forty_quick_ones_are_answered(tmp_path):
    async with anyio.create_task_group() as tg, open_hub(2) as hub:
        long = Call(hub.method("waits_for"), tmp_path / "go")
        tg.start_soon(long.run)
        await until(lambda: [*tmp_path.iterdir()])
        with anyio.fail_after(10):
            assert await ask_all(hub, range(40)) == {n: n * n for n in range(40)}
        assert not long.over.is_set()
        (tmp_path / "go").touch()
        await long.end()
        assert long.result == "go"


@pytest.mark.slow
@pytest.mark.cell(1)
async def test_ten_thousand_requests_at_once_are_ten_thousand_right_answers():
    async with open_hub(2) as hub:
        with anyio.fail_after(60):
            assert await ask_all(hub, range(10_000)) == {n: n * n for n in range(10_000)}
        assert books(hub) == balanced(done=10_000)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.cell(2)
async def test_a_very_large_argument_goes_there_and_its_like_comes_back():
    size = 1_000_000_000 if LONG else 50_000_000
    async with open_hub() as hub:
        body = os.urandom(1_000_000) * (size // 1_000_000)
        with anyio.fail_after(250):
            assert await hub.method("echo").request(body) == body
        assert await answer(hub, 3) == 9


# ------------------------------------------------------------------------------------------------------------- deaths


@pytest.mark.slow
@pytest.mark.parametrize(("number", "n"), [*enumerate((1, 2, 5, 13))])
@pytest.mark.cell
async def test_workers_that_kill_one_another_at_once_are_one_error_each(number, n, tmp_path):
    async with open_hub(n) as hub:
        pids = hub.statistics().pids
        calls = [Call(hub.method("kills"), tmp_path / "go", pids) for _ in range(n)]
        async with anyio.create_task_group() as tg:
            for call in calls:
                tg.start_soon(call.run)
            await until(lambda: len([*tmp_path.iterdir()]) == n)
            (tmp_path / "go").touch()
        assert [type(call.error) for call in calls] == [gibbs.WorkerCrashed] * n
        assert {call.error.pid for call in calls} == {*pids}
        assert {call.error.signal for call in calls} == {"SIGKILL"}
        assert await ask_all(hub, range(4 * n)) == {x: x * x for x in range(4 * n)}
        await until(lambda: hub.statistics().seats["serving"] == n)
        assert hub.statistics().restarts == n
        assert not {*hub.statistics().pids} & {*pids}
        assert books(hub) == balanced(done=4 * n, crashed=n)


@pytest.mark.slow
@pytest.mark.cell(0)
async def test_under_a_killer_every_request_is_answered_rightly_or_is_one_of_its_victims():
    """The killer counts answers, not seconds: after every forty it kills a worker, whatever that one is at."""
    kills, callers, dice = 15, 16, random.Random(5)
    answers, crashes, shot = [], [], set()

    async def call(hub, n):
        while len(shot) < kills:
            try:
                assert await hub.request(n) == n * n
            except gibbs.WorkerCrashed as error:
                crashes.append(error)
            else:
                answers.append(n)
                if len(answers) % 40 == 0 and (pid := dice.choice(hub.statistics().pids)) is not None:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                        shot.add(pid)
            n += callers

    # It hits workers that start, too.
    async with open_hub(3, restarts=gibbs.RestartPolicy(max_failures=math.inf)) as hub:
        with anyio.fail_after(60):
            async with anyio.create_task_group() as tg:
                for caller in range(callers):
                    tg.start_soon(call, hub, caller)
        assert len(answers) == len({*answers})
        assert len(crashes) <= kills
        assert {error.pid for error in crashes} <= shot
        assert books(hub) == balanced(done=len(answers), crashed=len(crashes))
        await until(lambda: hub.statistics().restarts >= len(shot) and hub.statistics().seats["serving"] == 3)
        assert hub.statistics().restarts == len(shot)
        assert await ask_all(hub, range(12)) == {n: n * n for n in range(12)}
