"""A stream's public life: handed in when the block is entered, read item by item, left early or at its end.

Knows what its reader does. How a ticket travels is the desk's, how much the worker may send is the flow's. Promises that a stream
is left whenever its block is, however that is; that items which came are given before whatever ended the stream; and that a
reader who is cancelled has lost none.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from ._core.flow import Flow
from ._core.ticket import Answer, TicketState
from ._wire.verbs import GENERATOR

if TYPE_CHECKING:
    from types import TracebackType

    from ._core.ticket import Ticket
    from ._desk import Desk
    from ._options import CallOptions

T_co = TypeVar("T_co", covariant=True)

_IN_A_ROW = 16  # items that may be given without letting others run


class Stream(Generic[T_co]):
    """What a generator of the model yields, as it comes. Made by `Hub.stream`; used once, as a block around an `async for`.

    Invariant: `_ticket` is set while the block is open, and has ended, or is withdrawn, when it is left.
    """

    def __init__(
        self, desk: Any, options: CallOptions, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self._desk: Desk = desk
        self._options = options
        self._asked: tuple[str, tuple[Any, ...], dict[str, Any]] | None = (method, args, kwargs)
        self._flow = Flow(options.buffer)
        self._run: list[T_co] = []  # items that were opened together, and not taken yet; the next one is the last
        self._ticket: Ticket | None = None
        self._over = False  # its end was told
        self._waits = False
        self._in_a_row = 0  # items given since others could run

    async def __aenter__(self) -> Stream[T_co]:
        await checkpoint()
        if self._asked is None:
            raise RuntimeError("this stream was entered before: ask for another one")
        asked, self._asked = self._asked, None
        self._desk.check(GENERATOR, asked[0])
        self._ticket = self._desk.ticket(*asked, self._options, self._flow, self._desk.loop.deadline())
        self._ticket.wake = self._desk.has_ended
        self._desk.submit(self._ticket)
        return self

    def __aiter__(self) -> Stream[T_co]:
        return self

    async def __anext__(self) -> T_co:
        ticket, flow = self._ticket, self._flow
        if ticket is None:
            raise self._refusal()
        if self._waits:
            raise anyio.BusyResourceError("reading from")
        if flow.here and self._in_a_row < _IN_A_ROW:
            self._in_a_row += 1
        else:
            await self._wait(ticket)
            if self._ticket is None:
                raise self._refusal()
            if not flow.here:
                return self._end(ticket)
        flow.take()
        if flow.is_due:
            self._desk.grant(ticket)
        return self._run.pop() if self._run else self._open()

    def _open(self) -> T_co:
        """The next item, of a run that was not begun."""
        count, body = self._flow.runs.popleft()
        if count == 1:
            item: T_co = self._desk.opener.result(body)
            return item
        try:
            self._run = self._desk.opener.run(count, body)
        except BaseException:
            for _ in range(count - 1):  # none of them can be had
                self._flow.take()
            raise
        self._run.reverse()
        return self._run.pop()

    async def _wait(self, ticket: Ticket) -> None:
        """Let others run, and return when there is an item, or no more will come."""
        self._waits = True
        self._in_a_row = 1
        try:
            if self._flow.here or ticket.ended:
                await checkpoint()
            else:
                loop = self._desk.loop
                ticket.waiter = loop.new_waiter()
                ticket.wake = self._desk.wake
                self._flow.wake = partial(loop.wake, ticket.waiter)
                await ticket.waiter
            if not self._flow.here and ticket.state is TicketState.REFUSED:
                await checkpoint_if_cancelled()  # a failed hub cancels its body, which then gets just that
        finally:
            self._waits = False

    def _end(self, ticket: Ticket) -> T_co:
        """What ended the stream, once; after that, and after a generator that has come to its end, there is no more."""
        over, self._over = self._over, True
        self._desk.settle(ticket)
        ended_well = isinstance(ticket.outcome, Answer) and not (ticket.outcome.failed or ticket.outcome.left_behind)
        if over or ended_well:
            raise StopAsyncIteration
        self._desk.open(ticket)
        raise AssertionError("a stream that did not end well has something to raise")

    def _refusal(self) -> Exception:
        if self._asked is not None:
            return RuntimeError("a stream is read within its block: `async with hub.stream(...) as items`")
        return anyio.ClosedResourceError()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        ticket, self._ticket = self._ticket, None
        assert ticket is not None
        try:
            await self._desk.leave(self._options, ticket)
        finally:
            self._flow.runs.clear()
            self._run.clear()
            self._desk.settle(ticket)

    def __repr__(self) -> str:
        state = "not entered" if self._asked is not None else "left" if self._ticket is None else "open"
        return f"<gibbs.Stream of {self._desk.crew.options.name!r}, {state}>"


Stream.__module__ = "gibbs"
