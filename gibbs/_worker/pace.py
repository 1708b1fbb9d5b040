"""How long this worker takes for a request, as it tells the hub, which decides by it what to send ahead.

Knows nanoseconds, and the two ways to tell. One call that takes much longer than those before it is believed at once, since what was sent behind it
waits; many are needed to believe that calls have become short again.
"""

from __future__ import annotations

from time import perf_counter_ns

from .._wire.messages import PACED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._wire.page import Page
    from .channel import Channel

_LONG = 2_000_000  # nanoseconds: longer is not told apart, so that one slow call is not remembered for hundreds of quick ones


class Pace:
    """The estimate, and the page on which the hub reads it."""

    __slots__ = ("_page", "_told", "estimate")

    fineness = 16  # a change by less than one part of so many is not worth telling: the hub looks at a seat again when it is told anew

    def __init__(self, page: Page) -> None:
        self._page = page
        self._told = 0
        self.estimate = 0  # nanoseconds; 0: nothing was measured yet

    def begin(self) -> int:
        """A request is taken up, now: when that is, in nanoseconds."""
        self._page.since = now = perf_counter_ns()
        return now

    def took(self, nanoseconds: int) -> None:
        """A request took so long."""
        known = self.estimate
        if nanoseconds > _LONG:
            nanoseconds = _LONG
        if not known or nanoseconds > 4 * known:
            self.estimate = nanoseconds or 1
        else:
            self.estimate = (7 * known + nanoseconds) // 8 or 1
        if abs(self.estimate - self._told) * self.fineness > self._told:
            self._told = self.estimate
            self._tell()

    def _tell(self) -> None:
        self._page.pace = self.estimate


class InBandPace(Pace):
    """The same where the stream is all there is, and each word a message."""

    __slots__ = ("_channel",)

    fineness = 2

    def __init__(self, page: Page, channel: Channel) -> None:
        super().__init__(page)
        self._channel = channel

    def _tell(self) -> None:
        self._channel.send(PACED, self.estimate)
