"""What a second reader of the hub found wrong once: each of its findings, as it must be. Workers are scripted."""

from __future__ import annotations

import asyncio
import gc
import math
import signal
import socket
import ssl
import time
from contextlib import asynccontextmanager
from types import SimpleNamespace

import anyio
import pytest
from anyio import from_thread, to_thread
from anyio.abc import SocketStream, UNIXSocketStream
from anyio.streams.buffered import BufferedByteStream
from anyio.streams.tls import TLSStream
from trio.testing import MockClock

import gibbs
from gibbs._parent.link import Link
from gibbs._parent.turns import Turns
from gibbs._wire import payload
from gibbs._wire.frames import FrameError, encode
from gibbs._wire.messages import ANSWER
from gibbs.testing import ScriptedLauncher, serve

VIRTUAL_TIME = pytest.param(("trio", {"clock": MockClock(autojump_threshold=0)}), id="trio")
FRAGILE = gibbs.RestartPolicy(max_failures=0)


class Echo:
    def __call__(self, x):
        return x


class Hangs:
    """Its calls end when they are interrupted."""

    interruptible = True

    def __call__(self):
        return anyio.sleep_forever()


class BodyError(Exception):
    pass


def open_hub(launcher, *, model=Echo, workers=1, close_timeout=0, **options):
    return gibbs.open_hub(
        model, name="echo", workers=workers, launcher=launcher, close_timeout=close_timeout, **options
    )


async def unfit(worker):
    await worker.unfit(LookupError(f"no model for seat {worker.spec.seat}"))


async def clings(worker):
    """Is ready, and does nothing by itself, not even leave."""
    await worker.ready(interruptible=True, methods={"__call__": "plain"})
    await anyio.sleep_forever()


@pytest.fixture
def on_asyncio(anyio_backend_name):
    """Only there has a task a `cancel()` that no scope knows of."""
    if anyio_backend_name != "asyncio":
        pytest.skip("asyncio's own cancellation")


# -------------------------------------------------------------------------------------------------------------- opening


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"workers": 8}, id="all of many"),
        pytest.param({"workers": 8, "ready": 1}, id="one of many"),
        pytest.param({"workers": 1, "restarts": FRAGILE}, id="no failure is allowed"),
    ],
)
async def test_an_opening_that_fails_raises_the_first_failure_itself_whatever_the_policy_says(options):
    launcher = ScriptedLauncher(unfit)
    with pytest.raises(gibbs.WorkerStartFailed, match="no model for seat") as caught:
        async with open_hub(launcher, **options):
            raise AssertionError("entered")
    assert caught.value.reason == "model"
    assert isinstance(caught.value.__cause__, LookupError)
    assert len(launcher.workers) == options["workers"]


async def test_a_start_that_failed_while_the_hub_opened_is_logged_if_it_opened_anyway(caplog):
    failed = anyio.Event()

    async def script(worker):
        if worker.spec.seat:
            await unfit(worker)
            failed.set()
        else:
            await failed.wait()
            await anyio.wait_all_tasks_blocked()
            await serve(worker)

    async with open_hub(ScriptedLauncher(script), workers=2, ready=1):
        await anyio.wait_all_tasks_blocked()
        (told,) = [record.getMessage() for record in caplog.records if record.name == "gibbs"]
        assert "worker 1" in told
        assert "no model for seat 1" in told


async def test_a_start_that_failed_while_the_hub_opened_in_vain_is_raised_and_not_logged_too(caplog):
    with pytest.raises(gibbs.WorkerStartFailed):
        async with open_hub(ScriptedLauncher(unfit), workers=3):
            raise AssertionError("entered")
    assert not [record for record in caplog.records if record.name == "gibbs"]


class Wordless(Exception):
    """Cannot be told in words."""

    def __str__(self):
        raise ZeroDivisionError("in __str__")


async def wordless(worker):
    await worker.unfit(Wordless("some", "thing"))


async def test_a_model_s_exception_that_cannot_be_put_into_words_is_the_cause_of_the_failed_opening():
    with pytest.raises(gibbs.WorkerStartFailed, match="the model could not be built") as caught:
        async with open_hub(ScriptedLauncher(wordless)):
            raise AssertionError("entered")
    assert caught.value.reason == "model"
    assert type(caught.value.__cause__) is Wordless
    assert caught.value.__cause__.args == ("some", "thing")


async def test_a_model_s_exception_that_cannot_be_put_into_words_is_a_failed_start_like_any_later(caplog):
    launcher = ScriptedLauncher(serve, wordless, serve)
    async with open_hub(launcher) as hub:
        launcher.worker().die(code=1)
        with anyio.fail_after(10):
            assert await hub.request(1) == 1
        assert hub.statistics().restarts == 2
    assert "Wordless" in caplog.text


# --------------------------------------------------------------------------------------------------- native cancellation


class Program:
    """A hub in a task of its own, as a program has it."""

    def __init__(self, launcher, body, **options):
        self.launcher = launcher
        self.others = asyncio.all_tasks()
        self.hub = None
        self.task = asyncio.ensure_future(self.run(body, options))

    async def run(self, body, options):
        async with open_hub(self.launcher, **options) as self.hub:
            await body(self.hub)

    def tasks(self, word=""):
        """Its own, the hub's and the workers', or those whose name has this word."""
        return [task for task in asyncio.all_tasks() - self.others if word in task.get_name()]

    async def ends(self):
        with anyio.fail_after(10):
            await asyncio.wait([self.task])
        assert all(worker.ending is not None for worker in self.launcher.workers)
        assert not self.tasks()


async def waits(hub):
    await anyio.sleep_forever()


async def is_entered_when_all_is_cancelled_after(steps):
    program = Program(ScriptedLauncher(), waits, workers=2)
    for _ in range(steps):
        await asyncio.sleep(0)
    entered = program.hub is not None
    for task in program.tasks():
        task.cancel()
    await program.ends()
    program.task.cancelled() or program.task.exception()
    return entered


@pytest.mark.usefixtures("on_asyncio")
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited", "ignore:Exception ignored")
async def test_whenever_every_task_is_cancelled_natively_nothing_hangs_and_nothing_is_left():
    for steps in range(100):
        if await is_entered_when_all_is_cancelled_after(steps):
            break
    else:
        raise AssertionError("it never opened")
    gc.collect()  # tasks that were cancelled before they began: AnyIO does not close their coroutines, and Python says so


async def waits_in_nested_groups(hub):
    async with anyio.create_task_group() as outer:
        outer.start_soon(anyio.sleep_forever)
        async with anyio.create_task_group() as inner:
            inner.start_soon(hub.request, 1)
            inner.start_soon(anyio.sleep_forever)


async def waits_for_a_request(hub):
    await hub.request(1)


@pytest.mark.usefixtures("on_asyncio")
@pytest.mark.parametrize("wait", [waits, waits_in_nested_groups, waits_for_a_request])
async def test_a_supervisor_that_is_cancelled_natively_cancels_the_body_and_is_told_in_words(wait):
    inside = asyncio.Event()
    got = None

    async def body(hub):
        nonlocal got
        inside.set()
        try:
            await wait(hub)
        except BaseException as error:
            got = error
            raise

    program = Program(ScriptedLauncher(clings), body, workers=2)
    await inside.wait()
    await anyio.wait_all_tasks_blocked()
    (supervisor,) = program.tasks("seat 1")
    supervisor.cancel()
    await program.ends()
    assert isinstance(got, asyncio.CancelledError)
    error = program.task.exception()
    assert type(error) is RuntimeError
    assert str(error) == "a task of the hub 'echo' was cancelled by other code"


# ------------------------------------------------------------------------------------------------------- streams, sends


@asynccontextmanager
async def link_over(stream):
    try:
        yield Link(SimpleNamespace(stream=stream, side=None), Turns(), max_message=math.inf)
    finally:
        await stream.aclose()


def in_one_step(coro):
    """Run a coroutine that must not wait for anything."""
    with pytest.raises(StopIteration):
        coro.send(None)


async def test_the_last_words_on_a_socket_are_read_at_once_however_long_the_loop_may_stand_still():
    near, far = socket.socketpair()
    heard = []
    with far:  # as a forked grandchild holds it open
        async with link_over(await UNIXSocketStream.from_socket(near)) as link:
            far.sendall(encode(ANSWER, 1, b"x" * 100_000) + encode(ANSWER, 2, b"y"))
            in_one_step(link.drain(lambda kind, link_id, body: heard.append((kind, link_id, len(body)))))
            assert heard == [(ANSWER, 1, 100_000), (ANSWER, 2, 1)]
            in_one_step(link.drain(lambda *_: pytest.fail("nothing was left")))


async def test_the_last_words_on_a_stream_that_is_waited_for_are_read_though_the_loop_stands_still():
    near, far = socket.socketpair()
    far.sendall(encode(ANSWER, 1, b"x"))
    far.close()
    heard = []
    async with link_over(BufferedByteStream(await UNIXSocketStream.from_socket(near))) as link:
        receive = link._receive

        async def stands_still():
            link._receive = receive
            time.sleep(0.1)
            await anyio.lowlevel.checkpoint()
            return await receive()

        link._receive = stands_still
        assert await link.drain(lambda kind, link_id, body: heard.append((kind, link_id, body))), "to its end"
    assert heard == [(ANSWER, 1, b"x")]


async def test_of_last_words_what_follows_nonsense_is_not_heard():
    near, far = socket.socketpair()
    heard = []
    with far:
        async with link_over(await UNIXSocketStream.from_socket(near)) as link:
            far.sendall(encode(ANSWER, 1, b"x") + b"nonsense" * 10)
            in_one_step(link.drain(lambda kind, link_id, body: heard.append(link_id)))
            with pytest.raises(FrameError):
                await link.drain(lambda *_: heard.append("more"))
            assert heard == [1]


async def test_a_link_takes_the_socket_of_a_plain_unix_stream_and_of_no_other():
    near, far = socket.socketpair()
    with far:
        async with link_over(await UNIXSocketStream.from_socket(near)) as link:
            assert link._socket is not None

    near, far = socket.socketpair()
    with far:
        async with link_over(BufferedByteStream(await UNIXSocketStream.from_socket(near))) as link:
            assert link._socket is None

    near, far = socket.socketpair()
    with far:
        inside, outside = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = ssl.create_default_context().wrap_bio(inside, outside, server_hostname="localhost")
        plain = await UNIXSocketStream.from_socket(near)
        async with link_over(TLSStream(plain, False, tls, inside, outside)) as link:
            assert link._socket is None

    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        with server.accept()[0]:
            async with link_over(await SocketStream.from_socket(near)) as link:
                assert link._socket is None


async def test_an_answer_is_delivered_although_garbage_came_in_the_same_piece():
    async def script(worker):
        await worker.ready(methods={"__call__": "plain"})
        call = await worker.receive()
        worker.begin(call.link_id)
        await worker.say(encode(ANSWER, call.link_id, payload.dumps("answer")) + b"no message at all, but long")
        await anyio.sleep_forever()

    launcher = ScriptedLauncher(script, serve)
    async with open_hub(launcher) as hub:
        with anyio.fail_after(10):
            assert await hub.request(1) == "answer"
            assert await hub.request(2) == 2
        assert launcher.workers[0].ending.signal == "SIGKILL"
        assert hub.statistics().restarts == 1
        assert hub.statistics().crashed == 0


# ---------------------------------------------------------------------------------------------------------- their deaths


def ends_late(**how):
    """The script of a worker whose stream ends half a second before it does. What the hub does to it makes no difference."""

    async def script(worker):
        await worker.ready(methods={"__call__": "plain"})
        worker.begin((await worker.receive()).link_id)
        worker.immortal = True
        worker.hang_up()
        await anyio.sleep(0.5)
        worker.die(**how)

    return script


@pytest.mark.parametrize("anyio_backend", [VIRTUAL_TIME])
@pytest.mark.parametrize(
    ("how", "exit_code", "name", "cause"),
    [
        pytest.param({"signal": signal.SIGSEGV}, None, "SIGSEGV", "native code", id="SIGSEGV"),
        pytest.param({"code": 3}, 3, None, "ended the process", id="exit 3"),
    ],
)
async def test_a_process_that_ends_by_itself_is_not_said_to_be_killed_by_the_hub_however_long_it_takes(
    how, exit_code, name, cause
):
    launcher = ScriptedLauncher(ends_late(**how), serve)
    async with open_hub(launcher) as hub:
        with pytest.raises(gibbs.WorkerCrashed) as caught:
            await hub.request(1)
        assert launcher.workers[0].kills
        assert (caught.value.exit_code, caught.value.signal) == (exit_code, name)
        assert cause in caught.value.probable_cause
        assert "by the hub" not in str(caught.value)


@pytest.mark.parametrize("anyio_backend", [VIRTUAL_TIME])
async def test_a_process_that_lives_on_without_its_stream_is_killed_by_the_hub_and_that_is_said():
    async def script(worker):
        await worker.ready(methods={"__call__": "plain"})
        worker.begin((await worker.receive()).link_id)
        worker.hang_up()
        await anyio.sleep_forever()

    launcher = ScriptedLauncher(script, serve)
    async with open_hub(launcher) as hub:
        with pytest.raises(gibbs.WorkerCrashed) as caught:
            await hub.request(1)
        assert caught.value.signal == "SIGKILL"
        assert caught.value.probable_cause == (
            "it was killed by the hub, since its stream had ended and its process had not, 0.2 seconds later"
        )


# ------------------------------------------------------------------------------------------------- what is counted, asked


@pytest.mark.parametrize("on_cancel", ["interrupt", "kill", "finish"])
async def test_a_call_that_runs_when_the_body_is_left_is_neither_counted_as_interrupted_nor_as_killed(ask, on_cancel):
    launcher = ScriptedLauncher()
    async with anyio.create_task_group() as tg:
        async with open_hub(launcher, model=Hangs, on_cancel=on_cancel, close_timeout=0.1) as hub:
            asked = await ask(tg, hub.request)
            await anyio.wait_all_tasks_blocked()
            assert launcher.worker().running
        with pytest.raises(gibbs.HubClosed):
            await asked.outcome()
    seen = hub.statistics()
    assert (seen.refused, seen.cancelled, seen.interrupted, seen.killed) == (1, 0, 0, 0)


@pytest.mark.parametrize("on_cancel", ["interrupt", "kill"])
async def test_a_call_whose_caller_is_cancelled_is_counted_by_what_became_of_its_worker(ask, on_cancel):
    launcher = ScriptedLauncher()
    async with open_hub(launcher, model=Hangs, on_cancel=on_cancel) as hub, anyio.create_task_group() as tg:
        asked = await ask(tg, hub.using(abandon_on_cancel=False).request)
        await anyio.wait_all_tasks_blocked()
        asked.cancel()
        assert await asked.outcome() == "cancelled"
    seen = hub.statistics()
    assert (seen.cancelled, seen.interrupted, seen.killed) == (1, on_cancel == "interrupt", on_cancel == "kill")


async def test_using_none_on_a_hub_that_kills_is_what_the_model_says(ask):
    launcher = ScriptedLauncher()
    async with open_hub(launcher, model=Hangs, on_cancel="kill") as hub, anyio.create_task_group() as tg:
        calls = hub.using(on_cancel=None, abandon_on_cancel=False)
        for endpoint in (calls, hub.method("__call__").using(on_cancel=None, abandon_on_cancel=False)):
            asked = await ask(tg, endpoint.request)
            await anyio.wait_all_tasks_blocked()
            asked.cancel()
            await asked.outcome()
        assert launcher.worker().spec.incarnation == 1
        assert (hub.statistics().interrupted, hub.statistics().killed) == (2, 0)


async def test_from_another_thread_statistics_and_health_are_refused_and_the_way_is_named():
    async with open_hub(ScriptedLauncher()) as hub:
        for see in (hub.statistics, hub.health):
            with pytest.raises(RuntimeError, match=r"another thread.*anyio\.from_thread"):
                await anyio.to_thread.run_sync(see)
            assert await to_thread.run_sync(from_thread.run_sync, see) == see()


@pytest.mark.parametrize("n", [None, 0, 1, 2])
async def test_wait_ready_on_a_closed_hub_says_that_it_is_closed(n):
    async with open_hub(ScriptedLauncher(), workers=2) as hub:
        await hub.wait_ready(n)
    with pytest.raises(gibbs.HubClosed) as caught:
        await hub.wait_ready(n)
    assert caught.value.reason == "closed"


@pytest.mark.parametrize("n", [None, 0, 1, 2])
async def test_wait_ready_on_a_hub_that_has_failed_says_so_although_other_workers_still_serve(ask, n):
    async def script(worker):
        await (unfit(worker) if worker.spec.seat else clings(worker))

    launcher = ScriptedLauncher(clings, script)
    failed = anyio.Event()
    async with anyio.create_task_group() as tg:

        async def look(hub):
            await failed.wait()
            serving = hub.statistics().seats["serving"]
            with pytest.raises(gibbs.HubClosed) as caught:
                await hub.wait_ready(n)
            launcher.worker(0).die(code=0)  # which the hub's end waits for
            return serving, caught.value

        with pytest.raises(gibbs.RestartsExhausted) as caught:
            async with open_hub(launcher, workers=2, restarts=FRAGILE, close_timeout=20) as hub:
                looked = await ask(tg, look, hub)
                launcher.worker(1).die(code=1)
                try:
                    await anyio.sleep_forever()
                finally:
                    failed.set()
        serving, told = await looked.outcome()
        assert serving == 1
        assert (told.reason, told.__cause__) == ("failed", caught.value)


# ------------------------------------------------------------------------------------------------ which error leaves it


class LeavesBadly(ScriptedLauncher):
    """A launcher whose session cannot be left without an error."""

    def __init__(self, error, *scripts):
        super().__init__(*scripts)
        self.error = error

    @asynccontextmanager
    async def session(self):
        async with super().session() as session:
            yield session
            raise self.error


class SessionError(Exception):
    pass


async def test_an_error_of_the_launcher_s_session_does_not_hide_the_body_s():
    own, launcher_s = BodyError(), SessionError()
    with pytest.raises(ExceptionGroup) as caught:
        async with open_hub(LeavesBadly(launcher_s)):
            raise own
    assert [type(error) for error in caught.value.exceptions] == [BodyError, ExceptionGroup]
    assert caught.value.exceptions[0] is own
    assert caught.value.exceptions[1].exceptions == (launcher_s,)  # of the task group that this launcher has


async def test_an_error_of_the_launcher_s_session_leaves_alone_when_the_body_had_none():
    launcher_s = SessionError()
    with pytest.raises(ExceptionGroup) as caught:
        async with open_hub(LeavesBadly(launcher_s)):
            pass
    assert caught.value.exceptions == (launcher_s,)


async def test_an_error_of_the_launcher_s_session_leaves_when_the_opening_failed_too():
    launcher_s = SessionError()
    with pytest.raises(ExceptionGroup) as caught:
        async with open_hub(LeavesBadly(launcher_s, unfit)):
            raise AssertionError("entered")
    failed, session_s = caught.value.exceptions
    assert type(failed) is gibbs.WorkerStartFailed
    assert session_s.exceptions == (launcher_s,)
