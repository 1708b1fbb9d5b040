"""What happened to a hub, as one list of events in the order of their happening.

Knows the words in which events are written, and nothing of who writes them: a simulated world in virtual time, or a recorder over
real processes with the machine's monotonic clock. What must be true of a history is the judge's affair (`judge.py`).

| of a request | who writes it |
| --- | --- |
| asked, cancels; then one of OUTCOMES | its caller |
| accepted, sent, recalled (taken back before it began), returned (to the queue), settled | the hub |
| begun, then one of SAID (before the hub can hear of it) | the worker |
| by model (which of those that the hub was given answered) | its caller |

| of a worker | who writes it |
| --- | --- |
| launched, ready, ordered, condemned, dismissed, killed, ended (it is reaped) | the hub, or who plays the worker |
| recycled, not recycled (another one took its place, or was not to be had) | the hub |
| fault | who does it harm, the worker itself included |

| of the hub | moments |
| --- | --- |
| models (that may answer what is sent from then on) | who reloads it |
| its life | entered, draining, drained, leaving, closing, failed, closed, session over, statistics, hub raised |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import anyio

from gibbs._wire import letter
from gibbs._wire.lender import Parcel

OUTCOMES = {"answer", "model error", "cancelled", "refused", "overloaded", "crashed"}
SAID = {"answers", "fails", "skips"}


class Event(NamedTuple):
    """One thing that happened: to request `n` (0: to none), in or to worker `who` ("seat.incarnation")."""

    at: float
    what: str
    n: int
    who: str
    detail: Any

    def __str__(self) -> str:
        about = f" request {self.n}" if self.n else ""
        where = f" worker {self.who}" if self.who else ""
        return f"{self.at:10.4f}  {self.what}{about}{where}{'' if self.detail is None else f'  {self.detail}'}"


class History:
    """The list, and the clock by which it is written: in a simulated world that of its event loop."""

    def __init__(self, facts: dict[str, Any], *, clock: Callable[[], float] = anyio.current_time) -> None:
        self.facts = facts  # the hub's options, and what a judge must know of its workers
        self.clock = clock
        self.events: list[Event] = []
        self.problems: list[str] = []  # seen on the spot

    def record(self, what: str, n: int = 0, who: str = "", detail: Any = None) -> None:
        self.events.append(Event(self.clock(), what, n, who, detail))

    def __str__(self) -> str:
        return "\n".join([f"{self.facts}", *map(str, self.events)])


def f(n: int) -> int:
    """What the model computes."""
    return n * n + 1


def number_of(body: bytes | Parcel) -> int:
    """Which request a payload is: its first argument."""
    whole = body.in_one_piece() if isinstance(body, Parcel) else body
    number: int = letter.loads(whole)[1][0]
    return number
