"""Who reads all that a watched dispatcher writes down, and nothing else, and knows by that where everything is."""

from __future__ import annotations

from gibbs._core.seat import MOVES
from gibbs._core.watched import Accepted, Ended, Leased, Moved, Returned, Sent


class Reader:
    def __init__(self, dispatcher):
        self._dispatcher = dispatcher
        self.seats = {}  # of each ticket that lives: who has it, or None
        self.ended = set()
        self.states = {}  # of each seat that has moved
        self.leased = set()  # seats that are held for a lease

    def read_on(self):
        for transition in self._dispatcher.take():
            match transition:
                case Accepted(ticket):
                    assert ticket not in self.seats
                    assert ticket not in self.ended
                    self.seats[ticket] = None
                case Sent(ticket, seat):
                    assert self.seats[ticket] is None
                    assert self.states[seat] == "serving"
                    self.seats[ticket] = seat
                case Returned(ticket):
                    assert self.seats[ticket] is not None
                    self.seats[ticket] = None
                case Ended(ticket):
                    del self.seats[ticket]
                    self.ended.add(ticket)
                case Moved(seat, incarnation, before, after):
                    assert before == self.states.get(seat, "vacant")
                    assert after in MOVES[before].values()
                    assert incarnation == seat.incarnation
                    self.states[seat] = after
                case Leased(seat, _, held):
                    assert (seat in self.leased) != held
                    (self.leased.add if held else self.leased.remove)(seat)
