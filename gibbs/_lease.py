"""The desk of one lease: the same road for its requests, with one worker at the end of it.

Knows when a lease may be asked on, and in which words it is refused. Who is given which worker, and what becomes of what waits for it,
is decided in `_core/lease.py` and the dispatcher. Promises that who is cancelled while he waits for a lease has none, and that a lease
whose block was left holds nobody up.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from ._core.lease import Lease, LeaseState
from ._core.ticket import Lost, Ticket, TicketState
from ._desk import Desk
from ._errors import HubOverloaded, LeaseBroken
from ._parent.death import crash_of
from ._parent.insist import insist
from ._parent.own import whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._options import CallOptions


class LeaseDesk(Desk):
    """Where the requests of one lease are handed in.

    Invariants: `lease` is set when the block is entered, and stays; it is OVER when the block is left, and `_left` then.
    """

    def __init__(self, desk: Desk) -> None:
        if isinstance(desk, LeaseDesk):
            raise TypeError("a lease is one worker, on which no other can be had: call lease() of the hub")
        vars(self).update(vars(desk))  # it is that desk, but for what is said below
        self._asked = False
        self._left = False

    async def enter(self, options: CallOptions) -> None:
        """Wait until a worker holds nothing, and is held for this lease."""
        await checkpoint()
        if self._asked:
            raise RuntimeError("this lease was entered before: call lease() again")
        self._asked = True
        self._check_hub()
        self.submit_all = whole(self._submit_each)  # type: ignore[method-assign]
        self._end = whole(self._end)  # type: ignore[method-assign]
        lease = Lease()
        ticket = Ticket(b"", options.terms, created=self.loop.now(), lease=lease)
        if self.propagation:
            ticket.propagated = self.propagation.captured("")
        self.submit(ticket)
        try:
            while not ticket.ended:
                ticket.waiter = self.loop.new_waiter()
                ticket.wake = self.wake
                await ticket.waiter
            if lease.state is LeaseState.OVER:
                await checkpoint_if_cancelled()  # a failed hub cancels its body, which then gets just that
            if ticket.state is TicketState.EXPIRED:
                raise HubOverloaded(self.crew.options.name, self._all_waiting, ticket.terms.max_wait)
            if lease.state is LeaseState.OVER:  # refused, or the hub has closed since
                raise self.crew.refusal()
            self.lease = lease
        except BaseException:
            self._withdraw(ticket)
            self._end(lease)  # it may have been given meanwhile
            raise
        finally:
            self.settle(ticket)

    async def exit(self, options: CallOptions) -> None:
        """Withdraw what is on its way, and let others have the worker. Returns at once, or when that is idle, or gone."""
        lease, self._left = self.lease, True
        assert lease is not None
        assert lease.seat is not None
        sent = [ticket for ticket in lease.seat.held.values() if ticket.lease is lease]
        self._end(lease)
        if not options.abandon_on_cancel:
            for ticket in sent:
                await self._released(ticket)

    @property
    def place(self) -> tuple[int, int]:
        """The seat's index, and which worker of it."""
        if self.lease is None or self.lease.seat is None:
            raise RuntimeError("a lease has a worker within its block: `async with hub.lease() as worker`")
        return self.lease.seat.index, self.lease.incarnation

    @property
    def condition(self) -> str:
        """What it is worth, in words."""
        if self.lease is None:
            return "not entered"
        seat, incarnation = self.place
        return f"{self.lease.state} worker {seat}.{incarnation}"

    def _end(self, lease: Lease) -> None:
        self.crew.carry_out(self.crew.dispatcher.leave(lease))

    # ---- what is the same for every lease

    @property
    def _all_waiting(self) -> int:
        """How many wait for a worker, or for a lease."""
        dispatcher = self.crew.dispatcher
        return dispatcher.waiting + dispatcher.leases.aside.count

    def _check_hub(self) -> None:
        """Refuse a lease that cannot be had, or cannot be had here, or now."""
        self.check_place()
        crew = self.crew
        if crew.closed is not None:
            raise crew.refusal()
        if max(crew.staffing.wanted, crew.options.most if crew.options.elastic else 0) < 2:
            raise ValueError(
                f"the hub {crew.options.name!r} has one worker, and a lease would leave none for others: open it with "
                f"workers=2 or more"
            )
        if not crew.dispatcher.has_room_for_lease(crew.options.max_pending):
            raise self.turn_away("", self._all_waiting)

    # ---- where it differs from the hub's

    def check(self, needed: str, method: str) -> None:
        """Refuse what cannot be asked on this lease, or not any more."""
        self.check_place()
        lease = self.lease
        if self._left:
            raise anyio.ClosedResourceError("the lease is over: its `async with` block has been left")
        if lease is None:
            raise RuntimeError("a lease is asked within its block: `async with hub.lease() as worker`")
        if lease.state is LeaseState.BROKEN and self.crew.closed is None:
            raise self._broken(lease.death)
        super().check(needed, method)

    @property
    def waiting(self) -> int:
        """How many requests wait for the worker of this lease."""
        return len(self.lease.line) if self.lease is not None else 0

    @property
    def has_room(self) -> bool:
        """Whether one more would be taken: as many may wait on each lease as before the hub."""
        return self.lease is None or self.lease.has_room(self.crew.options.max_pending)

    def _submit_each(self, tickets: list[Ticket]) -> None:
        for ticket in tickets:
            self.submit(ticket)

    def open(self, ticket: Ticket) -> Any:
        """As the hub's; what was not begun when the worker died is told so, and what others left behind them."""
        outcome = ticket.outcome
        if isinstance(outcome, Lost) and not outcome.may_have_run:
            ticket.outcome = None
            raise self._broken(outcome.death)
        if ticket.state is TicketState.CANCELLED:
            raise anyio.ClosedResourceError(
                "the lease is over: its `async with` block was left before this was answered"
            )
        return super().open(ticket)

    def _broken(self, death: object) -> LeaseBroken:
        crash = crash_of(Lost(death, may_have_run=False))
        error = LeaseBroken(crash.name, crash.seat, crash.incarnation, how=crash.how)
        error.__cause__ = crash
        return error

    async def _released(self, ticket: Ticket) -> None:
        """As the hub's, though two may wait for it: its caller, and who leaves the lease."""

        async def wait() -> None:
            if ticket.seat is not None:
                waiter = self.loop.new_waiter()
                ticket.released = partial(self._wake_both, ticket.released, waiter)
                await waiter

        await insist(wait)

    def _wake_both(self, other: Callable[[], None] | None, waiter: Any) -> None:
        if other is not None:
            other()
        self.loop.wake(waiter)
