"""Which seat takes the next request: seats with room, the near before the far, those used last first, found in constant time.

Knows seats, and nothing of queues. Stacks, the seat used last on top, whose caches are warm; dicts, so that none is twice
on one. Deletion is lazy: a seat is looked at again before it is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .pace import SHORT

if TYPE_CHECKING:
    from .seat import Seat


class Roster:
    """The seats that can take a request. Invariant: each seat that has room is on the stack that fits what it holds."""

    __slots__ = ("_far_idle", "_idle", "_roomy")

    def __init__(self) -> None:
        self._idle: dict[Seat, None] = {}  # hold nothing
        self._far_idle: dict[Seat, None] = {}  # nor do these, on other machines
        self._roomy: dict[Seat, None] = {}  # hold something, less than their window

    def offer(self, seat: Seat) -> None:
        """The seat was used, or something about it changed: put it on top, if it has room."""
        if seat.has_room:
            stack = self._roomy if seat.held else self._far_idle if seat.is_far else self._idle
            if stack and next(reversed(stack)) is seat:
                return
            stack.pop(seat, None)  # or it would keep its old place
            stack[seat] = None

    def find(self, *, alone: bool, enough: bool = False) -> Seat | None:
        """The seat to send to; with `alone` only one that holds nothing. None if there is none.

        Where calls are short the one that is awake is preferred to one that would have to be woken; and with `enough` sent to
        such seats already, the next waits for one of them.
        """
        busy = None if alone else self._find_roomy()
        if busy is not None and busy.service_time < SHORT:
            return None if enough else busy
        return _find_idle(self._idle) or _find_idle(self._far_idle) or busy

    def _find_roomy(self) -> Seat | None:
        while self._roomy:
            seat = next(reversed(self._roomy))
            if seat.has_room and seat.held:
                return seat
            self._roomy.popitem()
        return None


def _find_idle(stack: dict[Seat, None]) -> Seat | None:
    while stack:
        seat = next(reversed(stack))
        if seat.has_room and not seat.held:
            return seat
        stack.popitem()
    return None
