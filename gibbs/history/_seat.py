"""A seat, and the calls that its worker has, as far as events tell. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._minutes import ENOUGH
from ._records import RunningCall, SeatStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..events import SeatState
    from ._records import Quantiles

NOWHERE = "it does not say where it is"

_PATIENCE = 30.0  # seconds that a call may take, where nothing is usual yet
_FAR = 5.0  # else so many times what 99 of 100 take, and a second


class Call:
    """A request that a worker has."""

    __slots__ = ("left", "method", "number", "since", "stack", "where")

    def __init__(self, number: int, method: str, since: float) -> None:
        self.number = number
        self.method = method
        self.since = since  # it could begin
        self.left = False  # whether its caller has
        self.where = self.stack = ""  # when the hub said that it is slow

    def status(self, now: float, usual: Quantiles) -> RunningCall:
        """As it is now; such calls have usually taken so long."""
        seconds = max(0.0, now - self.since)
        limit = _PATIENCE
        if usual.count >= ENOUGH and usual.p99 is not None:
            limit = max(1.0, _FAR * usual.p99)
        return RunningCall(
            number=self.number,
            method=self.method,
            seconds=seconds,
            left=self.left,
            overdue=bool(self.where) or (seconds > limit and not self.left),
            where=self.where,
            stack=self.stack,
        )


class Seat:
    """Invariants: `held` is what its worker has and has not ended, in the order of sending. While `left` is set, the worker may be busy with that."""

    __slots__ = (
        "had",
        "held",
        "host",
        "incarnation",
        "leased_at",
        "left",
        "memory",
        "pid",
        "ready_at",
        "since",
        "state",
    )

    def __init__(self) -> None:
        self.state: SeatState = "vacant"
        self.since = 0.0
        self.incarnation = 0
        self.held: dict[int, Call] = {}
        self.left: Call | None = None
        self.had: Call | None = None  # when it began to die
        self.pid: int | None = None
        self.host = ""
        self.ready_at: float | None = None
        self.leased_at: float | None = None
        self.memory: tuple[int, int] | None = None  # at first, and now

    @property
    def call(self) -> Call | None:
        """What it runs, or has first."""
        return self.left or next(iter(self.held.values()), None)

    def status(self, index: int, now: float, usual: Callable[[str], Quantiles]) -> SeatStatus:
        """As it is now."""
        call = self.call
        return SeatStatus(
            seat=index,
            incarnation=self.incarnation,
            state=self.state,
            seconds=max(0.0, now - self.since),
            pid=self.pid,
            host=self.host,
            age=None if self.ready_at is None else max(0.0, now - self.ready_at),
            call=None if call is None else call.status(now, usual(call.method)),
            ahead=len(self.held) - (call is not None and not call.left),
            leased=None if self.leased_at is None else max(0.0, now - self.leased_at),
            memory=None if self.memory is None else self.memory[1],
            memory_at_first=None if self.memory is None else self.memory[0],
        )
