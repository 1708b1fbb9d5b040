"""Who reads all that a watched dispatcher writes down, and nothing else, and knows by that where everything is; and a history that is told it."""

from __future__ import annotations

from gibbs import events
from gibbs._core.seat import MOVES
from gibbs._core.watched import Accepted, Ended, Leased, Moved, Returned, Sent
from gibbs.history import History


class Reader:
    def __init__(self, dispatcher, now):
        self._dispatcher = dispatcher
        self._now = now
        self.seats = {}  # of each ticket that lives: who has it, or None
        self.ended = set()
        self.states = {}  # of each seat that has moved
        self.leased = set()  # seats that are held for a lease
        self.history = History()

    def read_on(self):
        for transition in self._dispatcher.take():
            match transition:
                case Accepted(ticket):
                    assert ticket not in self.seats
                    assert ticket not in self.ended
                    self.seats[ticket] = None
                    self._tell(events.RequestAccepted, number=ticket.number, method=ticket.method)
                case Sent(ticket, seat):
                    assert self.seats[ticket] is None
                    assert self.states[seat] == "serving"
                    self.seats[ticket] = seat
                    self._tell(events.RequestSent, number=ticket.number, **which(seat))
                case Returned(ticket):
                    seat = self.seats[ticket]
                    assert seat is not None
                    self.seats[ticket] = None
                    self._tell(events.RequestReturned, number=ticket.number, **which(seat))
                case Ended(ticket, _):
                    seat = self.seats.pop(ticket)
                    self.ended.add(ticket)
                    outcome = {"answered": "done", "lost": "crashed"}.get(ticket.state, str(ticket.state))
                    facts = {"number": ticket.number, "method": ticket.method, "outcome": outcome}
                    self._tell(events.RequestEnded, **facts, seat=seat and seat.index, waited=0.0, took=0.0)
                case Moved(seat, incarnation, before, after):
                    assert before == self.states.get(seat, "vacant")
                    assert after in MOVES[before].values()
                    assert incarnation == seat.incarnation
                    self.states[seat] = after
                    self._tell(events.SeatChanged, **which(seat), before=before.value, after=after.value)
                case Leased(seat, _, held):
                    assert (seat in self.leased) != held
                    (self.leased.add if held else self.leased.remove)(seat)
                    self._tell(events.SeatLeased, **which(seat), held=held)

    def _tell(self, kind, **facts):
        self.history(kind(hub="m", at=self._now(), **facts))


def which(seat):
    return {"seat": seat.index, "incarnation": seat.incarnation}
