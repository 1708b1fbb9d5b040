"""`crash` and `hang`, over every launcher: what was to happen has happened when they return, and nothing is left behind."""

from __future__ import annotations

import threading

import anyio
import pytest

import gibbs
from gibbs.testing import InBand, InlineLauncher, ScriptedLauncher, crash, hang

WATCHDOG = 30.0


class Model:
    interruptible = True

    def __call__(self, x):
        return x, gibbs.current_worker().incarnation


class Plain:
    """As `Model`, for a worker in memory, which knows not who it is."""

    interruptible = True

    def __call__(self, x):
        return x


LAUNCHERS = {
    "local": gibbs.LocalLauncher,
    "local in band": lambda: InBand(gibbs.LocalLauncher()),
    "inline": InlineLauncher,
    "scripted": ScriptedLauncher,
    "scripted in band": lambda: InBand(ScriptedLauncher()),
}


@pytest.fixture(
    params=[pytest.param(name, marks=[pytest.mark.slow] if "local" in name else []) for name in LAUNCHERS],
)
def kind(request):
    return request.param


@pytest.fixture
def opened(kind):
    def opened(**options):
        options = {"workers": 1, "launcher": LAUNCHERS[kind](), "cancel_grace": WATCHDOG} | options
        return gibbs.open_hub(Plain, **options)

    return opened


@pytest.fixture
async def ask():
    """`outcomes = await ask(hub, x)`: returns when the hub has sent the request; what comes of it is added to the list."""
    async with anyio.create_task_group() as tg:

        async def ask(hub, x):
            outcomes = []

            async def run():
                try:
                    outcomes.append(await hub.request(x))
                except gibbs.GibbsError as error:
                    outcomes.append(error)

            before = hub.statistics().running
            tg.start_soon(run)
            await until(lambda: hub.statistics().running > before)
            return outcomes

        yield ask


async def until(condition):
    with anyio.fail_after(WATCHDOG):
        while not condition():
            await anyio.sleep(0.001)


# ------------------------------------------------------------------------------------------------------------------- crash


async def test_a_worker_that_crashes_is_replaced(opened):
    async with opened() as hub:
        [before] = hub.statistics().pids
        for _ in range(3):
            await crash(hub)
            assert await hub.request(3) == 3
            [after] = hub.statistics().pids
            assert after != before
            before = after
        assert hub.statistics().restarts == 3


async def test_it_is_over_when_crash_returns(opened):
    async with opened() as hub:
        [before] = hub.statistics().pids
        await crash(hub)
        assert before not in hub.statistics().pids
        with anyio.fail_after(WATCHDOG):
            await hub.wait_ready()
        assert hub.statistics().restarts == 1


async def test_the_worker_of_the_seat_that_is_named_dies_and_no_other(opened):
    async with opened(workers=3) as hub:
        before = hub.statistics().pids
        await crash(hub, 1)
        with anyio.fail_after(WATCHDOG):
            await hub.wait_ready()
        after = hub.statistics().pids
        assert [one == other for one, other in zip(before, after, strict=True)] == [True, False, True]


async def test_what_a_crashed_worker_had_not_begun_is_answered_by_the_next(opened, kind, ask):
    async with opened() as hub, hang(hub):
        outcomes = await ask(hub, 5)
        await crash(hub)
        await until(lambda: outcomes)
        [outcome] = outcomes
        if "in band" in kind:  # nobody can tell whether it has begun
            assert isinstance(outcome, gibbs.WorkerCrashed)
            assert outcome.signal == "SIGKILL"
        else:
            assert outcome == 5
        assert await hub.request(6) == 6


async def test_a_seat_without_a_worker_is_told(opened):
    async with opened(ready=0, restarts=gibbs.RestartPolicy(max_crashes=0)) as hub:
        with anyio.fail_after(WATCHDOG):
            await hub.wait_ready()
        desk = hub._desk
    with pytest.raises(LookupError, match="seat 0 of the hub 'Plain' has no worker now: it is retired"):
        await crash(hub)
    with pytest.raises(LookupError, match="no worker now"):
        async with hang(hub):
            raise AssertionError("it was entered")
    assert desk.crew.closed == "closed"


@pytest.mark.parametrize("seat", [-1, 1, True, "0", None])
async def test_a_seat_that_is_none_is_refused(seat):
    async with gibbs.open_hub(Plain, workers=1, launcher=InlineLauncher()) as hub:
        with pytest.raises((TypeError, ValueError), match="seat must be"):
            await crash(hub, seat)
        with pytest.raises((TypeError, ValueError), match="seat must be"):
            async with hang(hub, seat):
                raise AssertionError("it was entered")
        assert await hub.request(1) == 1
        assert hub.statistics().restarts == 0


async def test_another_thread_is_refused():
    errors = []

    def elsewhere(hub):
        try:
            anyio.run(crash, hub)
        except RuntimeError as error:
            errors.append(str(error))

    async with gibbs.open_hub(Plain, workers=1, launcher=InlineLauncher()) as hub:
        thread = threading.Thread(target=elsewhere, args=(hub,))
        thread.start()
        thread.join()
        assert hub.statistics().restarts == 0
    assert "belongs to the event loop of another thread" in errors[0]


async def test_cancelled_before_it_has_begun_nothing_happens(opened):
    async with opened() as hub:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await crash(hub)
        assert scope.cancelled_caught
        assert await hub.request(1) == 1
        assert hub.statistics().restarts == 0


# -------------------------------------------------------------------------------------------------------------------- hang


async def test_one_that_hangs_answers_when_it_goes_on(opened, ask):
    async with opened() as hub:
        before = hub.statistics().pids
        async with hang(hub):
            outcomes = await ask(hub, 3)
            await anyio.sleep(0.02)
            assert outcomes == []
        await until(lambda: outcomes)
        assert outcomes == [3]
        assert await hub.request(4) == 4
        assert hub.statistics().pids == before


async def test_a_caller_gives_up_on_one_that_hangs(opened):
    async with opened() as hub:
        async with hang(hub):
            with pytest.raises(TimeoutError), anyio.fail_after(0.02):
                await hub.request(3)
        with anyio.fail_after(WATCHDOG):
            assert await hub.request(4) == 4
        assert hub.statistics().restarts == 0, "it has gone on, and skipped what nobody waits for"


async def test_one_that_hangs_over_a_call_is_killed_after_its_grace_and_the_next_does_not_hang(opened):
    async with opened(cancel_grace=0.05) as hub:
        async with hang(hub):
            with anyio.move_on_after(0.02):
                await hub.request(3)
            with anyio.fail_after(WATCHDOG):
                assert await hub.request(4) == 4
            assert hub.statistics().killed + hub.statistics().restarts == 2
        assert await hub.request(5) == 5


async def test_others_serve_on_while_one_hangs(opened):
    async with opened(workers=2) as hub, anyio.create_task_group() as tg:
        outcomes = []

        async def ask(x):
            outcomes.append(await hub.request(x))

        async with hang(hub, 1):
            for x in range(2):  # in one go: each worker is sent one of them
                tg.start_soon(ask, x)
            await until(lambda: outcomes)
            with anyio.fail_after(WATCHDOG):
                assert await anyio.amap(hub.request, range(5)) == [*range(5)]
            assert len(outcomes) == 1
        await until(lambda: len(outcomes) == 2)
        assert hub.statistics().restarts == 0


async def test_a_hub_that_closes_over_one_that_hangs_leaves_nothing(opened):
    manager = opened(close_timeout=0.05)
    async with manager as hub:
        block = hang(hub)
        await block.__aenter__()
    await block.__aexit__(None, None, None)
    assert hub.statistics().seats["retired"] == 1


@pytest.mark.slow
async def test_a_process_that_hangs_has_stopped():
    async with gibbs.open_hub(Model, workers=1) as hub:
        [pid] = hub.statistics().pids
        async with hang(hub):
            assert state_of(pid) == "T"
        await hub.request(1)
        assert state_of(pid) in "SR"


def state_of(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


@pytest.mark.slow
async def test_a_process_that_was_reaped_by_others_hits_nobody():
    async with gibbs.open_hub(Model, workers=1) as hub:
        process = hub._desk.crew.supervisors[0].worker.process
        async with hang(hub):
            await crash(hub)
            process.hang()
            process.go_on()
            assert not process.hangs
        assert await hub.request(1) == (1, 2)


async def test_a_launcher_that_knows_no_hanging_is_told():
    class Bare(ScriptedLauncher):
        async def make(self, spec, tg):
            process = await super().make(spec, tg)
            return type("Process", (), {name: getattr(process, name) for name in NAMES})()

    NAMES = ("stream", "side", "origin", "ended", "kill", "aclose", "discard", "worker")
    async with gibbs.open_hub(Plain, workers=1, launcher=Bare()) as hub:
        with pytest.raises(TypeError, match="cannot let a worker hang"):
            async with hang(hub):
                raise AssertionError("it was entered")
        await crash(hub)
        assert await hub.request(1) == 1
