"""What the last minutes of hubs were: an observer that remembers.

Knows which events are whose. Pure, as all of this room: no clock, no loop, no thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import events
from ._folded import Folded

if TYPE_CHECKING:
    from ._records import HubStatus

_OVER = 20  # hubs that are over are kept


class History:
    """Remembers what the hubs that it observes do, and what their last ten minutes were: `open_hub(observers=[history])`.

    One is enough for a program, if its hubs have different names. A hub that is opened again under its name begins a new history. It takes some 100 KiB
    for each hub, and a little for each request that lives, however long the program runs.

    Example:
        ```python
        history = History()
        async with gibbs.open_hub(Model, workers=4, name="m", observers=[history]) as hub:
            await hub.request(3)
            status = history.of("m", anyio.current_time())
            assert status.counts["done"] == 1
        ```
    """

    def __init__(self) -> None:
        self._hubs: dict[str, Folded] = {}

    def __call__(self, event: events.Event) -> None:
        """Remember it."""
        hub = self._hubs.get(event.hub)
        if hub is None or (hub.is_over and type(event) is events.SeatChanged and event.after == "starting"):
            hub = self._begin(event.hub)
        hub.fold(event)

    def _begin(self, name: str) -> Folded:
        self._hubs.pop(name, None)
        over = [one for one, hub in self._hubs.items() if hub.is_over]
        for one in over[: max(0, len(over) - _OVER + 1)]:
            del self._hubs[one]
        hub = self._hubs[name] = Folded(name)
        return hub

    @property
    def hubs(self) -> tuple[str, ...]:
        """The names of the hubs of which something is known; the last 20 of those that are over are among them."""
        return tuple(self._hubs)

    def of(self, hub: str, now: float) -> HubStatus:
        """What this hub does now, and what its last minutes were.

        Args:
            hub: its name.
            now: the time on its event loop's clock: `anyio.current_time()`.

        Raises:
            KeyError: nothing is known of it.
        """
        return self._hubs[hub].status(now)


History.__module__ = "gibbs.history"
