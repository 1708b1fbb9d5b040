"""Arguments, results, exceptions and habits of models that break such libraries: each hurts its own request, and no other.

After each of them the same worker must answer: `unharmed` asks for its pid.
"""

from __future__ import annotations

import asyncio
import errno
import json
import multiprocessing
import operator
import os
import pickle
import resource
import struct
import sys
import threading
from contextlib import asynccontextmanager

import anyio
import pytest

import gibbs
from gibbs._wire.messages import ANSWER

pytestmark = pytest.mark.in_turn  # it is the worker's doing, and the same on every loop

CALLS = gibbs.function(operator.call)  # a model that does what it is told: `request(f, *args)` is f(*args) in a worker


@asynccontextmanager
async def unharmed(**options):
    """A hub with one worker, which must be the same in the end."""
    async with gibbs.open_hub(CALLS, workers=1, name="calls", **options) as hub:
        pid = await hub.request(os.getpid)
        with anyio.fail_after(30):
            yield hub
        assert await hub.request(os.getpid) == pid
        seen = hub.statistics()
        assert (seen.restarts, seen.crashed, seen.queued, seen.running) == (0, 0, 0, 0)


def throw(kind, *args):
    raise kind(*args)


class RaisesWhileUnpickled:
    """On the other side, whichever that is."""

    def __init__(self, kind, *args, ballast=b""):
        self.how = (kind, *args)
        self.ballast = ballast

    def __reduce__(self):
        return throw_before, (self.ballast, *self.how)


def throw_before(ballast, kind, *args):
    throw(kind, *args)


class RaisesWhilePickled:
    def __reduce__(self):
        raise LookupError("not this one")


class OwnBase(BaseException):
    pass


NOT_TO_BE_RAISED_RAW = [StopIteration, StopAsyncIteration, SystemExit, KeyboardInterrupt, GeneratorExit, OwnBase]
NOT_TO_BE_RAISED_RAW += [asyncio.CancelledError]

# ------------------------------------------------------------------------------------------------------------- pickling


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (threading.Lock, TypeError, "cannot pickle '_thread.lock'"),
        (RaisesWhilePickled, LookupError, "not this one"),
    ],
)
async def test_an_argument_that_cannot_be_pickled_raises_the_picklers_own_error_and_nothing_is_sent(make, error, text):
    async with unharmed() as hub:
        done = hub.statistics().done
        with pytest.raises(error, match=text):
            await hub.request(id, make())
        with pytest.raises(error, match=text):
            await hub.request(dict, key=make())
        seen = hub.statistics()
        assert (seen.done, seen.failed, seen.cancelled) == (done, 0, 0)


async def test_an_argument_that_raises_while_it_is_unpickled_is_an_error_of_that_request_alone():
    async with unharmed() as hub:
        for kind in [LookupError, *NOT_TO_BE_RAISED_RAW]:
            with pytest.raises(gibbs.RemoteError) as caught:
                await hub.request(id, RaisesWhileUnpickled(kind, "no"))
            error = caught.value
            assert error.stage == "arguments"
            assert error.type_name.endswith(kind.__name__)
            assert error.message == "no"
            assert "in throw" in error.traceback
            assert vars(pickle.loads(pickle.dumps(error))) == vars(error)


@pytest.mark.parametrize("ballast", [0, 300_000], ids=["small", "large"])
async def test_four_bad_arguments_each_followed_by_sixty_good_calls_are_240_right_answers(ballast):
    found = {}

    async def ask(hub, n):
        found[n] = await hub.request(operator.mul, n, n)

    async with unharmed() as hub:
        for turn in range(4):
            with pytest.raises(gibbs.RemoteError):
                await hub.request(id, RaisesWhileUnpickled(RuntimeError, "no", ballast=bytes(ballast)))
            async with anyio.create_task_group() as tg:
                for n in range(60 * turn, 60 * turn + 60):
                    tg.start_soon(ask, hub, n)
    assert found == {n: n * n for n in range(240)}


@pytest.mark.parametrize(("make", "type_name"), [(threading.Lock, "TypeError"), (RaisesWhilePickled, "LookupError")])
async def test_a_result_that_cannot_be_pickled_is_an_error_of_that_request_alone(make, type_name):
    async with unharmed() as hub:
        with pytest.raises(gibbs.RemoteError) as caught:
            await hub.request(make)
        assert (caught.value.stage, caught.value.type_name) == ("result", type_name)


async def test_a_result_that_raises_while_it_is_unpickled_in_the_hub_is_an_error_of_that_request_alone():
    async with unharmed() as hub:
        for kind in [LookupError, *NOT_TO_BE_RAISED_RAW]:
            with pytest.raises(gibbs.RemoteError) as caught:
                await hub.request(RaisesWhileUnpickled, kind, "no")
            assert caught.value.stage == "result"
            assert caught.value.type_name.endswith(kind.__name__)
            assert caught.value.message == "no"


def nested(depth):
    result = []
    for _ in range(depth):
        result = [result]
    return result


async def test_a_result_that_is_nested_too_deeply_to_pickle_is_an_error_of_that_request_alone():
    async with unharmed() as hub:
        with pytest.raises(gibbs.RemoteError) as caught:
            await hub.request(nested, 100_000)
        assert (caught.value.stage, caught.value.type_name) == ("result", "RecursionError")


async def test_an_argument_that_is_nested_too_deeply_raises_recursion_error_in_the_caller():
    async with unharmed() as hub:
        with pytest.raises(RecursionError):
            await hub.request(len, nested(100_000))


# ------------------------------------------------------------------------------------------------ the model's exceptions


async def test_an_exception_that_means_something_to_a_task_arrives_as_remote_error():
    async with unharmed() as hub:
        for kind in NOT_TO_BE_RAISED_RAW:
            with pytest.raises(gibbs.RemoteError) as caught:
                await hub.request(throw, kind)
            error = caught.value
            assert error.stage == "call"
            assert error.type_name.endswith(kind.__name__)
            assert "in throw" in error.traceback
        assert hub.statistics().failed == len(NOT_TO_BE_RAISED_RAW)


async def test_interrupted_that_a_model_raises_itself_is_an_error_and_no_interrupt():
    async with unharmed() as hub:
        with pytest.raises(gibbs.RemoteError) as caught:
            await hub.request(throw, gibbs.Interrupted)
        assert (caught.value.type_name, caught.value.stage) == ("gibbs.Interrupted", "call")
        seen = hub.statistics()
        assert (seen.failed, seen.interrupted, seen.killed) == (1, 0, 0)


def raise_a_group(*kinds):
    raise BaseExceptionGroup("several", [kind("one") for kind in kinds])


def raise_from(kind, cause):
    try:
        throw(cause, "the cause")
    except BaseException as error:
        raise kind("the effect") from error


def raise_during(kind, context):
    try:
        throw(context, "the context")
    except BaseException:  # noqa: BLE001 - KeyboardInterrupt is the point
        throw(kind, "the effect")


@pytest.mark.parametrize(
    "request_",
    [
        (raise_a_group, ValueError, KeyboardInterrupt),
        (raise_a_group, ValueError, asyncio.CancelledError),
    ],
    ids=lambda request: request[-1].__name__,
)
async def test_a_group_that_holds_such_an_exception_arrives_as_remote_error(request_):
    async with unharmed() as hub:
        with pytest.raises(gibbs.RemoteError) as caught:
            await hub.request(*request_)
        assert "ValueError: one" in caught.value.traceback


@pytest.mark.parametrize("chain", [raise_from, raise_during])
async def test_an_exception_caused_by_such_a_one_brings_it_as_text_only(chain):
    async with unharmed() as hub:
        with pytest.raises((ValueError, gibbs.RemoteError), match="the effect") as caught:
            await hub.request(chain, ValueError, KeyboardInterrupt)
        error = caught.value
        assert error.__cause__ is None or isinstance(error.__cause__, Exception)
        assert not isinstance(error.__context__, KeyboardInterrupt)
        assert "KeyboardInterrupt: the c" in "".join(error.__notes__)


class TwoArguments(Exception):
    def __init__(self, code, reason):
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


class RefusesItsOwnPickle(Exception):
    def __reduce__(self):
        return throw, (RuntimeError, "no copy of me")


ORDINARY = [
    ValueError("bad"),
    EOFError("the end"),
    BrokenPipeError(errno.EPIPE, "broken"),
    TimeoutError("too slow"),
    FileNotFoundError(errno.ENOENT, "missing", "a/file"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"),
    json.JSONDecodeError("no JSON", "{", 1),
    ConnectionResetError(),
    KeyError("key"),
    TwoArguments(7, "seven"),
    RefusesItsOwnPickle("all the same"),
    gibbs.HubClosed("another hub", "draining"),
    anyio.EndOfStream(),
]


def throw_ordinary(index):
    raise ORDINARY[index]


async def test_an_ordinary_exception_arrives_as_itself_with_the_workers_traceback():
    async with unharmed() as hub:
        pid = await hub.request(os.getpid)
        for index, expected in enumerate(ORDINARY):
            with pytest.raises(type(expected)) as caught:
                await hub.request(throw_ordinary, index)
            error = caught.value
            assert type(error) is type(expected)
            assert error is not expected
            assert (str(error), error.args) == (str(expected), expected.args)
            assert vars(error).keys() - {"__notes__"} == vars(expected).keys()
            notes = "".join(error.__notes__)
            assert f"Raised in 'calls', worker 0 (pid {pid})" in notes
            assert "in throw_ordinary" in notes
        assert hub.statistics().failed == len(ORDINARY)


async def test_a_http_exception_of_fastapi_arrives_as_itself():
    fastapi = pytest.importorskip("fastapi")
    async with unharmed() as hub:
        with pytest.raises(fastapi.HTTPException) as caught:
            await hub.request(throw, fastapi.HTTPException, 418, {"a": "teapot"}, {"x-is": "short"})
    error = caught.value
    assert (error.status_code, error.detail, error.headers) == (418, {"a": "teapot"}, {"x-is": "short"})


async def test_a_group_of_ordinary_exceptions_arrives_as_itself():
    async with unharmed() as hub:
        with pytest.raises(ExceptionGroup, match="several") as caught:
            await hub.request(raise_a_group, ValueError, KeyError)
    assert [type(error) for error in caught.value.exceptions] == [ValueError, KeyError]


async def test_a_cause_is_told_in_the_note():
    async with unharmed() as hub:
        with pytest.raises(ValueError, match="the effect") as caught:
            await hub.request(raise_from, ValueError, LookupError)
    notes = "".join(caught.value.__notes__)
    assert "LookupError: the cause" in notes
    assert "direct cause" in notes


def recurse():
    return recurse()


async def test_endless_recursion_arrives_as_recursion_error():
    async with unharmed() as hub:
        with pytest.raises(RecursionError):
            await hub.request(recurse)


def raise_with_a_lock():
    throw(ValueError, "locked", threading.Lock())


def raise_a_local_class():
    class Local(Exception):
        pass

    raise Local("from nowhere")


@pytest.mark.parametrize(
    ("call", "type_name", "text"),
    [(raise_with_a_lock, "ValueError", "locked"), (raise_a_local_class, "Local", "from nowhere")],
)
async def test_an_exception_that_cannot_travel_is_told_by_name_text_and_traceback(call, type_name, text):
    async with unharmed() as hub:
        with pytest.raises(Exception, match=text) as caught:
            await hub.request(call)
        error = caught.value
        assert type_name in (error.type_name if isinstance(error, gibbs.RemoteError) else type(error).__name__)
        assert f"in {call.__name__}" in "".join(error.__notes__)


async def test_each_request_gets_an_exception_object_of_its_own():
    found = []

    async def ask(hub):
        with pytest.raises(ValueError, match="bad") as caught:
            await hub.request(throw, ValueError, "bad")
        found.append(caught.value)

    async with unharmed() as hub, anyio.create_task_group() as tg:
        for _ in range(3):
            tg.start_soon(ask, hub)
    assert len({id(error) for error in found}) == 3
    assert [len(error.__notes__) for error in found] == [1, 1, 1]


async def test_a_timeout_of_the_model_is_not_taken_for_the_callers_own():
    async with unharmed() as hub:
        with anyio.fail_after(30) as scope, pytest.raises(TimeoutError, match="too slow") as caught:
            await hub.request(throw, TimeoutError, "too slow")
        assert not scope.cancelled_caught
    assert "Raised in 'calls', worker 0" in caught.value.__notes__[0]


def exhaust_the_address_space():
    pages = int(open("/proc/self/statm").read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (64 << 20), resource.RLIM_INFINITY))
    try:
        return len(bytes(1 << 30))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


async def test_memory_error_arrives_as_itself():
    async with unharmed() as hub:
        with pytest.raises(MemoryError):
            await hub.request(exhaust_the_address_space)


# ----------------------------------------------------------------------------------------------------------- descriptors


def write_on_both(data):
    for fd in (1, 2):
        os.write(fd, data)
    print("and printed", file=sys.stderr)
    print("and printed")
    return "the true answer"


FORGED = struct.pack("<2sBBQQ", b"gB", 1, ANSWER, 2, 4) + b"\x80\x04N."


@pytest.mark.parametrize("data", [b"noise\n", b"\0" * 1000, FORGED, FORGED * 50], ids=["text", "zeros", "one", "many"])
async def test_what_a_model_writes_on_its_outputs_is_never_taken_for_an_answer(data):
    async with unharmed() as hub:
        for _ in range(3):
            assert await hub.request(write_on_both, data) == "the true answer"


def close_0_to_2():
    for fd in (0, 1, 2):
        os.close(fd)
    return "closed"


async def test_a_model_that_closes_descriptors_0_to_2_is_answered_and_keeps_its_worker():
    async with unharmed() as hub:
        assert await hub.request(close_0_to_2) == "closed"
        assert await hub.request(abs, -1) == 1
        with pytest.raises(ValueError, match="bad"):
            await hub.request(throw, ValueError, "bad")


def close_the_files():
    sys.stdin.close()
    sys.stdout.close()
    sys.stderr = None
    return "closed"


async def test_a_model_that_closes_sys_stdout_is_answered_and_keeps_its_worker():
    async with unharmed() as hub:
        assert await hub.request(close_the_files) == "closed"
        assert await hub.request(abs, -1) == 1


def read_stdin():
    return sys.stdin.read(), os.read(0, 100)


def ask_for_input():
    return input()


async def test_standard_input_is_empty_at_once():
    async with unharmed() as hub:
        assert await hub.request(read_stdin) == ("", b"")
        with pytest.raises(EOFError):
            await hub.request(ask_for_input)


def flood(megabytes):
    for _ in range(megabytes):
        os.write(2, (b"x" * 99 + b"\n") * 10_000)
    return megabytes


def flood_and_die():
    flood(1)
    os.write(2, b"last words\n")
    os._exit(3)


async def test_twenty_megabytes_on_stderr_never_block_and_only_the_tail_is_kept():
    async with gibbs.open_hub(CALLS, workers=1, launcher=gibbs.LocalLauncher(output="discard")) as hub:
        assert await hub.request(flood, 20) == 20
        with pytest.raises(gibbs.WorkerCrashed) as caught:
            await hub.request(flood_and_die)
        assert caught.value.stderr_tail.endswith("last words")
        assert len(caught.value.stderr_tail) < 10_000


# ------------------------------------------------------------------------------------------------- processes and loops


def use_multiprocessing(method):
    context = multiprocessing.get_context(method)
    queue = context.SimpleQueue()
    process = context.Process(target=queue.put, args=(f"from a {method}ed process",))
    process.start()
    found = queue.get()
    process.join()
    return found, process.exitcode


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
async def test_a_model_may_use_multiprocessing(method):
    async with unharmed() as hub:
        assert await hub.request(use_multiprocessing, method) == (f"from a {method}ed process", 0)


async def answer_slowly(x):
    await anyio.sleep(0.01)
    return x


def run_a_loop(x):
    return anyio.run(answer_slowly, x)


async def test_a_model_may_run_an_event_loop_in_a_call():
    async with unharmed() as hub:
        assert await hub.request(run_a_loop, 5) == 5
        assert await hub.request(run_a_loop, 6) == 6


def open_a_hub_inside(backend, options):
    async def main():
        async with gibbs.open_hub(CALLS, workers=2) as hub:
            return os.getpid(), await hub.request(os.getpid), await hub.request(os.getppid)

    return anyio.run(main, backend=backend, backend_options=options)


async def test_a_model_may_open_a_hub_in_a_call(anyio_backend):
    backend, options = anyio_backend
    if "loop_factory" in options:
        pytest.skip("a loop without a name")
    async with unharmed() as hub:
        outer, inner, parent = await hub.request(open_a_hub_inside, backend, options)
        assert outer == parent
        assert inner not in (outer, os.getpid())


def open_a_hub_and_say(folder):
    async def main():
        async with gibbs.open_hub(CALLS, workers=2) as hub:
            for pid in hub.statistics().pids:
                (folder / str(pid)).touch()
            await anyio.sleep_forever()

    anyio.run(main)


async def test_a_hub_that_a_model_opened_is_gone_with_the_model(tmp_path, until, all_gone):
    async with gibbs.open_hub(CALLS, workers=1) as hub, anyio.create_task_group() as tg:
        tg.start_soon(hub.request, open_a_hub_and_say, tmp_path)
        await until(lambda: len(os.listdir(tmp_path)) == 2)
        tg.cancel_scope.cancel()
    all_gone(map(int, os.listdir(tmp_path)))


def change_the_process():
    os.chdir("/")
    os.environ.clear()
    sys.path.clear()
    sys.argv[:] = ["something", "else"]
    sys.setrecursionlimit(5000)
    return "changed"


async def test_a_model_that_changes_its_process_is_answered_and_keeps_its_worker():
    async with unharmed() as hub:
        assert await hub.request(change_the_process) == "changed"
        assert await hub.request(operator.mul, 3, 4) == 12
        with pytest.raises(ValueError, match="bad"):
            await hub.request(throw, ValueError, "bad")
