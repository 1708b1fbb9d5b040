"""How long this worker takes for a request, as it tells the hub, which decides by it what to send ahead.

Knows nanoseconds. One call that takes much longer than those before it is believed at once, since what was sent behind it
waits; many are needed to believe that calls have become short again.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._wire.page import Page

_FINE = 16  # a change by less than one part of so many is not worth telling
_LONG = 2_000_000  # nanoseconds: longer is not told apart, so that one slow call is not remembered for hundreds of quick ones


class Pace:
    """The estimate, and the page on which the hub reads it."""

    __slots__ = ("_page", "_told", "estimate")

    def __init__(self, page: Page) -> None:
        self._page = page
        self._told = 0
        self.estimate = 0  # nanoseconds; 0: nothing was measured yet

    def took(self, nanoseconds: int) -> None:
        """A request took so long."""
        known = self.estimate
        if nanoseconds > _LONG:
            nanoseconds = _LONG
        if not known or nanoseconds > 4 * known:
            self.estimate = nanoseconds or 1
        else:
            self.estimate = (7 * known + nanoseconds) // 8 or 1
        if abs(self.estimate - self._told) * _FINE > self._told:  # the hub looks at a seat again when it is told anew
            self._page.pace = self._told = self.estimate
