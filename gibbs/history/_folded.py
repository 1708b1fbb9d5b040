"""One hub's events, folded into what it does now and what its last minutes were.

Knows events, and nothing of hubs. Pure: the time is an argument. Promises that what is kept is what lives, and as much of the past as was said.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from .. import events
from . import _gone as gone
from ._minutes import Ring
from ._records import HubStatus, SlowCall
from ._remarks import remarks_on
from ._seat import NOWHERE, Call, Seat

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._records import EndedWorker

_WITHOUT_A_WORKER = ("vacant", "retired")


class Folded:
    """What became of the events of one hub.

    Invariants: a request that was accepted and has not ended is in `_waiting`, in `_returned`, or held by a seat, and in one of them only.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.state: Any = "opening"
        self._error = ""
        self._opened_at: float | None = None
        self._seats: dict[int, Seat] = {}
        self._waiting: dict[int, tuple[float, str]] = {}  # when it was asked, and its method; in the order of asking
        self._returned: dict[int, tuple[float, str]] = {}  # the same of those that some worker had had
        self._running: dict[int, tuple[float, str, int]] = {}  # and at which seat
        self._counts: Counter[str] = Counter()
        self._last_slow: tuple[int, str, str, float] | None = None  # its number, method, where it was, and when
        self._ring = Ring()
        self._gone = gone.Gone()
        self._folds: dict[type[events.Event], Callable[[Any], None]] = {
            events.RequestAccepted: self._accepted,
            events.RequestTurnedAway: self._turned_away,
            events.RequestSent: self._sent,
            events.RequestReturned: self._back,
            events.RequestEnded: self._request_ended,
            events.SeatChanged: self._seat_changed,
            events.SeatLeased: self._leased,
            events.WorkerReady: self._ready,
            events.WorkerEnded: self._worker_ended,
            events.WorkerMeasured: self._measured,
            events.StartFailed: self._start_failed,
            events.CleanedUp: self._cleaned_up,
            events.CallIsSlow: self._slow,
            events.HubChanged: self._hub_changed,
            events.HubReloaded: self._reloaded,
        }

    def fold(self, event: events.Event) -> None:
        """This has happened."""
        fold = self._folds.get(type(event))
        if fold is not None:
            fold(event)

    @property
    def is_over(self) -> bool:
        """Whether its hub will start no more workers."""
        return self.state in ("closed", "failed")

    # ---- requests

    @property
    def _queued(self) -> int:
        return len(self._waiting) + len(self._returned)

    def _accepted(self, event: events.RequestAccepted) -> None:
        spell = self._ring.at(event.at, self._queued)
        self._waiting[event.number] = event.at, event.method
        self._counts["accepted"] += 1
        spell.queued = max(spell.queued, self._queued)

    def _turned_away(self, event: events.RequestTurnedAway) -> None:
        self._ring.at(event.at, self._queued).turned_away += 1
        self._counts["turned away"] += 1

    def _sent(self, event: events.RequestSent) -> None:
        number, seat = event.number, self._seats[event.seat]
        waiting = self._waiting if number in self._waiting else self._returned
        asked_at, method = waiting.pop(number)
        self._running[number] = asked_at, method, event.seat
        if not seat.held:
            seat.left = None  # or it would not have room
        seat.held[number] = Call(number, method, event.at)

    def _back(self, event: events.RequestReturned) -> None:
        spell = self._ring.at(event.at, self._queued)
        asked_at, method, seat = self._running.pop(event.number)
        self._let_go(self._seats[seat], event.number, event.at)
        self._returned[event.number] = asked_at, method
        self._counts["returned"] += 1
        spell.queued = max(spell.queued, self._queued)

    def _request_ended(self, event: events.RequestEnded) -> None:
        self._ring.count(event, self._queued)
        self._counts[event.outcome] += 1
        running = self._running.pop(event.number, None)
        if running is None:
            if self._waiting.pop(event.number, None) is None:
                self._returned.pop(event.number, None)
            return
        seat = self._seats[running[2]]
        answered = event.outcome in ("done", "failed")
        if answered:
            seat.left = None  # what it was busy with before is over
        was_first = next(iter(seat.held)) == event.number
        call = self._let_go(seat, event.number, event.at)
        if was_first and not answered and seat.state not in ("dying", *_WITHOUT_A_WORKER):
            call.left = True
            seat.left = call

    def _let_go(self, seat: Seat, number: int, at: float) -> Call:
        """The next one begins, if it was the first."""
        was_first = next(iter(seat.held)) == number
        call = seat.held.pop(number)
        if was_first and seat.held:
            following = next(iter(seat.held.values()))
            following.since = max(following.since, at)
        return call

    # ---- seats and their workers

    def _seat_changed(self, event: events.SeatChanged) -> None:
        seat = self._seats.setdefault(event.seat, Seat())
        seat.state, seat.since, seat.incarnation = event.after, event.at, event.incarnation
        if event.after == "dying":
            seat.had, seat.left = seat.call, None
        elif event.before == "interrupting" and event.after == "serving":
            seat.left = None
        elif event.after == "retired":
            del self._seats[event.seat]

    def _leased(self, event: events.SeatLeased) -> None:
        self._seats[event.seat].leased_at = event.at if event.held else None

    def _ready(self, event: events.WorkerReady) -> None:
        seat = self._seats[event.seat]
        seat.pid, seat.host, seat.ready_at = event.pid, event.host, event.at

    def _measured(self, event: events.WorkerMeasured) -> None:
        seat = self._seats[event.seat]
        if seat.ready_at is None:
            return  # while it builds its model it grows
        seat.memory = event.rss if seat.memory is None else seat.memory[0], event.rss

    def _cleaned_up(self, event: events.CleanedUp) -> None:
        self._counts["kept" if event.kept else "killed"] += 1
        seat = self._seats[event.seat]
        if seat.left is not None and seat.left.number == event.number:
            seat.left = None

    def _slow(self, event: events.CallIsSlow) -> None:
        self._ring.at(event.at, self._queued).slow += 1
        where = event.stack.place or NOWHERE
        self._last_slow = event.number, event.method, where, event.at
        call = self._seats[event.seat].call
        if call is not None and call.number == event.number:
            call.where = where
            call.stack = gone.cut(str(event.stack))

    def _worker_ended(self, event: events.WorkerEnded) -> None:
        seat = self._seats[event.seat]
        had, seat.had = seat.had, None
        lived = None if seat.ready_at is None else event.at - seat.ready_at
        seat.pid, seat.host, seat.ready_at, seat.memory = None, "", None, None
        if not (event.planned and self.is_over):
            number, method, since = (None, "", event.at) if had is None else (had.number, had.method, had.since)
            self._is_gone(event, gone.ended(event, lived, number, method, max(0.0, event.at - since)))

    def _start_failed(self, event: events.StartFailed) -> None:
        self._is_gone(event, gone.unstarted(event))

    def _is_gone(self, event: events.Event, worker: EndedWorker) -> None:
        spell = self._ring.at(event.at, self._queued)
        if worker.kind == "died":
            spell.died += 1
        elif worker.kind == "unstarted":
            spell.unstarted += 1
        else:
            spell.replaced += 1
        if worker.kind != "cancelled":  # which is counted as "killed", when it is decided
            self._counts[worker.kind] += 1
        self._gone.add(event.at, worker)

    # ---- the hub

    def _hub_changed(self, event: events.HubChanged) -> None:
        self.state = event.state
        if event.state == "open":
            self._opened_at = event.at
        if event.error is not None:
            self._error = gone.cut(f"{type(event.error).__name__}: {event.error}")

    def _reloaded(self, event: events.HubReloaded) -> None:
        self._counts["reloads" if event.error is None else "reloads undone"] += 1

    # ---- what it is now

    def status(self, now: float) -> HubStatus:
        """All of it."""
        self._ring.at(now, self._queued)
        oldest = [at for at, _ in (*islice(self._waiting.values(), 1), *self._returned.values())]
        status = HubStatus(
            name=self.name,
            state=self.state,
            error=self._error,
            opened=None if self._opened_at is None else max(0.0, now - self._opened_at),
            seats=tuple(seat.status(index, now, self._ring.usual) for index, seat in sorted(self._seats.items())),
            queued=self._queued,
            oldest_wait=max(0.0, now - min(oldest)) if oldest else 0.0,
            running=len(self._running),
            counts=dict(self._counts),
            methods=self._ring.methods(),
            minutes=self._ring.minutes(now),
            last_slow=self._slow_call(now),
            ended=self._gone.workers(now),
            remarks=(),
        )
        return replace(status, remarks=remarks_on(status))

    def _slow_call(self, now: float) -> SlowCall | None:
        if self._last_slow is None:
            return None
        number, method, where, at = self._last_slow
        return SlowCall(number=number, method=method, where=where, ago=max(0.0, now - at))
