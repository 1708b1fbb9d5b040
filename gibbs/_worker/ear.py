"""How a worker opens arguments, and tells when it has let go of them.

Knows the hub's arena, if it can see it. Promises that what is lent stays lent as long as the model holds any view of it, and that
the hub is told with the next reply after the last is gone: with its own, if the model keeps nothing.
"""

from __future__ import annotations

from .._wire.arena import Arena
from .._wire.borrower import Borrower
from .._wire.letter import ASIDE, Opened
from .._wire.messages import FREED_ARGUMENTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Ear:
    """One worker's way of taking arguments."""

    __slots__ = ("_borrower", "news")

    def __init__(self, setup: dict[str, Any], arguments: int) -> None:
        self._borrower: Borrower | None = None
        self.news: list[Any] = []  # not empty: `freed` may have something to say
        if arguments >= 0 and setup.get("arenas"):
            try:
                arena = Arena(arguments)
            except OSError:  # the hub is told, and sends all in one piece
                return
            arena.close_descriptor()
            self._borrower = Borrower(arena, setup["max_message"])
            self.news = self._borrower.news

    @property
    def sees_arguments(self) -> bool:
        """Whether the hub may put arguments aside."""
        return self._borrower is not None

    def open(self, link_id: int, body: bytes) -> bytes | Opened:
        """The body with what it has in the arena. To be unpickled by `letter.loads`."""
        if self._borrower is None or body[0] != ASIDE:
            return body
        return self._borrower.open(link_id, body)

    def skip(self, link_id: int, body: bytes) -> None:
        """These arguments will not be opened."""
        if self._borrower is not None and body[0] == ASIDE:
            self._borrower.leave(link_id)

    def freed(self) -> list[tuple[int, int]]:
        """The messages that say of which requests no view is left."""
        if self._borrower is None:
            return []
        return [(FREED_ARGUMENTS, link_id) for link_id in self._borrower.returned()]
