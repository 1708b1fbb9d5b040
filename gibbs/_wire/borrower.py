"""The reader's side of an arena: which letters have views that live, and which have none any more since it was last asked.

The owner lends by letter: it is told a letter's number when the last view of it is gone, and takes its slots back then. Promises that
a letter is told once, and never while a view of it lives, whoever holds that: the model, a caller, an array that was made of it.
"""

from __future__ import annotations

from _weakref import ref

from .letter import Forged, Opened, read_table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .arena import Arena


class Borrower:
    """What this process looks at of an arena that it does not own."""

    def __init__(self, arena: Arena, longest: float) -> None:
        self._arena = arena
        self._longest = longest
        # By the identity of a view's reference, since a reference to what has no hash has none: itself, and its letter's number.
        self._letters: dict[int, tuple[ref[Any], int]] = {}
        self._views: dict[int, int] = {}  # number → views that live
        # What `returned` has to look at: references to views that are gone, and numbers of letters that were not opened. Others
        # only ask whether it is empty.
        self.news: list[ref[Any] | int] = []
        self._note = self.news.append  # runs wherever a view dies: in any thread, in the middle of anything

    def open(self, number: int, body: bytes) -> Opened:
        """Views of what the letter speaks of. Raises Forged, and then nothing is borrowed."""
        if number in self._views:
            raise Forged("it was sent before")
        places = read_table(body, self._arena.size, self._longest)
        views = [self._arena.view(*place) for place in places]
        for view in views:
            reference = ref(view, self._note)
            self._letters[id(reference)] = reference, number
        if views:
            self._views[number] = len(views)
        return Opened(body, views)

    def leave(self, number: int) -> None:
        """A letter that will not be opened."""
        self.news.append(number)

    def returned(self) -> list[int]:
        """The letters of which no view is left, each once."""
        numbers = []
        while self.news:
            one = self.news.pop()
            if isinstance(one, int):
                numbers.append(one)
                continue
            _, number = self._letters.pop(id(one))
            self._views[number] -= 1
            if not self._views[number]:
                del self._views[number]
                numbers.append(number)
        return numbers
