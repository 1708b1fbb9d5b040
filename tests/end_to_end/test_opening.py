"""Opening a hub, and how it is asked: what starts, what is refused in words, and what the arguments of a call become.

The models live here, in a test module that pytest imported by itself: no worker finds it under its name, and yet it does.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import math
import os
import re
import sys
import threading
import time
from pathlib import Path

import anyio
import pytest

import gibbs
from gibbs.worker import _give_way
from tests.end_to_end.callers import WATCHDOG, answer, until

LONG = 600


def wait_for_file(path):
    while not path.exists():
        time.sleep(0.002)


@pytest.fixture
def no_process(monkeypatch):
    """A launcher for hubs that must not start anything."""
    monkeypatch.setattr("subprocess.Popen", None)
    return gibbs.LocalLauncher()


class Echo:
    def __call__(self, x):
        return x

    def pid(self):
        return os.getpid()


# ------------------------------------------------------------------------------------------------------------- starting


class MeetsAtStart(Echo):
    """Is built when so many others are being built at the same time."""

    def __init__(self, folder, parties):
        (folder / str(os.getpid())).touch()
        while len([*folder.iterdir()]) < parties:
            time.sleep(0.002)


async def test_workers_start_side_by_side_and_the_body_is_entered_when_all_are_ready(tmp_path):
    with anyio.fail_after(2 * WATCHDOG):
        async with gibbs.open_hub(MeetsAtStart, tmp_path, 3, workers=3) as hub:
            assert hub.statistics().seats["serving"] == 3
            assert {*map(str, hub.statistics().pids)} == {path.name for path in tmp_path.iterdir()}
            await hub.wait_ready()


class FirstAtOnce(Echo):
    """The first so many are built at once, the others when a file is there."""

    def __init__(self, folder, first):
        for number in range(first):
            try:
                (folder / f"place {number}").touch(exist_ok=False)
            except FileExistsError:
                continue
            return
        wait_for_file(folder / "go")


@pytest.mark.parametrize("ready", [0, 1, 2])
async def test_the_body_is_entered_when_as_many_are_ready_as_asked_and_more_can_be_waited_for(ready, tmp_path):
    with anyio.fail_after(2 * WATCHDOG):
        async with gibbs.open_hub(FirstAtOnce, tmp_path, ready, workers=3, ready=ready) as hub:
            assert hub.statistics().seats["serving"] == ready
            assert hub.health().ready is (ready > 0)
            assert hub.health().reasons
            await hub.wait_ready(ready)
            with anyio.move_on_after(0.02) as scope:
                await hub.wait_ready(ready + 1)
            assert scope.cancelled_caught
            if ready:
                assert await answer(hub, 1) == 1
            (tmp_path / "go").touch()
            await hub.wait_ready(ready + 1)
            assert hub.statistics().seats["serving"] > ready
            await hub.wait_ready()
            assert hub.statistics().seats["serving"] == 3
            assert hub.health() == gibbs.Health(ready=True, reasons=())


async def test_a_request_to_a_hub_without_a_ready_worker_waits_for_one(tmp_path, start):
    async with gibbs.open_hub(FirstAtOnce, tmp_path, 0, workers=1, ready=0) as hub:
        call = start(hub, 5)
        await until(lambda: hub.statistics().queued)
        (tmp_path / "go").touch()
        await call.end()
        assert call.result == 5


@pytest.mark.parametrize("wrong", [-1, 3, True, 1.0, "all"])
async def test_wait_ready_refuses_what_is_no_number_of_workers(wrong):
    async with gibbs.open_hub(Echo, workers=2) as hub:
        with pytest.raises((TypeError, ValueError), match=re.escape(repr(wrong))):
            await hub.wait_ready(wrong)


class Stamped(Echo):
    def __init__(self):
        print("begin", time.monotonic())
        time.sleep(0.03)
        print("end", time.monotonic())


@pytest.mark.parametrize("at_once", [1, 2])
async def test_no_more_workers_are_built_at_once_than_start_concurrency_allows(at_once, launcher, heard):
    async with gibbs.open_hub(Stamped, workers=4, launcher=launcher, start_concurrency=at_once):
        pass
    stamps = sorted((float(stamp), what) for what, stamp in map(str.split, heard.lines))
    assert len(stamps) == 8
    building = most = 0
    for _, what in stamps:
        building += 1 if what == "begin" else -1
        most = max(most, building)
    assert most <= at_once


# ------------------------------------------------------------------------------------------------------ what goes wrong


class Hangs(Echo):
    def __init__(self):
        print("building")
        time.sleep(LONG)


async def test_a_model_that_is_not_built_by_start_timeout_fails_the_opening_which_names_the_option(
    launcher, take_inventory
):
    before = take_inventory()
    with pytest.raises(gibbs.WorkerStartFailed, match=r"start_timeout=0\.5") as caught:
        async with gibbs.open_hub(Hangs, workers=2, launcher=launcher, start_timeout=0.5):
            pytest.fail("entered")
    assert caught.value.reason == "timeout"
    assert before.left() == {}


async def test_start_timeout_of_a_worker_that_waits_for_its_start_slot_does_not_count(tmp_path):
    async with gibbs.open_hub(FirstAtOnce, tmp_path, 0, workers=2, ready=0, start_concurrency=1) as hub:
        supervisors = hub._desk.crew.supervisors
        await until(lambda: any(hub.statistics().pids))
        builds, waits = sorted(supervisors, key=lambda supervisor: supervisor.pid is None)
        assert builds._launching.deadline < math.inf
        assert waits._launching.deadline == math.inf
        (tmp_path / "go").touch()
        await hub.wait_ready()
        assert builds._launching.deadline < waits._launching.deadline < math.inf


class Broken(Echo):
    def __init__(self, folder, parties):
        (folder / str(os.getpid())).touch()
        while len([*folder.iterdir()]) < parties:
            time.sleep(0.002)
        raise LookupError(f"no weights in {folder}")


async def test_the_models_own_exception_is_the_cause_of_the_failed_opening_and_no_process_is_left(
    tmp_path, take_inventory
):
    before = take_inventory()
    with pytest.raises(gibbs.WorkerStartFailed) as caught, anyio.fail_after(2 * WATCHDOG):
        async with gibbs.open_hub(Broken, tmp_path, 2, workers=2):
            pytest.fail("entered")
    assert before.left() == {}
    error = caught.value
    assert error.reason == "model"
    assert isinstance(error.__cause__, LookupError)
    assert str(error.__cause__) == f"no weights in {tmp_path}"
    assert "raise LookupError" in error.__cause__.__notes__[-1]
    assert f"LookupError: no weights in {tmp_path}" in str(error)


async def test_an_opening_that_can_still_come_true_goes_on_and_the_other_failures_are_notes(tmp_path):
    with pytest.raises(gibbs.WorkerStartFailed) as caught, anyio.fail_after(2 * WATCHDOG):
        async with gibbs.open_hub(Broken, tmp_path, 3, workers=3, ready=1):
            pytest.fail("entered")
    assert len(caught.value.__notes__) == 2
    assert all(f"LookupError: no weights in {tmp_path}" in note for note in caught.value.__notes__)
    assert len([*tmp_path.iterdir()]) == 3  # none was tried again


class FailsOnce(Echo):
    def __init__(self, folder):
        try:
            (folder / "failed").touch(exist_ok=False)
        except FileExistsError:
            return
        raise RuntimeError("not yet")


async def test_a_start_that_failed_is_repeated_once_the_body_is_entered(tmp_path, caplog):
    with anyio.fail_after(2 * WATCHDOG):
        async with gibbs.open_hub(FailsOnce, tmp_path, workers=2, ready=1) as hub:
            await hub.wait_ready()
            assert await answer(hub, 3) == 3
            assert hub.statistics().restarts == 1


class Exits(Echo):
    def __init__(self, how):
        print("last words", file=sys.stderr)
        how(5)


@pytest.mark.parametrize(
    ("how", "reason", "exit_code"), [(os._exit, "exited", 5), (sys.exit, "model", None)], ids=["os._exit", "sys.exit"]
)
async def test_a_model_that_exits_while_it_is_built_fails_the_opening(how, reason, exit_code, launcher):
    with pytest.raises(gibbs.WorkerStartFailed) as caught:
        async with gibbs.open_hub(Exits, how, workers=1, launcher=launcher):
            pytest.fail("entered")
    assert (caught.value.reason, caught.value.exit_code) == (reason, exit_code)
    assert "last words" in str(caught.value)


async def test_what_is_opened_in_a_cancelled_scope_starts_nothing(no_process):
    with anyio.CancelScope() as scope:
        scope.cancel()
        async with gibbs.open_hub(Echo, workers=2, launcher=no_process):
            pytest.fail("entered")
    assert scope.cancelled_caught


@pytest.mark.parametrize("how", ["fails", "is cancelled"])
async def test_a_launch_that_does_not_come_to_its_end_leaves_no_process(how, monkeypatch, running):
    made = []

    async def connect(process):
        made.append(process.origin.pid)
        if how == "fails":
            raise OSError("out of everything")
        scope.cancel()
        await anyio.sleep_forever()

    monkeypatch.setattr("gibbs._launch.process.LocalProcess.connect", connect)
    expected = pytest.raises(gibbs.WorkerStartFailed, match="out of everything")
    with anyio.CancelScope() as scope, expected if how == "fails" else contextlib.nullcontext():
        async with gibbs.open_hub(Echo, workers=1):
            pytest.fail("entered")
    assert len(made) == 1
    assert running(made) == []


async def test_an_opening_that_is_cancelled_leaves_nothing(launcher, heard, take_inventory):
    before = take_inventory()
    async with anyio.create_task_group() as tg:

        @tg.start_soon
        async def opens():
            async with gibbs.open_hub(Hangs, workers=2, launcher=launcher):
                pytest.fail("entered")

        await heard.line("building", times=2)
        tg.cancel_scope.cancel()
    assert before.left() == {}


async def test_an_opening_whose_deadline_passes_leaves_nothing(launcher, take_inventory):
    before = take_inventory()
    with pytest.raises(TimeoutError), anyio.fail_after(0.1):
        async with gibbs.open_hub(Hangs, workers=2, launcher=launcher):
            pytest.fail("entered")
    assert before.left() == {}


RECURSIVE = """
import os
import anyio, gibbs

class Model:
    def __call__(self, x): return x

async def main():
    async with gibbs.open_hub(Model, workers=1, name="inner"):
        pass

if "GIBBS_TEST_RECURSION" in os.environ:
    anyio.run(main, backend=os.environ["GIBBS_TEST_RECURSION"])
"""


async def test_a_module_that_opens_a_hub_when_a_worker_imports_it_is_told_so(
    tmp_path, monkeypatch, anyio_backend_name, take_inventory
):
    (tmp_path / "recursive_module.py").write_text(RECURSIVE)
    monkeypatch.syspath_prepend(tmp_path)
    import recursive_module

    monkeypatch.delitem(sys.modules, "recursive_module")
    monkeypatch.setitem(sys.modules, "recursive_module", recursive_module)
    launcher = gibbs.LocalLauncher(env={"GIBBS_TEST_RECURSION": anyio_backend_name}, output="discard")
    before = take_inventory()
    with pytest.raises(gibbs.WorkerStartFailed, match="__main__") as caught:
        async with gibbs.open_hub(recursive_module.Model, workers=1, launcher=launcher):
            pytest.fail("entered")
    assert caught.value.reason == "recursive"
    assert before.left() == {}


# ---------------------------------------------------------------------------------------------------- what can be served


def predict(x, times=2):
    return x * times


def predict_nothing():
    return 3


async def predict_later(x):
    return x


class Later:
    async def __call__(self, x):
        return x


class LaterByMethod:
    async def embed(self, x):
        return x

    def plain(self, x):
        return x


async def test_a_function_that_builds_nothing_callable_is_told_of_gibbs_function():
    with pytest.raises(gibbs.WorkerStartFailed, match=r"gibbs\.function\(predict_nothing\)") as caught:
        async with gibbs.open_hub(predict_nothing, workers=1):
            pytest.fail("entered")
    assert caught.value.reason == "refused"


async def test_gibbs_function_serves_the_function_itself():
    async with gibbs.open_hub(gibbs.function(predict), workers=1) as hub:
        assert hub.name == "predict"
        assert await answer(hub, 4) == 8
        assert await answer(hub, "x", times=3) == "xxx"


@pytest.mark.parametrize(
    "factory",
    [predict_later, Later, functools.partial(Later), functools.partial(functools.partial(predict_later), 3)],
    ids=["function", "class", "partial", "partial of partial"],
)
async def test_an_async_factory_or_model_is_refused_with_the_reason_before_any_process(factory, no_process):
    with pytest.raises(TypeError, match="is async: a worker"):
        async with gibbs.open_hub(factory, workers=1, launcher=no_process):
            pytest.fail("entered")


async def test_gibbs_function_refuses_an_async_function_with_the_reason_before_any_process(no_process):
    with pytest.raises(TypeError, match="async"):
        async with gibbs.open_hub(gibbs.function(predict_later), workers=1, launcher=no_process):
            pytest.fail("entered")


def make_later():
    return Later()


async def test_an_async_model_that_only_the_worker_sees_is_refused_with_the_reason():
    with pytest.raises(gibbs.WorkerStartFailed, match="async") as caught:
        async with gibbs.open_hub(make_later, workers=1):
            pytest.fail("entered")
    assert caught.value.reason == "refused"


@pytest.mark.parametrize(
    ("factory", "options", "name"),
    [
        (Echo, {}, "Echo"),
        (functools.partial(Echo), {}, "Echo"),
        (functools.partial(functools.partial(Echo)), {}, "Echo"),
        (gibbs.function(predict), {}, "predict"),
        (Echo, {"name": "mine"}, "mine"),
    ],
)
async def test_a_hub_bears_the_name_of_its_factory_unless_it_is_given_one(factory, options, name):
    async with gibbs.open_hub(factory, workers=1, ready=0, **options) as hub:
        assert hub.name == name
        assert f"{name!r}" in repr(hub)


class Configured(Echo):
    def __init__(self, first, *, second):
        self.both = first, second

    def configuration(self):
        return self.both


async def test_a_partial_brings_keyword_arguments_to_the_model():
    async with gibbs.open_hub(functools.partial(Configured, second=2), 1, workers=1) as hub:
        assert await answer(hub.method(Configured.configuration)) == (1, 2)


# ------------------------------------------------------------------------------------------------------- running, seen


class Meets:
    """A call returns when all of its group run, and is never so short that others are sent ahead behind it."""

    def __init__(self):
        self.calls = 0

    def __call__(self, folder, number, parties):
        self.calls += 1
        folder.mkdir(exist_ok=True)
        (folder / str(number)).touch()
        arrived = 0
        while arrived < parties:
            time.sleep(0.002)
            arrived = len([*folder.iterdir()])
        return os.getpid(), self.calls


async def test_workers_run_in_parallel(tmp_path, start):
    async with gibbs.open_hub(Meets, workers=3) as hub:
        calls = [start(hub, tmp_path / "all", number, 3) for number in range(3)]
        for call in calls:
            await call.end()
        assert {call.result[0] for call in calls} == {*hub.statistics().pids}


async def test_of_ten_requests_made_at_once_no_worker_of_four_runs_more_than_three(tmp_path):
    async with gibbs.open_hub(Meets, workers=4) as hub:
        # Those of one group can only be answered side by side; a worker that was given two of them would wait for ever.
        arrivals = itertools.count()  # Trio starts tasks in any order
        answers = {}

        async def ask():
            number = next(arrivals)
            group = number // 4
            answers[number] = await answer(hub, tmp_path / str(group), number, [4, 4, 2][group])

        async with anyio.create_task_group() as tg:
            for _ in range(10):
                tg.start_soon(ask)
        assert max(calls for _, calls in answers.values()) == 3
        assert {answers[number][0] for number in range(4)} == {*hub.statistics().pids}


class Waits(Echo):
    interruptible = True

    def __call__(self, path):
        print("begun")
        wait_for_file(path)
        if path.name == "fail":
            raise ValueError(path.name)
        return path.name


async def test_statistics_health_and_repr_tell_what_is_going_on(tmp_path, launcher, heard, start):
    async with gibbs.open_hub(Waits, workers=2, launcher=launcher, cancel_grace=WATCHDOG) as hub:
        pids = hub.statistics().pids
        assert hub.statistics() == gibbs.HubStatistics(seats=seats(serving=2), pids=pids)
        assert hub.health() == gibbs.Health(ready=True, reasons=())
        assert repr(hub) == "<gibbs.Hub 'Waits' open: 2 of 2 workers ready, 0 requests running, 0 queued>"
        good, bad = start(hub, tmp_path / "good"), start(hub, tmp_path / "fail")
        await heard.line("begun", times=2)
        third, fourth = start(hub, tmp_path / "good"), start(hub, tmp_path / "good")
        await until(lambda: hub.statistics().queued == 2)
        assert hub.statistics().running == 2
        assert hub.statistics().oldest_wait >= 0
        assert repr(hub) == "<gibbs.Hub 'Waits' open: 2 of 2 workers ready, 2 requests running, 2 queued>"
        await fourth.cancel()
        (tmp_path / "good").touch()
        (tmp_path / "fail").touch()
        for call in (good, bad, third):
            await call.end()
        seen = hub.statistics()
        assert (seen.done, seen.failed, seen.cancelled, seen.queued, seen.running) == (2, 1, 1, 0, 0)
        assert seen == gibbs.HubStatistics(seats=seats(serving=2), pids=pids, done=2, failed=1, cancelled=1)
        os.kill(pids[0], 9)
        await until(lambda: hub.statistics().restarts == 1)
        await hub.wait_ready()
        assert hub.statistics().pids[1] == pids[1]
        assert hub.statistics().pids[0] != pids[0]
    assert hub.statistics().seats == seats(retired=2)
    assert hub.statistics().pids == (None, None)
    assert not hub.health().ready


def seats(**some):
    return dict.fromkeys(("vacant", "starting", "spare", "serving", "interrupting", "dying", "retired"), 0) | some


# -------------------------------------------------------------------------------------------------------------- methods


class Base:
    constant = 3

    def __call__(self, x=None):
        return x

    def embed(self, x):
        return "base", x

    def _private(self):
        pass

    def stream(self):
        yield 1

    async def later(self):
        pass

    async def later_stream(self):
        yield 1

    @staticmethod
    def static(x):
        return "static", x

    @classmethod
    def of_class(cls, x):
        return cls.__name__, x


class Derived(Base):
    def embed(self, x):
        return "derived", x


def nothing_was_sent(hub):
    return [seat.last_link_id for seat in hub._desk.crew.dispatcher.seats] == [0]


async def test_methods_that_cannot_be_called_are_refused_in_the_caller_before_anything_is_sent():
    refused = [
        ("missing", AttributeError, "'missing'"),
        ("constant", AttributeError, "'constant'"),
        (Base.stream, TypeError, "'stream' .* is a generator"),
        (Base.later, TypeError, "'later' .* is an async"),
        (Base.later_stream, TypeError, "'later_stream' .* is an async generator"),
    ]
    async with gibbs.open_hub(Base, workers=1) as hub:
        for method, error, message in refused:
            with pytest.raises(error, match=message):
                await answer(hub.method(method))
        for private in (Base._private, "_private", "__init__"):
            with pytest.raises(TypeError, match="private"):
                hub.method(private)
        for nonsense in (3, None, "no name", functools.partial(Base.embed)):
            with pytest.raises(TypeError, match=r"method\(\) takes a method"):
                hub.method(nonsense)
        assert nothing_was_sent(hub)
        assert hub.statistics().failed == 0


async def test_a_model_without_call_is_served_by_its_methods_and_refuses_requests_to_itself():
    async with gibbs.open_hub(LaterByMethod, workers=1) as hub:
        assert await answer(hub.method(LaterByMethod.plain), 3) == 3
        with pytest.raises(TypeError, match="cannot be called"):
            await hub.request(3)


async def test_methods_are_found_by_name_on_the_model_that_was_built():
    async with gibbs.open_hub(Derived, workers=1) as hub:
        assert await answer(hub.method(Base.embed), 1) == ("derived", 1)
        assert await answer(hub.method("embed"), 1) == ("derived", 1)
        assert await answer(hub.method(Base.static), 2) == ("static", 2)
        assert await answer(hub.method("static"), 2) == ("static", 2)
        assert await answer(hub.method(Derived.of_class), 3) == ("Derived", 3)
        assert await answer(hub.method(Base.of_class), 3) == ("Derived", 3)
        assert await answer(hub.method(Base.__call__), 4) == 4
        assert await answer(hub.method("__call__"), x=4) == 4


# ------------------------------------------------------------------------------------------------------------ arguments


class Keywords:
    def __call__(*args, **kwargs):
        return args[1:], kwargs

    def method(*args, **kwargs):
        return args[1:], kwargs


async def test_no_keyword_is_reserved():
    keywords = {
        "self": 1,
        "name": 2,
        "on_cancel": 3,
        "method": 4,
        "args": 5,
        "kwargs": 6,
        "options": 7,
        "timeout": 8,
        "f": 9,
    }
    async with gibbs.open_hub(Keywords, workers=1) as hub:
        assert await hub.request(**keywords) == ((), keywords)
        assert await hub.using(on_cancel="kill").request(0, **keywords) == ((0,), keywords)
        assert await hub.method("method").request(**keywords) == ((), keywords)
        assert await hub.method("method").using(abandon_on_cancel=False).request(**keywords) == ((), keywords)


class Collects:
    def __init__(self):
        self.seen = []

    def __call__(self, things, path=None):
        print("begun")
        if path is not None:
            wait_for_file(path)
        self.seen.append([*things])
        things.append("changed by the model")
        return things


async def test_a_later_change_of_an_argument_is_never_seen(tmp_path, launcher, heard, start):
    async with gibbs.open_hub(Collects, workers=1, launcher=launcher) as hub:
        first, second = [1], [2]
        running = start(hub, first, tmp_path / "go")
        await heard.line("begun")
        queued = start(hub, second)
        await until(lambda: hub.statistics().queued)
        first.append("too late")
        second.append("too late")
        (tmp_path / "go").touch()
        await running.end()
        await queued.end()
        assert running.result == [1, "changed by the model"]
        assert queued.result == [2, "changed by the model"]
        assert (first, second) == ([1, "too late"], [2, "too late"])


async def test_what_cannot_be_pickled_is_an_error_in_the_caller_and_nothing_is_sent():
    async with gibbs.open_hub(Echo, workers=1) as hub:
        with pytest.raises(TypeError, match="pickle"):
            await hub.request(threading.Lock())
        assert nothing_was_sent(hub)
        assert await answer(hub, 1) == 1


async def test_a_factory_that_cannot_be_pickled_is_an_error_before_any_process(no_process):
    with pytest.raises(TypeError, match="pickle"):
        async with gibbs.open_hub(Configured, threading.Lock(), workers=1, launcher=no_process):
            pytest.fail("entered")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"workers": 0}, ValueError),
        ({"workers": True}, TypeError),
        ({"workers": 1.0}, TypeError),
        ({"workers": 1, "ready": 2}, ValueError),
        ({"workers": 1, "ready": "most"}, TypeError),
        ({"workers": 1, "start_timeout": 0}, ValueError),
        ({"workers": 1, "start_timeout": float("nan")}, ValueError),
        ({"workers": 1, "start_concurrency": 0}, ValueError),
        ({"workers": 1, "close_timeout": float("inf")}, ValueError),
        ({"workers": 1, "max_pending": -1}, ValueError),
        ({"workers": 1, "on_cancel": "explode"}, ValueError),
        ({"workers": 1, "cancel_grace": -0.5}, ValueError),
        ({"workers": 1, "abandon_on_cancel": 1}, TypeError),
        ({"workers": 1, "restarts": 5}, TypeError),
        ({"workers": 1, "name": 5}, TypeError),
    ],
    ids=repr,
)
def test_a_bad_option_is_refused_with_its_value_before_any_process(options, error, no_process):
    value = [*options.values()][-1]
    with pytest.raises(error, match=re.escape(repr(value))):
        gibbs.open_hub(Echo, launcher=no_process, **options)
    with pytest.raises(TypeError, match="launcher"):
        gibbs.open_hub(Echo, workers=1, launcher="local")
    with pytest.raises(TypeError, match="must be callable"):
        gibbs.open_hub(Path(), workers=1)


linux_only = pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="Linux")


@pytest.fixture
def run_by():
    """`run_by(policy)`: so the kernel gives the CPU to this program, until the test is over."""
    before = os.sched_getscheduler(0)
    yield lambda policy: os.sched_setscheduler(0, policy, os.sched_param(0))
    os.sched_setscheduler(0, before, os.sched_param(0))


@linux_only
async def test_a_worker_takes_no_cpu_from_others_the_moment_it_has_something_to_do(run_by):
    """It is for the kernel to say when."""
    run_by(os.SCHED_OTHER)
    async with gibbs.open_hub(gibbs.function(os.sched_getscheduler), workers=1) as hub:
        assert await hub.request(0) == os.SCHED_BATCH


@linux_only
def test_a_worker_whose_program_has_said_when_it_runs_keeps_to_that(run_by):
    """No worker is started for that: it would wait for as long as others want the CPU."""
    run_by(os.SCHED_IDLE)
    _give_way()
    assert os.sched_getscheduler(0) == os.SCHED_IDLE


async def test_an_open_hub_logs_nothing(caplog):
    caplog.set_level(logging.DEBUG, logger="gibbs")
    async with gibbs.open_hub(Echo, workers=1) as hub:
        assert await answer(hub, 1) == 1
    assert [record for record in caplog.records if record.name == "gibbs"] == []
