"""Frozen records of what a history knows of a hub, at one moment. They know nothing of how it came about."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..events import EndReason, HubState, Outcome, SeatState


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantiles:
    """How long something took, of many. To within an eighth; None where there was nothing.

    Attributes:
        count: of how many.
        p50: seconds that half of them took at most.
        p99: seconds that 99 of 100 took at most.
    """

    count: int
    p50: float | None
    p99: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningCall:
    """What a worker does.

    Attributes:
        number: the request's.
        method: the model's.
        seconds: since it could begin.
        left: whether its caller has left, and the worker may be busy with it all the same.
        overdue: whether it takes far longer than such calls do; or the hub has said that it is slow.
        where: the line of code that it was at when the hub said so; or "".
        stack: the whole stack then, as a traceback shows it; or "".
    """

    number: int
    method: str
    seconds: float
    left: bool
    overdue: bool
    where: str
    stack: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SeatStatus:
    """A seat, and what its worker does.

    Attributes:
        seat: the seat's index.
        incarnation: the how-manieth worker of that seat.
        state: as in `gibbs.events.SeatChanged`.
        seconds: it has been in that state.
        pid: of its worker; None if there is none that is ready, or nobody knows.
        host: where that runs; "" for this machine.
        age: seconds since it was ready; None if it is not.
        call: what it runs; None if it has nothing to do.
        ahead: how many requests it has behind that, sent ahead or in the same call.
        leased: seconds that it has been held for a lease; None if it is not.
        memory: bytes that its worker took when that was measured last; None if it was not.
        memory_at_first: the same, when it was measured first.
    """

    seat: int
    incarnation: int
    state: SeatState
    seconds: float
    pid: int | None
    host: str
    age: float | None
    call: RunningCall | None
    ahead: int
    leased: float | None
    memory: int | None
    memory_at_first: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodStatus:
    """How calls of a method have been.

    Attributes:
        method: the model's, "__call__" for the model itself; "" of those who ask for a lease; "…" all that are one too many to be told apart.
        ended: of the last minute, by outcome.
        errors: of those that failed, by the class of the exception, as many kinds as are told apart.
        waited, took: of the last minute: until they were sent to a worker; from then on, of those that had an answer.
        usually_waited, usually_took: the same, of all before.
        best_took: seconds that half of them took in the best five seconds before, of those with 20 or more; None if there were none. What has been slow
            for long is usual, but not that.
    """

    method: str
    ended: Mapping[Outcome, int]
    errors: Mapping[str, int]
    waited: Quantiles
    took: Quantiles
    usually_waited: Quantiles
    usually_took: Quantiles
    best_took: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Minutes:
    """The last minutes as columns, of which each has one value for each spell of time; the oldest first, the last is not over yet.

    Attributes:
        width: seconds of a spell.
        elapsed: seconds of the last one that are over.
        ended: how many requests, by outcome; those outcomes alone that there were.
        waited_p50, waited_p99, took_p50, took_p99: seconds, as in `MethodStatus`; None where there was nothing.
        queued: the longest queue.
        died: workers that died.
        replaced: workers that went by plan, or for a cancelled call.
        unstarted: workers that did not become ready.
        turned_away: requests that were never accepted, for want of room or of time.
        slow: calls that have come to run for longer than `open_hub(slow_call=)` says.
    """

    width: float
    elapsed: float
    ended: Mapping[Outcome, tuple[int, ...]]
    waited_p50: tuple[float | None, ...]
    waited_p99: tuple[float | None, ...]
    took_p50: tuple[float | None, ...]
    took_p99: tuple[float | None, ...]
    queued: tuple[int, ...]
    died: tuple[int, ...]
    replaced: tuple[int, ...]
    unstarted: tuple[int, ...]
    turned_away: tuple[int, ...]
    slow: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedWorker:
    """One that is gone, or never came.

    Attributes:
        kind: "died", "cancelled", "recycled" or "dismissed", as in `gibbs.events.WorkerEnded`; "unstarted", it did not become ready.
        ago: seconds.
        seat, incarnation, pid, host: which one.
        how: how its process ended, in words.
        why: the probable cause, in words; or "".
        lived: seconds since it was ready; None if it never was.
        number: of the request that it had; None if it had none.
        method: of that request.
        ran: seconds that it had had it.
        deaths: how many workers have died of that request, this one included.
        tail: its last lines of output, cut.
        stack: where it was, cut; or "".
    """

    kind: EndReason | Literal["unstarted"]
    ago: float
    seat: int
    incarnation: int
    pid: int | None
    host: str
    how: str
    why: str
    lived: float | None
    number: int | None
    method: str
    ran: float
    deaths: int
    tail: str
    stack: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowCall:
    """A call that has run for longer than `open_hub(slow_call=)` says; it may be over.

    Attributes:
        number: the request's.
        method: the model's.
        where: the line that it was at, and where that was called from; or that it does not say.
        ago: seconds since that was found.
    """

    number: int
    method: str
    where: str
    ago: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """What stands out, in a sentence.

    Attributes:
        level: "bad": somebody should look; "odd": worth knowing.
        about: "hub", "starts", "poison", "deaths", "overdue", "slow", "full", "turned away", "memory", "recycled" or "cancelled".
        text: the sentence.
    """

    level: Literal["bad", "odd"]
    about: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HubStatus:
    """What a hub does, and what its last minutes were.

    Attributes:
        name: the hub's.
        state: "opening", or as in `gibbs.events.HubChanged`.
        error: why it has failed; or "".
        opened: seconds since it was open; None if it never was.
        seats: those that may have a worker, by index.
        queued: requests that no worker has.
        oldest_wait: seconds that the one which was asked first of them has waited; 0.0 for an empty queue.
        running: requests that a worker has, those sent ahead among them.
        counts: since the hub was there: requests "turned away", "accepted", "returned" and by outcome; workers "died",
            "recycled", "dismissed", "unstarted", "kept" and "killed" for a cancelled call; "reloads", and "reloads undone".
        methods: those that were asked for.
        minutes: the last ones.
        last_slow: the last that ran for longer than `open_hub(slow_call=)` says; None: there was none.
        ended: workers that are gone, the last first: as many as are kept.
        remarks: what stands out, the worst first.
    """

    name: str
    state: HubState | Literal["opening"]
    error: str
    opened: float | None
    seats: tuple[SeatStatus, ...]
    queued: int
    oldest_wait: float
    running: int
    counts: Mapping[str, int]
    methods: tuple[MethodStatus, ...]
    minutes: Minutes
    last_slow: SlowCall | None
    ended: tuple[EndedWorker, ...]
    remarks: tuple[Remark, ...]


def as_data(record: Any) -> Any:
    """A record of this module as dicts, tuples, words and numbers: what `json.dumps` takes."""
    if is_dataclass(record) and not isinstance(record, type):
        return {field.name: as_data(getattr(record, field.name)) for field in fields(record)}
    if isinstance(record, tuple) and record and is_dataclass(record[0]):
        return [as_data(one) for one in record]
    return record


for _public in (
    *(Quantiles, RunningCall, SeatStatus, SlowCall, MethodStatus, Minutes, EndedWorker, Remark, HubStatus, as_data),
):
    _public.__module__ = "gibbs.history"
