"""The recorder sees what real hubs and their workers do; what a worker wrote outlives it."""

from __future__ import annotations

import os

import anyio
import pytest

import gibbs
from tests.histories.history import History
from tests.histories.judge import Judge
from tests.histories.recorded_model import Model
from tests.histories.recorder import RealHalf, monotonic
from tests.histories.worker_half import WorkerHalf, read_lines

NAME = "recorded"
WATCHDOG = 20.0


@pytest.fixture
def half(tmp_path):
    path = tmp_path / "half"
    path.touch()
    facts = {"workers": 2, "max_pending": float("inf"), "close_timeout": 5.0, "close_slack": 20.0, "may_raise": set()}
    return RealHalf(History(facts, clock=monotonic), NAME, path)


@pytest.fixture
def write(half):
    """What a worker writes with."""
    write = WorkerHalf(str(half.path))
    yield write
    write.close()


@pytest.fixture
def ask(half):
    """`await ask(hub, n, what)` as a caller who writes down what he hears."""

    async def ask(hub, n, *args, abandon=True):
        record = half.history.record
        record("asked", n, detail={"abandon": abandon})
        try:
            answer = await hub.using(abandon_on_cancel=abandon).request(n, *args)
        except anyio.get_cancelled_exc_class():
            record("cancelled", n)
            raise
        except FloatingPointError as error:
            record("model error", n, detail=error.args)
        except gibbs.HubClosed as error:
            record("refused", n, detail=error.reason)
        except gibbs.WorkerCrashed as error:
            who = f"{error.seat}.{error.incarnation}"
            told = {"pid": error.pid, "may_have_run": error.may_have_run, "may_still_run": error.may_still_run}
            record("crashed", n, who, told | {"gone": half.is_gone(who, error.pid)})
        else:
            record("answer", n, detail=answer)

    return ask


def opened(half, **options):
    return gibbs.open_hub(Model, str(half.path), **{"workers": 2, "name": NAME, "cancel_grace": WATCHDOG} | options)


async def has_written(half, what, n):
    with anyio.fail_after(WATCHDOG):
        while not any(line.what == what and line.n == n for line in read_lines(half.path)):
            await anyio.sleep(0.002)


def words(half):
    return [(event.what, event.n) for event in half.history.events]


def settled(half, hub):
    half.history.record("session over")
    said = hub.statistics()
    names = ("done", "failed", "cancelled", "crashed", "refused", "queued", "running")
    seats = {state: number for state, number in said.seats.items() if number}
    half.history.record("statistics", detail={name: getattr(said, name) for name in names} | {"seats": seats})
    half.merge()
    return Judge(half.history).problems()


@pytest.mark.slow
async def test_a_life_with_every_end_is_written_down_and_stands_before_the_judge(half, ask):
    with half.watching():
        async with anyio.create_task_group() as tg:
            async with opened(half) as hub:
                await ask(hub, 1)
                await ask(hub, 2, "raise")
                await ask(hub, 3, "die")
                async with anyio.create_task_group() as cancelled:
                    cancelled.start_soon(lambda: ask(hub, 4, "", 60, abandon=False))
                    await has_written(half, "begun", 4)
                    half.history.record("cancels", 4)
                    cancelled.cancel_scope.cancel()
                tg.start_soon(ask, hub, 5, "", 60)
                await has_written(half, "begun", 5)
                half.history.record("leaving")
            half.history.record("closed")
    assert settled(half, hub) == []
    ledger = {("done", "answer"), ("failed", "model error"), ("crashed", "crashed"), ("cancelled", "cancelled")}
    assert {*Judge(half.history).ledger()} == ledger | {("refused", "refused")}
    seen = words(half)
    for request in [
        [("accepted", 1), ("sent", 1), ("begun", 1), ("answers", 1), ("settled", 1), ("answer", 1)],
        [("accepted", 2), ("sent", 2), ("begun", 2), ("fails", 2), ("settled", 2), ("model error", 2)],
        [("accepted", 3), ("sent", 3), ("begun", 3), ("settled", 3), ("crashed", 3)],
        [("begun", 4), ("cancels", 4), ("settled", 4), ("skips", 4), ("cancelled", 4)],
        [("begun", 5), ("leaving", 0), ("closing", 0), ("settled", 5), ("refused", 5)],
    ]:
        places = [seen.index(word) for word in request]
        assert places == sorted(places), half.history


@pytest.mark.slow
async def test_another_hub_is_nobody_s_business(half):
    with half.watching():
        async with opened(half, name="another", workers=1) as hub:
            await hub.request(1)
    assert half.history.events == []


async def test_a_worker_that_nobody_launched_is_accused(half, write):
    write.write("begun", 1)
    half.merge()
    assert half.history.problems == [f"process {os.getpid()}, which was never launched, begun 1"]


@pytest.mark.slow
async def test_a_new_chapter_begins_with_the_workers_that_are_there(half, ask):
    with half.watching():
        async with opened(half, workers=1) as hub:
            await ask(hub, 1)
            half.merge()
            half.turn_the_page()
            assert words(half) == [("launched", 0), ("ready", 0)]
            await ask(hub, 2)
    half.merge()
    assert ("begun", 2) in words(half)
    assert Judge(half.history).problems() == []


@pytest.mark.slow
async def test_the_judge_hears_of_a_lie_of_the_hub(half, ask, monkeypatch):
    """A hub that tells the callers of a dead worker that nothing had run."""
    monkeypatch.setattr("gibbs._parent.link.Link.begun", lambda _: 0)
    with half.watching():
        async with opened(half, workers=1) as hub:
            await ask(hub, 1, "die")
    assert any("request 1 began 2 times" in problem for problem in settled(half, hub))


class TestTheWorkersHalf:
    def said(self, half):
        return [(line.what, line.n) for line in read_lines(half.path)]

    def test_an_answer_is_said_before_it_is_given(self, half, write):
        assert write.execution(1, lambda: self.said(half)) == [("begun", 1)]
        assert self.said(half) == [("begun", 1), ("answers", 1)]

    def test_an_exception_is_a_failure(self, half, write):
        with pytest.raises(ZeroDivisionError):
            write.execution(1, lambda: 1 / 0)
        assert self.said(half) == [("begun", 1), ("fails", 1)]

    def test_an_interrupt_is_a_skip(self, half, write):
        def interrupted():
            raise gibbs.Interrupted

        with pytest.raises(gibbs.Interrupted):
            write.execution(1, interrupted)
        assert self.said(half) == [("begun", 1), ("skips", 1)]

    def test_a_torn_line_is_refused(self, half):
        half.path.write_text("12 34 beg")
        with pytest.raises(ValueError, match="unpack"):
            [*read_lines(half.path)]
