"""What happens in a hub, as typed records: one for each change that a person on call would ask about.

They are given to `open_hub(observers=[...])`: each observer is a function that takes one, called in the hub's event loop right after the
change. It must be quick, since the hub waits for it; it may read `hub.statistics()` and nothing else of the hub. One that raises is said once, by
the logger `gibbs`, and called again for the next event. With no observers nothing is recorded, and a request costs what it did.

Example:
    ```python
    from gibbs import events


    def complain(event):
        match event:
            case events.WorkerEnded(planned=False):
                print(f"worker {event.seat} of {event.hub} died: {event.probable_cause}")
            case events.RequestEnded(outcome="done") if event.waited > 1:
                print(f"request {event.number} waited for {event.waited:.1f} s")


    async with gibbs.open_hub(Model, workers=4, observers=[complain]) as hub:
        ...
    ```
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ._errors import HubClosed, WorkerCrashed, WorkerStartFailed
    from ._records import Ending, WorkerStack

__all__ = [
    "CallIsSlow",
    "CleanedUp",
    "Event",
    "HubChanged",
    "HubReloaded",
    "HubResized",
    "Observer",
    "RequestAccepted",
    "RequestEnded",
    "RequestEvent",
    "RequestReturned",
    "RequestSent",
    "RequestTurnedAway",
    "SeatChanged",
    "SeatLeased",
    "StartFailed",
    "WorkerEnded",
    "WorkerMeasured",
    "WorkerReady",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What all of them have.

    Attributes:
        hub: the hub's name.
        at: seconds on the event loop's clock, `anyio.current_time()`.
    """

    hub: str
    at: float


Observer: TypeAlias = "Callable[[Event], None]"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestEvent(Event):
    """What those of one request have.

    Attributes:
        number: counts the hub's requests, from 1.
        propagated: what the request has of its caller's context, by the names of what is in `open_hub(propagate=)`: the values of context
            variables that were set, and what propagators gave. Empty without.
    """

    number: int
    propagated: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestAccepted(RequestEvent):
    """Somebody asks. Each accepted request ends, by exactly one `RequestEnded`.

    Attributes:
        method: the model's, "__call__" for the model itself; "" of one who asks for a lease.
    """

    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTurnedAway(Event):
    """Somebody asks, and gets HubOverloaded at once. It was not accepted, and has no number.

    Attributes:
        method: as in `RequestAccepted`.
        pending: how many requests wait.
        needed: seconds that calls take, of a hub that sheds, if that is more than the caller has left; None: as many wait as `max_pending` allows.
    """

    method: str
    pending: int
    needed: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSent(RequestEvent):
    """It is on its way to a worker, which may have others to do before it.

    Attributes:
        seat: the seat's index.
        incarnation: the how-manieth worker of that seat.
    """

    seat: int
    incarnation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestReturned(RequestEvent):
    """It waits in its old place again: it was taken back before it began, its worker died before that, or it may be tried again.

    Attributes:
        seat, incarnation: the worker that had it.
    """

    seat: int
    incarnation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CallIsSlow(RequestEvent):
    """A call has run for longer than `open_hub(slow_call=)` says, and runs on. It is told once; of a batch as the first request's.

    Attributes:
        method: as in `RequestAccepted`.
        seat, incarnation: the worker that runs it.
        took: seconds that it has run.
        stack: where it is now.
    """

    method: str
    seat: int
    incarnation: int
    took: float
    stack: WorkerStack


Outcome: TypeAlias = Literal["done", "failed", "cancelled", "expired", "refused", "crashed", "leased"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestEnded(RequestEvent):
    """Its outcome is known; the worker of a cancelled one may be busy with it for a while.

    Attributes:
        method: as in `RequestAccepted`.
        outcome: "done", by a result; "failed", by an exception of the model's; "cancelled"; "expired" after its `max_wait`; "refused", since the hub
            closed; "crashed", with its worker; "leased", since it had asked for a lease and has it.
        seat: of the worker that had it; None if none had, also if one had before and it was returned.
        waited: seconds until it was sent there, or until its end.
        took: seconds from then on; 0.0 if it was not sent.
        error: of a "failed" one, the class of the exception, by its name: "ValueError", "mymodel.TooLong"; else "".
        crash: of a "crashed" one, how its worker ended, as its caller is told; else None.
    """

    method: str
    outcome: Outcome
    seat: int | None
    waited: float
    took: float
    error: str = ""
    crash: WorkerCrashed | None = None


SeatState: TypeAlias = Literal["vacant", "starting", "spare", "serving", "interrupting", "dying", "retired"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeatChanged(Event):
    """A seat's worker does something else now.

    Attributes:
        seat: the seat's index.
        incarnation: the how-manieth worker of that seat; 0 before the first.
        before, after: the states, as `hub.statistics().seats` counts them.
    """

    seat: int
    incarnation: int
    before: SeatState
    after: SeatState


@dataclass(frozen=True, slots=True, kw_only=True)
class SeatLeased(Event):
    """A seat's worker is held for a lease, or is not any more.

    Attributes:
        seat, incarnation: which one.
        held: whether it is held.
    """

    seat: int
    incarnation: int
    held: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReady(Event):
    """A worker has built its model.

    Attributes:
        seat, incarnation: which one.
        pid: its process id, if that is known.
        host: where it runs; "" for this machine.
        took: seconds since its launch.
    """

    seat: int
    incarnation: int
    pid: int | None
    host: str
    took: float


EndReason: TypeAlias = Literal["died", "cancelled", "recycled", "dismissed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerEnded(Event):
    """A worker that was ready is gone.

    Attributes:
        seat, incarnation, pid, host: which one.
        ending: how its process ended, its last lines of output, and where it was if a fault in native code has ended it.
        reason: "died", by itself or by somebody's hand; "cancelled": a cancelled call could not be stopped otherwise; "recycled", by
            `RestartPolicy(recycle=)`; "dismissed": the hub closes, becomes smaller or reloads.
        probable_cause: why it died, or was recycled, in a sentence; "" if nobody knows.
    """

    seat: int
    incarnation: int
    pid: int | None
    host: str
    ending: Ending
    reason: EndReason
    probable_cause: str

    @property
    def planned(self) -> bool:
        """Whether it was to go."""
        return self.reason != "died"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerMeasured(Event):
    """What a worker takes: told once a second while anything runs, of workers on this machine, where there is a /proc.

    Attributes:
        seat, incarnation: which one.
        rss: bytes of memory in use by it, those that it shares with others included, as `Recycle(max_rss=)` counts.
    """

    seat: int
    incarnation: int
    rss: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StartFailed(Event):
    """A worker did not become ready.

    Attributes:
        seat, incarnation: which one.
        error: why, and its last lines of output.
    """

    seat: int
    incarnation: int
    error: WorkerStartFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanedUp(Event):
    """The worker of a cancelled call is free of it: that was interrupted, or has run out.

    Attributes:
        seat, incarnation: which one.
        number: the request's.
        kept: whether the worker goes on; False: it had to be ended.
    """

    seat: int
    incarnation: int
    number: int
    kept: bool


HubState: TypeAlias = Literal["open", "draining", "closed", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HubChanged(Event):
    """The hub is open, or takes no more requests.

    Attributes:
        state: "open": its body is entered; "draining"; "closed"; "failed".
        error: why it failed; else None.
    """

    state: HubState
    error: BaseException | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HubResized(Event):
    """Somebody, or its Elastic, has said how many workers are to serve.

    Attributes:
        before, after: how many.
    """

    before: int
    after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HubReloaded(Event):
    """A reload is over.

    Attributes:
        error: why the model before serves again, or still; None: all workers have the new one.
    """

    error: WorkerStartFailed | HubClosed | None
