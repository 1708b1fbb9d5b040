"""Tells observers what happens in one hub, in order and right after it.

Knows transitions of the core and says them as `gibbs.events`. Must never change anything, nor let an observer do so by raising. Promises that each
request that was told to be accepted is told to have ended, once.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from .. import events
from .._core.ticket import Answer, Lost, TicketState
from .._core.watched import Accepted, Ended, Leased, Moved, RanOut, Returned, Sent, TurnedAway
from .._core.watched import WatchedDispatcher as WatchedDispatcher
from .._wire.failure import failure_name
from .death import crash_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._core.seat import Seat
    from .._core.ticket import Ticket
    from .._core.watched import Transition
    from .._errors import HubClosed, WorkerCrashed, WorkerStartFailed
    from .._options import HubOptions
    from .._records import Origin, WorkerStack
    from .worker import Worker

logger = logging.getLogger("gibbs")

_OUTCOMES: dict[TicketState, events.Outcome] = {
    TicketState.CANCELLED: "cancelled",
    TicketState.EXPIRED: "expired",
    TicketState.REFUSED: "refused",
    TicketState.LOST: "crashed",
    TicketState.LEASED: "leased",
}


class Observers:
    """Those of one hub.

    Invariant: `_sent` has, for each request that some worker has, which one that is and since when.
    """

    def __init__(
        self,
        options: HubOptions,
        dispatcher: WatchedDispatcher,
        now: Callable[[], float],
    ) -> None:
        self._hub = options.name
        self._observers = options.observers
        self._dispatcher = dispatcher
        self._now = now
        self._trusted = options.results is None  # the workers
        self._sent: dict[int, tuple[float, int, int]] = {}
        self._raised: set[int] = set()  # which of them have

    def tell(self) -> None:
        """What the core has done meanwhile."""
        if self._dispatcher.happened:
            for transition in self._dispatcher.take():
                self._tell(self._event(transition))

    # ---- what the core does not know

    def changed(self, state: events.HubState, error: BaseException | None = None) -> None:
        """The hub is open, or takes no more requests."""
        hub, at = self._hub_and_time()
        self._tell(events.HubChanged(hub=hub, at=at, state=state, error=error))

    def resized(self, before: int, after: int) -> None:
        """So many workers are to serve from now on."""
        hub, at = self._hub_and_time()
        self._tell(events.HubResized(hub=hub, at=at, before=before, after=after))

    def reloaded(self, error: WorkerStartFailed | HubClosed | None) -> None:
        """A reload is over."""
        hub, at = self._hub_and_time()
        self._tell(events.HubReloaded(hub=hub, at=at, error=error))

    def ready(self, seat: Seat, origin: Origin, took: float) -> None:
        """The seat's worker has built its model."""
        hub, at = self._hub_and_time()
        self._tell(
            events.WorkerReady(
                hub=hub,
                at=at,
                seat=seat.index,
                incarnation=seat.incarnation,
                pid=origin.pid,
                host=origin.host,
                took=took,
            )
        )

    def ended(self, crash: WorkerCrashed, worker: Worker, *, closing: bool, recycled: str) -> None:
        """A worker that was ready is gone, in a seat that closes or does not, to be `recycled` for these words, or not for "" """
        reason: events.EndReason = "died" if not closing else "recycled" if recycled else "dismissed"
        if worker.lost_to_a_cancel:
            reason = "cancelled"
        hub, at = self._hub_and_time()
        self._tell(
            events.WorkerEnded(
                hub=hub,
                at=at,
                seat=crash.seat,
                incarnation=crash.incarnation,
                pid=crash.pid,
                host=crash.host,
                ending=worker.ending,
                reason=reason,
                probable_cause={"died": crash.probable_cause, "recycled": recycled}.get(reason, ""),
            )
        )

    def start_failed(self, seat: Seat, error: WorkerStartFailed) -> None:
        """A worker did not become ready."""
        hub, at = self._hub_and_time()
        self._tell(events.StartFailed(hub=hub, at=at, seat=seat.index, incarnation=seat.incarnation, error=error))

    def measured(self, seat: Seat, rss: int) -> None:
        """The seat's worker takes so much memory."""
        hub, at = self._hub_and_time()
        self._tell(events.WorkerMeasured(hub=hub, at=at, seat=seat.index, incarnation=seat.incarnation, rss=rss))

    def call_is_slow(self, seat: Seat, ticket: Ticket, took: float, stack: WorkerStack) -> None:
        """A call has run for longer than somebody wished."""
        hub, at = self._hub_and_time()
        self._tell(
            events.CallIsSlow(
                hub=hub,
                at=at,
                seat=seat.index,
                incarnation=seat.incarnation,
                number=ticket.number,
                propagated=ticket.propagated,
                method=ticket.method,
                took=took,
                stack=stack,
            )
        )

    def cleaned_up(self, seat: Seat, ticket: Ticket, *, kept: bool) -> None:
        """A worker is free of a cancelled call, or had to be ended for it."""
        hub, at = self._hub_and_time()
        self._tell(
            events.CleanedUp(
                hub=hub, at=at, seat=seat.index, incarnation=seat.incarnation, number=ticket.number, kept=kept
            )
        )

    def _hub_and_time(self) -> tuple[str, float]:
        """The hub and the time, behind all that has happened until now."""
        self.tell()
        return self._hub, self._now()

    # ---- what it does

    def _tell(self, event: events.Event) -> None:
        for number, observer in enumerate(self._observers):
            try:
                observer(event)
            except Exception:
                if number not in self._raised:
                    self._raised.add(number)
                    logger.exception(
                        "an observer of the hub %r, %r, has raised; it goes on to be told, and this is said once",
                        self._hub,
                        observer,
                    )

    def _event(self, transition: Transition) -> events.Event:
        hub, at = self._hub, self._now()
        match transition:
            case Accepted(ticket):
                return events.RequestAccepted(
                    hub=hub, at=at, number=ticket.number, propagated=ticket.propagated, method=ticket.method
                )
            case TurnedAway(method, pending, needed):
                return events.RequestTurnedAway(hub=hub, at=at, method=method, pending=pending, needed=needed)
            case Sent(ticket, seat):
                self._sent[ticket.number] = at, seat.index, seat.incarnation
                return events.RequestSent(
                    hub=hub,
                    at=at,
                    number=ticket.number,
                    propagated=ticket.propagated,
                    seat=seat.index,
                    incarnation=seat.incarnation,
                )
            case Returned(ticket):
                _, index, incarnation = self._sent.pop(ticket.number)
                return events.RequestReturned(
                    hub=hub,
                    at=at,
                    number=ticket.number,
                    propagated=ticket.propagated,
                    seat=index,
                    incarnation=incarnation,
                )
            case Ended(ticket, outcome):
                since, sent_to, _ = self._sent.pop(ticket.number, (at, None, 0))
                return events.RequestEnded(
                    hub=hub,
                    at=at,
                    number=ticket.number,
                    propagated=ticket.propagated,
                    method=ticket.method,
                    outcome=_outcome(ticket, outcome),
                    seat=sent_to,
                    waited=max(0.0, since - ticket.created),
                    took=max(0.0, at - since),
                    error=self._error(outcome),
                    crash=crash_of(outcome) if isinstance(outcome, Lost) else None,
                )
            case RanOut(ticket, seat):
                return events.CleanedUp(
                    hub=hub, at=at, seat=seat.index, incarnation=seat.incarnation, number=ticket.number, kept=True
                )
            case Leased(seat, incarnation, held):
                return events.SeatLeased(hub=hub, at=at, seat=seat.index, incarnation=incarnation, held=held)
            case Moved(seat, incarnation, before, after):
                return events.SeatChanged(
                    hub=hub, at=at, seat=seat.index, incarnation=incarnation, before=before.value, after=after.value
                )

    def _error(self, outcome: object) -> str:
        """The class of the model's exception, of which nothing is run here."""
        if isinstance(outcome, Answer) and outcome.failed:
            return failure_name(outcome.body, trusted=self._trusted)
        return ""


def _outcome(ticket: Ticket, outcome: object) -> events.Outcome:
    if isinstance(outcome, Answer):
        return "failed" if outcome.failed else "done"
    return _OUTCOMES[ticket.state]
