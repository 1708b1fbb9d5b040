"""Large arguments and results: shared, never mixed up, and free when nobody looks at them any more."""

from __future__ import annotations

import errno
import gc
import os
import signal
import sys
import time
import tracemalloc
from pathlib import Path

import anyio
import numpy
import pytest

import gibbs
from gibbs._wire import arena, letter
from gibbs._wire.messages import FREED_ARGUMENTS
from gibbs._worker.ear import Ear
from gibbs.testing import InBand

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.in_turn,
    pytest.mark.skipif(sys.platform != "linux", reason="arenas are Linux's"),
]

MIB = 1 << 20
WATCHDOG = 20.0
LARGE = numpy.arange(MIB / 8)


def is_aside(array):
    """Whether the array lies in memory that is shared."""
    address = array.__array_interface__["data"][0]
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(one, 16) for one in line.split()[0].split("-"))
        if start <= address < end:
            return "gibbs-arena" in line
    return False


class Fails(Exception):
    pass


class Model:
    interruptible = True

    def __init__(self):
        self.kept = []

    def __call__(self, value):
        return value

    def of(self, number):
        return numpy.full(MIB // 8, float(number))

    def double(self, array):
        array *= 2
        return array

    def keep(self, array):
        self.kept.append(array)

    def drop(self):
        self.kept.clear()

    def total(self, *arrays):
        return float(sum(array.sum() for array in arrays + tuple(self.kept)))

    def fails(self, array):
        raise Fails

    def exits(self, array):
        os._exit(3)

    def sleeps(self, array):
        print("sleeps")
        time.sleep(60)

    def is_aside(self, array):
        return is_aside(array)

    def has_no_memory(self):
        def none_left(*_):
            raise OSError(errno.ENOSPC, "no memory")

        os.posix_fallocate = none_left

    def lies(self, places):
        truth = letter.write_aside
        letter.write_aside = lambda pickle, _: truth(pickle, places)

    def gives_back_what_it_was_not_lent(self):
        Ear.news = [None]
        Ear.freed = lambda self: [(FREED_ARGUMENTS, 1 << 40)]


def lent(hub):
    """Bytes of arguments that are lent to anybody now."""
    gc.collect()
    return hub._desk.crew.lender.held


def views(hub):
    return [len(one.worker.shelf._results._views) for one in hub._desk.crew.supervisors if one.worker]


async def ask(hub, method, *args):
    with anyio.fail_after(WATCHDOG):
        return await hub.method(method).request(*args)


async def test_arrays_go_there_and_back_through_shared_memory():
    async with gibbs.open_hub(Model, workers=1) as hub:
        assert await ask(hub, "is_aside", LARGE)
        result = await ask(hub, "__call__", {"a": LARGE, "b": [LARGE + 1, "text"]})
        assert is_aside(result["a"])
        assert (result["a"] == LARGE).all()
        assert (result["b"][0] == LARGE + 1).all()
        assert lent(hub) == 0
        del result


async def test_without_a_side_channel_everything_goes_in_the_stream(either_launcher):
    async with gibbs.open_hub(Model, workers=1, launcher=either_launcher) as hub:
        result = await ask(hub, "__call__", LARGE)
        assert (result == LARGE).all()
        assert is_aside(result) is (type(either_launcher) is gibbs.LocalLauncher)
        del result


async def test_a_worker_that_is_not_trusted_shares_no_memory():
    async with gibbs.open_hub(Model, workers=1, results=gibbs.Safe()) as hub:
        assert not await ask(hub, "is_aside", LARGE)
        result = await ask(hub, "__call__", LARGE)
        assert not is_aside(result)
        assert (result == LARGE).all()


async def test_results_can_be_written():
    async with gibbs.open_hub(Model, workers=1) as hub:
        result = await ask(hub, "__call__", LARGE)
        result[:] = 7
        other = await ask(hub, "__call__", LARGE)
        assert (result == 7).all()
        assert (other == LARGE).all()
        del result, other


async def test_a_view_outlives_its_hub():
    async with gibbs.open_hub(Model, workers=1) as hub:
        result = await ask(hub, "of", 3)
    gc.collect()
    result += 1
    assert (result == 4).all()
    del result


async def test_a_view_outlives_its_worker(until):
    async with gibbs.open_hub(Model, workers=1) as hub:
        result = await ask(hub, "of", 3)
        (pid,) = hub.statistics().pids
        os.kill(pid, signal.SIGKILL)
        await until(lambda: hub.statistics().restarts == 1 and hub.health().ready)
        others = [await ask(hub, "of", number) for number in range(5)]
        assert (result == 3).all()
        assert [other[0] for other in others] == [0, 1, 2, 3, 4]
        del result, others


async def test_results_that_are_kept_are_never_written_over():
    async with gibbs.open_hub(Model, workers=1) as hub:
        kept = [await ask(hub, "of", number) for number in range(20)]
        parts = [await ask(hub, "of", number) for number in range(20, 40)]
        parts = [part[5:10] for part in parts]
        gc.collect()
        more = [await ask(hub, "of", number) for number in range(40, 60)]
        assert [array[7] for array in kept] == list(range(20))
        assert [part[2] for part in parts] == list(range(20, 40))
        assert [array[7] for array in more] == list(range(40, 60))
        del kept, parts, more


async def test_results_that_are_dropped_take_no_more_memory():
    async with gibbs.open_hub(Model, workers=1) as hub:
        for number in range(50):
            assert (await ask(hub, "of", number))[0] == number
        assert views(hub) == [1], "the last, which is told with the next request"


async def test_what_the_caller_changes_while_it_waits_is_not_seen(start, heard, launcher):
    async with gibbs.open_hub(Model, workers=1, launcher=launcher) as hub:
        first = start(hub.method("sleeps"), LARGE)
        await heard.line("sleeps")
        mine = LARGE.copy()
        second = start(hub.method("total"), mine)
        await anyio.wait_all_tasks_blocked()
        mine[:] = 0
        await first.cancel()
        await second.end()
        assert second.result == LARGE.sum()


async def test_what_the_model_writes_into_its_argument_is_not_seen_by_the_caller():
    async with gibbs.open_hub(Model, workers=1) as hub:
        mine = LARGE.copy()
        assert (await ask(hub, "double", mine) == 2 * LARGE).all()
        assert (mine == LARGE).all()


async def test_an_argument_that_the_model_keeps_stays_as_it_is():
    async with gibbs.open_hub(Model, workers=1) as hub:
        await ask(hub, "keep", LARGE)
        await ask(hub, "keep", LARGE + 1)
        assert lent(hub) == 2 * MIB
        for number in range(10):
            await ask(hub, "double", LARGE + number)
        assert await ask(hub, "total") == (2 * LARGE + 1).sum()
        await ask(hub, "drop")
        assert lent(hub) == 0


async def test_what_a_dead_worker_was_lent_is_free():
    async with gibbs.open_hub(Model, workers=1) as hub:
        await ask(hub, "keep", LARGE)
        with pytest.raises(gibbs.WorkerCrashed):
            await ask(hub, "exits", LARGE)
        assert await ask(hub, "total", LARGE) == LARGE.sum()
        assert lent(hub) == 0


async def test_a_failed_call_leaves_nothing_lent():
    async with gibbs.open_hub(Model, workers=1) as hub:
        with pytest.raises(Fails):
            await ask(hub, "fails", LARGE)
        await ask(hub, "total")
        assert lent(hub) == 0


async def test_a_cancelled_call_leaves_nothing_lent(start, heard, launcher, until):
    async with gibbs.open_hub(Model, workers=1, launcher=launcher, cancel_grace=WATCHDOG) as hub:
        running = start(hub.method("sleeps"), LARGE)
        await heard.line("sleeps")
        queued = start(hub.method("total"), LARGE)
        await anyio.wait_all_tasks_blocked()
        assert lent(hub) == 2 * MIB
        await queued.cancel()
        assert lent(hub) == MIB
        await running.cancel()
        await until(lambda: hub.statistics().interrupted == 1)
        await ask(hub, "total")
        assert lent(hub) == 0


async def test_a_cancelled_call_that_is_killed_leaves_nothing_lent(start, heard, launcher, until):
    async with gibbs.open_hub(Model, workers=1, launcher=launcher, on_cancel="kill") as hub:
        running = start(hub.method("sleeps"), LARGE)
        await heard.line("sleeps")
        await running.cancel()
        await until(lambda: hub.statistics().killed == 1 and hub.health().ready)
        assert lent(hub) == 0


async def test_a_refused_call_leaves_nothing_lent(start, heard, launcher):
    async with gibbs.open_hub(Model, workers=1, launcher=launcher, close_timeout=0.2) as hub:
        calls = [start(hub.method("sleeps"), LARGE) for _ in range(3)]
        await heard.line("sleeps")
    for call in calls:
        await call.end()
        assert type(call.error) is gibbs.HubClosed
    assert lent(hub) == 0


async def test_a_call_that_there_is_no_room_for_leaves_nothing_lent(start, heard, launcher):
    async with gibbs.open_hub(Model, workers=1, launcher=launcher, max_pending=0) as hub:
        call = start(hub.method("sleeps"), LARGE)
        await heard.line("sleeps")
        with pytest.raises(gibbs.HubOverloaded):
            await hub.method("total").request(LARGE)
        await call.cancel()
        assert lent(hub) <= MIB


async def test_a_result_that_nobody_waits_for_is_let_go(start, until):
    async with gibbs.open_hub(Model, workers=1) as hub:
        for _ in range(10):
            call = start(hub.using(on_cancel="finish").method("of"), 3)
            await anyio.lowlevel.checkpoint()
            await anyio.lowlevel.checkpoint()
            call.scope.cancel()
            await call.end()
            call.result = None
        await until(lambda: hub.statistics().running == 0)
        await ask(hub, "drop")
        await ask(hub, "drop")
        gc.collect()
        assert views(hub) == [0]


async def test_a_hub_without_memory_sends_everything_in_the_stream(monkeypatch):
    def none_left(*_):
        raise OSError(errno.ENOSPC, "no memory")

    async with gibbs.open_hub(Model, workers=1) as hub:
        monkeypatch.setattr(os, "posix_fallocate", none_left)
        assert not await ask(hub, "is_aside", LARGE)
        assert await ask(hub, "total", LARGE) == LARGE.sum()


async def test_a_worker_without_memory_sends_everything_in_the_stream():
    async with gibbs.open_hub(Model, workers=1) as hub:
        await ask(hub, "has_no_memory")
        result = await ask(hub, "of", 3)
        assert not is_aside(result)
        assert (result == 3).all()


async def test_a_hub_that_can_make_no_arena_sends_everything_in_the_stream(monkeypatch):
    def none_left(*_):
        raise OSError(errno.EMFILE, "no descriptors")

    monkeypatch.setattr("gibbs._launch.watch_linux.create_arena", none_left)
    async with gibbs.open_hub(Model, workers=1) as hub:
        assert not await ask(hub, "is_aside", LARGE)
        assert (await ask(hub, "__call__", LARGE) == LARGE).all()


async def test_a_worker_that_cannot_see_the_hubs_arena_is_sent_everything_in_one_piece(monkeypatch, until):
    """One that was started when there were no descriptors left: requests that wait were packed for others."""
    async with gibbs.open_hub(Model, workers=1) as hub:
        monkeypatch.setattr("gibbs._launch.watch_linux.create_arena", lambda: (_ for _ in ()).throw(OSError()))
        (pid,) = hub.statistics().pids
        os.kill(pid, signal.SIGKILL)
        await until(lambda: hub.statistics().restarts == 1 and hub.health().ready)
        assert not await ask(hub, "is_aside", LARGE)
        assert (await ask(hub, "double", [LARGE][0]) == 2 * LARGE).all()
        assert lent(hub) == 0


async def test_when_too_much_is_held_results_are_copied(monkeypatch):
    monkeypatch.setattr("gibbs._wire.arena.create_arena.__defaults__", (4 * MIB,))
    async with gibbs.open_hub(Model, workers=1) as hub:
        held = [await ask(hub, "of", number) for number in range(8)]
        assert [is_aside(array) for array in held] == [True] * 4 + [False] * 4
        assert [array[9] for array in held] == list(range(8))
        del held
        await ask(hub, "drop")
        again = await ask(hub, "of", 9)
        assert is_aside(again)
        del again


async def test_when_too_much_is_lent_arguments_are_copied(monkeypatch):
    monkeypatch.setattr("gibbs._wire.arena.create_arena.__defaults__", (4 * MIB,))
    async with gibbs.open_hub(Model, workers=1) as hub:
        for number in range(8):
            await ask(hub, "keep", LARGE + number)
        assert await ask(hub, "total") == sum((LARGE + number).sum() for number in range(8))
        assert lent(hub) == 4 * MIB


@pytest.mark.parametrize(
    "places",
    [[(arena.SIZE, MIB)], [(0, arena.SIZE + 1)], [(1 << 63, 1 << 63)], [(0, 0)], [(MIB, arena.SIZE)]],
    ids=["beyond", "longer", "wraps", "empty", "over the end"],
)
async def test_a_worker_whose_result_lies_nowhere_dies_with_that_request_alone(places, start):
    async with gibbs.open_hub(Model, workers=2) as hub:
        await ask(hub, "lies", places)
        calls = []
        for _ in range(4):
            calls.append(start(hub.method("of"), 3))
            await calls[-1].end()
        (error,) = [call.error for call in calls if call.error]
        assert "no message of the protocol" in str(error)
        assert all((call.result == 3).all() for call in calls if not call.error)
        calls.clear()


async def test_a_worker_that_gives_back_what_it_was_not_lent_dies():
    async with gibbs.open_hub(Model, workers=1) as hub:
        with pytest.raises(gibbs.WorkerCrashed, match="was not lent"):
            await ask(hub, "gives_back_what_it_was_not_lent")
        assert (await ask(hub, "double", LARGE) == 2 * LARGE).all()


async def test_a_table_with_fewer_places_than_buffers_hurts_its_caller_alone():
    async with gibbs.open_hub(Model, workers=1) as hub:
        await ask(hub, "lies", [])
        with pytest.raises(gibbs.RemoteError, match="buffers"):
            await ask(hub, "of", 3)
        assert await ask(hub, "total", LARGE) == LARGE.sum()


async def test_many_large_requests_in_flight_get_each_its_own():
    async with gibbs.open_hub(Model, workers=3) as hub:
        results = {}

        async def call(number):
            results[number] = await ask(hub, "double", LARGE + number)

        async with anyio.create_task_group() as tg:
            for number in range(40):
                tg.start_soon(call, number)
        assert all((results[number] == 2 * (LARGE + number)).all() for number in range(40))
        results.clear()
        gc.collect()
        assert lent(hub) == 0


async def test_an_argument_goes_to_the_next_worker_when_the_first_dies_before_it_begins(start, heard, launcher):
    async with gibbs.open_hub(Model, workers=1, launcher=launcher) as hub:
        first = start(hub.method("sleeps"), LARGE)
        await heard.line("sleeps")
        second = start(hub.method("total"), LARGE)
        await anyio.wait_all_tasks_blocked()
        (pid,) = hub.statistics().pids
        os.kill(pid, signal.SIGKILL)
        await first.end()
        await second.end()
        assert type(first.error) is gibbs.WorkerCrashed
        assert second.result == LARGE.sum()
        await ask(hub, "drop")
        assert lent(hub) == 0


@pytest.mark.parametrize("value", [b"x" * MIB, bytearray(b"y" * MIB), "z" * MIB, list(range(200_000))], ids=type)
async def test_what_is_large_and_no_array_keeps_its_type(value):
    async with gibbs.open_hub(Model, workers=1) as hub:
        result = await ask(hub, "__call__", value)
        assert type(result) is type(value)
        assert result == value


async def test_the_same_array_twice_is_one_array_there():
    async with gibbs.open_hub(Model, workers=1) as hub:
        one, other = await ask(hub, "__call__", [LARGE, LARGE])
        assert one is other
        del one, other


@pytest.mark.parametrize("size", [MIB, 2 * MIB])
async def test_max_message_counts_what_is_aside(size):
    async with gibbs.open_hub(Model, workers=1, max_message=MIB) as hub:
        with pytest.raises(gibbs.MessageTooLarge, match="nothing was sent") as caught:
            await ask(hub, "total", numpy.zeros(size, "u1"))
        assert size < caught.value.size < size + 1000
        with pytest.raises(gibbs.MessageTooLarge, match="stayed behind"):
            await ask(hub, "of", 3)
        assert lent(hub) == 0


# ------------------------------------------------------------------------------------------- what goes through the stream


class Traced:
    def start(self):
        tracemalloc.start()

    def traced(self, payload):
        """How many bytes this worker has allocated since, for each byte of the payload."""
        return tracemalloc.get_traced_memory()[0] / len(payload)


@pytest.mark.parametrize("launcher", [gibbs.LocalLauncher(), InBand(gibbs.LocalLauncher())], ids=["direct", "in band"])
async def test_an_argument_that_came_through_the_stream_is_there_once_while_its_call_runs(launcher):
    async with gibbs.open_hub(Traced, workers=1, launcher=launcher) as hub:
        await hub.method(Traced.start).request()
        for _ in range(2):
            assert 1 <= await hub.method(Traced.traced).request(bytes(8 * MIB)) < 1.5
