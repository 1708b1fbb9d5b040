"""`gibbs.contrib.prometheus`: what a scrape finds, in the middle and when all is over, and that page and dashboard speak of it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import httpx
import pytest
from anyio.lowlevel import checkpoint
from prometheus_client import CollectorRegistry, make_asgi_app, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.routing import Mount

import gibbs
from gibbs import events
from gibbs._records import Ending
from gibbs.contrib.prometheus import Metrics
from gibbs.testing import ScriptedLauncher, serve
from tests.clocks import jumping_loops
from tests.web.asgi import served

ROOT = Path(__file__).parents[2]
WITH_A_WORKER = ("starting", "spare", "serving", "interrupting", "dying")


@pytest.fixture(scope="module", params=jumping_loops())
def anyio_backend(request):
    return request.param


class Model:
    """In memory what a model returns is awaited."""

    interruptible = True

    def __call__(self, x):
        if x < 0:
            raise ValueError(x)
        return x

    def takes(self, ticks):
        async def steps():
            for _ in range(ticks):
                await checkpoint()

        return steps()

    def hangs(self):
        return anyio.sleep_forever()


class Observed:
    """A registry of its own, and what it has."""

    def __init__(self):
        self.registry = CollectorRegistry()
        self.metrics = Metrics(registry=self.registry)

    def open_hub(self, *scripts, workers=1, **options):
        launcher = ScriptedLauncher(*scripts)
        return gibbs.open_hub(Model, workers=workers, name="m", launcher=launcher, observers=[self.metrics], **options)

    def __call__(self, name, **labels):
        return self.registry.get_sample_value(f"gibbs_{name}", {"hub": "m", **labels})

    def gauges(self):
        """By metric and labels, without those that are 0."""
        return {
            (sample.name, *sample.labels.values()): sample.value
            for metric in self.registry.collect()
            if metric.type == "gauge"
            for sample in metric.samples
            if not sample.name.endswith("_created") and sample.value
        }


@pytest.fixture
def observed():
    return Observed()


def samples(text):
    """What a scrape says: sample name and labels → value."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


# ---------------------------------------------------------------------------------------------------------- what is counted


async def test_requests_are_counted_by_method_and_outcome_and_timed(observed):
    async with observed.open_hub() as hub:
        for x in range(3):
            await hub.request(x)
        with pytest.raises(ValueError, match="-1"):
            await hub.request(-1)
        await hub.method(Model.takes).request(1)
    assert observed("requests_total", method="__call__", outcome="done") == 3
    assert observed("requests_total", method="__call__", outcome="failed") == 1
    assert observed("requests_total", method="takes", outcome="done") == 1
    assert observed("requests_total", method="takes", outcome="failed") == 0, "or a rate would not see the first"
    for name in ("request_wait_seconds", "request_duration_seconds"):
        assert observed(f"{name}_count", method="__call__") == 4
        assert observed(f"{name}_bucket", method="__call__", le="300.0") == 4


async def test_one_that_was_never_sent_has_waited_and_not_lasted(observed):
    async with observed.open_hub() as hub, anyio.create_task_group() as tg:
        tg.start_soon(hub.method(Model.hangs).request)
        await until(lambda: observed("requests_running") == 1)
        with pytest.raises(gibbs.HubOverloaded):
            await hub.using(max_wait=0.01).request(1)
        assert (observed("requests_queued"), observed("requests_running")) == (0, 1)
        tg.cancel_scope.cancel()
    assert observed("requests_total", method="__call__", outcome="expired") == 1
    assert observed("request_wait_seconds_sum", method="__call__") > 0.009
    assert observed("request_duration_seconds_count", method="__call__") is None
    assert observed("requests_total", method="hangs", outcome="cancelled") == 1
    assert observed("cleanups_total", kept="true") == 1
    assert observed("cleanups_total", kept="false") == 0


async def test_who_is_turned_away_is_counted_by_method(observed):
    async with observed.open_hub(max_pending=0) as hub, anyio.create_task_group() as tg:
        tg.start_soon(hub.method(Model.hangs).request)
        await until(lambda: observed("requests_running") == 1)
        with pytest.raises(gibbs.HubOverloaded):
            await hub.request(1)
        tg.cancel_scope.cancel()
    assert observed("requests_turned_away_total", method="__call__") == 1
    assert observed("requests_turned_away_total", method="hangs") == 0
    assert observed("requests_total", method="__call__", outcome="expired") == 0, "it was never accepted"


async def test_workers_are_counted_by_state_and_deaths_by_cause(observed):
    async def dies(worker):
        await worker.start()
        await worker.receive()
        worker.die(signal=signal.SIGSEGV)

    async with observed.open_hub(dies, serve) as hub:
        assert observed("workers", state="serving") == 1
        assert await hub.request(1) == 1  # its first worker died before it began
        assert observed("workers", state="serving") == 1
    assert observed("worker_deaths_total", cause="SIGSEGV") == 1
    assert observed("worker_deaths_total", cause="SIGKILL") == 0
    assert observed("requests_returned_total") == 1
    assert observed("worker_start_seconds_count") == 2
    assert observed.gauges() == {}


def test_what_a_hub_says_of_memory_slow_calls_and_recycled_workers_is_counted(observed):
    told = {"hub": "m", "at": 0.0}
    worker = told | {"seat": 1, "incarnation": 1}
    observed.metrics(events.HubChanged(**told, state="open", error=None))
    observed.metrics(events.RequestAccepted(**told, number=1, method="takes"))
    assert observed("slow_calls_total", method="takes") == observed("workers_recycled_total") == 0
    observed.metrics(events.WorkerMeasured(**worker, rss=5_000_000))
    stack = gibbs.WorkerStack(seat=1, incarnation=1, pid=7)
    observed.metrics(events.CallIsSlow(**worker, number=1, method="takes", took=10.0, stack=stack))
    assert observed("worker_memory_bytes", seat="1") == 5_000_000
    assert observed("slow_calls_total", method="takes") == 1
    observed.metrics(
        events.WorkerEnded(
            **worker, pid=7, host="", ending=Ending(how="exited", code=0), reason="recycled", probable_cause="it is old"
        )
    )
    assert observed("worker_memory_bytes", seat="1") == 0
    assert observed("workers_recycled_total") == 1


async def test_reloads_and_starts_that_fail_are_counted(observed):
    async with observed.open_hub() as hub:
        await hub.reload(Model)
        with pytest.raises(gibbs.ReloadFailed):
            await hub.reload(Model, "one argument too many")
    assert observed("reloads_total", outcome="done") == 1
    assert observed("reloads_total", outcome="failed") == 1
    assert observed("start_failures_total", reason="model") == 1
    assert observed("start_failures_total", reason="timeout") == 0
    assert observed("worker_deaths_total", cause="exited") == 0, "those were to go"


async def test_the_gauges_are_what_the_hub_says_at_every_step_of_a_storm_and_0_when_it_is_over(observed):
    async def dies(worker):
        await worker.start()
        for _ in range(2):
            if (call := await worker.receive()).is_leave:
                return
            await worker.run(call)
        worker.begin((await worker.receive()).link_id)
        worker.die(code=1)

    async with observed.open_hub(dies, serve, workers=3) as hub:
        callers = 10

        async def caller(first):
            nonlocal callers
            for x in range(first, first + 8):
                with anyio.CancelScope() as scope:
                    if not x % 5:
                        tg.start_soon(cancels, scope, x % 4)
                    with contextlib.suppress(gibbs.WorkerCrashed):
                        await hub.method(Model.takes).request(x % 3)
            callers -= 1

        async def cancels(scope, ticks):
            for _ in range(ticks):
                await checkpoint()
            scope.cancel()

        async def changes():
            await hub.resize(5)
            with contextlib.suppress(gibbs.WorkerCrashed, gibbs.LeaseBroken):
                async with hub.lease() as lease:
                    await lease.method(Model.takes).request(1)
            await hub.resize(2)

        async with anyio.create_task_group() as tg:
            for n in range(callers):
                tg.start_soon(caller, 10 * n)
            tg.start_soon(changes)
            await checkpoint()
            steps = 0
            while callers:
                now = hub.statistics()
                assert observed("requests_queued") + observed("requests_running") == now.queued + now.running
                assert observed("leases") == now.leases
                for state in WITH_A_WORKER:
                    assert observed("workers", state=state) == now.seats[state]
                steps += 1
                await checkpoint()
        now = hub.statistics()
    assert min(steps, now.done, now.cancelled, now.restarts) > 0, "or it was no storm"
    ended = {"done": now.done, "crashed": now.crashed, "cancelled": now.cancelled}
    assert {outcome: observed("requests_total", method="takes", outcome=outcome) for outcome in ended} == ended
    assert observed.gauges() == {}


async def until(condition):
    while not condition():
        await checkpoint()


# ------------------------------------------------------------------------------------------------------------- how it is scraped


async def test_an_app_is_scraped(observed):
    app = Starlette(routes=[Mount("/metrics", make_asgi_app(observed.registry))])
    async with observed.open_hub() as hub, served(app) as client:
        await hub.request(1)
        found = samples((await client.ask("/metrics/")).body.decode())
    assert found["gibbs_requests_total", ("hub", "m"), ("method", "__call__"), ("outcome", "done")] == 1
    assert found["gibbs_workers", ("hub", "m"), ("state", "serving")] == 1


async def test_another_thread_may_scrape_while_the_hub_serves(observed):
    server, thread = start_http_server(0, "127.0.0.1", observed.registry)
    try:
        async with observed.open_hub() as hub:
            await hub.request(1)
            found = samples(httpx.get(f"http://127.0.0.1:{server.server_port}/metrics", trust_env=False).text)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert found["gibbs_request_duration_seconds_count", ("hub", "m"), ("method", "__call__")] == 1


def test_a_registry_takes_one_of_a_namespace(observed):
    with pytest.raises(ValueError, match="gibbs_requests"):
        Metrics(registry=observed.registry)
    Metrics(registry=observed.registry, namespace="other", buckets=(1, 10))


def test_without_prometheus_client_it_says_what_to_install():
    code = "import sys; sys.modules['prometheus_client'] = None; import gibbs.contrib.prometheus"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].startswith("ImportError")
    assert "pip install 'gibbs[prometheus]'" in done.stderr


WEB_PROCESS = """
import sys, anyio, gibbs
from gibbs.contrib.prometheus import Metrics
from gibbs.testing import ScriptedLauncher

class Model:
    def __call__(self, x): return anyio.sleep_forever() if x is None else x

async def main():
    async with gibbs.open_hub(Model, workers=1, name="m", launcher=ScriptedLauncher(), observers=[Metrics()]) as hub:
        await hub.request(1)
        async with anyio.create_task_group() as tg:
            tg.start_soon(hub.request, None)
            while not hub.statistics().running:
                await anyio.sleep(0)
            print("runs", flush=True)
            await anyio.to_thread.run_sync(sys.stdin.read)
            tg.cancel_scope.cancel()

anyio.run(main)
"""


def test_several_processes_are_added_up_and_one_that_was_killed_can_be_taken_off(tmp_path):
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(tmp_path))
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    one, other = (
        subprocess.Popen(
            [sys.executable, "-c", WEB_PROCESS],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    )
    with one, other:
        assert [one.stdout.readline(), other.stdout.readline()] == ["runs\n"] * 2
        of_hub = {"hub": "m"}
        of_done = {"hub": "m", "method": "__call__", "outcome": "done"}
        assert registry.get_sample_value("gibbs_requests_running", of_hub) == 2
        assert registry.get_sample_value("gibbs_requests_total", of_done) == 2
        one.kill()
        one.wait()
        mark_process_dead(one.pid, str(tmp_path))
        assert registry.get_sample_value("gibbs_requests_running", of_hub) == 1
        other.communicate("")
    assert other.returncode == 0
    assert registry.get_sample_value("gibbs_requests_running", of_hub) == 0
    assert registry.get_sample_value("gibbs_workers", {"hub": "m", "state": "serving"}) == 0
    assert registry.get_sample_value("gibbs_requests_total", of_done) == 2


# --------------------------------------------------------------------------------------------- the page, and the dashboard


def families():
    """Each metric of ours: its name as Prometheus knows it → its labels."""
    registry = CollectorRegistry()
    Metrics(registry=registry)
    return {
        collector._name + ("_total" if collector._type == "counter" else ""): (collector._type, collector._labelnames)
        for collector in registry._collector_to_names
    }


def test_names_and_units_are_those_of_prometheus():
    for name, (kind, labels) in families().items():
        assert re.fullmatch(r"gibbs(_[a-z]+)+", name)
        assert (kind == "counter") == name.endswith("_total")
        assert (kind == "histogram") == name.endswith("_seconds")
        assert labels[0] == "hub"


def test_the_page_lists_each_metric_with_its_labels():
    rows = re.findall(r"^\| `(gibbs_\w+)` \| (\w+) \|([^|]*)\|", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE)
    told = {name: (kind, ("hub", *re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert told == families()


def asked_by(expression):
    """The metric of an expression, and that it has the labels which are asked for."""
    [name] = re.findall(r"\bgibbs_\w+", expression)
    metric = re.sub(r"(_seconds)_(bucket|count|sum)$", r"\1", name)
    grouped = re.findall(r"by \(([^)]*)\)", expression)
    labels = {label.strip() for group in grouped for label in group.split(",")} | {
        *re.findall(r'(\w+)=~?"', expression)
    }
    assert labels <= {*families()[metric][1], "le"}, expression
    return metric


def test_the_dashboard_asks_for_all_metrics_by_labels_that_they_have():
    dashboard = json.loads((ROOT / "docs/grafana.json").read_text())
    assert {asked_by(target["expr"]) for panel in dashboard["panels"] for target in panel["targets"]} == {*families()}
    [choice] = [variable["query"] for variable in dashboard["templating"]["list"] if variable["name"] == "hub"]
    assert choice == f"label_values({asked_by(choice)}, hub)"


def test_the_alerts_of_the_page_ask_for_metrics_and_labels_that_there_are():
    rows = re.findall(r"^\| `([^`]+[\[{][^`]+)` \|", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE)
    assert len([asked_by(expression) for expression in rows]) == 7
