"""Nothing grows: thousands of hubs opened and closed, workers lost, requests cancelled; `GIBBS_LONG=1` for the full numbers.

The short form does the same with fewer: it finds what leaks a descriptor, a thread or a child each time, and some kilobytes.
"""

from __future__ import annotations

import logging
import math
import os

import anyio
import pytest

import gibbs
from tests.leaks.figures import Course
from tests.leaks.models import Model

LONG = bool(os.environ.get("GIBBS_LONG"))
CYCLES = 1_000 if LONG else 12
QUEUED = 80_000 if LONG else 2_000
RUNNING = 10_000 if LONG else 200
MIXED = 10_000 if LONG else 400
MEASUREMENTS = 20 if LONG else 6
WATCHDOG = 20.0

# What may come by a cycle. A short run cannot tell a page that was touched for the first time from one that is lost; and in a
# dozen crashes the hub still fills its memory of the last sixteen.
BYTES = 1_000.0 if LONG else math.inf
BLOCKS_OF_A_HUB = 2.0 if LONG else 30.0
BLOCKS_OF_A_CALL = 0.5 if LONG else 3.0

pytestmark = [pytest.mark.slow, pytest.mark.in_turn, pytest.mark.timeout(1_500 if LONG else 120)]


@pytest.fixture(autouse=True)
def quiet(caplog):
    """Thousands of deaths would be kept as thousands of lines."""
    caplog.set_level(logging.CRITICAL, "gibbs")


@pytest.fixture
def course(record_property):
    course = Course()
    yield course
    if course.seen:
        record_property("course", str(course))
        print(course)


async def measured(course, cycles, cycle, *, measurements=MEASUREMENTS):
    """Do it so often, and measure as often as that, the first time after the first share."""
    share = max(1, cycles // measurements)
    for _ in range(measurements):
        await cycle(share)
        course.measure(share)


def opened(**options):
    return gibbs.open_hub(
        Model, **{"workers": 1, "cancel_grace": WATCHDOG, "launcher": gibbs.LocalLauncher(output="discard")} | options
    )


async def all_serve(hub):
    """Return when no seat has to do with a cancelled call any more."""
    with anyio.fail_after(WATCHDOG):
        while hub.statistics().seats["serving"] < len(hub.statistics().pids):
            await anyio.sleep(0.0005)


async def test_opening_a_hub_leaves_nothing(course):
    async def cycle(times):
        for x in range(times):
            async with opened() as hub:
                assert await hub.request(x) == x

    await measured(course, CYCLES, cycle)
    assert course.accuse(blocks=BLOCKS_OF_A_HUB, bytes_=BYTES) == []


async def test_a_crash_leaves_nothing(course):
    async with opened(restarts=gibbs.RestartPolicy(max_failures=math.inf)) as hub:

        async def cycle(times):
            for _ in range(times):
                with pytest.raises(gibbs.WorkerCrashed):
                    await hub.request("die")
            await all_serve(hub)

        await measured(course, CYCLES, cycle)
        assert hub.statistics().crashed == MEASUREMENTS * (CYCLES // MEASUREMENTS)
        assert course.accuse(blocks=BLOCKS_OF_A_HUB, bytes_=BYTES) == []


async def test_a_cancelled_request_that_was_queued_leaves_nothing(course):
    async with opened() as hub, anyio.create_task_group() as tg:
        tg.start_soon(hub.request, "sleep")
        with anyio.fail_after(WATCHDOG):
            while not hub.statistics().running:
                await anyio.sleep(0.0005)

        async def cycle(times):
            for _ in range(times // 100):
                async with anyio.create_task_group() as many:
                    for x in range(100):
                        many.start_soon(hub.request, x)
                    with anyio.fail_after(WATCHDOG):
                        while hub.statistics().queued < 100:
                            await anyio.lowlevel.checkpoint()
                    many.cancel_scope.cancel()

        await measured(course, QUEUED, cycle)
        assert hub.statistics().cancelled == MEASUREMENTS * (QUEUED // MEASUREMENTS // 100) * 100
        assert hub.statistics().queued == 0
        tg.cancel_scope.cancel()
    assert course.accuse(blocks=BLOCKS_OF_A_CALL, bytes_=BYTES) == []


async def test_a_cancelled_request_that_ran_leaves_nothing(course):
    async with opened() as hub:
        begun = hub._desk.crew.supervisors[0].worker.link.begun

        async def cycle(times):
            for _ in range(times):
                await all_serve(hub)
                last = hub._desk.crew.dispatcher.seats[0].last_link_id
                async with anyio.create_task_group() as one:
                    one.start_soon(hub.request, "sleep")
                    with anyio.fail_after(WATCHDOG):
                        while begun() <= last:
                            await anyio.lowlevel.checkpoint()
                    one.cancel_scope.cancel()
            await all_serve(hub)

        await measured(course, RUNNING, cycle)
        assert (hub.statistics().interrupted, hub.statistics().killed) == (hub.statistics().cancelled, 0)
        assert course.accuse(blocks=BLOCKS_OF_A_CALL, bytes_=BYTES) == []


async def test_requests_cancelled_at_any_moment_leave_nothing(course):
    """Some before they are taken in, some queued, some sent, some running, some answered."""
    async with opened(workers=2) as hub:

        async def asks(x):
            with anyio.move_on_after((x % 13) / 2_000):
                await hub.using(abandon_on_cancel=x % 3 > 0).request("sleep" if x % 5 == 0 else x)

        async def cycle(times):
            for _ in range(times // 20):
                async with anyio.create_task_group() as many:
                    for x in range(20):
                        many.start_soon(asks, x)
            await all_serve(hub)

        await measured(course, MIXED, cycle)
        statistics = hub.statistics()
        assert statistics.cancelled > 0
        assert statistics.done > 0
        assert (statistics.killed, statistics.restarts) == (0, 0)
        assert course.accuse(blocks=BLOCKS_OF_A_CALL, bytes_=BYTES) == []
