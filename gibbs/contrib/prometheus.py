"""What happens in hubs, counted for Prometheus: an observer that keeps metrics.

Knows `gibbs.events` and prometheus_client. Must never ask a hub: whoever scrapes may be in another thread, where a hub cannot be asked. Promises
that each gauge is 0 again when a hub has ended, however it did.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

try:
    from prometheus_client import REGISTRY, Counter, Gauge, Histogram
except ModuleNotFoundError:
    raise ImportError(
        "gibbs.contrib.prometheus counts by prometheus-client, which is not installed: pip install 'gibbs[prometheus]'"
    ) from None

from .. import events
from .._errors import StartFailure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prometheus_client import CollectorRegistry

__all__ = ["Metrics"]

_BUCKETS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0),
)

_WITH_A_WORKER = ("starting", "spare", "serving", "interrupting", "dying")  # seats in other states have none
_USUAL_CAUSES = ("exited", "SIGABRT", "SIGBUS", "SIGKILL", "SIGSEGV")


class Metrics:
    """Counts what happens in the hubs that it observes: `open_hub(observers=[metrics])`.

    One is enough for a program: several hubs may share it, and the label `hub` tells them apart by name. Nothing is asked of a hub when it is
    scraped, so any thread may. Each metric, with its labels, is listed in docs/metrics.md.

    Args:
        registry: of prometheus_client, where the metrics are registered.
        namespace: what their names begin with.
        buckets: the upper bounds of the histograms, in seconds, ascending; by default from 100 µs to 5 minutes.

    Raises:
        ValueError: the registry has metrics of these names already, those of another `Metrics` for example.

    Example:
        ```python
        metrics = Metrics()
        async with gibbs.open_hub(Model, workers=4, observers=[metrics]) as hub:
            ...
        ```
    """

    def __init__(
        self,
        *,
        registry: CollectorRegistry = REGISTRY,
        namespace: str = "gibbs",
        buckets: Sequence[float] = _BUCKETS,
    ) -> None:
        def counter(name: str, about: str, *labels: str) -> Counter:
            return Counter(name, about, ("hub", *labels), namespace=namespace, registry=registry)

        def gauge(name: str, about: str, *labels: str, of_several: Literal["livesum", "liveall"] = "livesum") -> Gauge:
            # Of several processes that share a directory those that live are added up, or told apart by their pid.
            return Gauge(
                name, about, ("hub", *labels), namespace=namespace, registry=registry, multiprocess_mode=of_several
            )

        def histogram(name: str, about: str, *labels: str) -> Histogram:
            return Histogram(name, about, ("hub", *labels), namespace=namespace, registry=registry, buckets=buckets)

        self._requests = counter("requests", "Requests that ended, by their outcome.", "method", "outcome")
        self._waits = histogram("request_wait_seconds", "Until a request was sent to a worker, or ended.", "method")
        self._durations = histogram("request_duration_seconds", "From then on, of those that were sent.", "method")
        self._queued = gauge("requests_queued", "Requests that no worker has.")
        self._running = gauge("requests_running", "Requests that a worker has, also behind another.")
        self._turned_away = counter("requests_turned_away", "Requests that were never accepted.", "method")
        self._returned = counter("requests_returned", "How often one waited again that a worker had.")
        self._workers = gauge("workers", "Workers, by the state of their seat.", "state")
        self._leases = gauge("leases", "Workers that are held for a lease.")
        self._memory = gauge(
            "worker_memory_bytes", "In use by a seat's worker, measured while it runs.", "seat", of_several="liveall"
        )
        self._starts = histogram("worker_start_seconds", "From a worker's launch until its model was built.")
        self._start_failures = counter("start_failures", "Workers that did not become ready.", "reason")
        self._deaths = counter("worker_deaths", "Workers that ended, and not by plan.", "cause")
        self._recycled = counter("workers_recycled", "Workers that were well, and had done enough.")
        self._slow_calls = counter("slow_calls", "Calls that ran for longer than slow_call says.", "method")
        self._cleanups = counter("cleanups", "Workers that are free of a cancelled call, or were ended for it.", "kept")
        self._reloads = counter("reloads", "Reloads that are over.", "outcome")
        self._expected: set[tuple[str, str]] = set()  # hub and method

    def __call__(self, event: events.Event) -> None:
        """Count it."""
        hub = event.hub
        match event:
            case events.RequestAccepted(method=method):
                if (hub, method) not in self._expected:
                    self._expect(hub, method)
                self._queued.labels(hub).inc()
            case events.RequestTurnedAway(method=method):
                if (hub, method) not in self._expected:
                    self._expect(hub, method)
                self._turned_away.labels(hub, method).inc()
            case events.RequestSent():
                self._queued.labels(hub).dec()
                self._running.labels(hub).inc()
            case events.RequestReturned():
                self._running.labels(hub).dec()
                self._queued.labels(hub).inc()
                self._returned.labels(hub).inc()
            case events.RequestEnded(method=method, seat=seat):
                (self._queued if seat is None else self._running).labels(hub).dec()
                self._requests.labels(hub, method, event.outcome).inc()
                self._waits.labels(hub, method).observe(event.waited)
                if seat is not None:
                    self._durations.labels(hub, method).observe(event.took)
            case events.SeatChanged(before=before, after=after):
                if before in _WITH_A_WORKER:
                    self._workers.labels(hub, before).dec()
                if after in _WITH_A_WORKER:
                    self._workers.labels(hub, after).inc()
            case events.SeatLeased(held=held):
                self._leases.labels(hub).inc(1 if held else -1)
            case events.WorkerReady():
                self._starts.labels(hub).observe(event.took)
            case events.StartFailed():
                self._start_failures.labels(hub, event.error.reason).inc()
            case events.WorkerMeasured():
                self._memory.labels(hub, event.seat).set(event.rss)
            case events.WorkerEnded(reason=reason, ending=ending):
                self._memory.labels(hub, event.seat).set(0)
                if reason == "died":
                    self._deaths.labels(hub, ending.signal or ending.how).inc()
                elif reason == "recycled":
                    self._recycled.labels(hub).inc()
            case events.CallIsSlow(method=method):
                self._slow_calls.labels(hub, method).inc()
            case events.CleanedUp():
                self._cleanups.labels(hub, "true" if event.kept else "false").inc()
            case events.HubReloaded():
                self._reloads.labels(hub, "done" if event.error is None else "failed").inc()
            case events.HubChanged(state="open"):
                self._expect_changes(hub)

    # Prometheus sees how a series grows, and not that it began: the first of its kind would be lost in a rate. So they begin at 0.

    def _expect(self, hub: str, method: str) -> None:
        self._expected.add((hub, method))
        for outcome in get_args(events.Outcome):
            self._requests.labels(hub, method, outcome)
        self._turned_away.labels(hub, method)
        self._slow_calls.labels(hub, method)

    def _expect_changes(self, hub: str) -> None:
        for one in (self._queued, self._running, self._returned, self._leases, self._recycled):
            one.labels(hub)
        for metric, values in (
            (self._workers, _WITH_A_WORKER),
            (self._start_failures, get_args(StartFailure)),
            (self._deaths, _USUAL_CAUSES),
            (self._cleanups, ("true", "false")),
            (self._reloads, ("done", "failed")),
        ):
            for value in values:
                metric.labels(hub, value)


Metrics.__module__ = "gibbs.contrib.prometheus"
