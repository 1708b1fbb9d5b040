"""The worker's half of `gibbs.contrib.opentelemetry`: a span around each call of the model, in the trace of its caller.

Knows what came along with a request, and opentelemetry's API. Must never need an SDK: without one nothing is recorded, and the context is
the caller's all the same. It is apart since a worker imports it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from opentelemetry import propagate, trace
from opentelemetry.context import attach, detach
from opentelemetry.trace import Link, SpanKind, StatusCode, Tracer

from .. import Interrupted, current_worker

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextvars import Token
    from types import TracebackType

    from opentelemetry.context import Context
    from opentelemetry.trace import Span

    Carrier = Mapping[str, str]  # what opentelemetry's propagators have written

# Those of this process, which are found again where the workers are threads of it.
_here: WeakValueDictionary[tuple[int, int], ModelSpans] = WeakValueDictionary()


class ModelSpans:
    """What is around each call: `gibbs.abc.Propagator.around`. By the tracer provider that the worker's program has set, if it has."""

    def __init__(self, tracer: Tracer | None = None) -> None:
        self._tracer = trace.get_tracer("gibbs") if tracer is None else tracer

    def __call__(self, method: str, values: Sequence[Carrier]) -> ModelSpan:
        return ModelSpan(self._tracer, method, values)

    def __reduce__(self) -> Any:
        key = os.getpid(), id(self)
        _here[key] = self
        return _arrived, key


def _arrived(process: int, number: int) -> ModelSpans:
    return _here.get((process, number)) or ModelSpans()


class ModelSpan:
    """One call of the model. A call for several callers has links to all of them, and is in the trace of the first that is sampled."""

    def __init__(self, tracer: Tracer, method: str, values: Sequence[Carrier]) -> None:
        self._tracer = tracer
        self._method = method
        self._values = values
        self._span: Span = trace.INVALID_SPAN
        self._token: Token[Context] | None = None

    def __enter__(self) -> None:
        context, links = _of_callers(self._values)
        worker = current_worker()
        method = f"{worker.name}/{self._method}"
        self._span = self._tracer.start_span(
            method, context, SpanKind.SERVER, {"rpc.system.name": "gibbs", "rpc.method": method}, links
        )
        if self._span.is_recording():
            self._span.set_attributes(
                {
                    "gibbs.hub": worker.name,
                    "gibbs.seat": worker.seat,
                    "gibbs.incarnation": worker.incarnation,
                    "process.pid": os.getpid(),
                    "host.name": os.uname().nodename,
                }
            )
            if links:
                self._span.set_attribute("gibbs.batch.size", len(links))
        self._token = attach(trace.set_span_in_context(self._span, context))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._token is not None:
            detach(self._token)
        try:
            if isinstance(error, Interrupted):
                self._span.set_attribute("gibbs.outcome", "cancelled")
            elif error is not None:
                self._span.set_attribute("error.type", name_of(type(error)))
                self._span.set_status(StatusCode.ERROR)
                self._span.record_exception(error)  # which asks the model's exception what it says
        finally:
            self._span.end()


def _of_callers(values: Sequence[Carrier]) -> tuple[Context, list[Link]]:
    """The context of the call, and links to its callers, if there are several."""
    contexts = [propagate.extract(carrier) for carrier in values]
    if len(contexts) == 1:
        return contexts[0], []
    callers = [trace.get_current_span(context).get_span_context() for context in contexts]
    parent = next((caller for caller in callers if caller.trace_flags.sampled), callers[0])
    # Their baggage is not brought: it is of several callers.
    return trace.set_span_in_context(trace.NonRecordingSpan(parent)), [Link(caller) for caller in callers]


def name_of(kind: type[BaseException]) -> str:
    """A class by its full name; without `builtins`."""
    return f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
