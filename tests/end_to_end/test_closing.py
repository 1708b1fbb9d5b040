"""Leaving a hub, in every way and with every kind of worker: in bounded time, without a process, and with the right error.

Times are bounded by `Closing`, at ten times what is promised.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time

import anyio
import pytest

import gibbs
from tests.end_to_end.callers import WATCHDOG, Heard, answer, until
from tests.end_to_end.models_that_block import LONG, BuiltOnce, Careful, Lingers, OwnTimeout, Patient, Quick

CLOSE_TIMEOUT = 0.3


class Closing:
    """From the last line of a body on. Closing is shielded: no scope can end it, so the time is looked at afterwards."""

    def __init__(self):
        self._begun = time.monotonic()

    def is_over(self):
        assert time.monotonic() - self._begun < 10 * (CLOSE_TIMEOUT + 0.5)


@pytest.fixture
async def outside():
    """A task group around the hub, for what goes on while the hub is left."""
    async with anyio.create_task_group() as tg:
        yield tg


def open_lingers(folder, **options):
    return gibbs.open_hub(Lingers, folder, **{"close_timeout": CLOSE_TIMEOUT, "cancel_grace": 0.1} | options)


IDLE = [
    "nothing",
    "non_daemon_thread",
    "forked_grandchild",
    "subprocess_grandchild",
    "every_signal_blocked",
    "atexit_handler_that_hangs",
]
BUSY = ["sleep", "swallows_everything", "blocks_the_signal", "c_code", "stopped"]


# ------------------------------------------------------------------------------------------------ what a worker is doing


@pytest.mark.parametrize("left", IDLE)
async def test_no_process_is_left_whatever_an_idle_worker_has_left_behind(left, tmp_path, all_gone):
    async with open_lingers(tmp_path, workers=1) as hub:
        pids = [*hub.statistics().pids, *await answer(hub, left)]
        closing = Closing()
    closing.is_over()
    all_gone(pids)


@pytest.mark.parametrize(
    ("how", "on_cancel"),
    [*((how, "interrupt") for how in BUSY), ("sleep", "kill"), ("sleep", "finish"), ("stopped", "finish")],
)
async def test_no_process_is_left_whatever_a_busy_worker_does(
    how, on_cancel, tmp_path, outside, all_gone, start, heard
):
    launcher = gibbs.LocalLauncher(output=heard)
    async with open_lingers(tmp_path, workers=1, launcher=launcher, on_cancel=on_cancel) as hub:
        pids = hub.statistics().pids
        running, queued = start(hub, how), start(hub, how)
        if how == "stopped":
            await until(lambda: hub.statistics().running)
        else:
            await heard.line("begun")
        await until(lambda: hub.statistics().queued)
        closing = Closing()
    closing.is_over()
    all_gone(pids)
    for call in (running, queued):
        await call.end()
        assert isinstance(call.error, gibbs.HubClosed)
        assert call.error.reason == "closed"


async def test_a_worker_that_was_stopped_while_idle_is_killed_when_close_timeout_is_over(tmp_path, all_gone):
    async with open_lingers(tmp_path, workers=1) as hub:
        pids = hub.statistics().pids
        os.kill(pids[0], signal.SIGSTOP)
    all_gone(pids)
    assert not [*tmp_path.iterdir()]


# ------------------------------------------------------------------------------------------------------ ways of leaving


class Crowd:
    """A hub's workers, each in another mood, and requests that wait."""

    def __init__(self):
        self.heard = Heard()
        self.pids = []
        self.ends = []

    async def fill(self, hub, tg):
        for left in ("non_daemon_thread", "forked_grandchild"):
            self.pids += await answer(hub, left)
        self.pids += [pid for pid in hub.statistics().pids if pid is not None]
        for how in ("sleep", "swallows_everything"):
            tg.start_soon(self.request, hub, how)
        await self.heard.line("begun", times=2)
        tg.start_soon(self.request, hub, "stopped")
        await until(lambda: hub.statistics().running == 3)
        for _ in range(5):
            tg.start_soon(self.request, hub, "sleep")
        await until(lambda: hub.statistics().queued == 4)

    async def request(self, hub, how):
        try:
            await hub.request(how)
        except gibbs.HubClosed as error:
            self.ends.append(error.reason)


async def leave_crowded(tmp_path, outside, all_gone, leave, *, requests=8):
    """Open a hub, fill it, and do `leave()` in its body; then look at what is left. Returns what the body saw."""
    crowd = Crowd()
    launcher = gibbs.LocalLauncher(output=crowd.heard)
    try:
        async with open_lingers(tmp_path, workers=4, launcher=launcher) as hub:
            await crowd.fill(hub, outside)
            closing = Closing()
            await leave(hub)
    finally:
        closing.is_over()
        assert hub.statistics().seats["retired"] == 4
        all_gone(crowd.pids)
        with anyio.CancelScope(shield=True):
            await until(lambda: len(crowd.ends) == requests)
        assert {*crowd.ends} == {"closed"}
        with pytest.raises(gibbs.HubClosed):
            await hub.request("nothing")


async def test_leaving_normally_closes_a_crowded_hub(tmp_path, outside, all_gone):
    await leave_crowded(tmp_path, outside, all_gone, lambda hub: anyio.lowlevel.checkpoint())


async def test_leaving_by_an_exception_closes_a_crowded_hub_and_the_exception_leaves(tmp_path, outside, all_gone):
    error = ValueError("of the body")

    async def leave(hub):
        raise error

    with pytest.raises(ValueError, match="of the body") as caught:
        await leave_crowded(tmp_path, outside, all_gone, leave)
    assert caught.value is error


async def test_leaving_by_a_keyboard_interrupt_closes_a_crowded_hub(tmp_path, outside, all_gone):
    async def leave(hub):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await leave_crowded(tmp_path, outside, all_gone, leave)


async def test_leaving_by_cancellation_closes_a_crowded_hub(tmp_path, outside, all_gone):
    async def leave(hub):
        scope.cancel()
        await hub.request("nothing")

    with anyio.CancelScope() as scope:
        await leave_crowded(tmp_path, outside, all_gone, leave)
    assert scope.cancelled_caught


@pytest.mark.parametrize("times", [1, 3])
async def test_leaving_by_a_native_cancellation_closes_a_crowded_hub(
    times, anyio_backend_name, tmp_path, outside, all_gone
):
    if anyio_backend_name != "asyncio":
        pytest.skip("Trio has no such thing")

    async def leave(hub):
        ready.set()
        await anyio.sleep_forever()

    ready = anyio.Event()
    task = asyncio.create_task(leave_crowded(tmp_path, outside, all_gone, leave))
    await ready.wait()
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_native_cancellation_hurries_a_hub_that_is_closing(anyio_backend_name, tmp_path, all_gone):
    if anyio_backend_name != "asyncio":
        pytest.skip("Trio has no such thing")
    hubs, pids = [], []

    async def open_and_leave():
        async with open_lingers(tmp_path, workers=1, close_timeout=LONG) as hub:
            await answer(hub, "atexit_handler_that_hangs")
            pids.extend(hub.statistics().pids)
            hubs.append(hub)

    task = asyncio.create_task(open_and_leave())
    await until(lambda: hubs and not hubs[0].health().ready)
    task.cancel()
    with pytest.raises(asyncio.CancelledError), anyio.fail_after(WATCHDOG):
        await task
    all_gone(pids)


async def test_ctrl_c_ends_a_program_with_busy_workers_and_none_of_them_complains(start_program, all_gone):
    program = start_program(
        """
        class Sleeps:
            interruptible = True

            def __call__(self):
                print("begun", file=sys.__stdout__)
                time.sleep(600)

        def heard(line, seat):
            say(line)

        async def main():
            launcher = gibbs.LocalLauncher(output=heard)
            options = {"workers": 2, "launcher": launcher, "cancel_grace": 20}
            async with gibbs.open_hub(Sleeps, **options) as hub, anyio.create_task_group() as tg:
                say(hub.statistics().pids)
                tg.start_soon(hub.request)
                await anyio.sleep_forever()

        try:
            run(main)
        except KeyboardInterrupt:
            say("interrupted")
        except BaseExceptionGroup as group:
            say("interrupted" if group.subgroup(KeyboardInterrupt) else repr(group))
        """
    )
    pids = program.read()
    assert program.read() == "begun"
    os.kill(program.pid, signal.SIGINT)
    assert program.read() == "interrupted"
    assert program.end() == ("", "")
    all_gone(pids)


# -------------------------------------------------------------------------------------------------- what closing does


async def test_idle_workers_exit_as_programs_do(tmp_path):
    async with open_lingers(tmp_path, workers=2, close_timeout=WATCHDOG) as hub:
        pids = hub.statistics().pids
    assert {path.name for path in tmp_path.iterdir()} == {f"exited {pid}" for pid in pids}


async def test_a_worker_whose_call_was_interrupted_by_closing_exits_as_programs_do(tmp_path, heard, start):
    launcher = gibbs.LocalLauncher(output=heard)
    async with open_lingers(
        tmp_path, workers=1, close_timeout=WATCHDOG, cancel_grace=WATCHDOG, launcher=launcher
    ) as hub:
        pids = hub.statistics().pids
        start(hub, "sleep")
        await heard.line("begun")
    assert (tmp_path / f"exited {pids[0]}").exists()


async def test_a_call_that_may_finish_has_until_close_timeout(tmp_path, heard, start, outside):
    launcher = gibbs.LocalLauncher(output=heard)
    options = {"workers": 1, "launcher": launcher, "on_cancel": "finish", "close_timeout": LONG}
    async with gibbs.open_hub(Saves, tmp_path / "saved", **options) as hub:
        call = start(hub, tmp_path / "go")
        await heard.line("begun")

        @outside.start_soon
        async def let_it_go():
            await call.end()  # its caller does not wait for it any more
            assert isinstance(call.error, gibbs.HubClosed)
            (tmp_path / "go").touch()

    assert (tmp_path / "saved").exists()


class Saves(Patient):
    def __init__(self, path):
        super().__init__()
        self.path = path

    def __call__(self, path):
        super().__call__(path)
        self.path.touch()


async def test_a_call_that_does_not_finish_by_close_timeout_is_killed(tmp_path, heard, start, all_gone):
    launcher = gibbs.LocalLauncher(output=heard)
    options = {"workers": 1, "launcher": launcher, "on_cancel": "finish", "close_timeout": CLOSE_TIMEOUT}
    async with gibbs.open_hub(Careful, **options) as hub:
        pids = hub.statistics().pids
        start(hub, tmp_path / "never")
        await heard.line("begun")
    all_gone(pids)


async def test_closing_does_not_advise_to_keep_workers_that_have_to_go(heard, start, tmp_path, caplog):
    async with gibbs.open_hub(Careful, workers=1, launcher=gibbs.LocalLauncher(output=heard)) as hub:
        start(hub, tmp_path / "never")
        await heard.line("begun")
    assert not caplog.records
    assert hub.statistics().killed == hub.statistics().restarts == 0


async def test_all_workers_share_one_deadline(tmp_path):
    async with open_lingers(tmp_path, workers=3) as hub:
        for _ in range(3):
            await answer(hub, "atexit_handler_that_hangs")
        supervisors = hub._desk.crew.supervisors
        workers = [supervisor.worker for supervisor in supervisors]
    assert len({worker.deadline for worker in workers}) == 1


async def test_close_timeout_of_zero_kills_at_once(tmp_path, all_gone):
    async with open_lingers(tmp_path, workers=2, close_timeout=0) as hub:
        pids = hub.statistics().pids
        await answer(hub, "non_daemon_thread")
    all_gone(pids)


async def test_workers_that_are_killed_at_the_moment_of_closing_are_no_error(tmp_path, start, caplog):
    async with open_lingers(tmp_path, workers=3, close_timeout=WATCHDOG) as hub:
        call = start(hub, "sleep")
        await until(lambda: hub.statistics().running)
        for pid in hub.statistics().pids:
            os.kill(pid, signal.SIGKILL)
    await call.end()
    assert isinstance(call.error, gibbs.HubClosed)
    assert hub.statistics().seats["retired"] == 3


async def test_workers_that_are_starting_when_the_hub_closes_are_killed(tmp_path, all_gone):
    async with gibbs.open_hub(StartsNever, workers=2, ready=0) as hub:
        await until(lambda: all(hub.statistics().pids))
        pids = hub.statistics().pids
    all_gone(pids)


class StartsNever:
    def __init__(self):
        time.sleep(LONG)

    def __call__(self):
        pass


async def test_a_request_after_closing_is_refused_at_once():
    async with gibbs.open_hub(Quick, workers=1) as hub:
        pass
    for request in (hub.request, hub.using(on_cancel="kill").request, hub.method("pid").request):
        with anyio.fail_after(WATCHDOG), pytest.raises(gibbs.HubClosed) as caught:
            await request(1, 0)
        assert caught.value.reason == "closed"
    with anyio.fail_after(WATCHDOG), pytest.raises(gibbs.HubClosed):
        await hub.wait_ready()
    with anyio.fail_after(WATCHDOG), pytest.raises(gibbs.HubClosed):
        await hub.drain()
    assert not hub.health().ready
    assert "closed" in repr(hub)


@pytest.mark.slow
async def test_twenty_hubs_after_another_leave_nothing(take_inventory):
    before = None
    for _ in range(20):
        async with gibbs.open_hub(Quick, workers=1) as hub:
            assert await answer(hub, 1, 0) == 1
        assert before is None or before.left() == {}
        before = before or take_inventory()


# --------------------------------------------------------------------------------------------------------------- drain


async def test_draining_answers_what_was_accepted_and_refuses_what_is_new(heard, start, tmp_path, outside):
    async with gibbs.open_hub(Patient, workers=1, launcher=gibbs.LocalLauncher(output=heard)) as hub:
        calls = [start(hub, tmp_path / "go") for _ in range(3)]
        await heard.line("begun")
        await until(lambda: hub.statistics().queued == 2)
        drained = anyio.Event()

        @outside.start_soon
        async def drain():
            await hub.drain()
            drained.set()

        await until(lambda: not hub.health().ready)
        with pytest.raises(gibbs.HubClosed) as caught:
            await hub.request(tmp_path / "go")
        assert caught.value.reason == "draining"
        assert any("drain" in reason for reason in hub.health().reasons)
        assert not drained.is_set()
        (tmp_path / "go").touch()
        with anyio.fail_after(WATCHDOG):
            await drained.wait()
        await hub.drain()  # again, and it returns at once
        for call in calls:
            await call.end()
            assert call.result == "go"


async def test_a_drain_that_is_cancelled_stays_one(heard, start, tmp_path):
    async with gibbs.open_hub(Patient, workers=1, launcher=gibbs.LocalLauncher(output=heard)) as hub:
        call = start(hub, tmp_path / "go")
        await heard.line("begun")
        with anyio.move_on_after(0.01) as scope:
            await hub.drain()
        assert scope.cancelled_caught
        with pytest.raises(gibbs.HubClosed) as caught:
            await hub.request(tmp_path / "go")
        assert caught.value.reason == "draining"
        (tmp_path / "go").touch()
        with anyio.fail_after(WATCHDOG):
            await hub.drain()
        await call.end()
        assert call.result == "go"


async def test_draining_is_over_when_what_was_accepted_is_cancelled(heard, start, tmp_path, outside):
    async with gibbs.open_hub(Patient, workers=1, launcher=gibbs.LocalLauncher(output=heard)) as hub:
        running, queued = start(hub, tmp_path / "never"), start(hub, tmp_path / "never")
        await heard.line("begun")
        await until(lambda: hub.statistics().queued)
        outside.start_soon(running.cancel)
        outside.start_soon(queued.cancel)
        with anyio.fail_after(WATCHDOG):
            await hub.drain()


async def test_leaving_does_not_drain(heard, start, tmp_path):
    async with gibbs.open_hub(Patient, workers=1, launcher=gibbs.LocalLauncher(output=heard)) as hub:
        call = start(hub, tmp_path / "never")
        await heard.line("begun")
    await call.end()
    assert isinstance(call.error, gibbs.HubClosed)


# ------------------------------------------------------------------------------------------------- hubs beside and inside


async def test_two_hubs_at_once_answer_each_as_its_own():
    async with gibbs.open_hub(Quick, workers=2) as quick, gibbs.open_hub(Doubles, workers=2) as doubles:
        found = {}

        async def ask(hub, x, *more):
            found[hub.name, x] = await answer(hub, x, *more)

        async with anyio.create_task_group() as tg:
            for x in range(8):
                tg.start_soon(ask, quick, x, 0)
                tg.start_soon(ask, doubles, x)
        assert found == {("Quick", x): x for x in range(8)} | {("Doubles", x): 2 * x for x in range(8)}


class Doubles:
    def __call__(self, x):
        return 2 * x


async def test_an_inner_hub_closes_and_the_outer_one_goes_on():
    async with gibbs.open_hub(Quick, workers=1) as outer:
        async with gibbs.open_hub(Doubles, workers=1) as inner:
            assert await answer(inner, await answer(outer, 3, 0)) == 6
        with pytest.raises(gibbs.HubClosed) as caught:
            await inner.request(3)
        assert caught.value.name == "Doubles"
        assert await answer(outer, 4, 0) == 4


async def test_a_hub_whose_sibling_fails_is_cancelled_and_leaves_nothing(heard, tmp_path, all_gone):
    pids = []
    with pytest.raises(ExceptionGroup) as caught:
        async with anyio.create_task_group() as tg:

            @tg.start_soon
            async def serve():
                async with gibbs.open_hub(Patient, workers=1, launcher=gibbs.LocalLauncher(output=heard)) as hub:
                    pids.extend(hub.statistics().pids)
                    await hub.request(tmp_path / "never")

            await heard.line("begun")
            raise ValueError("of the sibling")
    assert [*map(str, caught.value.exceptions)] == ["of the sibling"]
    all_gone(pids)


# ------------------------------------------------------------------------------------------------------ errors of bodies

ERRORS = [
    ValueError("x"),
    StopIteration(3),
    StopAsyncIteration(),
    GeneratorExit(),
    SystemExit(4),
    KeyboardInterrupt(),
    ExceptionGroup("of the user", [ValueError("x"), ExceptionGroup("inner", [KeyError("y")])]),
    BaseExceptionGroup("of the user", [KeyboardInterrupt()]),
    gibbs.HubClosed("another hub", "failed"),
    RuntimeError("async generator raised StopIteration"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_an_error_of_the_body_leaves_as_it_is(error):
    members = getattr(error, "exceptions", None)
    caught = None
    try:
        async with gibbs.open_hub(Quick, workers=1):
            raise error
    except BaseException as exc:  # noqa: BLE001 - whatever it is
        caught = exc
    assert caught is error
    assert caught.__cause__ is None
    assert caught.__context__ is None
    assert getattr(caught, "exceptions", None) == members


async def test_an_error_of_the_body_leaves_as_it_is_although_its_scope_is_cancelled():
    error = ValueError("while cleaning up")
    with pytest.raises(ValueError, match="while cleaning up") as caught, anyio.CancelScope() as scope:
        async with gibbs.open_hub(Quick, workers=1):
            scope.cancel()
            raise error
    assert caught.value is error


async def test_an_error_of_the_model_leaves_the_body_as_itself():
    with pytest.raises(TimeoutError, match="the database is slow"):
        async with gibbs.open_hub(OwnTimeout, workers=1) as hub:
            await answer(hub)


# ------------------------------------------------------------------------------------------------------ the hub gives up


async def test_a_hub_that_gives_up_cancels_its_body_and_tells_its_waiters_why(tmp_path, start):
    weights = tmp_path / "weights"
    weights.touch()
    seen = []
    policy = gibbs.RestartPolicy(max_failures=1)
    with pytest.raises(gibbs.RestartsExhausted) as caught, anyio.fail_after(5 * WATCHDOG):
        async with gibbs.open_hub(BuiltOnce, weights, workers=1, restarts=policy) as hub:
            assert await answer(hub, 1) == 1
            weights.unlink()
            os.kill(hub.statistics().pids[0], signal.SIGKILL)
            await until(lambda: hub.statistics().seats["serving"] == 0)
            waiting = start(hub, 2)
            try:
                await anyio.sleep_forever()
            except anyio.get_cancelled_exc_class():
                seen.append("cancelled")
                raise
    assert seen == ["cancelled"]
    await waiting.end()
    assert isinstance(waiting.error, gibbs.HubClosed)
    assert waiting.error.reason == "failed"
    assert waiting.error.__cause__ is caught.value
    assert len(caught.value.failures) >= 2
    assert str(caught.value.__cause__.__cause__) == "the weights are gone"
    with pytest.raises(gibbs.HubClosed) as later:
        await hub.request(3)
    assert later.value.__cause__ is caught.value


async def test_when_the_hub_gives_up_its_echo_in_the_body_is_dropped_and_the_bodys_own_errors_are_kept(tmp_path):
    weights = tmp_path / "weights"
    weights.touch()
    own = KeyError("of the body")
    with pytest.raises(BaseExceptionGroup) as caught, anyio.fail_after(5 * WATCHDOG):
        async with gibbs.open_hub(BuiltOnce, weights, workers=1, restarts=gibbs.RestartPolicy(max_failures=0)) as hub:
            async with anyio.create_task_group() as tg:
                weights.unlink()
                os.kill(hub.statistics().pids[0], signal.SIGKILL)
                await until(lambda: hub.statistics().seats["serving"] == 0)

                @tg.start_soon
                async def echoes():
                    with anyio.CancelScope(shield=True):
                        await hub.request(1)

                @tg.start_soon
                async def fails():
                    try:
                        await anyio.sleep_forever()
                    finally:
                        raise own

    of_body, of_hub = caught.value.exceptions
    assert isinstance(of_body, ExceptionGroup)
    assert [*of_body.exceptions] == [own]
    assert isinstance(of_hub, gibbs.RestartsExhausted)
