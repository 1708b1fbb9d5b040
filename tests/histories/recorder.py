"""Writes the hub's half of a history, by watching the verbs by which a hub acts; the product has no hook for it.

Knows the dispatcher, the crew, the supervisor and the worker in their rooms, and patches them in this process, for one hub, told by its name.
`HubHalf` is what every hub does; `RealHalf` adds the lives of workers that are processes, and merges what they wrote
themselves (`worker_half.py`): both halves bear the time of one clock, the machine's. Must never change what it watches. Promises that an
event is written before what follows from it can happen, so that sorting by time tells the truth.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from gibbs._core.dispatch import Dispatcher
from gibbs._core.seat import SeatState
from gibbs._core.ticket import TicketMove
from gibbs._errors import WorkerStartFailed
from gibbs._parent.crew import Crew
from gibbs._parent.staffing import Staffing
from gibbs._parent.supervisor import Supervisor
from gibbs._parent.worker import Worker
from tests.histories.history import Event, History, number_of
from tests.histories.worker_half import read_lines

SETTLED = {TicketMove.CANCEL: "cancelled", TicketMove.REFUSE: "refused", TicketMove.LOSE: "crashed"}


def monotonic() -> float:
    """Seconds of the clock that all processes of one machine share."""
    return time.monotonic_ns() / 1e9


def name_of(seat: Any) -> str:
    return f"{seat.index}.{seat.incarnation}"


class HubHalf:
    """Watches every hub of this name, or every hub, while `watching` is entered."""

    def __init__(self, history: History, hub: str | None = None) -> None:
        self.history = history
        self.record = history.record
        self.hub = hub
        self.dispatchers: dict[Any, Crew] = {}
        self.when_sent: dict[int, Callable[[], None]] = {}  # called once, when that request goes to a worker
        self.numbers: dict[int, int] = {}  # which request a ticket is, by its arrival number
        self.taken_back: dict[tuple[Any, int], int] = {}  # the same by seat and link id, until the worker skips it

    def watches(self, dispatcher: Any) -> bool:
        return dispatcher in self.dispatchers

    @contextmanager
    def watching(self) -> Iterator[None]:
        with ExitStack() as stack:
            for owner, verb, watched in self.verbs():
                stack.enter_context(patch.object(owner, verb, watched(getattr(owner, verb))))
            yield

    def verbs(self) -> Iterator[tuple[Any, str, Any]]:
        """What is watched: a class, the name of its verb, and what makes of the verb the watched one."""
        yield Crew, "__init__", self.makes_a_crew
        yield Dispatcher, "submit", self.submits
        yield Dispatcher, "_end", self.settles
        yield Dispatcher, "_requeue", self.returns
        yield Dispatcher, "_send", self.sends
        yield Dispatcher, "given_back", self.takes_back
        yield Dispatcher, "condemn", self.condemns
        yield Worker, "clean_up", self.cleans_up
        yield Crew, "close", self.closes
        yield Crew, "fail", self.fails

    def makes_a_crew(self, verb: Any) -> Any:
        def watched(crew: Any, options: Any, *args: Any, **kwargs: Any) -> None:
            verb(crew, options, *args, **kwargs)
            if self.hub in (None, options.name):
                self.dispatchers[crew.dispatcher] = crew

        return watched

    def submits(self, verb: Any) -> Any:
        def watched(dispatcher: Any, ticket: Any, **how: Any) -> Any:
            if self.watches(dispatcher):
                n = self.numbers[dispatcher._arrivals + 1] = number_of(ticket.payload)
                self.record("accepted", n)
            return verb(dispatcher, ticket, **how)

        return watched

    def settles(self, verb: Any) -> Any:
        def watched(dispatcher: Any, ticket: Any, move: Any, outcome: Any = None) -> None:
            if self.watches(dispatcher):
                how = SETTLED.get(move) or ("failed" if outcome.failed else "done")
                self.record("settled", self.numbers[ticket.number], "", how)
            verb(dispatcher, ticket, move, outcome)

        return watched

    def returns(self, verb: Any) -> Any:
        def watched(dispatcher: Any, ticket: Any) -> None:
            if self.watches(dispatcher):
                self.record("returned", self.numbers[ticket.number])
            verb(dispatcher, ticket)

        return watched

    def condemns(self, verb: Any) -> Any:
        def watched(dispatcher: Any, seat: Any) -> Any:
            if self.watches(dispatcher) and seat.state is not SeatState.DYING:
                self.record("condemned", 0, name_of(seat))
            return verb(dispatcher, seat)

        return watched

    def sends(self, verb: Any) -> Any:
        """When it is decided: who comes first is decided here, and an order is carried out in the same tick."""

        def watched(dispatcher: Any, tickets: Any, seat: Any, **how: Any) -> Any:
            if not self.watches(dispatcher):
                return verb(dispatcher, tickets, seat, **how)
            numbers = [self.numbers[ticket.number] for ticket in tickets]
            for n in numbers:
                self.record("sent", n, name_of(seat))
            order = verb(dispatcher, tickets, seat, **how)
            for n in numbers:
                self.when_sent.pop(n, lambda: None)()
            return order

        return watched

    def takes_back(self, verb: Any) -> Any:
        def watched(dispatcher: Any, seat: Any, link_ids: Any) -> Any:
            link_ids = [*link_ids]
            for link_id in link_ids if self.watches(dispatcher) else ():
                n = self.taken_back[seat, link_id] = self.numbers[seat.held[link_id].number]
                self.record("recalled", n, name_of(seat))
            return verb(dispatcher, seat, link_ids)

        return watched

    def cleans_up(self, verb: Any) -> Any:
        def watched(worker: Any, order: Any) -> None:
            if self.watches(worker._dispatcher):
                self.record("ordered", 0, name_of(order.seat), order.how)
            verb(worker, order)

        return watched

    def closes(self, verb: Any) -> Any:
        def watched(crew: Any, patience: float) -> None:
            if self.watches(crew.dispatcher):
                self.record("closing")
            verb(crew, patience)

        return watched

    def fails(self, verb: Any) -> Any:
        def watched(crew: Any, error: BaseException) -> None:
            if self.watches(crew.dispatcher):
                self.record("failed", detail=type(error).__name__)
            verb(crew, error)

        return watched


class RealHalf(HubHalf):
    """Watches a hub whose workers are processes, and reads what they wrote into `path`."""

    def __init__(self, history: History, hub: str, path: Path) -> None:
        super().__init__(history, hub)
        self.path = path
        self.alive: dict[str, list[Event]] = {}  # what a chapter must begin with, of each worker that is there
        self.born: dict[str, str] = {}  # when each process was made, as the kernel says: a pid alone may be another's

    def verbs(self) -> Iterator[tuple[Any, str, Any]]:
        yield from super().verbs()
        yield Supervisor, "_worker", self.launches
        yield Crew, "became_ready", self.becomes_ready
        yield Dispatcher, "skipped", self.hears_of_a_skip
        yield Worker, "_bury", self.buries
        yield Supervisor, "dismiss", self.dismisses
        yield Staffing, "replace", self.recycles

    def launches(self, verb: Any) -> Any:
        def watched(supervisor: Any, process: Any) -> Any:
            if self.watches(supervisor._crew.dispatcher):
                who, pid = name_of(supervisor.seat), process.origin.pid
                self.born[who] = born(pid)
                self.alive[who] = [self.written("launched", who, pid)]
            return verb(supervisor, process)

        return watched

    def becomes_ready(self, verb: Any) -> Any:
        def watched(crew: Any, seat: Any, about: Any) -> None:
            if self.watches(crew.dispatcher):
                self.alive[name_of(seat)].append(self.written("ready", name_of(seat)))
            verb(crew, seat, about)

        return watched

    def hears_of_a_skip(self, verb: Any) -> Any:
        """What was skipped before it began has no line in the worker's file."""

        def watched(dispatcher: Any, seat: Any, link_id: int) -> Any:
            if self.watches(dispatcher) and (n := self.number_at(seat, link_id)):
                self.record("skips", n, name_of(seat))
            return verb(dispatcher, seat, link_id)

        return watched

    def number_at(self, seat: Any, link_id: int) -> int:
        """Which request the worker there knows by this id; 0: none of this chapter."""
        if link_id in seat.held:
            return self.numbers[seat.held[link_id].number]
        return self.taken_back.pop((seat, link_id), 0)

    def buries(self, verb: Any) -> Any:
        async def watched(worker: Any) -> None:
            await verb(worker)
            if self.watches(worker._dispatcher) and worker.ending.certain:
                who = name_of(worker._seat)
                self.alive.pop(who, None)
                self.written("ended", who, str(worker.ending))

        return watched

    def dismisses(self, verb: Any) -> Any:
        def watched(supervisor: Any) -> None:
            if self.watches(supervisor._crew.dispatcher) and supervisor.worker is not None:
                self.written("dismissed", name_of(supervisor.seat))
            verb(supervisor)

        return watched

    def recycles(self, verb: Any) -> Any:
        async def watched(staffing: Any, seat: Any, **how: Any) -> None:
            who = name_of(seat)
            try:
                await verb(staffing, seat, **how)
            except WorkerStartFailed:
                self.written("not recycled", who)
                raise
            self.written("recycled", who)

        return watched

    def written(self, what: str, who: str, detail: Any = None) -> Event:
        self.record(what, 0, who, detail)
        return self.history.events[-1]

    def harmed(self, pid: int, how: object) -> None:
        """Somebody is about to do harm to this process, in which a worker may live."""
        for who, events in self.alive.items():
            if events[0].detail == pid:
                events.append(self.written("fault", who, str(how)))

    def is_gone(self, who: str, pid: int) -> bool:
        """Whether the system knows this process no more, not even as a zombie: evidence that is not the hub's own."""
        return born(pid) != self.born.get(who)

    # ---- both halves

    def merge(self) -> None:
        """Put the worker's half into the history, and all events in the order of their time."""
        events = self.history.events
        lives: dict[int, list[Event]] = {}
        for event in events:
            if event.what == "launched":
                lives.setdefault(event.detail, []).append(event)
        for line in read_lines(self.path):
            at = line.ns / 1e9
            who = next((event.who for event in reversed(lives.get(line.pid, [])) if event.at <= at), None)
            if who is None:
                self.history.problems.append(f"process {line.pid}, which was never launched, {line.what} {line.n}")
            else:
                events.append(Event(at, line.what, line.n, who, None))
        events.sort(key=lambda event: event.at)  # stable: what bears one time stays as it was written

    def turn_the_page(self) -> None:
        """Begin a new chapter, in a moment in which no request is alive: forget all but the workers that are there."""
        held = [seat for dispatcher in self.dispatchers for seat in dispatcher.seats if seat.held]
        assert not held, f"{held} may still write"
        self.numbers.clear()
        self.taken_back.clear()
        self.history.events[:] = [event for events in self.alive.values() for event in events]
        self.history.problems.clear()
        with self.path.open("r+b") as file:  # who appends to it goes on at its new end
            file.truncate(0)
        self.born = {who: when for who, when in self.born.items() if who in self.alive}


def born(pid: int) -> str:
    """When a process was made, in ticks since boot; "" if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""
