"""`gibbs.contrib.opentelemetry`: the spans of a request, in the hub and in the worker, by what an exporter has been given.

Most workers here are threads, whose spans come to the same exporter; those that are processes write theirs into a file.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from itertools import pairwise

import anyio
import pytest
from opentelemetry import baggage, context, propagate, trace
from opentelemetry.sdk.trace import TracerProvider, sampling
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import host_attributes, process_attributes, rpc_attributes
from opentelemetry.semconv.attributes import error_attributes
from opentelemetry.trace import SpanKind, StatusCode

import gibbs
from gibbs import events
from gibbs._parent.stacks import stacks_of
from gibbs.contrib.opentelemetry import Tracing
from gibbs.testing import crash, open_inline_hub
from tests.hub.swept import until

BEGUN = []


class Model:
    interruptible = True

    def __call__(self, x=None):
        if x == "raise":
            raise LookupError(x)
        return _carried()

    def yields(self, count):
        for _ in range(count):
            yield _carried()

    def loops(self, times=None):
        BEGUN.append(self)
        while times is None or len(BEGUN) <= times:
            time.sleep(0.0005)

    @gibbs.batched(max_size=3, max_wait=10.0)
    def many(self, items):
        return [_carried() for _ in items]


def _carried():
    """What an HTTP client of the model's would send on."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier


class Traced:
    """A program with an SDK, and all that it has exported."""

    def __init__(self, **options):
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False, **options)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracing = Tracing(tracer_provider=self.provider)
        self.tracer = self.provider.get_tracer("caller")

    def open_hub(self, **options):
        options = {
            "observers": [self.tracing],
            "propagate": [self.tracing],
            "name": "m",
            "cancel_grace": 30.0,
        } | options
        return open_inline_hub(Model, **options)

    @property
    def spans(self):
        return sorted(self.exporter.get_finished_spans(), key=lambda span: span.start_time)

    def request(self, outcome):
        """The one whose outcome is that."""
        [found] = [
            span for span in self.spans if span.kind is SpanKind.CLIENT and span.attributes["gibbs.outcome"] == outcome
        ]
        return found

    def parts(self, request):
        return [
            span for span in self.spans if span.parent is not None and span.parent.span_id == request.context.span_id
        ]


@pytest.fixture
def traced():
    BEGUN.clear()
    return Traced()


async def test_a_request_its_parts_and_the_models_call_are_in_the_callers_trace(traced):
    async with traced.open_hub() as hub:
        with traced.tracer.start_as_current_span("caller") as caller:
            carried = await hub.request()
    request = traced.request("done")
    assert (request.name, request.parent.span_id) == ("m/__call__", caller.get_span_context().span_id)
    queue, exchange, model = sorted(
        traced.parts(request), key=lambda span: (span.kind is SpanKind.SERVER, span.start_time)
    )
    assert [queue.name, exchange.name, model.name] == ["queue m/__call__", "exchange m/__call__", "m/__call__"]
    assert carried["traceparent"].split("-")[1:3] == [
        f"{caller.get_span_context().trace_id:032x}",
        f"{model.context.span_id:016x}",
    ]
    moments = [request.start_time, queue.start_time, queue.end_time, exchange.end_time]
    assert moments == sorted(moments)
    assert (queue.end_time, exchange.end_time) == (exchange.start_time, request.end_time)
    assert dict(request.attributes) == {
        "rpc.system.name": "gibbs",
        "rpc.method": "m/__call__",
        "gibbs.hub": "m",
        "gibbs.request.number": 1,
        "gibbs.outcome": "done",
        "gibbs.seat": 0,
        "gibbs.incarnation": 1,
    }
    assert {span.status.status_code for span in traced.spans} == {StatusCode.UNSET}


async def test_what_is_no_result_is_said_by_the_status_and_a_cancel_is_no_error(traced):
    async with traced.open_hub(max_pending=9) as hub, anyio.create_task_group() as tg:
        with pytest.raises(LookupError):
            await hub.request("raise")
        tg.start_soon(hub.method("loops").request)
        await until(lambda: BEGUN)
        with pytest.raises(gibbs.HubOverloaded):
            await hub.using(max_wait=0.01).request()
        tg.cancel_scope.cancel()
    failed, cancelled, expired = map(traced.request, ["failed", "cancelled", "expired"])
    assert [span.status.status_code.name for span in (failed, cancelled, expired)] == ["ERROR", "UNSET", "ERROR"]
    assert [span.attributes.get("error.type") for span in (failed, expired)] == ["LookupError", "gibbs.HubOverloaded"]
    assert [span.name for span in traced.parts(expired)] == ["queue m/__call__"]
    [model] = [span for span in traced.parts(failed) if span.kind is SpanKind.SERVER]
    assert (model.status.status_code, model.attributes["error.type"]) == (StatusCode.ERROR, "LookupError")
    [exception] = model.events
    assert "in __call__" in exception.attributes["exception.stacktrace"]
    [model] = [span for span in traced.parts(cancelled) if span.kind is SpanKind.SERVER]
    assert (model.status.status_code, model.attributes["gibbs.outcome"]) == (StatusCode.UNSET, "cancelled")


async def test_a_crash_is_told_with_its_cause_and_each_try_has_its_parts(traced):
    async with traced.open_hub() as hub, anyio.create_task_group() as tg:
        tg.start_soon(lost, hub.method("loops").request)
        await until(lambda: BEGUN)
        await crash(hub)
        BEGUN.clear()
        tg.start_soon(hub.using(retries=1).method("loops").request, 1)
        await until(lambda: BEGUN)
        await crash(hub)
    crashed, done = map(traced.request, ["crashed", "done"])
    assert (crashed.status.status_code, crashed.attributes["error.type"]) == (StatusCode.ERROR, "gibbs.WorkerCrashed")
    assert "SIGKILL" in crashed.status.description
    parts = [span for span in traced.parts(done) if span.kind is SpanKind.INTERNAL]
    assert [span.name.split()[0] for span in parts] == ["queue", "exchange"] * 2
    assert all(before.end_time == after.start_time for before, after in pairwise(parts))
    assert [span.attributes.get("gibbs.outcome") for span in parts] == [None, "returned", None, "done"]
    assert [span.attributes["gibbs.incarnation"] for span in parts[1::2]] == [2, 3]


async def test_a_slow_call_is_an_event_of_its_request_with_the_stack(traced, monkeypatch):
    async def once_it_has_begun(workers):
        await until(lambda: BEGUN)
        return await stacks_of(workers)

    monkeypatch.setattr("gibbs._parent.slow_calls.stacks_of", once_it_has_begun)
    seen = []
    observers = [traced.tracing, seen.append]
    async with traced.open_hub(slow_call=0.05, observers=observers) as hub, anyio.create_task_group() as tg:
        tg.start_soon(hub.method("loops").request)
        await until(lambda: any(isinstance(event, events.CallIsSlow) for event in seen))
        tg.cancel_scope.cancel()
    [slow] = traced.request("cancelled").events
    assert slow.name == "gibbs.slow_call"
    assert "in Model.loops" in slow.attributes["code.stacktrace"]


async def lost(request):
    with pytest.raises(gibbs.WorkerCrashed):
        await request()


async def test_a_batch_has_links_to_all_its_callers_and_is_in_the_trace_of_one(traced):
    async with traced.open_hub() as hub:
        carried = await anyio.amap(hub.method("many").request, range(3))
    requests = [span for span in traced.spans if span.kind is SpanKind.CLIENT]
    [model] = [span for span in traced.spans if span.kind is SpanKind.SERVER]
    assert {link.context.span_id for link in model.links} == {span.context.span_id for span in requests}
    assert (
        len({span.context.trace_id for span in requests})
        == len(model.links)
        == model.attributes["gibbs.batch.size"]
        == 3
    )
    assert model.parent.span_id in {span.context.span_id for span in requests}
    assert {one["traceparent"].split("-")[2] for one in carried} == {f"{model.context.span_id:016x}"}


async def test_a_stream_and_a_lease_have_their_spans_and_baggage_comes_along(traced):
    token = context.attach(baggage.set_baggage("tenant", "Ann"))
    try:
        async with traced.open_hub(workers=2) as hub:
            async with hub.lease() as worker, worker.method("yields").stream(2) as items:
                carried = [item async for item in items]
    finally:
        context.detach(token)
    [lease] = [span for span in traced.spans if span.name == "lease m"]
    assert [span.name for span in traced.parts(lease)] == ["queue lease m"]
    [model] = [span for span in traced.spans if span.kind is SpanKind.SERVER]
    assert {one["traceparent"].split("-")[2] for one in carried} == {f"{model.context.span_id:016x}"}
    assert {one["baggage"] for one in carried} == {"tenant=Ann"}


async def test_what_is_not_sampled_is_not_recorded_and_its_context_comes_along():
    traced = Traced(sampler=sampling.ParentBased(sampling.ALWAYS_OFF))
    async with traced.open_hub() as hub:
        carried = await hub.request()
    assert not int(carried["traceparent"].split("-")[3], 16) & 1
    assert not traced.spans


async def test_without_the_observer_the_models_call_is_a_child_of_the_callers_own_span(traced):
    async with traced.open_hub(observers=[]) as hub:
        with traced.tracer.start_as_current_span("caller"):
            await hub.request()
    caller, model = traced.spans
    assert (model.kind, model.parent.span_id) == (SpanKind.SERVER, caller.context.span_id)


class Exports:
    """A model whose program sets up an SDK of its own, as docs/traces.md says."""

    def __init__(self, path):
        self.file = open(path, "w")
        provider = TracerProvider()
        provider.add_span_processor(
            SimpleSpanProcessor(ConsoleSpanExporter(out=self.file, formatter=lambda span: span.to_json(None) + "\n"))
        )
        trace.set_tracer_provider(provider)

    def __call__(self):
        with trace.get_tracer("model").start_as_current_span("computes"):
            return _carried()


async def test_a_worker_that_is_a_process_exports_its_own_spans_and_one_without_an_sdk_goes_on_with_the_context(
    traced, tmp_path
):
    options = {"workers": 1, "observers": [traced.tracing], "propagate": [traced.tracing]}
    async with gibbs.open_hub(Exports, str(tmp_path / "spans"), name="m", **options) as hub:
        await hub.request()
    [request] = [span for span in traced.spans if span.kind is SpanKind.CLIENT]
    computes, model = map(json.loads, (tmp_path / "spans").read_text().splitlines())
    assert (computes["name"], computes["parent_id"]) == ("computes", model["context"]["span_id"])
    assert int(model["parent_id"], 16) == request.context.span_id
    assert int(model["context"]["trace_id"], 16) == request.context.trace_id
    assert model["attributes"]["process.pid"] > 0
    traced.exporter.clear()
    async with gibbs.open_hub(Model, name="m", **options) as hub:
        carried = await hub.request()
    assert carried["traceparent"].split("-")[2] == f"{traced.request('done').context.span_id:016x}"


def test_what_is_taken_from_the_conventions_is_theirs():
    theirs = {
        value
        for module in (rpc_attributes, error_attributes, process_attributes, host_attributes)
        for name, value in vars(module).items()
        if name.isupper()
    }
    assert {"rpc.system.name", "rpc.method", "error.type", "process.pid", "host.name"} <= theirs


def test_without_the_package_it_is_said_what_to_install():
    script = "import sys; sys.modules['opentelemetry'] = None; import gibbs.contrib.opentelemetry"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "pip install 'gibbs[opentelemetry]'" in done.stderr.splitlines()[-1]
