"""Streams of real workers: the items as they come, what ends them, and what leaving one early does to the generator and its worker."""

from __future__ import annotations

import logging
import threading

import anyio
import numpy as np
import pytest
from anyio.lowlevel import checkpoint

import gibbs
from tests.end_to_end.callers import WATCHDOG, answer, is_settled, read, until
from tests.end_to_end.models_that_block import LONG
from tests.end_to_end.models_that_yield import Bears, Yields


async def read_until_it_fails(stream):
    """What came, and what ended it."""
    found = []
    with anyio.fail_after(WATCHDOG):
        async with stream as items:
            try:
                async for item in items:
                    found.append(item)  # noqa: PERF401 - what came before an error counts
            except Exception as error:  # noqa: BLE001 - the test looks at it
                return found, error
    raise AssertionError(f"it came to its end: {found}")


# ---------------------------------------------------------------------------------------------------------- the items


@pytest.mark.parametrize("buffer", [1, 2, 3, 64])
async def test_the_items_of_a_generator_come_in_order_and_to_an_end(either_launcher, buffer):
    async with gibbs.open_hub(Yields, workers=1, launcher=either_launcher) as hub:
        calls = hub.using(buffer=buffer)
        for count in (0, 1, 2, 100, 1000):
            assert await read(calls.stream(count)) == [*range(count)]
        assert await read(calls.stream(3, start=7)) == [7, 8, 9]
        assert await read(calls.method(Yields.says).stream(2)) == [0, 1]
        assert hub.statistics().done == 7
        assert hub.statistics().restarts == 0


async def test_streams_and_requests_share_the_workers(either_launcher):
    async with gibbs.open_hub(Yields, workers=2, launcher=either_launcher) as hub:
        results = {}

        async def stream(number):
            results[number] = await read(hub.stream(50, start=number))

        async def ask(number):
            results[number] = await answer(hub.method(Yields.plain), number)

        async with anyio.create_task_group() as tg:
            for number in range(40):
                tg.start_soon(stream if number % 2 else ask, number)
        assert results == {number: [*range(number, number + 50)] if number % 2 else number for number in range(40)}


@pytest.mark.parametrize("buffer", [1, 2, 64])
async def test_streams_that_were_sent_ahead_get_their_credit(either_launcher, buffer):
    """A worker that is quick has several of them at once, and reads what is for the next one while the first waits."""
    async with gibbs.open_hub(Yields, workers=1, launcher=either_launcher) as hub:
        with anyio.fail_after(WATCHDOG):
            plain = hub.method(Yields.plain)
            assert await anyio.amap(plain.request, range(300)) == [*range(300)]
            found = await anyio.amap(lambda count: read(hub.using(buffer=buffer).stream(count)), [3 * buffer] * 100)
        assert found == [[*range(3 * buffer)]] * 100
        assert hub.statistics().restarts == 0


@pytest.mark.parametrize("size", [(1 << 20) - 100, (1 << 20) - 60, 1 << 19])
async def test_a_large_item_does_not_share_a_message_with_those_before_it(launcher, size):
    async with gibbs.open_hub(Yields, workers=1, launcher=launcher, max_message=1 << 20) as hub:
        for _ in range(20):
            assert [len(str(item)) for item in await read(hub.method(Yields.small_then_large).stream(size))][-1] == size
        assert hub.statistics().restarts == 0


async def test_an_item_is_what_it_was_when_it_was_yielded(launcher):
    async with gibbs.open_hub(Yields, workers=1, launcher=launcher) as hub:
        items = await read(hub.method(Yields.one_list).stream(100))
    assert items == [[*range(count)] for count in range(1, 101)]


async def test_items_that_came_at_once_do_not_wait_for_one_that_takes_long(either_launcher, tmp_path):
    """Of those some are held back to leave together; then somebody else must send them."""
    async with gibbs.open_hub(Yields, workers=1, launcher=either_launcher) as hub:
        with anyio.fail_after(WATCHDOG):
            for count in range(1, 20):
                path = tmp_path / f"{count}"
                async with hub.method(Yields.quick_then_waits).stream(count, str(path)) as items:
                    for item in range(count):
                        assert await anext(items) == item
                    path.touch()
                    with pytest.raises(StopAsyncIteration):
                        await anext(items)


async def test_a_model_is_ahead_of_its_reader_by_the_buffer_and_then_pauses(either_launcher, heard):
    async with gibbs.open_hub(Yields, workers=1, launcher=either_launcher) as hub:
        says = hub.using(buffer=4).method(Yields.says)
        with anyio.fail_after(WATCHDOG):
            async with says.stream(100) as items:
                await heard.line("3")
                assert await answer_beside(hub) is None
                assert "4" not in heard.lines
                assert [await anext(items), await anext(items)] == [0, 1]
                await heard.line("5")
                assert "6" not in heard.lines
                assert [item async for item in items] == [*range(2, 100)]


async def answer_beside(hub):
    """The only worker is in the stream: whatever else is asked waits."""
    with anyio.move_on_after(0.01):
        return await hub.method("pid").request()


async def test_arrays_are_items_like_any(launcher):
    class Frames:
        def __call__(self, count):
            for number in range(count):
                yield np.full(100_000, number)

    async with gibbs.open_hub(Frames, workers=1, launcher=launcher) as hub:
        frames = await read(hub.using(buffer=2).stream(5))
    assert [(frame[0], frame.sum()) for frame in frames] == [(n, n * 100_000) for n in range(5)]
    for frame in frames:
        frame += 1


async def test_with_safe_results_the_items_are_looked_at_too(launcher):
    async with gibbs.open_hub(Yields, workers=1, launcher=launcher, results=gibbs.Safe()) as hub:
        assert await read(hub.stream(3)) == [0, 1, 2]
        found, error = await read_until_it_fails(hub.method(Yields.unloadable).stream())
        assert not found
        assert isinstance(error, gibbs.RemoteError)
        assert error.stage == "result"
        assert await read(hub.stream(3)) == [0, 1, 2]


# ------------------------------------------------------------------------------------------------------ what ends them


async def test_an_exception_comes_after_the_items_before_it(either_launcher):
    async with gibbs.open_hub(Yields, workers=1, launcher=either_launcher) as hub:
        found, error = await read_until_it_fails(hub.method(Yields.then).stream(5, "fails"))
        assert found == [0, 1, 2, 3, 4]
        assert isinstance(error, LookupError)
        assert str(error) == "after the items"
        [note] = error.__notes__
        assert "in fails" in note
        assert "_worker" not in note, "the frames of the worker's own are nobody's business"
        assert hub.statistics().failed == 1
        assert await read(hub.stream(2)) == [0, 1]


async def test_after_its_exception_a_stream_is_at_its_end():
    async with gibbs.open_hub(Yields, workers=1) as hub, hub.method(Yields.fails).stream() as items:
        with pytest.raises(LookupError):
            await anext(items)
        for _ in range(2):
            with pytest.raises(StopAsyncIteration):
                await anext(items)


async def test_when_the_worker_dies_what_came_stays_and_the_crash_comes_last(either_launcher):
    async with gibbs.open_hub(Yields, workers=1, launcher=either_launcher) as hub:
        [pid] = hub.statistics().pids
        found, error = await read_until_it_fails(hub.method(Yields.then).stream(5, "dies"))
        # Items that were held back to leave together die with their worker.
        assert found == [*range(len(found))]
        assert isinstance(error, gibbs.WorkerCrashed)
        assert (error.pid, error.signal, error.may_have_run) == (pid, "SIGKILL", True)
        assert await read(hub.stream(2)) == [0, 1]
        assert hub.statistics().restarts == 1


async def test_an_exit_of_the_generator_is_an_error_of_the_stream_and_no_exit(either_launcher):
    async with gibbs.open_hub(Yields, workers=1, launcher=either_launcher) as hub:
        found, error = await read_until_it_fails(hub.method(Yields.then).stream(2, "exits"))
        assert found == [0, 1]
        assert isinstance(error, gibbs.RemoteError)
        assert error.type_name == "SystemExit"
        assert hub.statistics().restarts == 0


async def test_an_item_that_cannot_be_pickled_ends_the_stream_and_the_generator_is_closed(either_launcher, heard):
    async with gibbs.open_hub(Yields, workers=1, launcher=either_launcher) as hub:
        found, error = await read_until_it_fails(hub.method(Yields.then).stream(3, "unpicklable"))
        assert found == [0, 1, 2]
        assert isinstance(error, ZeroDivisionError | gibbs.RemoteError)
        assert "no item of mine" in str(error)
        await heard.line("cleaned up")
        assert hub.statistics().restarts == 0


async def test_an_item_that_cannot_be_loaded_is_an_error_where_it_would_have_come(launcher):
    async with gibbs.open_hub(Yields, workers=1, launcher=launcher) as hub:
        found, error = await read_until_it_fails(hub.method(Yields.then).stream(3, "unloadable"))
        assert found == [0, 1, 2]
        assert isinstance(error, gibbs.RemoteError)
        assert (error.type_name, error.stage) == ("SystemExit", "result")
        assert await read(hub.stream(2)) == [0, 1]


@pytest.mark.parametrize("size", [(1 << 20) - 20, 1 << 20, 3 << 20])
async def test_an_item_that_is_too_large_ends_the_stream_in_words(launcher, heard, size):
    async with gibbs.open_hub(Yields, workers=1, launcher=launcher, max_message=1 << 20) as hub:
        found, error = await read_until_it_fails(hub.method(Yields.then).stream(2, "large", size))
        assert found == [0, 1]
        assert isinstance(error, gibbs.MessageTooLarge)
        await heard.line("cleaned up")
        assert await read(hub.method(Yields.large).stream((1 << 20) - 100)) == [bytes((1 << 20) - 100)]
        assert hub.statistics().restarts == 0


async def test_a_hub_that_closes_ends_its_streams_after_what_came(launcher, heard):
    found = []
    async with anyio.create_task_group() as tg:
        async with gibbs.open_hub(
            Yields, workers=1, launcher=launcher, cancel_grace=WATCHDOG, close_timeout=WATCHDOG
        ) as hub:

            async def reads(*, task_status):
                with pytest.raises(gibbs.HubClosed):
                    async with hub.using(buffer=2).method(Yields.says).stream(100) as items:
                        found.append(await anext(items))
                        task_status.started()
                        await closing.wait()
                        async for item in items:
                            found.append(item)  # noqa: PERF401 - what came before an error counts

            closing = anyio.Event()
            await tg.start(reads)
            await heard.line("2")
        closing.set()
    assert found in ([0], [0, 1], [0, 1, 2]), "all that had come"
    assert heard.lines[-2:] == ["left", "cleaned up"], "its generator was closed"


# ------------------------------------------------------------------------------------------------------- the wrong verb


async def test_each_verb_names_the_other_and_nothing_is_sent(either_launcher):
    async with gibbs.open_hub(Yields, workers=1, launcher=either_launcher) as hub:
        with pytest.raises(TypeError, match=r"'__call__' .* is a generator function: request\(\) .*; use stream\(\)"):
            await hub.request(3)
        with pytest.raises(TypeError, match=r"'plain' .* is a plain function: stream\(\) .*; use request\(\)"):
            await read(hub.method("plain").stream(3))
        for name, kind in [("later", "an async"), ("later_items", "an async generator")]:
            with pytest.raises(TypeError, match=f"{kind} function: stream\\(\\) needs a generator, .* its items$"):
                await read(hub.method(name).stream())
        with pytest.raises(AttributeError, match="no method 'missing'"):
            await read(hub.method("missing").stream())
        assert hub.statistics().done == hub.statistics().failed == 0


async def test_asked_before_anybody_knows_the_model_the_worker_refuses_it():
    async with gibbs.open_hub(Yields, workers=1, ready=0) as hub:
        results = []

        async def ask(stream):
            results.append(await read_until_it_fails(stream))

        async with anyio.create_task_group() as tg:
            tg.start_soon(ask, hub.method("plain").stream(3))
            with pytest.raises(TypeError, match=r"'__call__' is a generator function: .* use stream\(\)"):
                await answer(hub, 3)
        [(found, error)] = results
        assert not found
        assert str(error) == (
            "'plain' is a plain function: stream() needs a generator, which yields its items; use request()"
        )


async def test_what_cannot_be_pickled_fails_on_entering(launcher):
    async with gibbs.open_hub(Yields, workers=1, launcher=launcher) as hub:
        with pytest.raises(TypeError, match="pickle"):
            await read(hub.stream(threading.Lock()))
        assert hub.statistics().done == hub.statistics().failed == hub.statistics().cancelled == 0


async def test_arguments_that_do_not_fit_are_the_generators_own_error(launcher):
    async with gibbs.open_hub(Yields, workers=1, launcher=launcher) as hub:
        found, error = await read_until_it_fails(hub.stream())
        assert not found
        assert isinstance(error, TypeError)
        assert "missing 1 required positional argument" in str(error)


# ------------------------------------------------------------------------------------------------------- leaving early


@pytest.mark.parametrize("model", [Yields, Bears], ids=["not interruptible", "interruptible"])
@pytest.mark.parametrize("on_cancel", [None, "interrupt", "kill", "finish"])
async def test_leaving_early_closes_the_generator_and_keeps_the_worker(either_launcher, heard, model, on_cancel):
    async with gibbs.open_hub(
        model, workers=1, launcher=either_launcher, on_cancel=on_cancel, cancel_grace=WATCHDOG
    ) as hub:
        before = hub.statistics().pids
        for times, taken in enumerate([0, 1, 3, 10], 1):
            # An endless one, for what it matters: it is at a yield now, waits for credit, or computes for less than a moment.
            assert await read(hub.using(buffer=3).method(Yields.says).stream(1 << 60), taken) == [*range(taken)]
            await until(lambda: is_settled(hub))
            assert hub.statistics().cancelled == times
            ran = heard.lines.count("cleaned up")
            if taken:
                await heard.line("cleaned up", ran or 1)
                assert {"left", "interrupted"} & {*heard.lines}
                assert "ended" not in heard.lines
        assert await answer(hub.method("pid")) == before[0]
        assert hub.statistics().killed == hub.statistics().restarts == 0


async def test_a_generator_that_waits_for_its_reader_is_closed_and_not_interrupted(either_launcher, heard):
    async with gibbs.open_hub(Bears, workers=1, launcher=either_launcher, cancel_grace=WATCHDOG) as hub:
        with anyio.fail_after(WATCHDOG):
            async with hub.using(buffer=2).method(Bears.says).stream(100) as items:
                await until(lambda: items._flow.here == 2)  # what has left was yielded, and there is no credit for more
        await until(lambda: is_settled(hub))
        await heard.line("cleaned up")
        assert "left" in heard.lines
        assert "interrupted" not in heard.lines
        assert await answer(hub.method(Bears.repairs)) == 0


async def test_a_generator_that_computes_is_interrupted_where_it_may_be(either_launcher, heard):
    async with gibbs.open_hub(Bears, workers=1, launcher=either_launcher, cancel_grace=WATCHDOG) as hub:
        before = hub.statistics().pids
        with anyio.fail_after(WATCHDOG):
            async with hub.method(Bears.blocks).stream():
                await heard.line("blocks")
            await heard.line("cleaned up")
        assert "interrupted" in heard.lines
        await until(lambda: is_settled(hub))
        assert hub.statistics().pids == before
        assert hub.statistics().interrupted == 1
        assert await answer(hub.method(Bears.repairs)) == 1


async def test_one_that_takes_the_interrupt_for_nothing_is_closed_where_it_yields(either_launcher, heard):
    async with gibbs.open_hub(Bears, workers=1, launcher=either_launcher, cancel_grace=WATCHDOG) as hub:
        with anyio.fail_after(WATCHDOG):
            async with hub.method(Bears.swallows).stream():
                await heard.line("blocks")
            await heard.line("cleaned up")
        assert "swallowed" in heard.lines
        await until(lambda: is_settled(hub))
        assert hub.statistics().killed == 0
        assert await read(hub.stream(2)) == [0, 1]


async def test_a_model_that_may_not_be_interrupted_has_until_its_next_yield(either_launcher, heard, tmp_path):
    async with gibbs.open_hub(Yields, workers=1, launcher=either_launcher, cancel_grace=LONG) as hub:
        with anyio.fail_after(WATCHDOG):
            async with hub.method(Yields.waits).stream(str(tmp_path / "go on")):
                await heard.line("waits")
            assert not is_settled(hub)
            (tmp_path / "go on").touch()
            await heard.line("cleaned up")
        await until(lambda: is_settled(hub))
        assert hub.statistics().killed == 0
        assert hub.statistics().interrupted == 1


@pytest.mark.parametrize("method", ["blocks", "hangs_on_leaving"])
async def test_one_that_does_not_come_to_a_yield_is_killed_when_grace_is_over(either_launcher, heard, method):
    async with gibbs.open_hub(Yields, workers=1, launcher=either_launcher, cancel_grace=0.05) as hub:
        [before] = hub.statistics().pids
        with anyio.fail_after(WATCHDOG):
            async with hub.method(method).stream() as items:
                if method == "blocks":
                    await heard.line("blocks")
                else:
                    await anext(items)
        await until(lambda: hub.statistics().killed)
        assert await answer(hub.method("pid")) != before


async def test_finish_has_all_the_time_it_takes_to_the_next_yield_and_no_more(either_launcher, heard, tmp_path):
    async with gibbs.open_hub(Yields, workers=1, launcher=either_launcher, on_cancel="finish", cancel_grace=0.0) as hub:
        before = hub.statistics().pids
        with anyio.fail_after(WATCHDOG):
            async with hub.method(Yields.waits).stream(str(tmp_path / "go on")):
                await heard.line("waits")
            await anyio.sleep(0.05)  # grace is over, if anybody counted it
            (tmp_path / "go on").touch()
            await heard.line("cleaned up")
        await until(lambda: is_settled(hub))
        assert hub.statistics().pids == before


@pytest.mark.parametrize(("method", "words"), [("fails_on_leaving", "while it was left"), ("stubborn", "ignored")])
async def test_what_a_generator_raises_when_it_is_closed_is_told_on_its_output_and_hurts_nobody(
    launcher, heard, method, words
):
    async with gibbs.open_hub(Yields, workers=1, launcher=launcher, cancel_grace=WATCHDOG) as hub:
        with anyio.fail_after(WATCHDOG):
            async with hub.using(buffer=1).method(method).stream():
                await heard.line("yields")
        await until(lambda: any(words in line for line in heard.lines))
        assert await read(hub.stream(2)) == [0, 1]
        assert hub.statistics().restarts == 0


async def test_with_abandon_on_cancel_false_a_block_is_left_when_the_worker_is_idle_again(either_launcher, heard):
    async with gibbs.open_hub(
        Bears, workers=1, launcher=either_launcher, abandon_on_cancel=False, cancel_grace=WATCHDOG
    ) as hub:
        for _ in range(5):
            await read(hub.method(Bears.says).stream(1 << 60), 2)
            assert is_settled(hub)


async def test_a_cancelled_reader_leaves_as_any_caller(either_launcher, heard):
    async with gibbs.open_hub(Bears, workers=1, launcher=either_launcher, cancel_grace=WATCHDOG) as hub:
        before = hub.statistics().pids
        found = []

        async def time_is_over():
            await heard.line("blocks")
            await until(lambda: len(found) == 3)
            scope.deadline = anyio.current_time()

        async with anyio.create_task_group() as tg:
            tg.start_soon(time_is_over)
            with pytest.raises(TimeoutError):
                with anyio.fail_after(WATCHDOG) as scope:
                    async with hub.method(Bears.then).stream(3, "blocks") as items:
                        async for item in items:
                            found.append(item)  # noqa: PERF401 - what came before the cancellation counts
        assert found == [0, 1, 2]
        with anyio.fail_after(WATCHDOG):
            await heard.line("cleaned up")
        await until(lambda: is_settled(hub))
        assert hub.statistics().pids == before


async def test_a_stream_that_waits_for_a_worker_leaves_the_queue_without_a_trace(launcher, heard):
    async with gibbs.open_hub(Yields, workers=1, launcher=launcher) as hub:
        async with hub.using(buffer=1).method(Yields.says).stream(10) as items:
            await heard.line("0")
            with anyio.move_on_after(0.01):
                await read(hub.stream(5))
            assert hub.statistics().queued == 0
            assert [item async for item in items] == [*range(10)]


async def test_shields_in_a_generator_end_with_it(launcher, heard):
    async with gibbs.open_hub(Bears, workers=1, launcher=launcher, cancel_grace=WATCHDOG) as hub:
        before = hub.statistics().pids
        for times in range(1, 4):
            await read(hub.using(buffer=1).method(Bears.shielded).stream(10), times)
            await until(lambda: is_settled(hub))
            with anyio.fail_after(WATCHDOG):
                await heard.line("closed", times)
        with anyio.fail_after(WATCHDOG):
            async with hub.method(Bears.blocks).stream():
                await heard.line("blocks")
            await heard.line("interrupted")
        assert hub.statistics().pids == before


# --------------------------------------------------------------------------------------------------------- its own rules


async def test_a_stream_is_used_once_within_its_block_and_by_one_reader(launcher, heard):
    async with gibbs.open_hub(Yields, workers=1, launcher=launcher) as hub:
        stream = hub.method(Yields.waits).stream("/nowhere")
        assert "not entered" in repr(stream)
        with pytest.raises(RuntimeError, match="within its block"):
            await anext(stream)
        with anyio.fail_after(WATCHDOG):
            async with stream as items:
                assert "open" in repr(stream)
                with pytest.raises(RuntimeError, match="entered before"):
                    await stream.__aenter__()
                async with anyio.create_task_group() as tg:
                    tg.start_soon(anext, items)
                    await heard.line("waits")
                    await anyio.wait_all_tasks_blocked()
                    with pytest.raises(anyio.BusyResourceError):
                        await anext(items)
                    tg.cancel_scope.cancel()
        assert "left" in repr(stream)
        with pytest.raises(anyio.ClosedResourceError):
            await anext(items)


async def test_a_block_that_is_left_by_another_task_ends_the_wait_of_its_reader(launcher, heard):
    async with gibbs.open_hub(Yields, workers=1, launcher=launcher, cancel_grace=0.0) as hub:
        stream = hub.method(Yields.waits).stream("/nowhere")

        async def reads():
            with pytest.raises(anyio.ClosedResourceError):
                await anext(stream)

        with anyio.fail_after(WATCHDOG):
            async with anyio.create_task_group() as tg:
                async with stream:
                    tg.start_soon(reads)
                    await heard.line("waits")
                    await checkpoint()


async def test_a_closed_hub_and_a_full_one_refuse_on_entering(launcher, heard):
    async with gibbs.open_hub(Yields, workers=1, launcher=launcher, max_pending=0) as hub:
        async with hub.using(buffer=1).method(Yields.says).stream(10):
            await heard.line("0")
            with pytest.raises(gibbs.HubOverloaded):
                await read(hub.stream(3))
    with pytest.raises(gibbs.HubClosed):
        await read(hub.stream(3))


@pytest.mark.parametrize(("buffer", "error"), [(0, ValueError), (-1, ValueError), (True, TypeError), (1.5, TypeError)])
async def test_a_buffer_that_makes_no_sense_is_refused_at_once(launcher, buffer, error):
    async with gibbs.open_hub(Yields, workers=1, launcher=launcher, ready=0) as hub:
        with pytest.raises(error, match="buffer must be a whole number of items ≥ 1"):
            hub.using(buffer=buffer)


async def test_nothing_is_logged_of_what_is_no_fault(launcher, caplog):
    caplog.set_level(logging.WARNING, "gibbs")
    async with gibbs.open_hub(Yields, workers=1, launcher=launcher, cancel_grace=WATCHDOG) as hub:
        await read(hub.using(buffer=2).stream(100), 3)
        await read(hub.stream(10))
    assert not caplog.records
