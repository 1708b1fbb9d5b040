"""Batches in real workers: who is run with whom, what each caller gets, and what is left of a batch whose callers leave."""

from __future__ import annotations

from functools import partial

import anyio
import pytest

import gibbs
from tests.end_to_end.callers import WATCHDOG, answer, is_settled, until
from tests.end_to_end.models_that_batch import Batches, Bears, Overrides, Unloadable, double
from tests.end_to_end.models_that_block import LONG


def opening(launcher):
    def opened(model=Batches, **options):
        options = {"workers": 1, "launcher": launcher, "cancel_grace": WATCHDOG} | options
        return gibbs.open_hub(model, **options)

    return opened


@pytest.fixture
def opened(launcher):
    return opening(launcher)


@pytest.fixture
def opened_either(either_launcher):
    """Also where the stream is the only way to the worker: where it matters how that learns who is with whom, and who has left."""
    return opening(either_launcher)


async def hold(hub, heard, start, tmp_path, times=1):
    """Occupy the worker. What is asked then waits, until `release()`."""
    path = tmp_path / f"release {times}"
    call = start(hub.method("holds"), str(path))
    await heard.line("holds", times)

    async def release():
        path.touch()
        await call.end()
        assert call.error is None

    return release


async def in_line(hub, start, requests):
    """Ask for them in this order, while the worker has something else to do."""
    asked = []
    for request in requests:
        asked.append(start(*request))
        await until(lambda: hub.statistics().queued == len(asked))
    return asked


async def together(calls, items, hub, heard, start, tmp_path):
    """Ask for all while the worker is busy; how each ended, when it was free again."""
    release = await hold(hub, heard, start, tmp_path, heard.lines.count("holds") + 1)
    asked = await in_line(hub, start, [(calls, item) for item in items])
    await release()
    for call in asked:
        await call.end()
    return asked


@pytest.fixture
def all_of(heard, start, tmp_path):
    return partial(together, heard=heard, start=start, tmp_path=tmp_path)


# ------------------------------------------------------------------------------------------------------- who with whom


async def test_at_low_load_each_request_runs_alone_and_at_once(opened):
    async with opened() as hub:
        for x in range(10):
            assert await answer(hub, x) == x * x
        assert await answer(hub.method(Batches.sizes)) == [1] * 10


async def test_a_worker_that_becomes_free_takes_what_waits(opened_either, all_of):
    async with opened_either() as hub:
        calls = await all_of(hub, range(20), hub=hub)
        assert [call.result for call in calls] == [x * x for x in range(20)]
        assert await answer(hub.method(Batches.batches)) == [[*range(8)], [*range(8, 16)], [16, 17, 18, 19]]
        assert hub.statistics().done == 22


async def test_methods_do_not_mix_and_others_run_between(opened, heard, start, tmp_path):
    async with opened() as hub:
        release = await hold(hub, heard, start, tmp_path)
        requests = []
        for x in (0, 2, 4):
            requests += [(hub, x), (hub.method(Batches.some_fail), x), (hub.method(Batches.pid),)]
        calls = await in_line(hub, start, requests)
        await release()
        for call in calls:
            await call.end()
            assert call.error is None
        assert [call.result for call in calls[::3]] == [0, 4, 16]
        assert [call.result for call in calls[1::3]] == [0, 2, 4]
        assert await answer(hub.method(Batches.batches)) == [[0, 2, 4]]


async def test_with_several_workers_every_item_runs_once(either_launcher):
    async with gibbs.open_hub(Batches, workers=2, launcher=either_launcher) as hub:
        results = {}

        async def ask(x):
            results[x] = await answer(hub, x)

        async with anyio.create_task_group() as tg:
            for x in range(300):
                tg.start_soon(ask, x)
        assert results == {x: x * x for x in range(300)}


async def test_sizes_add_up_to_no_more_than_the_most(opened, all_of):
    texts = ["a" * 4, "b" * 6, "c", "d" * 25, "e" * 9, "f", "g"]
    async with opened() as hub:
        calls = await all_of(hub.method(Batches.measured), texts, hub=hub)
        assert [call.result for call in calls] == [len(text) for text in texts]
        found = await answer(hub.method(Batches.batches))
        assert found == [texts[:2], texts[2:3], texts[3:4], texts[4:6], texts[6:]]


async def test_a_method_may_wait_for_company_until_it_is_complete(opened, start):
    async with opened() as hub:
        patient = hub.method(Batches.patient)
        calls = await in_line(hub, start, [(patient, x) for x in range(3)])
        assert await answer(hub.method(Batches.batches)) == [], "others are served meanwhile"
        calls.append(start(patient, 3))
        for x, call in enumerate(calls):
            await call.end()
            assert call.result == x
        assert await answer(hub.method(Batches.batches)) == [[0, 1, 2, 3]]


async def test_or_until_its_patience_is_over(opened, start):
    async with opened() as hub:
        calls = [start(hub.method(Batches.hardly_patient), x) for x in range(2)]
        for x, call in enumerate(calls):
            await call.end()
            assert call.result == x


async def test_what_waits_for_company_when_the_hub_closes_is_refused(opened, start):
    async with opened() as hub:
        call = start(hub.method(Batches.patient), 1)
        await until(lambda: hub.statistics().queued == 1)
    await call.end()
    assert isinstance(call.error, gibbs.HubClosed)


async def test_a_hub_that_drains_answers_what_waits_for_company(opened, start):
    async with opened() as hub:
        call = start(hub.method(Batches.hardly_patient), 1)
        await until(lambda: hub.statistics().queued or call.over.is_set())  # its patience may be over by the first look
        with anyio.fail_after(WATCHDOG):
            await hub.drain()
        await call.end()
        assert call.result == 1


async def test_batches_are_known_before_a_worker_is_and_with_safe_results(either_launcher, start):
    for options in ({"ready": 0}, {"results": gibbs.Safe()}):
        async with gibbs.open_hub(Batches, workers=1, launcher=either_launcher, **options) as hub:
            calls = [start(hub, x) for x in range(9)]
            for x, call in enumerate(calls):
                await call.end()
                assert call.result == x * x
            sizes = await answer(hub.method(Batches.sizes))
            assert sum(sizes) == 9
            assert len(sizes) <= 3


async def test_a_factory_that_builds_the_model_is_as_good_as_its_class(opened, all_of):
    async with opened(lambda: Batches()) as hub:
        await all_of(hub, range(5), hub=hub)
        assert await answer(hub.method(Batches.sizes)) == [5]


async def test_functions_static_methods_and_class_methods_are_batched_too(opened, all_of, launcher):
    async with opened() as hub:
        calls = await all_of(hub.method("static"), range(4), hub=hub)
        assert [call.result for call in calls] == [0, -1, -2, -3]
        calls = await all_of(hub.method("of_class"), range(2), hub=hub)
        assert [call.result for call in calls] == [("Batches", 0), ("Batches", 1)]
    async with gibbs.open_hub(gibbs.function(double), workers=1, launcher=launcher) as hub:
        assert await anyio.amap(hub.request, range(40)) == [2 * x for x in range(40)]
    async with opened(Overrides) as hub:
        assert await answer(hub.method("static"), 3) == 3


# -------------------------------------------------------------------------------------------------- what each caller gets


async def test_an_exception_fails_all_each_with_a_copy_of_its_own(opened, all_of):
    async with opened() as hub:
        calls = await all_of(hub.method(Batches.fails), range(3), hub=hub)
        errors = [call.error for call in calls]
        assert [str(error) for error in errors] == ["a batch of 3"] * 3
        assert len({id(error) for error in errors}) == 3
        for error in errors:
            [note] = error.__notes__
            assert "in fails" in note
            assert "_worker" not in note
        assert hub.statistics().failed == 3


async def test_an_exit_is_an_error_of_each_and_no_exit(opened, all_of):
    async with opened() as hub:
        calls = await all_of(hub.method(Batches.exits), range(2), hub=hub)
        assert [call.error.type_name for call in calls] == ["SystemExit"] * 2
        assert hub.statistics().restarts == 0


async def test_failed_items_fail_alone(opened, all_of):
    async with opened() as hub:
        calls = await all_of(hub.method(Batches.some_fail), range(4), hub=hub)
        assert [call.result for call in calls] == [0, None, 2, None]
        assert [repr(call.error) for call in calls] == ["None", "LookupError(1)", "None", "LookupError(3)"]


async def test_splitting_finds_the_culprits_and_answers_the_others(opened, all_of):
    async with opened() as hub:
        calls = await all_of(hub.method(Batches.splits), [1, 2, -3, 4, 5, 6, 7, -8], hub=hub)
        assert [call.result for call in calls] == [2, 3, None, 5, 6, 7, 8, None]
        assert [str(call.error) for call in calls if call.error] == ["below zero: [-3]", "below zero: [-8]"]
        ran = await answer(hub.method(Batches.batches))
        assert sorted(item for batch in ran if len(batch) == 1 for item in batch) == [-8, -3, 4, 7]


@pytest.mark.parametrize("method", ["too_few", "no_list"])
async def test_another_number_of_results_is_a_mismatch_for_all(opened, all_of, method):
    async with opened() as hub:
        calls = await all_of(hub.method(method), range(3), hub=hub)
        for call in calls:
            if method == "too_few":
                assert isinstance(call.error, gibbs.BatchMismatch)
                assert (call.error.method, call.error.items, call.error.results) == ("too_few", 3, 2)
                assert "returned 2 results for 3 items" in str(call.error)
            else:
                assert isinstance(call.error, TypeError)


async def test_what_cannot_be_opened_or_brought_back_hurts_its_own_request_only(opened_either, all_of):
    async with opened_either() as hub:
        calls = await all_of(hub, [1, Unloadable(), 3], hub=hub)
        assert [call.result for call in calls] == [1, None, 9]
        assert isinstance(calls[1].error, gibbs.RemoteError)
        assert calls[1].error.stage == "arguments"
        calls = await all_of(hub.method(Batches.unpicklable), range(3), hub=hub)
        assert [call.result for call in calls] == [0, None, 2]
        assert "no item of mine" in str(calls[1].error)


async def test_more_than_one_item_is_refused_in_words_and_the_others_are_answered(opened, heard, start, tmp_path):
    async with opened() as hub:
        release = await hold(hub, heard, start, tmp_path)
        right, wrong = start(hub, 3), start(hub, 1, 2)
        await until(lambda: hub.statistics().queued == 2)
        await release()
        await right.end()
        await wrong.end()
        assert right.result == 9
        assert isinstance(wrong.error, TypeError)
        assert str(wrong.error) == "__call__() is batched: it takes one item, and nothing else"


async def test_a_crash_is_an_error_of_all_that_had_begun(opened_either, all_of):
    async with opened_either() as hub:
        calls = await all_of(hub.method(Batches.dies), range(3), hub=hub)
        assert all(isinstance(call.error, gibbs.WorkerCrashed) and call.error.may_have_run for call in calls)
        assert hub.statistics().crashed == 3
        assert await answer(hub, 3) == 9


async def test_each_is_answered_when_its_own_call_is_over(opened, heard, start, tmp_path):
    paths = [str(tmp_path / name) for name in ("first", "second")]  # each larger than what fits into a call
    async with opened() as hub:
        release = await hold(hub, heard, start, tmp_path)
        first, second = await in_line(hub, start, [(hub.method(Batches.measured_waits), path) for path in paths])
        await release()
        await heard.line("measured")
        (tmp_path / "first").touch()
        await first.end()
        assert first.result == paths[0]
        assert not second.over.is_set()
        (tmp_path / "second").touch()
        await second.end()
        assert second.result == paths[1]


async def test_a_size_that_is_none_is_an_error_of_its_own_item(opened, all_of):
    async with opened() as hub:
        calls = await all_of(hub.method(Batches.unmeasurable), range(3), hub=hub)
        assert all(isinstance(call.error, TypeError) for call in calls)
        assert hub.statistics().restarts == 0


async def test_a_mismatch_is_not_split(opened, all_of):
    async with opened() as hub:
        calls = await all_of(hub.method(Batches.drops), range(4), hub=hub)
        assert all(isinstance(call.error, gibbs.BatchMismatch) for call in calls)
        assert await answer(hub.method(Batches.how_many_calls)) == 1


async def test_a_private_method_may_be_batched_for_the_models_own_use(opened):
    for factory in (Batches, lambda: Batches()):
        async with opened(factory) as hub:
            assert await answer(hub.method(Batches.uses_its_own), 1) == 2


async def test_what_a_batch_was_lent_is_free_when_it_was_interrupted(launcher, heard, start, tmp_path):
    async with gibbs.open_hub(Bears, workers=1, launcher=launcher, cancel_grace=WATCHDOG) as hub:
        calls_for = hub.method(Batches.returns_much_and_blocks)
        for times in range(1, 4):
            release = await hold(hub, heard, start, tmp_path, times)
            array, blocks = await in_line(hub, start, [(calls_for, "array"), (calls_for, "blocks")])
            await release()
            await heard.line("blocks", times)
            await array.end()
            assert array.result.shape == (100_000,)
            await blocks.cancel()
            await until(lambda: is_settled(hub))
        assert hub.statistics().killed == 0
        assert await answer(hub, 3) == 9


# ------------------------------------------------------------------------------------------------------- those who leave


async def test_one_that_leaves_before_its_batch_begins_is_not_in_it(opened_either, heard, start, tmp_path):
    async with opened_either() as hub:
        release = await hold(hub, heard, start, tmp_path)
        calls = await in_line(hub, start, [(hub, x) for x in range(4)])
        await calls[1].cancel()
        await release()
        for call in calls:
            await call.end()
        assert await answer(hub.method(Batches.batches)) == [[0, 2, 3]]


async def test_one_that_leaves_a_batch_that_runs_hurts_nobody(opened_either, heard, start, tmp_path):
    for model in (Batches, Bears):
        folder = tmp_path / model.__name__
        folder.mkdir()
        async with opened_either(model) as hub:
            before = hub.statistics().pids
            times = heard.lines.count("holds") + 1
            release = await hold(hub, heard, start, folder, times)
            calls = [start(hub.method(Batches.waits), str(folder / f"{x}")) for x in range(3)]
            await until(lambda: hub.statistics().queued == 3)
            waited = heard.lines.count("waits") + 1
            await release()
            await heard.line("waits", waited)
            await calls[1].cancel()
            assert hub.statistics().seats["serving"] == 1, "it goes on for the others"
            for x in range(3):
                (folder / f"{x}").touch()
            for call in calls:
                await call.end()
            assert [call.result for call in calls] == ["0", None, "2"]
            assert hub.statistics().pids == before
            assert hub.statistics().cancelled == 1


async def test_a_batch_is_interrupted_when_all_have_left(opened_either, heard, start, tmp_path):
    async with opened_either(Bears) as hub:
        before = hub.statistics().pids
        release = await hold(hub, heard, start, tmp_path)
        calls = [start(hub.method(Batches.blocks), x) for x in range(3)]
        await until(lambda: hub.statistics().queued == 3)
        await release()
        await heard.line("blocks")
        await calls[0].cancel()
        await calls[2].cancel()
        assert "interrupted" not in heard.lines
        await calls[1].cancel()
        with anyio.fail_after(WATCHDOG):
            await heard.line("interrupted")
        await until(lambda: is_settled(hub))
        assert await answer(hub, 3) == 9
        assert hub.statistics().pids == before
        assert (hub.statistics().interrupted, hub.statistics().killed) == (1, 0)


async def test_the_second_call_of_a_batch_is_interrupted_too(opened_either, heard, start, tmp_path):
    """What is left of a batch, when the first of its calls is over, has nobody any more."""
    async with opened_either(Bears) as hub:
        before = hub.statistics().pids
        one_by_one = hub.method(Batches.blocks_one_by_one)
        release = await hold(hub, heard, start, tmp_path)
        free, blocks = await in_line(hub, start, [(one_by_one, "free"), (one_by_one, "blocks")])
        await release()
        await heard.line("blocks")
        await free.end()
        assert free.result == "free"
        await blocks.cancel()
        with anyio.fail_after(WATCHDOG):
            await heard.line("interrupted")
        await until(lambda: is_settled(hub))
        assert hub.statistics().pids == before
        assert (hub.statistics().interrupted, hub.statistics().killed) == (1, 0)


async def test_a_batch_that_may_not_be_interrupted_is_killed_when_all_have_left(opened_either, heard, start, tmp_path):
    async with opened_either() as hub:
        before = hub.statistics().pids
        release = await hold(hub, heard, start, tmp_path)
        calls = [start(hub.method(Batches.blocks), x) for x in range(2)]
        await until(lambda: hub.statistics().queued == 2)
        await release()
        await heard.line("blocks")
        for call in calls:
            await call.cancel()
        assert await answer(hub, 3) == 9
        assert hub.statistics().pids != before


async def test_with_abandon_on_cancel_false_the_last_to_leave_waits_for_the_worker(
    opened_either, heard, start, tmp_path
):
    async with opened_either(Bears, abandon_on_cancel=False) as hub:
        release = await hold(hub, heard, start, tmp_path)
        calls = [start(hub.method(Batches.blocks), x) for x in range(2)]
        await until(lambda: hub.statistics().queued == 2)
        await release()
        await heard.line("blocks")
        for call in calls:
            call.scope.cancel()
        for call in calls:
            await call.end()
            assert call.cancelled
        assert is_settled(hub)


# ------------------------------------------------------------------------------------------------- without any hub at all


def test_called_directly_it_takes_one_item():
    model = Batches()
    assert model(3) == 9
    assert model.ran == [[3]]
    assert Batches.static(2) == -2
    assert Batches.of_class(2) == ("Batches", 2)
    assert double(4) == 8
    assert (double.__name__, double.__doc__) == ("double", "Of numbers.")
    with pytest.raises(LookupError, match="1"):
        model.some_fail(1)
    with pytest.raises(gibbs.BatchMismatch, match="returned 0 results for 1 items"):
        model.too_few(1)


def generator(items):
    yield


async def coroutine(items):
    pass


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"max_size": 0}, ValueError, "max_size must be a whole number of requests ≥ 1, not 0"),
        ({"max_size": 1.5}, TypeError, "max_size must be a whole number"),
        ({"max_size": True}, TypeError, "max_size must be a whole number"),
        ({"max_wait": -1}, ValueError, "max_wait must be a number of seconds ≥ 0, not -1"),
        ({"max_wait": float("nan")}, ValueError, "max_wait must be"),
        ({"max_wait": float("inf")}, ValueError, "max_wait must be"),
        ({"max_wait": "1"}, TypeError, "max_wait must be"),
        ({"size_of": 3}, TypeError, "size_of must be a function of one item"),
        ({"on_error": "retry"}, ValueError, "on_error must be 'fail' or 'split', not 'retry'"),
    ],
    ids=str,
)
def test_an_argument_that_makes_no_sense_is_refused_where_it_is_written(options, error, words):
    with pytest.raises(error, match=words):
        gibbs.batched(**options)


@pytest.mark.parametrize(
    "f", [generator, coroutine, 3, Batches, len], ids=["generator", "async", "number", "class", "builtin"]
)
def test_only_plain_functions_are_batched(f):
    with pytest.raises(TypeError, match=r"gibbs.batched\(\) is for plain functions"):
        gibbs.batched()(f)


def test_failed_takes_an_exception():
    with pytest.raises(TypeError, match=r"gibbs.Failed\(\) takes the exception"):
        gibbs.Failed("no")
    assert repr(gibbs.Failed(ValueError(1))) == "gibbs.Failed(ValueError(1))"


assert LONG > WATCHDOG  # or a method that waits so long for company would be no test
