"""docs/on_call.md: each fault that it tells of is provoked here, and seen where the page says to look; examples/on_call.py has four of them in earnest."""

from __future__ import annotations

import math
import re
import signal
import socket
import subprocess
from pathlib import Path

import anyio
import pytest
from prometheus_client import CollectorRegistry

import gibbs
from gibbs import events
from gibbs._parent.slow_calls import SlowCalls
from gibbs.contrib.prometheus import Metrics
from gibbs.history import History
from gibbs.testing import ScriptedLauncher, hang, serve
from gibbs.top import as_text, snapshot
from gibbs.top._command import top
from tests.told import Told

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/on_call.md").read_text()
TRIED = {}
WATCHDOG = 20


def tries(fault):
    def decorate(test):
        TRIED[fault] = test
        return test

    return decorate


class Model:
    interruptible = True

    def __call__(self, x):
        return x

    def spins(self):
        gibbs.report("here")
        while True:
            pass

    def dies(self):
        signal.raise_signal(signal.SIGSEGV)

    def hangs(self):
        return anyio.sleep_forever()  # which a scripted worker awaits


class Dear:
    """A call of it cannot be interrupted."""

    hangs = Model.hangs


class Watched:
    """A hub's metrics, and its page in a terminal."""

    def __init__(self):
        self.history = History()
        self.registry = CollectorRegistry()
        self.metrics = Metrics(registry=self.registry)

    def open_hub(self, *scripts, model=Model, workers=2, **options):
        launcher = ScriptedLauncher(*scripts) if scripts else gibbs.LocalLauncher()
        observers = [self.history, self.metrics]
        return gibbs.open_hub(model, workers=workers, name="m", launcher=launcher, observers=observers, **options)

    def __call__(self, name, **labels):
        return self.registry.get_sample_value(f"gibbs_{name}", {"hub": "m", **labels})

    async def says(self, hub, words):
        """Wait until the page has it."""
        with anyio.move_on_after(WATCHDOG):
            while not re.search(words, as_text(snapshot(hub))):
                await anyio.sleep(0.01)
        text = as_text(snapshot(hub))
        assert re.search(words, text), text


@pytest.fixture
def watched():
    return Watched()


def test_all_of_them_are_tried_and_in_the_table():
    told = PAGE[PAGE.index("## What to do") : PAGE.index("## What it takes")]
    headings = re.findall(r"^### (.+)$", told, re.MULTILINE)
    assert TRIED.keys() == {*headings}
    table = PAGE[: PAGE.index("## What to do")]
    anchors = [re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-")) for heading in headings]
    assert {*re.findall(r"\(#([\w-]+)\)", table)} == {*anchors, "what-it-takes"}
    assert told.count("*Look*: ") == told.count("*Do*: ") == len(headings)


@tries("A call hangs")
async def test_a_call_that_hangs_is_told_with_its_line(watched, monkeypatch):
    is_there, look = anyio.Event(), SlowCalls.look

    async def looks_when_it_is_there(slow_calls):
        if is_there.is_set():  # where a call is that has not begun nobody says, nor is it asked again
            await look(slow_calls)

    monkeypatch.setattr(SlowCalls, "look", looks_when_it_is_there)
    async with watched.open_hub(slow_call=0.05) as hub:
        async with hub.method(Model.spins).track() as job:
            async for _ in job.progress:
                break
            for x in range(3):
                assert await hub.request(x) == x, "the others answer as ever"
            is_there.set()
            await watched.says(hub, rf"has been in spins, request 1, for .* It is at {__file__}:\d+ in Model.spins")
        await watched.says(hub, rf"1 call that is over ran for longer .* in spins, at {__file__}:\d+ in Model.spins")
    assert watched("slow_calls_total", method="spins") == 1


@tries("A worker is stopped")
async def test_a_worker_that_is_stopped_does_not_say_where_it_is(watched):
    async with watched.open_hub(slow_call=0.05, workers=1) as hub:
        async with hang(hub):
            state = subprocess.check_output(["ps", "-o", "stat=", "-p", str(hub.statistics().pids[0])], text=True)
            assert state.startswith("T")
            async with anyio.create_task_group() as tg:
                tg.start_soon(hub.request, 1)
                await watched.says(hub, r"has been in the model, request 1, for .*; it does not say where it is\.")
                tg.cancel_scope.cancel()
    assert watched("slow_calls_total", method="__call__") == 1


@tries("A slow downstream")
def test_a_slow_downstream_is_calls_that_take_longer_than_ever():
    hub = Told()
    hub.overrun(usual=0.1, wait=5)
    [text] = hub.remarks("full")
    assert "All 2 workers are busy" in text
    assert "they, or what they wait for, have become slow" in text


@tries("More is asked than can be done")
def test_more_than_can_be_done_is_calls_that_take_what_they_always_took():
    hub = Told()
    hub.overrun(usual=2.0, wait=1.5)
    [text] = hub.remarks("full")
    assert "All 2 workers are busy" in text
    assert "more is asked than the workers can do" in text
    watched, told = Watched(), events.RequestTurnedAway(hub="m", at=hub.now, method="embed", pending=1, needed=None)
    for observer in (hub.history, watched.metrics):
        observer(told)
    assert "1 request was turned away in the last minute" in hub.remarks("turned away")[0]
    assert watched("requests_turned_away_total", method="embed") == 1


@tries("A lease is held for ever")
async def test_a_lease_that_is_held_is_told(watched):
    async with watched.open_hub(serve) as hub, hub.lease(), anyio.create_task_group() as tg:
        tg.start_soon(hub.method(Model.hangs).request)
        await watched.says(hub, "hangs")
        tg.start_soon(hub.request, 1)
        await watched.says(hub, "serving, leased")
        await watched.says(hub, "1 waiting")
        assert watched("leases") == 1
        tg.cancel_scope.cancel()


@tries("A poison request")
async def test_a_poison_request_is_deaths_that_are_alike(watched, tmp_path):
    async with watched.open_hub(workers=1, record_crashes=tmp_path) as hub:
        with pytest.raises(gibbs.PoisonRequest):
            await hub.using(retries=3).method(Model.dies).request()
        await watched.says(hub, "Request 1, of dies, has killed 2 workers: it is poison")
        await watched.says(hub, f"2 workers died .* SIGSEGV: native code .*; it was at {__file__}:\\d+ in dies")
    assert watched("worker_deaths_total", cause="SIGSEGV") == 2
    assert len([*tmp_path.iterdir()]) == 2, (
        "which `python -m gibbs replay` runs again: tests/end_to_end/test_crash_records.py"
    )


@tries("A leak")
def test_a_leak_is_memory_that_only_climbs_and_workers_that_are_recycled_for_it():
    hub, watched = Told(), Watched()
    for size in (80, 90, 400):
        hub.now += 20
        measured = {"hub": "m", "at": hub.now, "seat": 1, "incarnation": 1, "rss": size << 20}
        hub.history(events.WorkerMeasured(**measured))
        watched.metrics(events.WorkerMeasured(**measured))
    assert "takes 400 MiB, and took 80 MiB at first" in hub.remarks("memory")[0]
    assert watched("worker_memory_bytes", seat="1") == 400 << 20
    hub.gone(1, reason="recycled", cause="it takes 512 MiB of memory")
    assert "1 worker was recycled" in hub.remarks("memory")[0]


@tries("Somebody kills workers")
async def test_workers_that_somebody_kills_die_in_whatever_they_do(watched):
    async def is_killed(worker):
        await worker.start()
        await worker.receive()
        worker.die(signal=signal.SIGKILL)

    async with watched.open_hub(is_killed, serve, workers=1) as hub:
        await hub.request(1)
        await watched.says(hub, "1 worker died .* It was ended by SIGKILL")
    assert watched("worker_deaths_total", cause="SIGKILL") == 1


@tries("A model cannot be built")
async def test_a_model_that_cannot_be_built_is_told_with_its_reason(watched):
    async def serves_in_one_seat(worker):
        if worker.spec.seat == 0:
            await serve(worker)
        elif worker.spec.incarnation == 1:
            await worker.unfit(FileNotFoundError("weights.bin"))
        else:  # the page still says that it was one, however late somebody looks
            await anyio.sleep_forever()

    async with watched.open_hub(serves_in_one_seat, workers=2, ready=1) as hub:
        await watched.says(hub, "1 worker did not become ready .*weights.bin")
        assert await hub.request(1) == 1, "who serves, serves on"
    assert watched("start_failures_total", reason="model") == 1


@tries("The hub has given up")
async def test_a_hub_that_has_given_up_says_so_and_why(watched):
    async def dies(worker):
        await worker.start()
        await worker.receive()
        worker.die(code=3)

    policy = gibbs.RestartPolicy(max_failures=math.inf, max_crashes=0)
    with pytest.raises(gibbs.RestartsExhausted):
        async with watched.open_hub(dies, workers=1, restarts=policy) as hub:
            await hub.request(1)
    assert "The hub has failed, and takes no more requests: RestartsExhausted" in as_text(snapshot(hub))
    assert hub.health().failed
    assert watched("workers", state="serving") == 0


@tries("Callers leave, and it costs workers")
async def test_callers_who_leave_cost_workers_that_cannot_be_interrupted(watched):
    async with watched.open_hub(serve, model=Dear, workers=1, cancel_grace=0.01) as hub:
        async with anyio.create_task_group() as tg:
            tg.start_soon(hub.method(Dear.hangs).request)
            with anyio.fail_after(WATCHDOG):
                while not hub._desk.crew.supervisors[0].worker.link.begun():
                    await anyio.lowlevel.checkpoint()
            tg.cancel_scope.cancel()
        await watched.says(hub, "cancelled call")
    assert watched("cleanups_total", kept="false") == 1


@tries("The program hangs")
def test_a_program_that_hangs_does_not_answer(capsys, monkeypatch):
    monkeypatch.setattr("gibbs.top._command.PATIENCE", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/status"
        assert top(url, once=True, as_json=False, headers=[]) == 1
    assert "TimeoutError" in capsys.readouterr().err
