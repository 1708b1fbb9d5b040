"""What happens to requests, as spans of OpenTelemetry: an observer that is a propagator too.

Knows `gibbs.events` and opentelemetry's API, and no SDK. Keeps nothing of a request itself: its span is in what was propagated, so a request
that is never accepted leaves nothing behind. Promises that each request which is accepted, and sampled, has its span exported once, with what
is told of it inside of it.
"""

from __future__ import annotations

from time import monotonic_ns, time_ns
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

try:
    from opentelemetry import propagate, trace
except ModuleNotFoundError:
    raise ImportError(
        "gibbs.contrib.opentelemetry needs opentelemetry-api, which is not installed: pip install 'gibbs[opentelemetry]'"
    ) from None
from opentelemetry.trace import SpanKind, StatusCode

from .. import events
from .._errors import HubClosed, HubOverloaded
from ._model_spans import ModelSpans, name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from opentelemetry.trace import Span, Tracer, TracerProvider

__all__ = ["Tracing"]

_REFUSALS = {"expired": HubOverloaded, "refused": HubClosed}


class Tracing:
    """Traces what is asked of the hubs that have it, as observer and to be propagated: `observers=[tracing], propagate=[tracing]`.

    Each request is a span of its caller's trace, in which one sees how long it was queued and how long a worker had it; the call of the model
    is one too, from the worker, if its program has set up an SDK. What the model does is in the same trace, whether it has or not: an HTTP
    client that is instrumented sends it on. Spans and attributes are listed in docs/traces.md.

    One is enough for a program. With `propagate` alone there are no spans of the hub's: calls are children of their caller's own span.

    Args:
        tracer_provider: of the hub's spans, and in `gibbs.testing.open_inline_hub` of the model's; by default the one that the program has
            set. Workers that are processes have their own: the one that is set there, by the model for example.

    Example:
        ```python
        tracing = Tracing()
        async with gibbs.open_hub(Model, workers=4, observers=[tracing], propagate=[tracing]) as hub:
            ...
        ```
    """

    name = "opentelemetry"

    def __init__(self, *, tracer_provider: TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer("gibbs", tracer_provider=tracer_provider)
        self._around = ModelSpans(None if tracer_provider is None else self._tracer)
        self._observed: set[str] = set()  # hubs, by name: of others nobody would end a span

    @property
    def around(self) -> Callable[[str, Sequence[Any]], AbstractContextManager[object]]:
        """The worker's half, see `gibbs.abc.Propagator`."""
        return self._around

    def capture(self, hub: str, method: str) -> object | None:
        """The caller's trace, with a span for this request, see `gibbs.abc.Propagator`."""
        carrier: dict[str, str] = {}
        if hub not in self._observed:
            propagate.inject(carrier)
            return carrier or None
        request = _Request(self._tracer, carrier, hub, method)
        return request if request.span.is_recording() else carrier or None

    def __call__(self, event: events.Event) -> None:
        """Draw it."""
        match event:
            case events.RequestEvent(propagated={"opentelemetry": _Request() as request}):
                request.note(event)
            case events.HubChanged(state="open", hub=hub):
                self._observed.add(hub)


class _Request:
    """The span of one request, and its parts as they come. What is pickled of it is what goes along.

    Invariant: `_since` is when the part began in which the request is now, 0 before it is accepted.
    """

    __slots__ = ("_carrier", "_context", "_hub", "_name", "_offset", "_since", "_tracer", "_worker", "span")

    def __init__(self, tracer: Tracer, carrier: dict[str, str], hub: str, method: str) -> None:
        # One clock for all that is told of it, which nobody sets meanwhile: so parts lie within the whole.
        began = time_ns()
        self._offset = began - monotonic_ns()
        self._since = 0
        self._tracer = tracer
        self._hub = hub
        self._worker: dict[str, int] = {}  # that has it
        if method:
            self._name = f"{hub}/{method}"
            kind, attributes = SpanKind.CLIENT, {"rpc.system.name": "gibbs", "rpc.method": self._name}
        else:
            self._name = f"lease {hub}"
            kind, attributes = SpanKind.INTERNAL, {}
        self.span: Span = tracer.start_span(
            self._name, kind=kind, attributes={**attributes, "gibbs.hub": hub}, start_time=began
        )
        self._context = trace.set_span_in_context(self.span)
        self._carrier = carrier
        propagate.inject(carrier, self._context)

    def __reduce__(self) -> Any:
        return dict, (self._carrier,)

    def note(self, event: events.RequestEvent) -> None:
        """It goes on, or has ended."""
        now = monotonic_ns() + self._offset
        match event:
            case events.CallIsSlow():
                self.span.add_event("gibbs.slow_call", {"code.stacktrace": str(event.stack)}, now)
                return
            case events.RequestAccepted():
                self.span.set_attribute("gibbs.request.number", event.number)
            case events.RequestSent():
                self._part("queue", now)
                self._worker = {"gibbs.seat": event.seat, "gibbs.incarnation": event.incarnation}
            case events.RequestReturned():
                self._part("exchange", now, {"gibbs.outcome": "returned"})
                self._worker = {}
            case events.RequestEnded():
                facts: dict[str, Any] = {"gibbs.outcome": event.outcome}
                if error := _error_type(event):
                    facts["error.type"] = error
                self._part("exchange" if self._worker else "queue", now, facts)
                self.span.set_attributes({**facts, **self._worker})
                if event.crash is not None:
                    self.span.record_exception(event.crash, timestamp=now)
                if error:
                    self.span.set_status(StatusCode.ERROR, "" if event.crash is None else str(event.crash))
                self.span.end(now)
        self._since = now

    def _part(self, what: str, until: int, facts: Mapping[str, Any] = MappingProxyType({})) -> None:
        part = self._tracer.start_span(
            f"{what} {self._name}",
            self._context,
            attributes={"gibbs.hub": self._hub, **self._worker, **facts},
            start_time=self._since,
        )
        if "error.type" in facts:
            part.set_status(StatusCode.ERROR)
        part.end(until)


def _error_type(event: events.RequestEnded) -> str:
    """The class of what its caller is told, if that is an error. That somebody does not want it any more is none."""
    match event.outcome:
        case "failed":
            return event.error or "_OTHER"
        case "crashed" | "expired" | "refused":
            return name_of(type(event.crash) if event.crash is not None else _REFUSALS[event.outcome])
        case _:
            return ""


Tracing.__module__ = "gibbs.contrib.opentelemetry"
