"""Every public await is a checkpoint, on its fast path and on its way to an error too."""

from __future__ import annotations

import anyio
import pytest

import gibbs
from gibbs.testing import ScriptedLauncher, sweep


class Model:
    def __call__(self, x):
        return x

    async def asynchronous(self):
        pass

    def broken(self):
        raise LookupError("broken")


class Unpicklable:
    def __reduce__(self):
        raise LookupError("cannot be pickled")


async def is_a_checkpoint(f, *args, raises=None):
    """It can be cancelled at its first step, and does what it should if it is not."""

    async def scenario():
        try:
            await f(*args)
        except Exception as error:  # noqa: BLE001 - looked at below
            return error

    steps = [step async for step in sweep(scenario)]
    assert len(steps) > 1, "no checkpoint"
    assert steps[0].cancelled
    if raises is None:
        assert steps[-1].value is None
    else:
        assert isinstance(steps[-1].value, raises), steps[-1].value


@pytest.fixture
async def hub():
    async with gibbs.open_hub(Model, workers=1, launcher=ScriptedLauncher()) as hub:
        yield hub


async def test_a_request_that_is_answered(hub):
    await is_a_checkpoint(hub.request, 1)


async def test_a_request_that_fails_in_the_model(hub):
    await is_a_checkpoint(hub.method(Model.broken).request, raises=LookupError)


async def test_a_request_that_cannot_be_pickled(hub):
    await is_a_checkpoint(hub.request, Unpicklable(), raises=LookupError)


async def test_a_request_of_an_unknown_method(hub):
    await is_a_checkpoint(hub.method("unknown").request, raises=AttributeError)


async def test_a_request_of_an_async_method(hub):
    await is_a_checkpoint(hub.method("asynchronous").request, raises=TypeError)


async def test_a_request_to_an_overloaded_hub():
    async def launching(spec):
        await anyio.sleep_forever()

    launcher = ScriptedLauncher(launching=launching)
    async with gibbs.open_hub(Model, workers=1, ready=0, launcher=launcher, max_pending=0) as hub:
        await is_a_checkpoint(hub.request, 1, raises=gibbs.HubOverloaded)


async def test_a_request_to_a_draining_hub(hub):
    await hub.drain()
    await is_a_checkpoint(hub.request, 1, raises=gibbs.HubClosed)


async def converse(hub):
    async with hub.lease():
        pass


async def test_entering_a_lease():
    launcher = ScriptedLauncher()
    async with gibbs.open_hub(Model, workers=2, launcher=launcher, on_cancel="finish") as hub:
        await is_a_checkpoint(converse, hub)
        async with hub.lease() as lease:
            await is_a_checkpoint(lease.request, 1)
            await is_a_checkpoint(lease.request, Unpicklable(), raises=LookupError)
            await is_a_checkpoint(lease.__aenter__, raises=RuntimeError)
        await is_a_checkpoint(lease.request, 1, raises=anyio.ClosedResourceError)
        await hub.drain()
        await is_a_checkpoint(converse, hub, raises=gibbs.HubClosed)


async def test_entering_a_lease_of_a_hub_that_gives_none(hub):
    await is_a_checkpoint(converse, hub, raises=ValueError)


async def test_everything_on_a_closed_hub():
    async with gibbs.open_hub(Model, workers=1, launcher=ScriptedLauncher()) as hub:
        pass
    await is_a_checkpoint(hub.request, 1, raises=gibbs.HubClosed)
    await is_a_checkpoint(hub.drain, raises=gibbs.HubClosed)
    await is_a_checkpoint(hub.wait_ready, raises=gibbs.HubClosed)


async def test_a_drain_with_nothing_to_wait_for(hub):
    await is_a_checkpoint(hub.drain)
    await is_a_checkpoint(hub.drain)


async def test_waiting_for_workers_that_are_ready(hub):
    await is_a_checkpoint(hub.wait_ready)
    await is_a_checkpoint(hub.wait_ready, 0)


async def test_waiting_for_a_number_that_makes_no_sense(hub):
    await is_a_checkpoint(hub.wait_ready, 2, raises=ValueError)
    await is_a_checkpoint(hub.wait_ready, True, raises=TypeError)


async def test_opening():
    async def open_and_close():
        async with gibbs.open_hub(Model, workers=1, launcher=ScriptedLauncher()):
            pass

    await is_a_checkpoint(open_and_close)


async def test_opening_what_cannot_be_pickled():
    async def open_and_close():
        async with gibbs.open_hub(Model, Unpicklable(), workers=1, launcher=ScriptedLauncher()):
            raise AssertionError("entered")

    await is_a_checkpoint(open_and_close, raises=LookupError)
