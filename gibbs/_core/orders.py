"""What the dispatcher orders, for others to carry out."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .seat import Seat
    from .ticket import Ticket


class Send(NamedTuple):
    """Write these tickets' payloads to the seat's worker: the first under this link id, each other under the next.

    `together`: they are one call.
    """

    seat: Seat
    link_id: int
    tickets: list[Ticket]
    together: bool = False


class Interrupt(NamedTuple):
    """Clean up the abandoned request at the seat's head, or the call that ends with this one: `how` is one of "interrupt" and "kill".

    A stream is closed where its generator yields. That is asked of the worker in any case, and `how` says what happens to one
    that does not come to a yield: "interrupt", "close" (it has so long as an interrupted one, and is not interrupted), "finish" (it
    has all the time it takes).
    """

    seat: Seat
    link_id: int
    how: str


class Recall(NamedTuple):
    """Take back what the seat's worker has not begun, and say so by `given_back`: at once, or when the worker has said what that is."""

    seat: Seat


class Grant(NamedTuple):
    """Let the worker send so many more items of this stream."""

    seat: Seat
    link_id: int
    items: int


class Dismiss(NamedTuple):
    """Let the seat's worker go, which holds nothing and is sent nothing any more, and start no other there."""

    seat: Seat


Order = Send | Interrupt | Recall | Grant | Dismiss
