"""What a second reader of the hub found wrong once: each of its findings, as it must be. Workers are processes."""

from __future__ import annotations

import asyncio
import errno
import functools
import os
import re
import subprocess
import sys
import time
import xmlrpc.client
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream, UNIXSocketStream
from anyio.streams.buffered import BufferedByteStream

import gibbs
from gibbs.abc import Traits
from gibbs.testing import InBand, check_launcher
from tests.end_to_end.callers import WATCHDOG, answer, until

# ----------------------------------------------------------------------------------------------------------- odd models


class AnswersAll:
    """Has every attribute that it is asked for, and each of them can be called."""

    def __getattr__(self, name):
        return self

    def __call__(self, *args):
        return "whatever"


class Func:
    """Its attributes are called as those of a partial, a method, a wrapper."""

    __wrapped__ = __func__ = "of no meaning"

    def __init__(self):
        self.answers_all = AnswersAll()
        self.proxy = xmlrpc.client.ServerProxy("http://127.0.0.1:9")  # nobody is asked before it is called
        self.by_partial = functools.partial(self.twice, 4)
        self.by_method = self.twice

    def __call__(self, x):
        return x + 1

    def func(self):
        yield 1

    async def async_func(self):
        return 1

    async def async_generator(self):
        yield 1

    def twice(self, x):
        return 2 * x

    @staticmethod
    def static(x):
        return x

    @staticmethod
    async def async_static(x):
        return x

    @staticmethod
    def generator_static(x):
        yield x

    @classmethod
    def of_class(cls, x):
        return cls.__name__, x

    @classmethod
    async def async_of_class(cls, x):
        return x

    partial = functools.partial(max, 3)
    async_partial = functools.partial(async_func, None)
    func_partial = functools.partial(functools.partial(func), None)


class AsyncFunc:
    async def func(self):
        return 1

    def __call__(self, x):
        return x + 1


class FuncAttribute:
    func = AnswersAll()

    def __init__(self):
        self.func = xmlrpc.client.ServerProxy("http://127.0.0.1:9")

    def __call__(self, x):
        return x + 1


@pytest.mark.parametrize("model", [Func, AsyncFunc, FuncAttribute])
async def test_a_model_with_something_called_func_serves_normally(model):
    with anyio.fail_after(2 * WATCHDOG):
        async with gibbs.open_hub(model, workers=1, start_timeout=WATCHDOG) as hub:
            assert await hub.request(1) == 2


async def test_the_kinds_of_methods_are_known_behind_their_wrappers():
    async with gibbs.open_hub(Func, workers=1, start_timeout=WATCHDOG) as hub:
        assert await answer(hub.method("twice"), 3) == 6
        assert await answer(hub.method("by_method"), 3) == 6
        assert await answer(hub.method("by_partial")) == 8
        assert await answer(hub.method("static"), 3) == 3
        assert await answer(hub.method("of_class"), 3) == ("Func", 3)
        assert await answer(hub.method("partial"), 5) == 5
        assert await answer(hub.method("answers_all")) == "whatever"
        for name, kind in {
            "func": "a generator",
            "func_partial": "a generator",
            "generator_static": "a generator",
            "async_func": "an async",
            "async_static": "an async",
            "async_of_class": "an async",
            "async_partial": "an async",
            "async_generator": "an async generator",
        }.items():
            with pytest.raises(TypeError, match=f"'{name}' of the hub 'Func' is {kind} function"):
                await answer(hub.method(name))


class NotCallable:
    def embed(self, x):
        return [x]


def build_not_callable():
    return NotCallable()


async def test_a_builder_may_return_a_model_without_a_call_whose_methods_are_asked():
    async with gibbs.open_hub(build_not_callable, workers=1) as hub:
        assert await answer(hub.method("embed"), 1) == [1]
        with pytest.raises(TypeError, match=r"cannot be called: use hub\.method"):
            await answer(hub, 1)


def returns_an_int():
    return 42


async def test_a_builder_that_returns_no_model_is_refused_and_the_way_is_named():
    with pytest.raises(gibbs.WorkerStartFailed, match=r"write gibbs\.function\(returns_an_int\)") as caught:
        async with gibbs.open_hub(returns_an_int, workers=1):
            raise AssertionError("entered")
    assert caught.value.reason == "refused"


class DoesNotSay:
    @property
    def interruptible(self):
        raise LookupError("it depends")

    def __call__(self, x):
        return x


async def test_a_model_that_does_not_say_whether_it_is_interruptible_could_not_be_built():
    with pytest.raises(gibbs.WorkerStartFailed, match="it depends") as caught:
        async with gibbs.open_hub(DoesNotSay, workers=1):
            raise AssertionError("entered")
    assert caught.value.reason == "model"
    assert isinstance(caught.value.__cause__, LookupError)


class Late:
    """Is built when a file is there. Only one of its methods can be asked."""

    def __init__(self, path):
        while not path.exists():
            time.sleep(0.002)

    def __call__(self):
        yield 1

    def generator(self):
        yield 1

    async def coroutine(self):
        return 1

    async def async_generator(self):
        yield 1

    def plain(self):
        return "plain"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("__call__", "generator"),
        ("generator", "generator"),
        ("coroutine", "async"),
        ("async_generator", "async generator"),
    ],
)
async def test_a_request_for_a_method_of_another_kind_is_refused_in_words_also_before_a_worker_is_ready(
    name, kind, tmp_path, start
):
    async with gibbs.open_hub(Late, tmp_path / "go", workers=1, ready=0) as hub:
        call = start(hub.method(name))
        plain = start(hub.method(Late.plain))
        await until(lambda: hub.statistics().queued == 2)
        (tmp_path / "go").touch()
        await call.end()
        assert type(call.error) is TypeError
        assert re.match(
            f"'{name}' is an? {kind} function: request\\(\\) needs one that returns its result", str(call.error)
        )
        await plain.end()
        assert plain.result == "plain"
        assert hub.statistics().restarts == 0


class Wordless(Exception):
    """Cannot be told in words."""

    def __str__(self):
        raise ZeroDivisionError("in __str__")


class WordlessFrom:
    """Can be built so many times."""

    def __init__(self, folder, times):
        if len([*folder.iterdir()]) == times:
            raise Wordless("some", "thing")
        (folder / str(os.getpid())).touch()

    def __call__(self, f, *args):
        return f(*args)


async def test_an_exception_that_cannot_be_put_into_words_is_the_cause_of_the_failed_opening(tmp_path):
    with pytest.raises(gibbs.WorkerStartFailed, match="Wordless") as caught:
        async with gibbs.open_hub(WordlessFrom, tmp_path, 0, workers=2):
            raise AssertionError("entered")
    assert caught.value.reason == "model"
    assert type(caught.value.__cause__) is Wordless
    assert caught.value.__cause__.args == ("some", "thing")


async def test_an_exception_that_cannot_be_put_into_words_takes_no_hub_down_that_is_open(tmp_path, caplog):
    async with gibbs.open_hub(WordlessFrom, tmp_path, 1, workers=1, name="open") as hub:
        with pytest.raises(gibbs.WorkerCrashed):
            await answer(hub, os._exit, 3)
        await until(lambda: "Wordless" in caplog.text)
        (built,) = tmp_path.iterdir()
        built.unlink()
        assert await answer(hub, abs, -1) == 1


# --------------------------------------------------------------------------------------------------------------- streams


class Wrapped:
    """A launcher whose processes have another stream than they were made with."""

    def __init__(self, launcher, wrap):
        self.launcher = launcher
        self.wrap = wrap
        self.traits = launcher.traits

    @asynccontextmanager
    async def session(self):
        async with self.launcher.session() as session:

            async def launch(spec):
                process = await session.launch(spec)
                stream = self.wrap(process.stream)
                return SimpleNamespace(
                    stream=stream,
                    side=process.side,
                    origin=process.origin,
                    ended=process.ended,
                    kill=process.kill,
                    aclose=process.aclose,
                )

            yield SimpleNamespace(launch=launch)


class OverTcp:
    """A launcher whose workers connect over TCP: a program of its own each, and nothing beside the stream."""

    traits = Traits(same_host=True, kill_is_certain=True)

    WORKER = (
        "import socket, sys; from gibbs.worker import serve; "
        "serve(socket.create_connection(('127.0.0.1', int(sys.argv[1]))).detach())"
    )

    @asynccontextmanager
    async def session(self):
        processes = []

        async def launch(spec):
            async with await anyio.create_tcp_listener(local_host="127.0.0.1") as several:
                (listener,) = several.listeners
                process = TcpProcess(self.WORKER, listener.extra(SocketAttribute.local_port))
                processes.append(process)
                process.stream = await listener.accept()
                assert isinstance(process.stream, SocketStream)
                assert not isinstance(process.stream, UNIXSocketStream)
                return process

        try:
            yield SimpleNamespace(launch=launch)
        finally:
            with anyio.CancelScope(shield=True):
                for process in processes:  # those too whose launch was cancelled
                    await process.aclose()
                    await process.ended()
                    os.close(process.pidfd)


class TcpProcess:
    side = stream = None

    def __init__(self, source, port):
        self.popen = subprocess.Popen([sys.executable, "-c", source, str(port)])
        self.pidfd = os.pidfd_open(self.popen.pid)
        self.origin = gibbs.Origin(launcher="tcp", pid=self.popen.pid)

    async def ended(self):
        while self.popen.poll() is None:
            await anyio.wait_readable(self.pidfd)
        code = self.popen.returncode
        return gibbs.Ending(how="exited" if code >= 0 else "signalled", code=abs(code))

    def kill(self):
        self.popen.kill()

    async def aclose(self):
        self.kill()
        if self.stream is not None:
            await self.stream.aclose()


STREAMS = {
    "TCP": OverTcp,
    "buffered": lambda: Wrapped(gibbs.LocalLauncher(), BufferedByteStream),
    "buffered, in band": lambda: InBand(Wrapped(gibbs.LocalLauncher(), BufferedByteStream)),
}


def work(x):
    return x[::-1]


@pytest.mark.parametrize("make", STREAMS.values(), ids=STREAMS)
async def test_a_launcher_may_have_any_byte_stream(make):
    big = os.urandom(500_000)
    found = {}

    async def ask(hub, n):
        found[n] = await answer(hub, big[n:])

    async with gibbs.open_hub(gibbs.function(work), workers=2, launcher=make()) as hub:
        async with anyio.create_task_group() as tg:
            for n in range(12):
                tg.start_soon(ask, hub, n)
        for n in range(12):
            assert found[n] == big[n:][::-1]
            assert await answer(hub, b"ab") == b"ba"
        assert hub.statistics().restarts == 0


@pytest.mark.slow
@pytest.mark.parametrize("make", STREAMS.values(), ids=STREAMS)
async def test_a_launcher_with_another_stream_keeps_the_contract(make):
    await check_launcher(make())


class NoBuffers:
    """A socket whose first writes fail for want of memory in the kernel."""

    def __init__(self, sock, times):
        self.sock = sock
        self.left = times

    def send(self, data, flags=0):
        if self.left:
            self.left -= 1
            raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
        return self.sock.send(data)

    def __getattr__(self, name):
        return getattr(self.sock, name)


async def test_a_request_whose_write_fails_for_want_of_buffers_is_not_lost():
    async with gibbs.open_hub(gibbs.function(abs), workers=1) as hub:
        pids = hub.statistics().pids
        (supervisor,) = hub._desk.crew.supervisors
        link = supervisor.worker.link
        link._socket = NoBuffers(link._socket, 1)
        assert await answer(hub, -1) == 1
        assert link._socket.left == 0
        assert hub.statistics().pids == pids


async def test_a_request_whose_write_fails_again_and_again_goes_to_another_worker():
    async with gibbs.open_hub(gibbs.function(abs), workers=1) as hub:
        pids = hub.statistics().pids
        (supervisor,) = hub._desk.crew.supervisors
        link = supervisor.worker.link
        link._socket = NoBuffers(link._socket, 10)
        assert await answer(hub, -1) == 1
        assert hub.statistics().pids != pids
        assert hub.statistics().crashed == 0


class Greedy:
    """A socket whose other end takes all that is written at once: the kernel goes on with a write as long as that is so."""

    def __init__(self, sock):
        self.sock = sock
        self.written = []

    def __getattr__(self, name):
        return getattr(self.sock, name)

    def send(self, data, flags):
        self.sock.setblocking(True)
        try:
            self.sock.sendall(data, flags)
        finally:
            self.sock.setblocking(False)
        self.written.append(len(data))
        return len(data)


async def test_while_a_worker_takes_a_large_request_as_fast_as_it_is_written_others_have_their_turn():
    turns = 0

    async def others():
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    async with gibbs.open_hub(gibbs.function(len), workers=1, launcher=InBand(gibbs.LocalLauncher())) as hub:
        (supervisor,) = hub._desk.crew.supervisors
        link = supervisor.worker.link
        link._socket = greedy = Greedy(link._socket)
        async with anyio.create_task_group() as tg:
            tg.start_soon(others)
            assert await hub.request(bytes(20_000_000)) == 20_000_000
            tg.cancel_scope.cancel()
    assert len(greedy.written) > 50
    assert turns > len(greedy.written) - 10


# --------------------------------------------------------------------------------------------------- native cancellation


class Prints:
    def __call__(self, text):
        print(text)
        return os.getpid()


async def test_who_cancels_the_task_that_reads_a_worker_s_output_ends_nothing_else(anyio_backend_name, launcher, heard):
    if anyio_backend_name != "asyncio":
        pytest.skip("asyncio's own cancellation")
    async with gibbs.open_hub(Prints, workers=2, name="prints", launcher=launcher) as hub:
        pids = {*hub.statistics().pids}
        readers = [task for task in asyncio.all_tasks() if "prints output of worker" in task.get_name()]
        assert len(readers) == 2
        reader = next(task for task in readers if task.get_name().endswith("0"))
        reader.cancel()
        with suppress(asyncio.CancelledError):
            await reader
        await anyio.wait_all_tasks_blocked()
        for _ in range(4):
            assert await answer(hub, "heard?") in pids
        assert hub.statistics().restarts == 0
        assert {*hub.statistics().pids} == pids
    assert len(heard.lines) == 4  # the last words of the one whose reader is gone too
