"""Workers that die, and what a hub's users see of it: one error for each request that had begun, and nothing else."""

from __future__ import annotations

import ctypes
import fcntl
import operator
import os
import pickle
import resource
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import anyio
import pytest
from anyio import from_thread, to_thread

import gibbs
from gibbs._parent.worker import Worker
from gibbs._wire.messages import ANSWER, READY, SKIPPED
from gibbs.testing import InBand

CALLS = gibbs.function(operator.call)  # a model that does what it is told: `request(f, *args)` is f(*args) in a worker


def open_calls(workers=1, **options):
    return gibbs.open_hub(CALLS, workers=workers, name="calls", **options)


async def outcomes(hub, requests):
    """The result or the exception of each request, all made in the same tick, in their order."""
    found = [None] * len(requests)

    async def ask(index, request):
        try:
            found[index] = await hub.request(*request)
        except gibbs.GibbsError as error:
            found[index] = error

    async with anyio.create_task_group() as tg:
        for index, request in enumerate(requests):
            tg.start_soon(ask, index, request)
    return found


def only_worker(hub):
    return hub._desk.crew.supervisors[0].worker


# ------------------------------------------------------------------------------------------------ one death, one error


def with_last_words(death, *args):
    os.write(2, b"last words\n")
    return death(*args)


def kill_itself():
    os.kill(os.getpid(), signal.SIGKILL)


def read_address_zero():
    ctypes.string_at(0)


@pytest.mark.parametrize(
    ("death", "args", "exit_code", "signal_name", "where", "cause"),
    [
        pytest.param(kill_itself, (), None, "SIGKILL", "", "out-of-memory", id="SIGKILL"),
        pytest.param(os._exit, (4,), 4, None, "", "os._exit", id="exit 4"),
        pytest.param(os._exit, (0,), 0, None, "", "os._exit", id="exit 0"),
        pytest.param(read_address_zero, (), None, "SIGSEGV", "in read_address_zero\n", "native code", id="segfault"),
        pytest.param(os.abort, (), None, "SIGABRT", "in with_last_words", "abort()", id="abort"),
    ],
)
async def test_a_worker_that_dies_in_a_call_is_one_error_that_says_how(
    death, args, exit_code, signal_name, where, cause
):
    async with open_calls() as hub:
        pid = await hub.request(os.getpid)
        with pytest.raises(gibbs.WorkerCrashed) as caught:
            await hub.request(with_last_words, death, *args)
        error = caught.value
        assert (error.name, error.pid, error.seat, error.incarnation) == ("calls", pid, 0, 1)
        assert (error.exit_code, error.signal) == (exit_code, signal_name)
        assert (error.may_have_run, error.may_still_run) == (True, False)
        assert "last words" in error.stderr_tail
        assert where in error.stack
        assert bool(error.stack) == bool(where)
        assert cause in error.probable_cause
        assert str(pid) in str(error)
        assert vars(pickle.loads(pickle.dumps(error))) == vars(error)

        assert await hub.request(os.getpid) != pid
        seen = hub.statistics()
        assert (seen.crashed, seen.restarts, seen.done) == (1, 1, 2)


@pytest.mark.parametrize("in_band", [False, True])
async def test_a_segmentation_fault_says_where_it_was(in_band):
    """In band it is found among the last lines of output."""
    launcher = InBand(gibbs.LocalLauncher()) if in_band else None
    async with open_calls(launcher=launcher) as hub:
        with pytest.raises(gibbs.WorkerCrashed) as caught:
            await hub.request(read_address_zero)
    last = caught.value.stack.splitlines()[-1]
    assert last.endswith("in string_at")
    assert "in read_address_zero" in caught.value.stack
    assert "in string_at" in caught.value.probable_cause


async def test_one_of_forty_requests_kills_its_worker_and_the_others_do_not_notice():
    async with open_calls(2) as hub:
        requests = [(operator.mul, n, n) for n in range(40)]
        requests[7] = (os._exit, 4)
        found = await outcomes(hub, requests)
    assert isinstance(found.pop(7), gibbs.WorkerCrashed)
    assert found == [n * n for n in range(40) if n != 7]


async def test_each_error_has_an_object_of_its_own_for_its_traceback():
    async with open_calls(2) as hub:
        found = await outcomes(hub, [(os._exit, 1), (os._exit, 1)])
    assert len({id(error) for error in found}) == 2
    assert {error.seat for error in found} == {0, 1}


# --------------------------------------------------------------------------------------------------- nobody's request


async def test_idle_workers_that_are_killed_are_replaced_and_nobody_notices(until):
    async with open_calls(2) as hub:
        for pid in hub.statistics().pids:
            os.kill(pid, signal.SIGKILL)
        await until(lambda: hub.statistics().restarts == 2)
        assert await outcomes(hub, [(abs, -n) for n in range(4)]) == [0, 1, 2, 3]
        assert hub.statistics().crashed == 0


async def test_requests_made_in_the_tick_in_which_idle_workers_are_killed_are_sent_again():
    async with open_calls(2) as hub:
        for pid in hub.statistics().pids:
            os.kill(pid, signal.SIGKILL)
        assert await outcomes(hub, [(abs, -n) for n in range(10)]) == [*range(10)]
        seen = hub.statistics()
        assert (seen.crashed, seen.restarts, seen.done) == (0, 2, 10)


def answer_then_die(answered):
    def die():
        while not answered.exists():
            time.sleep(0.0005)
        os._exit(0)

    threading.Thread(target=die).start()
    return "answer"


async def test_a_worker_that_dies_right_after_its_answer_takes_no_more_than_the_request_it_had_begun(until, tmp_path):
    async with open_calls(2) as hub:
        assert await hub.request(answer_then_die, tmp_path / "answered") == "answer"
        (tmp_path / "answered").touch()
        found = await outcomes(hub, [(abs, -n) for n in range(10)])
        crashed = [error for error in found if isinstance(error, gibbs.WorkerCrashed)]
        assert len(crashed) <= 1
        assert [answer for answer in found if answer not in crashed] == [
            n for n in range(10) if found[n] not in crashed
        ]
        await until(lambda: hub.statistics().restarts == 1)  # all ten can be answered before it dies
        assert await hub.request(abs, -3) == 3


@pytest.mark.parametrize("deaths", [1, 2])
async def test_a_request_that_had_not_begun_is_sent_again_once_and_then_says_that_it_never_ran(deaths, monkeypatch):
    send = Worker.send
    sent = []

    def kill_then_send(worker, order):
        sent.append(order)
        if len(sent) <= deaths:
            os.kill(worker.process.origin.pid, signal.SIGKILL)
        send(worker, order)

    monkeypatch.setattr(Worker, "send", kill_then_send)
    async with open_calls() as hub:
        if deaths == 1:
            assert await hub.request(abs, -1) == 1
        else:
            with pytest.raises(gibbs.WorkerCrashed) as caught:
                await hub.request(abs, -1)
            assert caught.value.may_have_run is False
            assert (caught.value.signal, caught.value.incarnation) == ("SIGKILL", 2)
    assert len(sent) == 2


# ---------------------------------------------------------------------------------------------------------- many deaths


@pytest.mark.slow
async def test_sixty_requests_that_kill_their_workers_are_sixty_errors_and_the_hub_serves_on():
    async with open_calls(4) as hub:
        found = await outcomes(hub, [(os._exit, n) for n in range(60)])
        assert [type(error) for error in found] == [gibbs.WorkerCrashed] * 60
        assert [error.exit_code for error in found] == [*range(60)]
        assert await outcomes(hub, [(abs, -n) for n in range(10)]) == [*range(10)]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "requests",
    [
        300,
        pytest.param(
            10_000,
            marks=pytest.mark.skipif("GIBBS_LONG" not in os.environ, reason="a minute for each loop: `nox -s storm`"),
        ),
    ],
)
async def test_of_many_requests_every_tenth_kills_its_worker_and_exactly_the_others_are_answered(requests):
    async with open_calls(4) as hub:
        orders = [(operator.mul, n, n) if n % 10 else (os._exit, 1) for n in range(requests)]
        found = await outcomes(hub, orders)
        crashed = [n for n in range(requests) if isinstance(found[n], gibbs.WorkerCrashed)]
        assert crashed == [*range(0, requests, 10)]
        assert all(found[n].may_have_run for n in crashed)
        assert [found[n] for n in range(requests) if n % 10] == [n * n for n in range(requests) if n % 10]
        seen = hub.statistics()
        assert (seen.done, seen.crashed) == (requests * 9 // 10, requests // 10)
        assert (seen.queued, seen.running, seen.failed, seen.cancelled, seen.refused) == (0, 0, 0, 0, 0)


# ------------------------------------------------------------------------------------------ the stream is not the worker


def unread(worker):
    """How many bytes of the worker's wait in this process's end of the stream."""
    return struct.unpack("i", fcntl.ioctl(worker.link._socket.fileno(), termios.FIONREAD, b"1234"))[0]


async def test_a_worker_that_is_killed_while_it_replies_with_50_megabytes_is_a_crash_and_no_half_an_answer(until):
    async with open_calls() as hub, anyio.create_task_group() as tg:

        @tg.start_soon
        async def ask():
            with pytest.raises(gibbs.WorkerCrashed) as caught:
                await hub.request(bytes, 50_000_000)
            assert caught.value.signal == "SIGKILL"
            assert await hub.request(len, bytes(1_000_000)) == 1_000_000

        await until(lambda: hub.statistics().running)
        worker = only_worker(hub)
        watchdog = time.monotonic() + 20
        while unread(worker) < 10_000:  # the loop is blocked: it must not read the rest
            assert time.monotonic() < watchdog
        os.kill(worker.process.origin.pid, signal.SIGKILL)


def fork_and_exit(pid_file, *, own_session):
    if os.fork() == 0:
        if own_session:
            os.setsid()
        pid_file.write_text(str(os.getpid()))
        signal.pause()
    while not (pid_file.exists() and pid_file.read_text()):
        time.sleep(0.001)
    os._exit(3)


@pytest.mark.parametrize("own_session", [False, True], ids=["in the group", "out of the group"])
async def test_a_worker_that_dies_is_seen_though_its_forked_child_holds_the_stream_open(own_session, tmp_path, until):
    pid_file = tmp_path / "child"
    try:
        async with open_calls() as hub:
            with pytest.raises(gibbs.WorkerCrashed) as caught, anyio.fail_after(10):
                await hub.request(partial(fork_and_exit, pid_file, own_session=own_session))
            assert caught.value.exit_code == 3
            assert await hub.request(abs, -1) == 1
        child = int(pid_file.read_text())
        if own_session:  # it has left what is ours to kill
            os.kill(child, 0)
    finally:
        if own_session:
            os.kill(int(pid_file.read_text()), signal.SIGKILL)


class KillsWhileUnpickled:
    def __reduce__(self):
        return os._exit, (7,)


async def test_an_argument_that_kills_the_worker_while_it_is_unpickled_has_begun_and_is_never_sent_again():
    async with open_calls(2) as hub:
        found = await outcomes(hub, [(abs, -1), (abs, KillsWhileUnpickled()), (abs, -2), (abs, -3)])
        error = found.pop(1)
        assert isinstance(error, gibbs.WorkerCrashed)
        assert (error.exit_code, error.may_have_run) == (7, True)
        assert found == [1, 2, 3]
        await hub.wait_ready()
        assert hub.statistics().restarts == 1


class KillsWhilePickled:
    def __reduce__(self):
        os._exit(8)


async def test_a_result_that_kills_the_worker_while_it_is_pickled_is_a_crash():
    async with open_calls() as hub:
        with pytest.raises(gibbs.WorkerCrashed) as caught:
            await hub.request(KillsWhilePickled)
        assert caught.value.exit_code == 8
        assert await hub.request(abs, -1) == 1


def sockets():
    """This process's sockets: in a worker, the stream."""
    found = []
    for fd in map(int, os.listdir("/proc/self/fd")):
        with suppress(OSError):
            if os.readlink(f"/proc/self/fd/{fd}").startswith("socket:"):
                found.append(fd)
    return found


def close_the_stream_and_live():
    for fd in sockets():
        os.close(fd)
    time.sleep(600)


def shut_the_stream_down_and_live():
    for fd in sockets():
        socket.socket(fileno=fd).shutdown(socket.SHUT_RDWR)
    time.sleep(600)


def close_all_and_live():
    os.closerange(0, 4096)
    time.sleep(600)


def close_all_and_return():
    os.closerange(0, 4096)


@pytest.mark.parametrize(
    "close", [close_the_stream_and_live, shut_the_stream_down_and_live, close_all_and_live, close_all_and_return]
)
async def test_a_worker_that_closes_its_stream_is_ended_and_replaced(close):
    async with open_calls() as hub:
        with pytest.raises(gibbs.WorkerCrashed) as caught, anyio.fail_after(10):
            await hub.request(close)
        assert caught.value.signal == "SIGKILL"
        if close in (close_the_stream_and_live, close_all_and_live):  # the others take the hub for dead, and go
            assert "its stream had ended" in caught.value.probable_cause
        assert await hub.request(abs, -1) == 1


def write_everywhere_and_live(data):
    for fd in range(3, 64):
        with suppress(OSError):
            os.write(fd, data)
    time.sleep(600)


HEADER = struct.Struct("<2sBBQQ")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\xff" * 4096, id="garbage"),
        pytest.param(HEADER.pack(b"gB", 1, ANSWER, 1, 1 << 60), id="an answer of an exabyte"),
        pytest.param(HEADER.pack(b"gB", 1, ANSWER, 4711, 0), id="an answer to nobody's request"),
        pytest.param(HEADER.pack(b"gB", 1, READY, 0, 0), id="ready, again"),
        pytest.param(HEADER.pack(b"gB", 1, SKIPPED, 1, 0), id="a refusal of what somebody waits for"),
    ],
)
async def test_a_worker_that_writes_what_makes_no_sense_on_the_stream_is_killed_and_the_error_names_the_protocol(data):
    async with open_calls() as hub:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(gibbs.WorkerCrashed) as caught, anyio.fail_after(10):
            await hub.request(write_everywhere_and_live, data)
        assert "protocol" in caught.value.probable_cause
        assert caught.value.signal == "SIGKILL"
        assert await hub.request(abs, -1) == 1
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000, "kilobytes: nothing is allocated"


# ------------------------------------------------------------------------------------------------- whose child is it


async def test_where_sigchld_is_ignored_a_crash_is_an_error_whose_exit_code_nobody_knows():
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        async with open_calls(2) as hub:
            with pytest.raises(gibbs.WorkerCrashed) as caught, anyio.fail_after(10):
                await hub.request(with_last_words, os._exit, 4)
            assert (caught.value.exit_code, caught.value.signal) == (None, None)
            assert "nobody knows how" in str(caught.value)
            assert "last words" in caught.value.stderr_tail
            assert await outcomes(hub, [(abs, -n) for n in range(10)]) == [*range(10)]
    finally:
        signal.signal(signal.SIGCHLD, before)


async def test_where_other_code_reaps_every_child_a_crash_is_an_error_all_the_same():
    stop = threading.Event()

    def reap():
        while not stop.is_set():
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                stop.wait(0.001)

    reaper = threading.Thread(target=reap)
    reaper.start()
    try:
        async with open_calls(2) as hub:
            for _ in range(5):
                with pytest.raises(gibbs.WorkerCrashed) as caught, anyio.fail_after(10):
                    await hub.request(os._exit, 4)
                assert caught.value.exit_code in (None, 4)
            assert await outcomes(hub, [(abs, -n) for n in range(10)]) == [*range(10)]
    finally:
        stop.set()
        reaper.join()


# --------------------------------------------------------------------------------------------- workers that do not start


class Unbuildable:
    """A model that cannot be built, in the way that it is told."""

    def __init__(self, how, *args):
        os.write(1, b"so it begins\n")
        how(*args)

    def __call__(self):
        return "built"


def refuse(text):
    raise LookupError(text)


async def open_and_fail(how, *args, **options):
    with pytest.raises(gibbs.WorkerStartFailed) as caught, anyio.fail_after(20):
        async with gibbs.open_hub(Unbuildable, how, *args, workers=2, **options):
            pytest.fail("it opened")
    error = caught.value
    assert error.seat in (0, 1)
    assert error.name == "Unbuildable"
    return error


async def test_a_model_that_raises_while_it_is_built_fails_the_opening_with_its_own_exception_as_the_cause():
    error = await open_and_fail(refuse, "no weights here")
    assert error.reason == "model"
    assert "LookupError: no weights here" in str(error)
    assert type(error.__cause__) is LookupError
    assert "in refuse" in "".join(error.__cause__.__notes__)


async def test_a_model_that_calls_sys_exit_while_it_is_built_fails_the_opening_and_is_not_tried_again():
    error = await open_and_fail(sys.exit, "enough")
    assert error.reason == "model"
    assert isinstance(error.__cause__, gibbs.RemoteError)
    assert error.__cause__.type_name == "SystemExit"
    assert "enough" in str(error)


async def test_a_worker_that_exits_before_its_model_is_built_fails_the_opening_with_its_exit_code():
    error = await open_and_fail(os._exit, 5)
    assert (error.reason, error.exit_code, error.signal) == ("exited", 5, None)
    assert error.stderr_tail == "so it begins"


async def test_a_worker_that_is_killed_before_its_model_is_built_fails_the_opening_with_the_signal():
    error = await open_and_fail(kill_itself)
    assert (error.reason, error.exit_code, error.signal) == ("exited", None, "SIGKILL")


def hang():
    time.sleep(600)


async def test_a_model_that_takes_longer_than_start_timeout_fails_the_opening_which_names_the_option():
    error = await open_and_fail(hang, start_timeout=0.3)
    assert error.reason == "timeout"
    assert "start_timeout=0.3" in str(error)


def touch_and_hang(folder):
    Path(folder, str(os.getpid())).touch()
    time.sleep(600)


async def test_an_opening_that_is_cancelled_while_models_hang_leaves_no_process(tmp_path, until, running):
    with anyio.fail_after(20), anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tg:

            @tg.start_soon
            async def cancel():
                await until(lambda: len(os.listdir(tmp_path)) == 2)
                scope.cancel()

            async with gibbs.open_hub(Unbuildable, touch_and_hang, tmp_path, workers=2):
                pytest.fail("it opened")
    assert scope.cancelled_caught
    assert not running(map(int, os.listdir(tmp_path)))


async def test_in_a_cancelled_scope_no_worker_is_started(monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", None)
    with anyio.CancelScope() as scope:
        scope.cancel()
        async with open_calls():
            pytest.fail("it opened")
    assert scope.cancelled_caught


async def test_a_model_that_writes_on_both_outputs_while_it_is_built_is_served():
    async with gibbs.open_hub(Unbuildable, os.system, "echo out; echo err >&2", workers=1) as hub:
        assert await hub.request() == "built"


@pytest.mark.slow
def test_a_program_without_descriptors_to_spare_gets_an_oserror_and_nothing_is_left(start_program):
    program = start_program("""
        import resource
        def open_descriptors(): return sorted(os.listdir("/proc/self/fd"))

        class Model:
            def __call__(self): return "served"

        async def open_once():
            async with gibbs.open_hub(Model, workers=2) as hub:
                return await hub.request()

        async def main():
            say(await open_once())  # all imports are done
            most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            before = open_descriptors()
            found = []
            for spare in range(40):
                used = max(map(int, before))
                resource.setrlimit(resource.RLIMIT_NOFILE, (used + spare, most))
                try:
                    outcome = await open_once()
                except gibbs.WorkerStartFailed as error:
                    cause = error.__cause__
                    outcome = (error.reason, isinstance(cause, OSError) and errno.errorcode[cause.errno], str(error))
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
                assert open_descriptors() == before, (spare, before, open_descriptors())
                try:
                    say("a child is left", os.waitpid(-1, os.WNOHANG))
                except ChildProcessError:
                    pass
                found.append(outcome)
                if outcome == "served":
                    break
            say(found)

        run(main)
    """)
    assert program.read() == "served"
    *refused, last = program.read()
    assert last == "served"
    assert len(refused) > 5
    for reason, error, text in refused:
        assert (reason, error) == ("resources", "EMFILE"), text
        assert "no process could be made" in text
    assert program.end() == ("", "")


class OneOfThemFails:
    """Of the workers that are built at first, exactly one finds the trap."""

    def __init__(self, trap):
        try:
            os.unlink(trap)
        except FileNotFoundError:
            return
        raise LookupError("the trap")

    def __call__(self):
        return os.getpid()


async def test_one_worker_that_cannot_be_built_fails_an_opening_that_asks_for_all(tmp_path, running):
    trap = tmp_path / "trap"
    trap.touch()
    with pytest.raises(gibbs.WorkerStartFailed, match="the trap"):
        async with gibbs.open_hub(OneOfThemFails, trap, workers=3):
            pytest.fail("it opened")


async def test_one_worker_that_cannot_be_built_is_tried_again_where_the_others_are_enough(tmp_path):
    trap = tmp_path / "trap"
    trap.touch()
    async with gibbs.open_hub(OneOfThemFails, trap, workers=3, ready=2) as hub:
        assert await hub.request() in hub.statistics().pids
        with anyio.fail_after(10):
            await hub.wait_ready(3)
        assert hub.health().ready
        assert not hub.health().reasons
        assert hub.statistics().restarts == 1


class BuiltOnce:
    def __init__(self, mark):
        Path(mark).touch(exist_ok=False)

    def __call__(self, how, *args):
        return how(*args)


async def test_a_model_that_cannot_be_built_again_ends_in_restarts_exhausted_and_the_body_is_cancelled(tmp_path):
    policy = gibbs.RestartPolicy(max_failures=1)
    ends = []

    async def ask(hub):
        try:
            await hub.request(abs, -1)
        except BaseException as error:
            ends.append(error)
            raise

    async def run():
        async with gibbs.open_hub(BuiltOnce, tmp_path / "mark", workers=1, restarts=policy) as hub:
            with pytest.raises(gibbs.WorkerCrashed):
                await hub.request(os._exit, 1)
            async with anyio.create_task_group() as tg:
                tg.start_soon(ask, hub)
                await ask(hub)

    with pytest.raises(gibbs.RestartsExhausted) as caught, anyio.fail_after(20):
        await run()
    error = caught.value
    assert [type(failure) for failure in error.failures] == [gibbs.WorkerCrashed, *[gibbs.WorkerStartFailed] * 2]
    assert error.__cause__ is error.failures[-1]
    assert isinstance(error.__cause__.__cause__, FileExistsError)
    assert [type(end) for end in ends] == [anyio.get_cancelled_exc_class()] * 2


async def test_who_waits_outside_the_body_when_the_hub_fails_gets_hub_closed_with_the_reason(tmp_path):
    policy = gibbs.RestartPolicy(max_failures=0)
    ends = []

    async def ask(hub):
        try:
            await hub.request(abs, -1)
        except gibbs.HubClosed as error:
            ends.append(error)

    async def run():
        async with (
            anyio.create_task_group() as tg,
            gibbs.open_hub(BuiltOnce, tmp_path / "mark", workers=1, restarts=policy) as hub,
        ):
            with pytest.raises(gibbs.WorkerCrashed):
                await hub.request(os._exit, 1)
            for _ in range(3):
                tg.start_soon(ask, hub)
            await anyio.sleep_forever()

    with pytest.raises(ExceptionGroup) as caught, anyio.fail_after(20):
        await run()
    [failure] = caught.value.exceptions
    assert isinstance(failure, gibbs.RestartsExhausted)
    assert [(end.reason, end.__cause__) for end in ends] == [("failed", failure)] * 3


# -------------------------------------------------------------------------------------------------- not the hub's place


async def test_a_hub_cannot_be_pickled_nor_sent_to_its_own_workers():
    async with open_calls() as hub:
        with pytest.raises(TypeError, match="belongs to the program that opened it"):
            pickle.dumps(hub)
        with pytest.raises(TypeError, match="belongs to the program that opened it"):
            await hub.request(repr, hub)


async def test_a_hub_used_from_another_thread_says_what_to_do_and_that_works(anyio_backend):
    backend, options = anyio_backend
    found = []

    def use(hub):
        try:
            anyio.run(hub.request, abs, -1, backend=backend, backend_options=options)
        except RuntimeError as error:
            found.append(str(error))

    async with open_calls() as hub:
        thread = threading.Thread(target=use, args=(hub,))
        thread.start()
        thread.join()
        assert len(found) == 1
        assert "anyio.from_thread.run(hub.request" in found[0]
        assert await to_thread.run_sync(from_thread.run, hub.request, abs, -1) == 1


def test_a_forked_copy_of_the_program_cannot_use_the_hub_and_does_it_no_harm(start_program):
    program = start_program("""
        import operator

        def use(hub):
            try:
                run(lambda: hub.request(abs, -1))
            except RuntimeError as error:
                say(str(error))

        async def main():
            async with gibbs.open_hub(gibbs.function(operator.call), workers=2, name="calls") as hub:
                child = os.fork()
                if child == 0:
                    thread = threading.Thread(target=use, args=(hub,))
                    thread.start()
                    thread.join()
                    os._exit(0)
                os.waitpid(child, 0)
                say(await hub.request(abs, -1))

        run(main)
        say("left")
    """)
    said = program.read()
    assert "'calls'" in said
    assert "this is a fork of it" in said
    assert program.read() == 1
    assert program.read() == "left"
    assert program.end() == ("", "")


SIGPIPE_AS_THE_KERNEL_HAS_IT = """
import signal

signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # as programs do whose output goes into `head`

class Model:
    def __call__(self, x): return x

async def main():
    async with gibbs.open_hub(Model, workers=1) as hub:
        pid = hub.statistics().pids[0]
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        say(await hub.request(2))  # written to a worker that is dead, which nobody knows yet

run(main)
"""


def test_a_program_that_gave_sigpipe_its_default_back_does_not_end_with_a_worker(start_program):
    program = start_program(SIGPIPE_AS_THE_KERNEL_HAS_IT)
    assert program.read() == 2
    program.end()
    assert program.process.returncode == 0
