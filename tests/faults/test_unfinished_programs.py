"""Programs and servers that end without leaving the hub's block: no process is left, and nothing hangs.

uvicorn (asyncio, uvloop) and hypercorn (Trio) hold the hub in a lifespan, as `examples/` do; a server that is ended the hard
way never runs the lifespan's exit.
"""

from __future__ import annotations

import signal
import socket
import urllib.request

import pytest

from tests.faults import programs
from tests.faults.programs import all_gone, in_turn, wait_until

start_program = programs.start_program

MODEL = """
class Model:
    interruptible = True

    def __call__(self, how):
        while True:
            try:
                mark(os.getpid(), how)  # in here: whoever sees it may interrupt the call
                if how not in ("sleeps", "clings"):
                    return how
                time.sleep(600)
            except BaseException:
                if how != "clings":
                    raise
"""

# --------------------------------------------------------------------------------------------------------------- servers

SERVER = (
    MODEL
    + """
import contextlib

@contextlib.asynccontextmanager
async def lifespan(app):
    try:
        async with gibbs.open_hub(Model, workers=2, close_timeout=1.0) as hub:
            app.state.hub = hub
            say(hub.statistics().pids)
            yield
    finally:
        say("left")

async def ask(request):
    from starlette.responses import PlainTextResponse
    how = request.path_params["how"]
    if how == "exit": os._exit(7)
    return PlainTextResponse(await request.app.state.hub.request(how))

from starlette.applications import Starlette
from starlette.routing import Route
app = Starlette(routes=[Route("/{how}", ask)], lifespan=lifespan)

if BACKEND == "trio":
    import hypercorn.config, hypercorn.trio
    config = hypercorn.config.Config()
    config.bind = [f"fd://PORT"]
    config.graceful_timeout = config.shutdown_timeout = 600
    run(hypercorn.trio.serve, app, config)
else:
    import uvicorn
    loop = "uvloop" if OPTIONS["use_uvloop"] else "asyncio"
    uvicorn.run(app, fd=PORT, loop=loop, lifespan="on", log_level="critical")
"""
)


class Served:
    """A running server of this test's loop, and requests to it that nobody waits for."""

    def __init__(self, start) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._callers: list[socket.socket] = []
        fd = self._listener.fileno()
        self.program = start(SERVER.replace("PORT", str(fd)), keep=[fd])
        self.pids = self.program.read()

    def ask(self, how: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{how}", timeout=20) as answer:
            return answer.read().decode()

    def begin(self, how: str) -> None:
        """Make a request, and return when a model has it."""
        caller = socket.create_connection(("127.0.0.1", self.port))
        self._callers.append(caller)
        caller.sendall(f"GET /{how} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
        if how != "exit":
            wait_until((self.program.folder / how).exists)

    def leave(self) -> None:
        """The clients go: from Python 3.12 on uvicorn waits for open connections for ever, however often it is told."""
        for caller in self._callers:
            caller.close()

    def close(self) -> None:
        self.leave()
        self._listener.close()


@pytest.fixture
def served(start_program):
    pytest.importorskip("starlette")
    pytest.importorskip("uvicorn")
    pytest.importorskip("hypercorn")
    servers = []

    def serve():
        servers.append(Served(start_program))
        return servers[-1]

    yield serve
    for server in servers:
        server.close()


@pytest.mark.parametrize("busy", in_turn([False, True]), ids=["idle", "busy"])
def test_a_server_whose_process_is_ended_by_os_exit_leaves_no_process(busy, served):
    server = served()
    assert server.ask("fine") == "fine"
    if busy:
        server.begin("sleeps")
    server.begin("exit")
    assert server.program.end() == 7
    all_gone(server.pids)


@pytest.mark.parametrize(
    ("how", "first"), in_turn((how, first) for first in (signal.SIGINT, signal.SIGTERM) for how in ("sleeps", "clings"))
)
def test_a_server_that_is_told_to_go_again_and_again_leaves_no_process(how, first, served):
    server = served()
    server.begin(how)
    server.program.kill(first)
    server.leave()
    wait_until(lambda: server.program.process.poll() is not None or server.program.kill(signal.SIGINT))
    assert "Model/" not in server.program.words
    all_gone(server.pids)


def test_a_server_that_is_told_once_to_go_leaves_the_hub(served):
    server = served()
    assert server.ask("fine") == "fine"
    server.program.kill(signal.SIGINT)
    assert server.program.read() == "left"
    server.program.end()
    all_gone(server.pids)


# -------------------------------------------------------------------------------------------------------------- programs

ENDS = (
    MODEL
    + """
async def serve(how="sleeps"):
    async with gibbs.open_hub(Model, workers=2, close_timeout=1.0) as hub:
        say(hub.statistics().pids)
        async with anyio.create_task_group() as tg:
            tg.start_soon(hub.request, how)
            await anyio.sleep_forever()
"""
)


COLLECTED = "import gc; del task; gc.collect(); say('collected')"


# On asyncio or uvloop: Trio has no loop that can be stopped under its tasks.
@pytest.mark.parametrize(
    ("closes", "goes"),
    [
        pytest.param("", "", id="left open, held", marks=pytest.mark.cell(0)),
        pytest.param("loop.close()", "", id="closed, held", marks=pytest.mark.cell(1)),
        pytest.param("", COLLECTED, id="left open, collected", marks=pytest.mark.cell(1)),
        pytest.param("loop.close()", COLLECTED, id="closed, collected", marks=pytest.mark.cell(0)),
    ],
)
def test_a_loop_that_is_stopped_under_an_open_hub_leaves_no_process_behind_its_program(
    closes, goes, start_program, anyio_backend
):
    if anyio_backend[0] != "asyncio":
        pytest.skip("Trio has no loop that can be stopped under its tasks")
    program = start_program(
        ENDS
        + f"""
import asyncio
loop = asyncio.new_event_loop()
if OPTIONS["use_uvloop"]:
    import uvloop
    loop = uvloop.new_event_loop()
asyncio.set_event_loop(loop)

async def main():
    task = asyncio.ensure_future(serve())
    await marked(1)
    loop.stop()
    return task

async def stops():
    global task
    task = asyncio.ensure_future(serve())
    await marked(1)
    loop.stop()

starter = loop.create_task(stops())
loop.run_forever()
del starter
{closes}
{goes}
say("at its end")
"""
    )
    pids = program.read()
    while program.read() != "at its end":
        pass
    assert program.end() in (0, 1, 120), program.words
    all_gone(pids)


@pytest.mark.parametrize(
    "end",
    in_turn(
        ["sys.exit(5)", "os._exit(5)", "raise LookupError('of another task')", "os.kill(os.getpid(), signal.SIGINT)"]
    ),
)
def test_a_program_that_another_task_ends_leaves_no_process(end, start_program):
    program = start_program(
        ENDS
        + f"""
async def main():
    async with anyio.create_task_group() as tg:
        tg.start_soon(serve)
        await marked(1)
        {end}
        await anyio.sleep_forever()

run(main)
"""
    )
    pids = program.read()
    assert program.end() != 0
    all_gone(pids)


NATIVE = {
    "asyncio": "async def main():\n    import asyncio\n    global task\n    task = asyncio.ensure_future(serve())\n",
    "trio": "async def main():\n    import trio\n    trio.lowlevel.spawn_system_task(serve)\n",
}


@pytest.mark.parametrize("end", ["return", "sys.exit(5)", "raise KeyError"])
def test_a_hub_in_a_task_that_nobody_waits_for_is_closed_when_the_loop_ends(end, start_program, anyio_backend):
    program = start_program(f"{ENDS}\n{NATIVE[anyio_backend[0]]}    await marked(1)\n    {end}\n\nrun(main)\n")
    pids = program.read()
    assert program.end() == {"return": 0, "sys.exit(5)": 5, "raise KeyError": 1}[end], program.words
    all_gone(pids)


@pytest.mark.cell(0)
def test_a_hub_in_an_async_generator_that_nobody_finishes_is_no_process_after_the_program(start_program):
    program = start_program(
        MODEL
        + """
async def hubs():
    async with gibbs.open_hub(Model, workers=2) as hub:
        yield hub

async def main():
    global forgotten
    forgotten = hubs()
    hub = await anext(forgotten)
    say(hub.statistics().pids)
    say(await hub.request("served"))

run(main)
"""
    )
    pids = program.read()
    assert program.read() == "served"
    program.end()
    all_gone(pids)


@pytest.mark.cell(1)
def test_a_hub_that_is_entered_by_hand_and_never_left_is_no_process_after_the_program(start_program):
    program = start_program(
        MODEL
        + """
async def main():
    global manager
    manager = gibbs.open_hub(Model, workers=2)
    hub = await manager.__aenter__()
    say(hub.statistics().pids)
    say(await hub.request("served"))

run(main)
"""
    )
    pids = program.read()
    assert program.read() == "served"
    program.end()
    all_gone(pids)


@pytest.mark.cell(2)
def test_an_exit_handler_that_kills_the_program_leaves_no_process(start_program):
    program = start_program(
        ENDS
        + """
import atexit
atexit.register(os.kill, os.getpid(), signal.SIGKILL)

async def main():
    async with anyio.create_task_group() as tg:
        tg.start_soon(serve)
        await marked(1)
        tg.cancel_scope.cancel()

run(main)
"""
    )
    pids = program.read()
    assert program.end() == -signal.SIGKILL
    all_gone(pids)


@pytest.mark.cell(0)
def test_a_segmentation_fault_of_the_program_leaves_no_process(start_program):
    program = start_program(
        ENDS
        + """
async def main():
    async with anyio.create_task_group() as tg:
        tg.start_soon(serve)
        await marked(1)
        ctypes.string_at(0)

run(main)
"""
    )
    pids = program.read()
    assert program.end() == -signal.SIGSEGV
    all_gone(pids)


@pytest.mark.cell(1)
def test_a_program_that_becomes_another_one_leaves_no_process(start_program):
    program = start_program(
        ENDS
        + """
async def main():
    async with anyio.create_task_group() as tg:
        tg.start_soon(serve)
        await marked(1)
        os.execv("/bin/sh", ["sh", "-c", "exec sleep 600"])

run(main)
"""
    )
    pids = program.read()
    all_gone(pids)
    assert program.process.poll() is None
