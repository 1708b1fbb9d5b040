"""Tells the dispatcher that time has passed, and only when it has something to do then: a hub that is idle is not woken.

Knows the event loop's clock. Must never decide what follows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from .rounds import Rounds
from .slow_calls import LOOKS, SlowCalls
from .waiter import Alarm

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .crew import Crew

_TICK = 0.002  # seconds; much longer than what is sent ahead should take
_MEASURE = 1.0  # seconds between two looks at what workers take


class Clock:
    """That of one hub: two tasks of its own, and more for what is looked at while anything runs.

    Invariant: while `is_ticking` the first one will look by itself whether more ticks are wanted.
    """

    def __init__(self, crew: Crew) -> None:
        self.waits = Alarm()  # rung when a request begins to wait until some time: for company, or to be taken
        self._crew = crew
        self.is_ticking = False
        self._sent_something = Alarm()
        self.rounds = tuple(_rounds(crew))

    def start(self) -> None:
        """Begin to keep time."""
        self._crew.spawn(self.tick, "ticks")
        self._crew.spawn(self.keep_time, "time")
        for rounds in self.rounds:
            self._crew.spawn(rounds.run, "rounds")

    def tick_on(self) -> None:
        """Something was sent that may have to be taken back, or whose payload need not be kept for long."""
        self.is_ticking = True
        self._sent_something.ring()

    def close(self) -> None:
        """The hub closes: its tasks come to their end."""
        self._sent_something.ring()
        self.waits.ring()
        for rounds in self.rounds:
            rounds.close()

    async def tick(self) -> None:
        """Take back what waits behind a long call, and let go of large payloads, until the hub closes. Sleeps if there are none."""
        crew, dispatcher = self._crew, self._crew.dispatcher
        with anyio.CancelScope(shield=True):
            while not crew.is_over:
                await self._sent_something.wait()
                while dispatcher.wants_ticks and not dispatcher.closed:
                    await anyio.sleep(_TICK)
                    for supervisor in crew.supervisors:
                        if supervisor.worker is not None and (begun := supervisor.worker.link.begun()) is not None:
                            dispatcher.begun(supervisor.seat, begun)
                    crew.carry_out(dispatcher.tick())
                self.is_ticking = False

    async def keep_time(self) -> None:
        """Send what has waited for company for long enough, refuse what no worker took in time. Sleeps while nothing waits so."""
        crew, dispatcher = self._crew, self._crew.dispatcher
        with anyio.CancelScope(shield=True):
            while not crew.is_over:
                with anyio.CancelScope(deadline=min(dispatcher.ripe_at, dispatcher.expires_at)):
                    await self.waits.wait()
                now = anyio.current_time()
                crew.carry_out(dispatcher.ripen(now) + dispatcher.expire(now))
                if crew.scaler is not None and dispatcher.queued:
                    crew.scaler.something_waits.ring()


def _rounds(crew: Crew) -> Iterator[Rounds]:
    if (after := crew.options.slow_call) is not None:
        yield Rounds(crew, after / LOOKS, SlowCalls(crew, after).look)
    if (observers := crew.observers) is not None:

        async def measure() -> None:
            for supervisor in crew.supervisors:
                if rss := supervisor.resident_bytes():
                    observers.measured(supervisor.seat, rss)

        yield Rounds(crew, _MEASURE, measure)
