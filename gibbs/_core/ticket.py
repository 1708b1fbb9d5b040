"""One request: its states, its legal moves, its end.

Knows nothing of processes, loops or exceptions. The payload stays unopened: bytes, or what stands for them and has a
length. Promises that a ticket ends once, that what is not in the table raises and changes nothing, and that the hand-over of
an end wakes whoever waits exactly once. A stream is a ticket with a flow: items come while it is SENT, and its states are the same.

| from | move | to |
| --- | --- | --- |
| QUEUED | a seat takes it | SENT |
| QUEUED, SENT | the caller is cancelled | CANCELLED |
| QUEUED | no worker took it within its `max_wait` | EXPIRED |
| QUEUED | it asks for a lease, and a seat is held for it | LEASED |
| QUEUED | the worker of its lease is gone | LOST |
| QUEUED, SENT | the hub closes | REFUSED |
| SENT | the worker answers, value or exception | ANSWERED |
| SENT | the seat gives it back, or dies with evidence that it was not begun, or it may be tried again | QUEUED, in its old place |
| SENT | the seat dies otherwise, or for the second time before it began | LOST |

The evidence of "begun" is the word that the worker stores in the shared page before it opens the arguments; the hub reads
it after the death. Without a page all that was sent counts as begun.
"""

from __future__ import annotations

import math
from enum import StrEnum
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from .terms import PLAIN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sized

    from .flow import Flow
    from .group import Group
    from .lease import Lease
    from .progress import Progress
    from .seat import Seat
    from .terms import Terms

POISON = 2  # a request that has killed so many workers is not given another

NOTHING: Mapping[str, Any] = MappingProxyType({})


class TicketState(StrEnum):
    """Where a request is. The last six are ends."""

    QUEUED = "queued"
    SENT = "sent"
    ANSWERED = "answered"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    REFUSED = "refused"
    LOST = "lost"
    LEASED = "leased"


class TicketMove(StrEnum):
    """What can happen to a request."""

    TAKE = "take"
    RETURN = "return"
    ANSWER = "answer"
    CANCEL = "cancel"
    EXPIRE = "expire"
    REFUSE = "refuse"
    LOSE = "lose"
    LEASE = "lease"


MOVES: dict[TicketState, dict[TicketMove, TicketState]] = {
    TicketState.QUEUED: {
        TicketMove.TAKE: TicketState.SENT,
        TicketMove.CANCEL: TicketState.CANCELLED,
        TicketMove.EXPIRE: TicketState.EXPIRED,
        TicketMove.REFUSE: TicketState.REFUSED,
        TicketMove.LOSE: TicketState.LOST,
        TicketMove.LEASE: TicketState.LEASED,
    },
    TicketState.SENT: {
        TicketMove.ANSWER: TicketState.ANSWERED,
        TicketMove.RETURN: TicketState.QUEUED,
        TicketMove.CANCEL: TicketState.CANCELLED,
        TicketMove.REFUSE: TicketState.REFUSED,
        TicketMove.LOSE: TicketState.LOST,
    },
    TicketState.ANSWERED: {},
    TicketState.CANCELLED: {},
    TicketState.EXPIRED: {},
    TicketState.REFUSED: {},
    TicketState.LOST: {},
    TicketState.LEASED: {},
}


class Answer(NamedTuple):
    """The outcome of an ANSWERED ticket, unopened: the result, or the model's exception.

    With `left_behind` it is a result that was too large to be sent, and the body is its size.
    """

    failed: bool
    body: Any
    left_behind: bool = False


answer_of = partial(tuple.__new__, Answer)  # of its three parts: in half the time, since it is made for every request


class Lost(NamedTuple):
    """The outcome of a LOST ticket: how the worker ended, and whether the request may have run.

    `earlier` are the deaths of workers after which it was tried again; with `poison` it is taken for what killed them.
    """

    death: object
    may_have_run: bool
    earlier: tuple[object, ...] = ()
    poison: bool = False


class IllegalMove(AssertionError):
    """A bug of this library: a move that is not in the table. Nothing was changed."""


class Ticket:
    """A request inside the hub.

    Invariants: `ended` is whether the state is an end. `seat` and `link_id` are set exactly while some seat holds it, which can outlast its end (a cancelled call
    goes on running there). `outcome` is set with the end. `wake` is called once, by the move that ends it.
    """

    __slots__ = (
        "apart",
        "created",
        "deadline",
        "deaths",
        "ended",
        "flow",
        "give_up_at",
        "group",
        "kills",
        "lease",
        "link_id",
        "many",
        "method",
        "number",
        "outcome",
        "payload",
        "progress",
        "propagated",
        "question",
        "released",
        "returned",
        "seat",
        "state",
        "terms",
        "waiter",
        "wake",
    )

    def __init__(
        self,
        payload: Sized,
        terms: Terms = PLAIN,
        flow: Flow | None = None,
        group: Group | None = None,
        created: float = 0.0,
        deadline: float | None = math.inf,
        progress: Progress | None = None,
        *,
        wake: Callable[[Ticket], None] | None = None,
        lease: Lease | None = None,
    ) -> None:
        self.payload = payload
        self.terms = terms
        self.flow = flow  # None: it is a request, and has one answer
        self.progress = progress  # None: nobody wants to know how it is getting on
        self.group = group  # those that it may run together with
        self.lease = lease  # that it asks for, as long as that is WAITING; else on which it was asked
        self.wake = wake
        self.waiter: Any = None  # who waits for its end, as `wake` knows them
        self.created = created
        self.give_up_at = created + terms.max_wait  # when it is refused, if no worker has taken it
        self.deadline = deadline  # when its caller's time is over, told the worker; None: its caller must be asked
        self.question: Callable[[float], None] | None = (
            None  # the worker's, how many seconds that are: the caller answers
        )
        self.propagated = NOTHING  # what came with it of its caller's context, by name: for who observes
        self.method = ""  # the model's, by name; none where it asks for a lease
        self.many = False  # its caller has asked for others with it, which may be answered together
        self.number = 0  # arrival number, given by the dispatcher; the order of the queue
        self.state = TicketState.QUEUED
        self.ended = False
        self.seat: Seat | None = None
        self.link_id = 0
        self.outcome: object = None
        # Whether it is never sent in one order behind another.
        self.apart = group is not None or terms.affinity is not None or lease is not None
        self.returned = False  # a worker died that had it; from now on only a seat that holds nothing takes it
        self.deaths: tuple[object, ...] = ()  # of workers after which it was tried again
        self.kills = 0  # workers that died while they ran it and nothing else
        self.released: Callable[[], None] | None = None  # called when a seat lets go of it after its end

    def move(self, move: TicketMove, outcome: object = None) -> None:
        """The only writer of `state`. Raises IllegalMove, and then nothing has changed."""
        state = MOVES[self.state].get(move)
        if state is None:
            raise IllegalMove(f"a ticket that is {self.state} cannot {move}")
        self.state = state
        if not MOVES[state]:
            self.ended = True
            self.outcome = outcome
            wake, self.wake = self.wake, None
            if wake is not None:
                wake(self)

    def may_be_retried(self, *, certain: bool) -> bool:
        """Whether it is to be sent again after its worker died: as often as its caller allows, unless its reader has had items of it, or
        it was asked on a lease: no other worker knows what was said before. A worker whose death is not certain may run it still.
        """
        untouched = self.lease is None and (self.flow is None or not self.flow.began)
        untouched = untouched and (certain or self.terms.retry_uncertain)
        return len(self.deaths) < self.terms.retries and self.kills < POISON and untouched

    def __repr__(self) -> str:
        place = f" at seat {self.seat.index}" if self.seat is not None else ""
        return f"<Ticket {self.number} {self.state}{place}>"
