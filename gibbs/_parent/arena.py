"""The hub's side of one worker's arenas: what it was lent of the arguments, and what is still looked at of its results.

Knows the two arenas, each of which may be missing: then what is large travels in the stream. Promises that a worker frees only what it
was lent, and once; that whatever a worker says of its arena is a Violation if it is not so; and that nothing of it is read here.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .._core.dispatch import Violation
from .._wire.borrower import Borrower
from .._wire.letter import ASIDE, Forged
from .._wire.messages import (
    ANSWER,
    BATCH,
    CALL,
    CALL_OF_MANY,
    CREDIT,
    DEADLINE,
    FREED_RESULT,
    READY,
    SECONDS,
    SIZE,
    STREAM,
    TRACK,
)
from .hearsay import open_outcome

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .._core.ticket import Answer, Ticket
    from .._wire.arena import Arena
    from .._wire.lender import Parcel
    from ..abc import WorkerProcess
    from .link import Message


class Shelf:
    """What hub and one worker have lent each other, by link id."""

    __slots__ = ("_lends", "_lent", "_longest", "_results", "_sees_arguments", "news")

    def __init__(self, process: WorkerProcess | None, longest: float, *, lends: bool) -> None:
        """None: of a worker that is not trusted, which shares no memory. Nor does one that the stream alone reaches.

        `lends`: whether the arena that this worker sees is the one which the hub puts arguments into.
        """
        self._lends = lends
        results: Arena | None = getattr(process, "results", None) if process is not None and process.side else None
        self._results = None if results is None else Borrower(results, longest)
        # Not empty: `messages` tells the worker.
        self.news: list[Any] = [] if self._results is None else self._results.news
        self._longest = longest
        self._lent: dict[int, Parcel] = {}
        self._sees_arguments = False  # until its first message says so

    @property
    def shared(self) -> bool:
        """Whether this worker may use arenas."""
        return self._results is not None

    def meet(self, kind: int, said: Any) -> Any:
        """What the worker said first, of which this is to know whether it could map the hub's arena."""
        self._sees_arguments = kind == READY and self.shared and self._lends and said.get("sees_arguments") is True
        return said

    def messages(
        self, link_id: int, tickets: list[Ticket], *, together: bool, now: Callable[[], float]
    ) -> list[Message]:
        """These requests, from this id on, as one call or as many, and before them what is free of the worker's own arena.

        The slots of what they have in the hub's arena are lent until the worker gives them back.
        """
        messages: list[Message] = []
        if self.news and self._results is not None:
            messages += [(FREED_RESULT, freed, b"") for freed in self._results.returned()]
        if together:
            messages.append((BATCH, link_id, len(tickets).to_bytes(SIZE, "little")))
        for number, ticket in enumerate(tickets, link_id):
            body: Any = ticket.payload
            body = body if type(body) is bytes else self._lend(number, body)
            if ticket.deadline is not None and ticket.deadline < math.inf and not together:
                messages.append((DEADLINE, number, SECONDS.pack(ticket.deadline - now())))
            if ticket.flow is None:
                kind = CALL
                if not together and (ticket.many or ticket.progress is not None):
                    kind = CALL_OF_MANY if ticket.many else TRACK
                messages.append((kind, number, body))
            else:
                messages.append((STREAM, number, body))
                messages.append((CREDIT, number, ticket.flow.credit.to_bytes(SIZE, "little")))
        return messages

    def _lend(self, link_id: int, parcel: Parcel) -> bytes:
        if not self._sees_arguments:
            return parcel.in_one_piece()
        self._lent[link_id] = parcel
        return parcel.body

    def given_back(self, link_id: int) -> None:
        """The worker has no view of these arguments any more. Raises Violation if it was not lent them."""
        if self._lent.pop(link_id, None) is None:
            raise Violation(f"it gave back arguments of request {link_id}, which it was not lent")

    def open(self, kind: int, link_id: int, body: bytes) -> Any:
        """The body of an outcome; of a result with views of what it has in the arena: they are let go with it. Raises Violation."""
        if kind != ANSWER or self._results is None or not body or body[0] != ASIDE:
            return body
        try:
            return self._results.open(link_id, body)
        except Forged as forged:
            raise Violation(f"its result is none: {forged}") from forged

    def outcome(self, kind: int, link_id: int, body: bytes) -> Answer:
        """What becomes of a request, by this message. Raises Violation."""
        return open_outcome(kind, self.open(kind, link_id, body), self._longest)

    def clear(self) -> None:
        """The worker is gone: nothing is lent any more. Views of its results live on."""
        self._lent.clear()
