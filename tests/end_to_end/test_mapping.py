"""Maps over real workers: the results in their order or as they come, what a source may be, and what is left when the block is."""

from __future__ import annotations

import gc
import itertools
import os
import threading
import time
import tracemalloc

import anyio
import pytest
from anyio.lowlevel import checkpoint

import gibbs
from tests.end_to_end.callers import WATCHDOG, answer, is_settled, read, until
from tests.end_to_end.models_that_batch import Batches
from tests.end_to_end.models_that_block import Blocked


class Squares:
    interruptible = True

    def __call__(self, x):
        if x < 0:
            raise ValueError(f"{x} is below zero")
        return x * x

    def pair(self, x, y=0):
        return x, y

    def items(self, x):
        yield x


async def later(items):
    for item in items:
        await checkpoint()
        yield item


@pytest.fixture(params=[iter, later], ids=["iterable", "async"])
def source(request):
    """Makes a source of either kind."""
    return request.param


async def test_each_item_has_its_result(either_launcher, source):
    async with gibbs.open_hub(Squares, workers=2, launcher=either_launcher) as hub:
        for limit, ordered, count in itertools.product((1, 3, 64), (True, False), (0, 1, 200)):
            found = await read(hub.map(source(range(count)), limit=limit, ordered=ordered))
            assert (found if ordered else sorted(found)) == [x * x for x in range(count)]
        assert await read(hub.method(Squares.pair).map(source("ab"))) == [("a", 0), ("b", 0)]


async def test_as_they_come_a_slow_one_holds_up_nobody(launcher, tmp_path):
    path = tmp_path / "go on"
    async with gibbs.open_hub(Batches, workers=2, launcher=launcher) as hub:
        waits = hub.method(Batches.waits)
        quick = tmp_path / "quick"
        quick.touch()
        async with waits.map([str(path), str(quick)], ordered=False) as results:
            with anyio.fail_after(WATCHDOG):
                assert await anext(results) == "quick"
                path.touch()
                assert await anext(results) == "go on"


async def test_a_source_is_read_as_room_appears_and_may_be_endless(launcher, source):
    read_so_far = 0

    def numbers():
        nonlocal read_so_far
        for number in itertools.count(1):
            read_so_far = number
            yield number

    async with gibbs.open_hub(Squares, workers=2, launcher=launcher) as hub:
        with anyio.fail_after(WATCHDOG):
            async with hub.map(source(numbers()), limit=5) as results:
                for taken in range(1, 300):
                    assert await anext(results) == taken * taken
                    assert read_so_far <= taken + 5 + 1, "one is being handed in"
        await until(lambda: is_settled(hub))
        assert hub.statistics().queued == hub.statistics().running == 0


async def test_memory_is_bounded_by_the_limit(launcher):
    async with gibbs.open_hub(Squares, workers=2, launcher=launcher) as hub:
        async with hub.map(itertools.count(), limit=10) as results:

            async def take(count):
                for _ in range(count):
                    await anext(results)

            await take(500)
            gc.collect()
            tracemalloc.start()
            try:
                before = tracemalloc.get_traced_memory()[0]
                await take(1500)
                gc.collect()
                assert tracemalloc.get_traced_memory()[0] - before < 100_000
            finally:
                tracemalloc.stop()


async def test_an_exception_comes_in_its_items_place_and_the_reader_may_go_on(launcher, source):
    async with gibbs.open_hub(Squares, workers=2, launcher=launcher) as hub:
        async with hub.map(source([1, -2, threading.Lock(), 4])) as results:
            assert await anext(results) == 1
            with pytest.raises(ValueError, match="-2 is below zero"):
                await anext(results)
            with pytest.raises(TypeError, match="pickle"):
                await anext(results)
            assert await anext(results) == 16
            for _ in range(2):
                with pytest.raises(StopAsyncIteration):
                    await anext(results)


@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "as they come"])
async def test_what_the_source_raises_comes_behind_the_items_before_it(launcher, source, ordered):
    def breaks():
        yield 1
        yield 2
        raise LookupError("the source")

    async with gibbs.open_hub(Squares, workers=1, launcher=launcher) as hub:
        found = []
        with pytest.raises(LookupError, match="the source"):
            async with hub.map(source(breaks()), ordered=ordered) as results:
                async for result in results:
                    found.append(result)  # noqa: PERF401 - what came before the error counts
        if ordered:
            assert found == [1, 4]


async def test_an_error_of_the_body_leaves_as_itself(launcher, source):
    async with gibbs.open_hub(Squares, workers=1, launcher=launcher) as hub:
        with pytest.raises(LookupError, match="the body"):
            async with hub.map(source(itertools.count())) as results:
                await anext(results)
                raise LookupError("the body")
        assert await answer(hub, 3) == 9


async def test_leaving_withdraws_what_is_on_its_way(either_launcher, heard, source):
    async with gibbs.open_hub(Blocked, workers=2, launcher=either_launcher, cancel_grace=WATCHDOG) as hub:
        before = hub.statistics().pids
        with anyio.fail_after(WATCHDOG):
            async with hub.map(source(["sleep"] * 10)):
                await heard.line("begun", 2)
                await until(lambda: hub.statistics().queued == 8)
        await until(lambda: is_settled(hub))
        assert hub.statistics().cancelled == 10
        assert hub.statistics().interrupted == 2
        assert hub.statistics().pids == before


async def test_with_abandon_on_cancel_false_leaving_waits_for_the_workers(launcher, heard):
    async with gibbs.open_hub(
        Blocked, workers=2, launcher=launcher, cancel_grace=WATCHDOG, abandon_on_cancel=False
    ) as hub:
        with anyio.fail_after(WATCHDOG):
            async with hub.map(["sleep"] * 4):
                await heard.line("begun", 2)
        assert is_settled(hub)


async def test_an_async_source_is_read_no_more_when_the_block_is_left(launcher, heard):
    read_so_far = 0

    async def sleeps():
        nonlocal read_so_far
        while True:
            read_so_far += 1
            yield "sleep"
            await checkpoint()

    async with gibbs.open_hub(
        Blocked, workers=1, launcher=launcher, cancel_grace=WATCHDOG, abandon_on_cancel=False
    ) as hub:
        with anyio.fail_after(WATCHDOG):
            async with hub.map(sleeps(), limit=3):
                await heard.line("begun")
                await until(lambda: hub.statistics().queued == 2)
                before = read_so_far
        assert read_so_far == before
        assert is_settled(hub)
        assert hub.statistics().cancelled == 3
        assert hub.statistics().queued == 0


async def test_a_source_that_is_no_generator_is_not_closed(launcher):
    send, receive = anyio.create_memory_object_stream(10)
    async with gibbs.open_hub(Squares, workers=1, launcher=launcher) as hub, send, receive:
        for number in range(5):
            await send.send(number)
        assert await read(hub.map(receive, limit=1), 1) == [0]
        with anyio.fail_after(WATCHDOG):
            assert await receive.receive() in (1, 2)


class NoSource:
    def __aiter__(self):
        return 3


async def test_a_source_that_is_none_is_refused_and_harms_nobody(launcher):
    async with gibbs.open_hub(Squares, workers=1, launcher=launcher) as hub:
        with pytest.raises(TypeError, match="async iterator"):
            await read(hub.map(NoSource()))
        assert await answer(hub, 3) == 9


async def test_a_cancellation_of_the_sources_own_is_no_cancellation_of_its_reader(launcher):
    async def cancelled():
        yield 3
        raise anyio.get_cancelled_exc_class() if anyio.get_cancelled_exc_class().__module__ != "trio" else LookupError

    async with gibbs.open_hub(Squares, workers=1, launcher=launcher) as hub:
        async with hub.map(cancelled()) as results:
            assert await anext(results) == 9
            with pytest.raises((RuntimeError, LookupError)):
                await anext(results)


async def test_the_bodys_error_leaves_a_cancelled_scope_too(launcher, source):
    async with gibbs.open_hub(Squares, workers=1, launcher=launcher) as hub:
        with pytest.raises(LookupError, match="the body"), anyio.CancelScope() as scope:
            async with hub.map(source(itertools.count())) as results:
                await anext(results)
                scope.cancel()
                raise LookupError("the body")
        assert await answer(hub, 3) == 9


async def test_two_maps_share_a_short_line(launcher, source):
    async with gibbs.open_hub(Squares, workers=1, launcher=launcher, max_pending=3) as hub:
        found = {}

        async def maps(name):
            found[name] = await read(hub.map(source(range(100))))

        async with anyio.create_task_group() as tg:
            tg.start_soon(maps, "one")
        assert found == {"one": [x * x for x in range(100)]}


async def test_a_cancelled_reader_leaves_nothing(launcher, heard, source):
    async with gibbs.open_hub(Blocked, workers=1, launcher=launcher, cancel_grace=WATCHDOG) as hub:
        async with anyio.create_task_group() as tg:
            tg.start_soon(read, hub.map(source(itertools.repeat("sleep"))))
            await heard.line("begun")
            tg.cancel_scope.cancel()
        await until(lambda: is_settled(hub))
        assert hub.statistics().queued == hub.statistics().running == 0


async def test_where_few_may_wait_no_more_are_read_than_find_room(launcher):
    async with gibbs.open_hub(Squares, workers=1, launcher=launcher, max_pending=2) as hub:
        assert await read(hub.map(range(100))) == [x * x for x in range(100)]


async def test_maps_of_batched_methods_fill_the_batches(launcher):
    async with gibbs.open_hub(Batches, workers=1, launcher=launcher) as hub:
        assert await read(hub.map(range(65), limit=32)) == [x * x for x in range(65)]
        sizes = await answer(hub.method(Batches.sizes))
        assert sum(sizes) == 65
        assert max(sizes) == 8


async def test_a_hub_that_closes_ends_a_map_in_its_place(launcher):
    async with anyio.create_task_group() as tg:
        async with gibbs.open_hub(Blocked, workers=1, launcher=launcher) as hub:

            async def reads(*, task_status):
                with pytest.raises(gibbs.HubClosed):
                    async with hub.map(["sleep"] * 3) as results:
                        task_status.started()
                        await anext(results)

            await tg.start(reads)


async def test_a_crash_is_an_error_of_its_item(launcher):
    async with gibbs.open_hub(Batches, workers=1, launcher=launcher) as hub:
        outcomes = []
        async with hub.method(Batches.dies).map([1, 2]) as results:
            for _ in range(2):
                try:
                    await anext(results)
                except gibbs.WorkerCrashed as error:
                    outcomes.append(error.may_have_run)
        assert outcomes == [True, True]
        assert await read(hub.map(range(3))) == [0, 1, 4]


async def test_its_own_rules(launcher):
    async with gibbs.open_hub(Squares, workers=1, launcher=launcher) as hub:
        for limit, error in ((0, ValueError), (1.5, TypeError), (True, TypeError)):
            with pytest.raises(error, match="limit must be a whole number of items ≥ 1"):
                hub.map([1], limit=limit)
        with pytest.raises(TypeError, match="takes an iterable"):
            hub.map(3)
        with pytest.raises(TypeError, match=r"use stream\(\)"):
            await read(hub.method(Squares.items).map([1]))
        with pytest.raises(AttributeError, match="missing"):
            await read(hub.method("missing").map([1]))
        results = hub.map([1, 2])
        assert "not entered" in repr(results)
        with pytest.raises(RuntimeError, match="within their block"):
            await anext(results)
        async with results:
            assert "open" in repr(results)
            with pytest.raises(RuntimeError, match="entered before"):
                await results.__aenter__()
        assert "left" in repr(results)
        with pytest.raises(anyio.ClosedResourceError):
            await anext(results)
    with pytest.raises(gibbs.HubClosed):
        await read(hub.map([1]))


async def test_two_readers_are_one_too_many(launcher, heard):
    async with gibbs.open_hub(Blocked, workers=1, launcher=launcher, cancel_grace=WATCHDOG) as hub:
        with anyio.fail_after(WATCHDOG):
            async with hub.map(["sleep"]) as results, anyio.create_task_group() as tg:
                tg.start_soon(anext, results)
                await heard.line("begun")
                await checkpoint()
                with pytest.raises(anyio.BusyResourceError):
                    await anext(results)
                tg.cancel_scope.cancel()


# --------------------------------------------------------------------------------------------------- answers that wait


class Mixed:
    """Quick items, and among them some that take until a file is there, or end the process."""

    def __call__(self, item):
        if isinstance(item, str):
            while not os.path.exists(item):
                time.sleep(0.001)
        elif item < 0:
            os._exit(1)
        return item


@pytest.mark.parametrize("ordered", [True, False])
async def test_the_results_of_quick_items_do_not_wait_for_a_slow_one_behind_them(launcher, tmp_path, ordered):
    """They leave together with those that follow; of a call that takes long nobody waits for the end."""
    async with gibbs.open_hub(Mixed, workers=1, launcher=launcher) as hub:
        for n in range(4):
            there = tmp_path / str(n)
            items = [*range(200), str(there), *range(200, 220)]
            async with hub.map(items, limit=256, ordered=ordered) as results:
                found = []
                with anyio.fail_after(WATCHDOG):
                    async for result in results:
                        found.append(result)
                        if len(found) == 200:
                            there.touch()
            assert found == items


async def test_a_crash_takes_only_what_had_begun_and_of_that_only_what_was_about_to_leave(launcher):
    """Each item has a result, or was begun by a worker that died; the others are run by another."""
    async with gibbs.open_hub(Mixed, workers=1, launcher=launcher) as hub:
        await hub.request(0)  # quick, so that others are sent ahead
        for _ in range(4):
            items = [*range(100), -1, *range(101, 200)]
            ended, crashes = [], []
            async with hub.map(items, limit=200) as results:
                while len(ended) < len(items):
                    try:
                        ended.append(await anext(results))
                    except gibbs.WorkerCrashed as crash:
                        crashes.append(crash)
                        ended.append(None)
                with pytest.raises(StopAsyncIteration):
                    await anext(results)
            assert all(crash.may_have_run for crash in crashes)
            assert ended[100] is None
            assert all(result in (None, item) for item, result in zip(items, ended, strict=True))
            assert ended[101:] == items[101:], "what had not begun is nobody's loss"
            assert ended[:80] == items[:80], "what has left is here"


async def test_finished_items_that_went_with_a_crash_are_not_taken_for_its_cause(launcher):
    """Tried again, they run next to the culprit once more; only that one is poison."""
    async with gibbs.open_hub(Mixed, workers=1, launcher=launcher) as hub:
        await hub.request(0)
        items = [*range(40), -1, *range(41, 80)]
        ended = []
        async with hub.using(retries=5).map(items, limit=200) as results:
            while len(ended) < len(items):
                try:
                    ended.append(await anext(results))
                except gibbs.PoisonRequest:
                    ended.append(None)
        assert ended == [None if item == -1 else item for item in items]
