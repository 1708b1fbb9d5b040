"""A service to be on call for. It has a fault, one of four, and docs/on_call.md tells how to find out which.

    pip install 'gibbs[fastapi,prometheus,opentelemetry]' opentelemetry-sdk
    uvicorn --app-dir examples on_call:app

Then there are its live page, http://127.0.0.1:8000/status/, its metrics, http://127.0.0.1:8000/metrics/, its slowest and its failed traces,
http://127.0.0.1:8000/traces, and the log. FAULT=leak, hang, poison, downstream or none chooses; by default chance does, and nobody is told
until the service ends. It has visitors of its own, twenty a second, and takes a minute or two to show what it has.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import random
import re
import socket
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import Listener, SocketAttribute, SocketStream
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from prometheus_client import make_asgi_app
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

import gibbs
from gibbs.contrib.opentelemetry import Tracing
from gibbs.contrib.prometheus import Metrics
from gibbs.contrib.starlette import AppHub, health_routes, lifespan, status_routes
from gibbs.history import History

FAULTS = ("leak", "hang", "poison", "downstream")
ODD = 99  # a page that few ask for


def spans_to(file: Path) -> TracerProvider:
    """Whoever calls this writes its spans there, a line of JSON each: the program, and each worker."""
    out = file.open("a", buffering=1)
    provider = TracerProvider()
    exporter = ConsoleSpanExporter(out=out, formatter=lambda span: span.to_json(indent=None) + "\n")
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider


class Reader:
    """Reads a page of a catalogue: how many words it has, and what they cost."""

    interruptible = True

    def __init__(self, fault: str, rates: int, spans: Path) -> None:
        self.fault = fault
        self.rates = rates
        self.pages: dict[Any, Any] = {}
        trace.set_tracer_provider(spans_to(spans))
        self.tracer = trace.get_tracer("reader")

    def __call__(self, page: int) -> float:
        picture, text = self.scan(page)
        return self.count(page, text) * len(picture) * self.rate()

    def scan(self, page: int) -> tuple[bytes, str]:
        """The picture and the text. Each is read once."""
        read_at = time.monotonic() if self.fault == "leak" else None
        if (page, read_at) not in self.pages:
            self.pages[page, read_at] = bytearray(1_000_000), "a word " * 20
        return self.pages[page, read_at]

    def count(self, page: int, text: str) -> int:
        if self.fault == "hang" and page == ODD:
            text += "!"  # then there are 2 to the power of 40 ways in which it does not match
        with self.tracer.start_as_current_span("count"):
            if self.fault == "hang" and not re.fullmatch(r"((\w+\s?)+)+", text):
                return 0
            if self.fault == "poison" and page == ODD:
                ctypes.string_at(0)  # what a faulty library does
            return len(text.split())

    def rate(self) -> float:
        """What a word costs today; another service knows."""
        with (
            self.tracer.start_as_current_span("rate", kind=trace.SpanKind.CLIENT),
            socket.create_connection(("127.0.0.1", self.rates)) as connection,
        ):
            return float(connection.recv(16))


# ------------------------------------------------------------------------------------------------------- the program

FAULT = os.environ.get("FAULT", random.choice(FAULTS))
VISITORS = float(os.environ.get("VISITORS", "20"))  # a second
PATIENCE = float(os.environ.get("PATIENCE", "30"))  # seconds, of a visitor
FEW = int(os.environ.get("FEW", "400"))  # one of so many asks for the odd page
CALM = float(os.environ.get("CALM", "60"))  # seconds for which the other service is well
SPANS = Path(tempfile.mkdtemp()) / "spans.jsonl"

history, metrics = History(), Metrics()
provider = spans_to(SPANS)
tracing = Tracing(tracer_provider=provider)
reader = AppHub(
    "reader",
    lambda: gibbs.open_hub(
        Reader,
        FAULT,
        app.state.rates,
        SPANS,
        workers=4,
        name="reader",
        max_pending=200,
        slow_call=3.0,
        restarts=gibbs.RestartPolicy(recycle=gibbs.Recycle(max_rss=200 << 20)),
        record_crashes=SPANS.parent / "crashes",
        observers=[history, metrics, tracing],
        propagate=[tracing],
    ),
)


async def serve_rates(listener: Listener[SocketStream]) -> None:
    """The other service, which is well at first."""
    opened_at = anyio.current_time()

    async def tell(client: SocketStream) -> None:
        async with client:
            await anyio.sleep(1.0 if FAULT == "downstream" and anyio.current_time() >= opened_at + CALM else 0.005)
            await client.send(b"0.07")

    await listener.serve(tell)


async def visit(hub: gibbs.Hub[Reader]) -> None:
    page = random.randrange(60) if random.randrange(FEW) else ODD
    with (
        provider.get_tracer("visitors").start_as_current_span("visit"),
        suppress(gibbs.GibbsError, TimeoutError),
        anyio.fail_after(PATIENCE),
    ):
        await hub.request(page)


@asynccontextmanager
async def open_service(app: Starlette) -> AsyncIterator[dict[str, Any]]:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    async with AsyncExitStack() as stack:
        tg = await stack.enter_async_context(anyio.create_task_group())
        stack.callback(tg.cancel_scope.cancel)
        rates = await stack.enter_async_context(await anyio.create_tcp_listener(local_host="127.0.0.1"))
        app.state.rates = rates.extra(SocketAttribute.local_port)
        tg.start_soon(serve_rates, rates)
        state = await stack.enter_async_context(lifespan(reader)(app))

        async def visitors() -> None:
            while True:
                await anyio.sleep(1 / VISITORS)
                tg.start_soon(visit, state["reader"])

        tg.start_soon(visitors)
        yield state
    print(f"the fault was: {FAULT}")


# -------------------------------------------------------------------------------------------------------- its traces


async def draw_traces(request: Request) -> PlainTextResponse:
    """The slowest and the failed of the last ones, as a collector would show them."""
    lines = (await anyio.Path(SPANS).read_text()).splitlines()[-12_000:]
    children = defaultdict(list)
    for span in map(json.loads, lines):
        children[span["parent_id"]].append(span)
    visits = [span for span in children[None] if span["name"] == "visit"]
    failed = [visit for visit in visits if any(is_error(span) for span in children[visit["context"]["span_id"]])]
    slowest = sorted(visits, key=seconds, reverse=True)
    return PlainTextResponse(
        "\n".join(
            [
                *("the last that failed", "", *(line for visit in failed[-3:] for line in tree(visit, children))),
                *("the slowest", "", *(line for visit in slowest[:3] for line in tree(visit, children))),
            ]
        )
    )


def tree(span: dict[str, Any], children: dict[Any, list[Any]], depth: int = 0) -> list[str]:
    shown = ("error.type", "gibbs.seat", "gibbs.outcome")
    notes = [f"{key}={value}" for key, value in span["attributes"].items() if key in shown]
    notes += [event["name"] for event in span["events"] if event["name"] != "exception"]
    line = f"{'  ' * depth}{span['name']}: {seconds(span):.3f} s {'ERROR' * is_error(span)} {' '.join(notes)}"
    below = sorted(children[span["context"]["span_id"]], key=lambda one: str(one["start_time"]))
    return [line.rstrip(), *(more for one in below for more in tree(one, children, depth + 1)), *[""] * (not depth)]


def is_error(span: dict[str, Any]) -> bool:
    return bool(span["status"]["status_code"] == "ERROR")


def seconds(span: dict[str, Any]) -> float:
    from datetime import datetime

    return (datetime.fromisoformat(span["end_time"]) - datetime.fromisoformat(span["start_time"])).total_seconds()


app = Starlette(
    routes=[
        *health_routes(reader),
        *status_routes(reader),
        Mount("/metrics", make_asgi_app()),
        Route("/traces", draw_traces),
    ],
    lifespan=open_service,
)
