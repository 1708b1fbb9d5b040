"""The last word of a call about how it is getting on.

Knows one body that it never opens. Promises that a later word takes an earlier one's place, so that a reader who is slow misses
some, holds nobody up, and costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Progress:
    """What a reader has not taken yet. Invariant: `word` is None when there is none; `wake` is called for each that comes."""

    __slots__ = ("wake", "word")

    def __init__(self) -> None:
        self.word: Any = None
        self.wake: Callable[[], None] | None = None

    def tell(self, word: Any) -> None:
        """The model has come so far."""
        self.word = word
        if self.wake is not None:
            self.wake()

    def take(self) -> Any:
        """The last word, once."""
        word, self.word = self.word, None
        return word
