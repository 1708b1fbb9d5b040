"""What a model reports, in real workers: soon, in order, the last word always; and at no cost to the model, whoever looks."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import anyio
import pytest

import gibbs
from tests.end_to_end.callers import WATCHDOG, until


class Reports:
    interruptible = True

    def __call__(self, *words):
        for word in words:
            gibbs.report(word)
        return len(words)

    def counts(self, to):
        for n in range(to):
            gibbs.report(n)

    def waits_for(self, path, *words):
        """Until the caller, who has heard the words, makes the file."""
        for word in words:
            gibbs.report(word)
        while not Path(path).exists():
            time.sleep(0.001)

    def reports_without_end(self):
        while True:
            gibbs.report("still here")

    def swallows(self, word):
        try:
            while True:
                gibbs.report(word)
        except gibbs.Interrupted:
            return "swallowed"

    def from_threads(self, each):
        def count(name):
            for n in range(each):
                gibbs.report((name, n))

        threads = [threading.Thread(target=count, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def leaves_a_thread(self, path):
        def go_on():
            while not Path(path).exists():
                gibbs.report("of what is over")

        threading.Thread(target=go_on).start()

    def in_a_fork(self):
        child = os.fork()
        if not child:
            gibbs.report("of a fork")
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def raises(self):
        gibbs.report("before")
        raise LookupError("not there")

    def dies(self):
        gibbs.report("last words")
        os._exit(3)

    def items(self):
        gibbs.report("of a stream")
        yield 1

    @gibbs.batched()
    def batch(self, xs):
        gibbs.report("of a batch")
        return xs

    def left(self):
        gibbs.report("before it asks")
        left = gibbs.remaining()
        gibbs.report("and after")
        return left


class Slow:
    """Takes until a file is there to be pickled."""

    def __init__(self, path):
        self.path = path
        self.begun = threading.Event()

    def __reduce__(self):
        self.begun.set()
        while not Path(self.path).exists():
            time.sleep(0.0001)
        return str, ("slow",)


class TakesLongOverAWord:
    def __call__(self, path):
        word = Slow(path)
        self.thread = threading.Thread(target=gibbs.report, args=(word,))
        self.thread.start()
        word.begun.wait()

    def goes_on(self, path):
        for n in range(50):
            gibbs.report(n)
        Path(path).touch()
        self.thread.join()


class Locked:
    def __reduce__(self):
        raise TypeError("this cannot be pickled")


class Nests:
    """Reports while it is pickled, and when it is thrown away."""

    def __reduce__(self):
        gibbs.report("from inside")
        return str, ("outside",)

    def __del__(self):
        gibbs.report("from the grave")


class Odd:
    def __call__(self, kind):
        gibbs.report({"unpicklable": Locked, "nests": Nests}[kind]())
        gibbs.report(Locked()) if kind == "unpicklable" else None
        return kind

    def large(self, size):
        gibbs.report(b"x" * size)
        return size


@pytest.fixture
def opened(either_launcher):
    def opened(model, *args, **options):
        options = {"workers": 1, "launcher": either_launcher, "cancel_grace": WATCHDOG} | options
        return gibbs.open_hub(model, *args, **options)

    return opened


async def followed(job):
    words = [word async for word in job.progress]
    return words, await job.result()


async def test_a_reader_has_the_last_word_and_the_result(opened):
    async with opened(Reports) as hub:
        for _ in range(20):
            async with hub.track("a", "b", "c") as job:
                words, result = await followed(job)
            assert words[-1] == "c"
            assert words == sorted(words)
            assert result == 3


async def test_of_very_many_words_some_come_in_order_and_the_last_one_always(opened):
    async with opened(Reports) as hub:
        async with hub.method(Reports.counts).track(20_000) as job:
            words, result = await followed(job)
        assert words == sorted(set(words))
        assert words[-1] == 19_999
        assert result is None
        assert await hub.request("an untracked one") == 1


@pytest.mark.parametrize("count", [1, 2, 30])
async def test_the_last_word_comes_while_the_model_goes_on_in_silence(opened, tmp_path, count):
    """The first of them leave at once; of so many the last one is sent by a thread."""
    told = tmp_path / "told"
    async with opened(Reports) as hub, hub.method(Reports.waits_for).track(str(told), *range(count)) as job:
        with anyio.fail_after(WATCHDOG):
            async for word in job.progress:
                if word == count - 1:
                    break
        told.touch()
        await job.result()


async def test_a_model_does_not_wait_for_a_hub_whose_loop_stands_still(opened, tmp_path):
    """It reports more than any socket holds, and is done, before anybody reads."""
    done = tmp_path / "done"
    async with opened(Fills) as hub, hub.track(str(done)) as job:
        while not done.exists():
            time.sleep(0.01)
        words, result = await followed(job)
        assert len(words[-1]) == 30_000
        assert words[-1].endswith("299")
        assert result == 300


class Fills:
    def __call__(self, path):
        for n in range(300):
            gibbs.report(f"{n:030000}")
            time.sleep(0.0001)  # so that the thread may send, too
        Path(path).touch()
        return 300


async def test_a_call_that_reports_all_the_time_is_interrupted_and_its_worker_kept(opened):
    async with opened(Reports) as hub:
        for _ in range(5):
            async with hub.method(Reports.reports_without_end).track() as job:
                assert await anext(job.progress) == "still here"
        assert await hub.request() == 0
        assert len(hub.statistics().pids) == 1
        assert hub.statistics().restarts == 0
        assert hub.statistics().interrupted == 5


async def test_a_model_that_swallows_its_interrupt_is_interrupted_once(opened):
    async with opened(Reports) as hub:
        async with hub.method(Reports.swallows).track(1) as job:
            assert await anext(job.progress) == 1
        assert await hub.request() == 0
        assert hub.statistics().restarts == 0


async def test_threads_of_the_model_may_report_at_once(opened):
    async with opened(Reports) as hub:
        async with hub.method(Reports.from_threads).track(2000) as job:
            words, _ = await followed(job)
        for name in range(4):
            of_one = [n for who, n in words if who == name]
            assert of_one == sorted(set(of_one))
        assert words[-1][1] == 1999


async def test_a_thread_that_outlives_its_call_reports_nothing_of_it_and_later_calls_are_answered(opened, tmp_path):
    path = tmp_path / "enough"
    async with opened(Reports) as hub:
        async with hub.method(Reports.leaves_a_thread).track(str(path)) as job:
            await job.result()
        for _ in range(200):
            assert await hub.request("a", "b") == 2
        async with hub.track("a") as job:
            _, result = await followed(job)
        assert result == 1
        path.touch()
        assert hub.statistics().restarts == 0


async def test_a_word_that_is_ready_when_its_call_is_over_takes_no_other_words_place(opened, tmp_path):
    async with opened(TakesLongOverAWord) as hub:
        for n in range(5):
            path = str(tmp_path / str(n))
            async with hub.track(path) as job:
                assert await followed(job) == ([], None)
            async with hub.method(TakesLongOverAWord.goes_on).track(path) as job:
                words, _ = await followed(job)
            assert words[-1] == 49
            assert "slow" not in words


async def test_a_fork_of_the_model_reports_nothing(opened):
    async with opened(Reports) as hub, hub.method(Reports.in_a_fork).track() as job:
        assert await followed(job) == ([], 0)


async def test_what_was_said_before_the_end_comes_before_an_exception_or_a_crash(opened):
    async with opened(Reports) as hub:
        async with hub.method(Reports.raises).track() as job:
            assert [word async for word in job.progress] == ["before"]
            with pytest.raises(LookupError, match="not there"):
                await job.result()
        async with hub.method(Reports.dies).track() as job:
            assert [word async for word in job.progress] == ["last words"]
            with pytest.raises(gibbs.WorkerCrashed) as caught:
                await job.result()
            assert caught.value.may_have_run


async def test_nothing_is_told_of_requests_streams_and_batches(opened):
    async with opened(Reports) as hub:
        assert await hub.request("a", "b") == 2
        async with hub.method(Reports.items).stream() as items:
            assert [item async for item in items] == [1]
        assert await hub.method(Reports.batch).request(1) == 1
        async with hub.method(Reports.batch).track(1) as job:
            assert await followed(job) == ([], 1)


async def test_a_word_that_cannot_be_sent_is_dropped_and_said_once(heard):
    launcher = gibbs.LocalLauncher(output=heard)
    async with gibbs.open_hub(Odd, workers=1, launcher=launcher, max_message=1 << 20) as hub:
        async with hub.track("unpicklable") as job:
            assert await followed(job) == ([], "unpicklable")
        async with hub.method(Odd.large).track(2 << 20) as job:
            assert await followed(job) == ([], 2 << 20)
        async with hub.method(Odd.large).track(300_000) as job:
            words, _ = await followed(job)
            assert len(words[-1]) == 300_000
    await until(lambda: heard.lines)
    assert [line for line in heard.lines if "report()" in line] == [
        "gibbs: report() was given what cannot be sent, and its caller is not told: TypeError('this cannot be pickled')"
    ]


async def test_a_value_that_reports_itself_while_it_is_pickled_or_thrown_away_blocks_nothing(opened):
    async with opened(Odd) as hub:
        for _ in range(20):
            async with hub.track("nests") as job:
                words, result = await followed(job)
            assert result == "nests"
            assert {*words} <= {"from inside", "outside", "from the grave"}


async def test_a_model_may_ask_for_the_time_that_is_left_between_two_words(opened):
    async with opened(Reports) as hub:
        with anyio.fail_after(WATCHDOG):
            async with hub.method(Reports.left).track() as job:
                words, left = await followed(job)
        assert words[-1] == "and after"
        assert 0 < left <= WATCHDOG


async def test_only_data_is_opened_of_a_hub_that_trusts_no_worker(opened):
    async with opened(Reports, results=gibbs.Safe()) as hub:
        async with hub.track("a", 1.5) as job:
            words, result = await followed(job)
        assert (words[-1], result) == (1.5, 2)


def test_reporting_outside_a_worker_does_nothing():
    assert Reports()("a", Locked()) == 2
