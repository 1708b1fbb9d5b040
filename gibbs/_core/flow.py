"""The window of one stream: how many items its worker may send, what came of them, and what its reader has taken.

Knows counts, and runs of items that it never opens. Promises that a worker is never ahead of its reader by more than the window, and that
a reader who goes on taking keeps it going: what was taken is granted again, half a window at a time.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Flow:
    """What is on its way between the worker and the reader of a stream.

    Invariants: while somebody waits for its end, `credit` + `here` + `taken` is `window`; none is ever negative. `here` is the items
    of `runs`, and those of the run that the reader has begun and not taken yet. `wake` is called, once, when something arrives.
    """

    __slots__ = ("began", "credit", "here", "runs", "taken", "wake", "window")

    def __init__(self, window: int) -> None:
        self.window = window
        self.credit = window  # items that the worker may still send
        self.runs: deque[tuple[int, Any]] = deque()  # what came and was not begun: how many items, and these
        self.here = 0  # items that came and were not taken
        self.taken = 0  # items that were taken, and not granted again
        self.began = False  # whether anything has come
        self.wake: Callable[[], None] | None = None

    def arrive(self, runs: Sequence[tuple[int, Any]], *, wanted: bool) -> bool:
        """The worker sent these, which are dropped if they are not wanted. False, and nothing has changed, if it may not."""
        count = sum(count for count, _ in runs)
        if not 0 < count <= self.credit:
            return False
        self.credit -= count
        self.began = True
        if not wanted:
            return True
        self.here += count
        self.runs.extend(runs)
        wake, self.wake = self.wake, None
        if wake is not None:
            wake()
        return True

    def take(self) -> None:
        """The reader has one item more."""
        self.here -= 1
        self.taken += 1

    @property
    def is_due(self) -> bool:
        """Whether so much was taken that it is worth telling the worker."""
        return 2 * self.taken >= self.window

    def grant(self) -> int:
        """How many more items the worker may send from now on: as many as were taken."""
        granted, self.taken = self.taken, 0
        self.credit += granted
        return granted
