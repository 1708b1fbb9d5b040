"""A hub that nobody opened, which tells its history what a test says: at its own time, so that ten minutes take none."""

from __future__ import annotations

from itertools import pairwise

import gibbs
from gibbs import events
from gibbs.history import History

SEGV = gibbs.Ending(how="signalled", code=11, tail="last words")
KILLED = gibbs.Ending(how="signalled", code=9)
GONE = gibbs.Ending(how="exited", code=0)


class Told:
    """A hub that nobody opened: tells its history what this test says. The loop's clock began at 1000."""

    def __init__(self, seats=2):
        self.history = History()
        self.now = 1000.0
        self.number = 0
        self.incarnations = [0] * seats
        for seat in range(seats):
            self.serves(seat)
        self.say(events.HubChanged, state="open", error=None)

    def say(self, kind, **facts):
        self.history(kind(hub="m", at=self.now, **facts))

    def moves(self, seat, *states):
        for before, after in pairwise(states):
            incarnation = self.incarnations[seat]
            self.say(events.SeatChanged, seat=seat, incarnation=incarnation, before=before, after=after)

    def serves(self, seat):
        self.incarnations[seat] += 1
        self.moves(seat, "vacant", "starting")
        incarnation = self.incarnations[seat]
        self.say(events.WorkerReady, seat=seat, incarnation=incarnation, pid=100 + seat, host="", took=1.0)
        self.moves(seat, "starting", "serving")

    def asks(self, method="embed"):
        self.number += 1
        self.say(events.RequestAccepted, number=self.number, method=method)
        return self.number

    def sends(self, number, seat=0):
        self.say(events.RequestSent, number=number, seat=seat, incarnation=self.incarnations[seat])
        return number

    def ends(self, number, outcome="done", seat=0, method="embed", waited=0.0, took=0.0):
        self.say(
            events.RequestEnded, number=number, method=method, outcome=outcome, seat=seat, waited=waited, took=took
        )

    def answers(self, took, many=1, waited=0.0):
        for _ in range(many):
            self.ends(self.sends(self.asks()), took=took, waited=waited)

    def overrun(self, usual, wait):
        """After many calls that took what is usual, both workers are busy and somebody waits for so long."""
        self.answers(took=usual, many=100)
        self.now += 90
        for seat in (0, 1):
            self.sends(self.asks(), seat)
        self.asks()
        self.now += wait

    def gone(self, seat, ending=GONE, *, reason="died", cause="", lost=()):
        """The worker; and with it these requests. Another one serves there."""
        self.moves(seat, "serving", "dying")
        for number in lost:
            self.ends(number, "crashed", seat)
        self.moves(seat, "dying", "vacant")
        self.say(
            events.WorkerEnded,
            **{"seat": seat, "incarnation": self.incarnations[seat], "pid": 100 + seat, "host": ""},
            **{"ending": ending, "probable_cause": cause, "reason": reason},
        )
        self.serves(seat)

    @property
    def status(self):
        return self.history.of("m", self.now)

    def remarks(self, about):
        return [remark.text for remark in self.status.remarks if remark.about == about]
