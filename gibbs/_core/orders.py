"""What the dispatcher orders, for others to carry out."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .seat import Seat
    from .ticket import Ticket


class Send(NamedTuple):
    """Write these tickets' payloads to the seat's worker: the first under this link id, each other under the next."""

    seat: Seat
    link_id: int
    tickets: list[Ticket]


class Interrupt(NamedTuple):
    """Clean up the abandoned request at the seat's head: `how` is "interrupt" or "kill"."""

    seat: Seat
    link_id: int
    how: str


class Recall(NamedTuple):
    """Take back what the seat's worker has not begun, and say so by `given_back`."""

    seat: Seat


Order = Send | Interrupt | Recall
