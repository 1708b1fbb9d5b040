"""asyncio's own `task.cancel()`, which no shield of AnyIO stops: uvicorn's way, and `asyncio.run`'s on Ctrl-C."""

from __future__ import annotations

import asyncio

import anyio
import pytest

import gibbs
from gibbs.testing import ScriptedLauncher, serve


@pytest.fixture(scope="module", params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request):
    if request.param:
        uvloop = pytest.importorskip("uvloop")
        uvloop.new_event_loop().close()
    return "asyncio", {"use_uvloop": request.param}


class Echo:
    def __call__(self, x):
        return x


async def clings(worker):
    await worker.ready(interruptible=True, methods={"__call__": "plain"})
    await anyio.sleep_forever()


async def never_ready(worker):
    await anyio.sleep_forever()


class Program:
    """A hub in a task of its own, as a program has it."""

    def __init__(self, launcher, **options):
        self.launcher = launcher
        self.options = {"workers": 2, "close_timeout": 600, **options}
        self.inside = asyncio.Event()
        self.leave = asyncio.Event()
        self.hub = None
        self.task = asyncio.ensure_future(self.run())

    async def run(self):
        async with gibbs.open_hub(Echo, launcher=self.launcher, **self.options) as self.hub:
            self.inside.set()
            await self.leave.wait()

    async def is_cancelled(self):
        with pytest.raises(asyncio.CancelledError), anyio.fail_after(10):
            await self.task
        return self.task.cancelled()

    @property
    def all_gone(self):
        return all(worker.ending is not None for worker in self.launcher.workers)


async def test_cancelled_in_its_body_the_hub_closes_and_the_cancellation_leaves():
    program = Program(ScriptedLauncher())
    await program.inside.wait()
    program.task.cancel()
    assert await program.is_cancelled()
    assert program.all_gone
    assert {worker.ending.code for worker in program.launcher.workers} == {0}  # they had the time to leave


async def test_cancelled_while_it_closes_the_hub_hurries():
    program = Program(ScriptedLauncher(clings))
    await program.inside.wait()
    program.leave.set()
    await anyio.wait_all_tasks_blocked()
    assert not program.all_gone
    program.task.cancel()
    assert await program.is_cancelled()
    assert program.all_gone


async def test_cancelled_again_and_again_while_it_closes_nothing_is_left():
    program = Program(ScriptedLauncher(clings))
    await program.inside.wait()
    program.task.cancel()
    for _ in range(20):
        await asyncio.sleep(0)
        program.task.cancel()
    assert await program.is_cancelled()
    assert program.all_gone


async def test_cancelled_while_it_opens_nothing_is_left():
    program = Program(ScriptedLauncher(never_ready))
    await anyio.wait_all_tasks_blocked()
    assert len(program.launcher.workers) == 2
    program.task.cancel()
    assert await program.is_cancelled()
    assert program.all_gone


async def test_cancelled_at_any_step_of_opening_nothing_is_left():
    for steps in range(40):
        program = Program(ScriptedLauncher())
        for _ in range(steps):
            await asyncio.sleep(0)
        program.task.cancel()
        assert await program.is_cancelled()
        assert program.all_gone
        if program.inside.is_set():
            return
    raise AssertionError("it never opened")


async def test_a_request_that_is_cancelled_natively_is_withdrawn():
    program = Program(ScriptedLauncher(clings, serve), workers=1, on_cancel="kill", close_timeout=0)
    await program.inside.wait()
    worker = program.launcher.worker()
    request = asyncio.ensure_future(program.hub.request(1))
    call = await worker.receive()
    worker.begin(call.link_id)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert program.hub.statistics().cancelled == 1
    assert await program.hub.request(2) == 2
    program.leave.set()
    await program.task


async def test_without_abandoning_a_natively_cancelled_request_waits_for_its_worker_too():
    program = Program(ScriptedLauncher(clings), workers=1, abandon_on_cancel=False, close_timeout=0)
    await program.inside.wait()
    worker = program.launcher.worker()
    request = asyncio.ensure_future(program.hub.request(1))
    call = await worker.receive()
    worker.begin(call.link_id)
    request.cancel()
    await worker.interrupted()
    assert not request.done()
    await worker.skip(call.link_id)
    with pytest.raises(asyncio.CancelledError):
        await request
    program.leave.set()
    await program.task


async def test_asyncio_s_own_timeout_is_a_caller_like_any_other():
    program = Program(ScriptedLauncher(clings), workers=1, close_timeout=0)
    await program.inside.wait()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await program.hub.request(1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(program.hub.request(1), 0.01)
    assert program.hub.statistics().cancelled == 2
    program.leave.set()
    await program.task


@pytest.mark.parametrize("when", ["in the body", "while closing"])
async def test_a_supervisor_that_other_code_cancels_ends_the_hub_in_words(when):
    program = Program(ScriptedLauncher(clings), close_timeout=0.2)
    await program.inside.wait()
    if when == "while closing":
        program.leave.set()
        while not program.hub.health().reasons:
            await asyncio.sleep(0)
    for task in asyncio.all_tasks():
        if "seat 0" in task.get_name():
            task.cancel()
    with anyio.fail_after(10), pytest.raises(RuntimeError, match="was cancelled by other code"):
        await program.task
    assert program.all_gone
