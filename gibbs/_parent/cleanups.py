"""What became of the workers of cancelled calls: two numbers, and one piece of advice for each hub."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from .._core.ticket import TicketState

if TYPE_CHECKING:
    from .._core.seat import Seat
    from .._core.ticket import Ticket
    from .observers import Observers

logger = logging.getLogger("gibbs")


class Cleanups:
    """What became of the workers of cancelled calls, over a hub's whole life."""

    def __init__(self, observers: Observers | None) -> None:
        self._observers = observers
        self.kept = 0
        self.killed = 0
        self._warned = False

    def count(self, seat: Seat, ticket: Ticket, *, kept: bool, closing: bool) -> None:
        """Count a worker; say once what would have spared it, unless it had to go anyway."""
        if ticket.state is not TicketState.CANCELLED:  # the hub closes: nothing was to be spared
            return
        if self._observers is not None:
            self._observers.cleaned_up(seat, ticket, kept=kept)
        if kept:
            self.kept += 1
            return
        self.killed += 1
        if not self._warned and not closing and ticket.terms.on_cancel is None and seat.on_cancel == "kill":
            self._warned = True
            logger.warning(
                "worker %d is killed since the caller of its request was cancelled, and its model does not say that it "
                "may be interrupted. If an exception between any two of its lines leaves the model usable, give its "
                "class `interruptible = True` and it stays warm; on_cancel='finish' lets calls run out instead. "
                "This is said once for each hub",
                seat.index,
            )
