"""A hub that gives up, on every loop: who gets the cancellation, and who is told why."""

from __future__ import annotations

import anyio
import pytest

import gibbs
from gibbs.testing import ScriptedLauncher, serve


class Echo:
    def __call__(self, x):
        return x


async def unfit(worker):
    await worker.unfit(RuntimeError("broken"))


def fragile_hub(launcher):
    return gibbs.open_hub(Echo, workers=1, launcher=launcher, restarts=gibbs.RestartPolicy(max_failures=0))


@pytest.mark.parametrize("verb", ["request", "drain", "wait_ready"])
async def test_what_waits_in_the_body_itself_gets_the_cancellation_and_not_hubclosed(verb):
    launcher = ScriptedLauncher(serve, unfit)
    got = None
    with pytest.raises(gibbs.RestartsExhausted):
        async with fragile_hub(launcher) as hub, anyio.create_task_group() as tg:
            launcher.worker().die(code=1)
            while hub.statistics().seats["serving"]:
                await anyio.lowlevel.checkpoint()
            if verb == "drain":
                tg.start_soon(hub.request, 1)
                while not hub.statistics().queued:
                    await anyio.lowlevel.checkpoint()
            try:
                await (hub.request(1) if verb == "request" else getattr(hub, verb)())
            except BaseException as error:
                got = error
                raise
    assert isinstance(got, anyio.get_cancelled_exc_class())


async def test_who_waits_outside_the_body_is_told_why(ask):
    launcher = ScriptedLauncher(serve, unfit)
    async with anyio.create_task_group() as tg:
        with pytest.raises(gibbs.RestartsExhausted) as caught:
            async with fragile_hub(launcher) as hub:
                launcher.worker().die(code=1)
                while hub.statistics().seats["serving"]:
                    await anyio.lowlevel.checkpoint()
                asked = [await ask(tg, hub.request, n) for n in range(3)]
                await anyio.sleep_forever()
        for one in asked:
            with pytest.raises(gibbs.HubClosed) as told:
                await one.outcome()
            assert (told.value.reason, told.value.__cause__) == ("failed", caught.value)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_mistake_in_a_script_is_loud(when):
    async def mistaken(worker):
        if when == "after":
            await worker.start()
            await worker.receive()
        raise ZeroDivisionError("in the test's script")

    with pytest.raises(ExceptionGroup) as caught:
        async with gibbs.open_hub(Echo, workers=1, launcher=ScriptedLauncher(mistaken)) as hub:
            await hub.request(1)
    assert caught.group_contains(ZeroDivisionError, match="in the test's script")
