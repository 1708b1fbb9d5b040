"""One place for a worker: its states, its legal moves, what it holds.

Knows nothing of processes. A seat outlives its workers; each of them is an incarnation. All roads to the grave (crash, grace
over, bad frame, close) meet in DYING, so that kill, wait and reap are written once.

| from | move | to |
| --- | --- | --- |
| VACANT | a launch begins | STARTING |
| VACANT | the hub closes, or the seat is dismissed | RETIRED |
| RETIRED | the hub is to have more seats again | VACANT |
| STARTING | the worker says that its model is built | SERVING |
| STARTING, SERVING | the same, and as many serve as are wanted | SPARE |
| SPARE | another seat is of no use any more | SERVING |
| SERVING | the request at its head is abandoned and must be cleaned up | INTERRUPTING |
| INTERRUPTING | that request is over, the worker lives | SERVING |
| STARTING, SPARE, SERVING, INTERRUPTING | the worker is dead, or must die | DYING |
| DYING | the process is gone, its requests are settled | VACANT |
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from . import pace
from .ticket import IllegalMove

if TYPE_CHECKING:
    from collections.abc import Callable

    from .lease import Lease
    from .ticket import Ticket


class SeatState(StrEnum):
    """What a seat's worker is doing, if it has one."""

    VACANT = "vacant"
    STARTING = "starting"
    SPARE = "spare"
    SERVING = "serving"
    INTERRUPTING = "interrupting"
    DYING = "dying"
    RETIRED = "retired"


class SeatMove(StrEnum):
    """What can happen to a seat."""

    LAUNCH = "launch"
    READY = "ready"
    STAND_BY = "stand by"
    ENLIST = "enlist"
    INTERRUPT = "interrupt"
    UNWIND = "unwind"
    CONDEMN = "condemn"
    BURY = "bury"
    RETIRE = "retire"
    REVIVE = "revive"


MOVES: dict[SeatState, dict[SeatMove, SeatState]] = {
    SeatState.VACANT: {SeatMove.LAUNCH: SeatState.STARTING, SeatMove.RETIRE: SeatState.RETIRED},
    SeatState.STARTING: {
        SeatMove.READY: SeatState.SERVING,
        SeatMove.STAND_BY: SeatState.SPARE,
        SeatMove.CONDEMN: SeatState.DYING,
    },
    SeatState.SPARE: {SeatMove.ENLIST: SeatState.SERVING, SeatMove.CONDEMN: SeatState.DYING},
    SeatState.SERVING: {
        SeatMove.INTERRUPT: SeatState.INTERRUPTING,
        SeatMove.STAND_BY: SeatState.SPARE,
        SeatMove.CONDEMN: SeatState.DYING,
    },
    SeatState.INTERRUPTING: {SeatMove.UNWIND: SeatState.SERVING, SeatMove.CONDEMN: SeatState.DYING},
    SeatState.DYING: {SeatMove.BURY: SeatState.VACANT},
    SeatState.RETIRED: {SeatMove.REVIVE: SeatState.VACANT},
}


_SERVING = SeatState.SERVING  # looked up once: this is on the way of every request


class Seat:
    """A place for a worker.

    Invariants: `held` is in the order of sending; nothing is added while it has `window` entries or more; it is empty unless
    the state is SERVING, INTERRUPTING or DYING. An entry whose ticket has ended is *abandoned*: the worker may still run it.
    `together` says that all of it is one call, to which nothing is added. `recalled` are the ids of this worker that were taken
    back and that it has not read, and skipped, yet; while there are any, nothing is added. While `lease` is set, nothing is
    added but what was asked on that lease, and that only to an empty seat. While the state is INTERRUPTING, the
    head is abandoned and `target` is its id; of several that are one call, the last one's. `last_link_id` only
    grows, also across incarnations, so no id is ever used twice. `in_service` only while the state is SERVING or INTERRUPTING, and
    not once its worker is sure to be killed.
    """

    __slots__ = (
        "begun",
        "dismissed",
        "has_page",
        "held",
        "in_service",
        "incarnation",
        "index",
        "is_far",
        "last_link_id",
        "lease",
        "on_cancel",
        "recalled",
        "seen_at_its_head",
        "service_time",
        "state",
        "target",
        "together",
        "watch",
        "window",
    )

    def __init__(self, index: int, *, is_far: bool = False) -> None:
        self.index = index
        self.is_far = is_far  # whether its workers are on another machine
        self.state = SeatState.VACANT
        self.dismissed = (
            False  # whether it is sent nothing any more, and its worker is the last; written by the dispatcher
        )
        self.in_service = False  # whether it counts as one of those that serve; written by the dispatcher
        self.incarnation = 0
        self.held: dict[int, Ticket] = {}
        self.last_link_id = 0
        self.on_cancel = "kill"  # what its model says; told when the worker is ready
        self.target = 0  # link id of the abandoned request that was last ordered to be cleaned up
        self.service_time = pace.UNKNOWN  # seconds that this worker takes for a request, as far as is known
        self.together = False
        self.window = 1  # how many requests it may hold at once
        self.has_page = True  # whether its worker shows on a page what it has begun; else it must be asked
        self.begun = 0  # the last link id that its worker has begun, as far as the hub has seen
        self.recalled: set[int] = set()
        self.seen_at_its_head = 0  # link id that was there at the last tick
        self.lease: Lease | None = None  # that holds it; written by `Leases`
        self.watch: Callable[[Seat, SeatState], None] | None = None  # is told the state before, after each move

    def move(self, move: SeatMove) -> None:
        """The only writer of `state`, and of `incarnation`. Raises IllegalMove, and then nothing has changed."""
        state = MOVES[self.state].get(move)
        if state is None:
            raise IllegalMove(f"a seat that is {self.state} cannot {move}")
        before, self.state = self.state, state
        if move is SeatMove.LAUNCH:
            self.incarnation += 1
        if self.watch is not None:
            self.watch(self, before)

    @property
    def has_room(self) -> bool:
        """Whether it could be sent a request now."""
        if self.lease is not None or not self.in_service:
            return False
        return self.state is _SERVING and len(self.held) < self.window and not self.recalled and not self.together

    @property
    def is_ready(self) -> bool:
        """Whether its worker has nothing to do, and could begin at once."""
        return self.state is _SERVING and not self.held and not self.recalled

    @property
    def is_due(self) -> bool:
        """Whether its only request will be answered in no time."""
        return len(self.held) == 1 and self.service_time < pace.DUE_SOON and self.has_page

    def cleaning_of(self, ticket: Ticket) -> str:
        """What happens to the running call when its callers have left: `how` of an Interrupt, or "finish"."""
        if self.together:
            hows = {one.terms.on_cancel or self.on_cancel for one in self.held.values()}
            return next(how for how in ("finish", "kill", "interrupt") if how in hows)
        how = ticket.terms.on_cancel or self.on_cancel
        return "close" if how == "kill" and ticket.flow is not None else how

    @property
    def unwanted(self) -> Ticket | None:
        """The abandoned request at the head that must be cleaned up before the seat is of use again, or None.

        Of several that are one call the last, when all are abandoned: it is the last to be over.
        """
        for head in self.held.values():
            if not head.ended or (self.together and not all(ticket.ended for ticket in self.held.values())):
                return None
            if head.flow is None and self.cleaning_of(head) == "finish":
                return None
            return next(reversed(self.held.values())) if self.together else head
        return None

    def __repr__(self) -> str:
        return f"<Seat {self.index}.{self.incarnation} {self.state} holds {list(self.held)}>"
