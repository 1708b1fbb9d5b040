"""Many requests of one task: a source that is read as room appears, and the results in its order, or as they come.

Knows what its reader takes and what the source gives. How a ticket travels is the desk's. Promises that no more than `limit` items are
anywhere between source and reader; that whatever becomes of an item is told in its place; and that what is still on its way is
withdrawn when the block is left, however that is.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from ._core.ticket import Answer, TicketState
from ._wire.verbs import PLAIN

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import TypeAlias

    from anyio.abc import TaskGroup

    from ._core.ticket import Ticket
    from ._desk import Desk
    from ._options import CallOptions

    Asked: TypeAlias = "Ticket | BaseException"  # an item that was handed in, or why it could not be

R_co = TypeVar("R_co", covariant=True)

_IN_A_ROW = 64  # results that may be given without letting others run


class Results(Generic[R_co]):
    """What a model makes of each item of a source. Made by `Hub.map`; used once, as a block around an `async for`.

    Invariants: every item that was read, and whose outcome was not given, is in `_line`, in the order in which outcomes will be given,
    or in `_pending`; both together are `limit` at most. `_pending` is empty where the source's order is kept: then the first of the line
    need not have ended. Otherwise all of the line have, and none of those that are pending.
    """

    def __init__(self, desk: Any, options: CallOptions, method: str, source: Any, *, limit: int, ordered: bool) -> None:
        if isinstance(limit, bool) or not isinstance(limit, int):
            raise TypeError(f"limit must be a whole number of items ≥ 1, not {limit!r}")
        if limit < 1:
            raise ValueError(f"limit must be a whole number of items ≥ 1, not {limit!r}")
        if not isinstance(source, Iterable | AsyncIterable):
            raise TypeError(f"map() takes an iterable, or an async one, not {source!r}")
        self._desk: Desk = desk
        self._options = options
        self._method = method
        self._limit = limit
        # So many are on their way, or fewer, and more are handed in: some at once, but a worker is not to wait for that.
        self._few = limit - -(-limit // (8 if limit < 64 else 4))
        self._ordered = ordered
        self._source: Any = source
        self._iterator: Iterator[Any] | None = None  # of a source that is not async, and not at its end
        self._line: deque[Asked] = deque()
        self._pending: dict[Ticket, None] = {}
        self._exhausted = False  # the source, or its reading
        self._open = False
        self._waiter: Any = None  # the reader's, while it waits
        self._room: Any = None  # the waiter of who reads an async source, while that waits
        self._in_a_row = 0
        self._deadline = math.inf  # of the scopes around the block: an item may be read in others
        self._readers: TaskGroup | None = None

    async def __aenter__(self) -> Results[R_co]:
        await checkpoint()
        if self._source is None:
            raise RuntimeError("these results were entered before: call map() again")
        source, self._source = self._source, None
        self._desk.check(PLAIN, self._method)
        self._deadline = self._desk.loop.deadline()
        if isinstance(source, AsyncIterable):
            iterator = aiter(source)
            self._readers = anyio.create_task_group()
            await self._readers.__aenter__()
            self._open = True
            self._readers.start_soon(self._read_on, iterator)
        else:
            self._iterator = iter(source)
            self._open = True
            self._read_more(self._iterator)
        return self

    def __aiter__(self) -> Results[R_co]:
        return self

    async def __anext__(self) -> R_co:
        """The next result. An item's exception is raised in its place, and the iteration may be gone on with."""
        if self._waiter is not None:
            raise anyio.BusyResourceError("reading from")
        line = self._line
        while True:
            if not self._open:
                raise self._refusal()
            if self._iterator is not None and len(line) + len(self._pending) <= self._few:
                self._read_more(self._iterator)  # first, so that the workers have something to do
            if line and self._in_a_row < _IN_A_ROW:
                asked = line[0]
                if isinstance(asked, BaseException) or asked.ended:
                    break
            if self._exhausted and not line and not self._pending:
                await checkpoint()
                raise StopAsyncIteration
            await self._wait()
        self._in_a_row += 1
        del line[0]
        if self._room is not None:
            self._desk.loop.wake(self._room)
        if isinstance(asked, BaseException):
            raise asked
        asked.payload = b""
        if self._desk.crew.closed is not None:
            self._desk.settle(asked)
        outcome = asked.outcome
        if type(outcome) is Answer:
            failed, body, left_behind = outcome
            if not (failed or left_behind):
                asked.outcome = None
                result: R_co = self._desk.opener.result(body)
                return result
        if asked.state is TicketState.REFUSED:
            await checkpoint_if_cancelled()  # a failed hub cancels its body, which then gets just that
        self._desk.open(asked)
        raise AssertionError("what is no answer has something to raise")

    def _has_next(self) -> bool:
        """Whether there is an outcome to be given now."""
        if not self._line:
            return False
        first = self._line[0]
        return isinstance(first, BaseException) or first.ended

    async def _wait(self) -> None:
        """Let others run, and return when there may be an outcome to be given."""
        self._in_a_row = 0
        if self._has_next():
            await checkpoint()
            return
        self._waiter = self._desk.loop.new_waiter()
        if self._ordered and self._line:
            first = self._line[0]
            assert not isinstance(first, BaseException), "it would have been given"
            first.wake = self._tell  # of the others nobody wants to know yet
        try:
            await self._waiter
        finally:
            self._waiter = None

    # ---- the source

    def _read_more(self, source: Iterator[Any]) -> None:
        """Hand in what there is room for, of a source that need not be waited for."""
        left = self._limit - len(self._line) - len(self._pending)
        while left > 0 and self._iterator is not None and self._has_room():
            some = int(max(1, min(left, self._desk.room)))
            left -= some
            self._read(some, source)

    def _read(self, count: int, source: Iterator[Any]) -> None:
        """Hand in so many of the source, if there are."""
        tickets: list[Ticket] = []
        try:
            for _ in range(count):
                self._ask(next(source), tickets)
        except StopIteration:
            self._exhausted = True
            self._iterator = None
        except Exception as error:  # noqa: BLE001 - the source's own; it is told behind the items before it
            self._end_with(error)
            self._iterator = None
        finally:
            self._desk.submit_all(tickets)

    async def _read_on(self, source: AsyncIterator[Any]) -> None:
        """Read an async source, as room appears, in a task beside."""
        try:
            async with AsyncExitStack() as stack:
                if isinstance(source, AsyncGenerator):
                    stack.push_async_callback(source.aclose)  # nobody else will
                async for item in source:
                    await self._until(self._has_room)
                    if self._open:
                        tickets: list[Ticket] = []
                        self._ask(item, tickets)
                        self._desk.submit_all(tickets)
                    await self._until(lambda: len(self._line) + len(self._pending) < self._limit)
            self._exhausted = True
        except anyio.get_cancelled_exc_class():
            await checkpoint_if_cancelled()  # nearly always it was this
            self._end_with(RuntimeError("the source of map() raised a cancellation that was not for its reader"))
        except Exception as error:  # noqa: BLE001 - as above
            self._end_with(error)
        self._tell()

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Return when it is so; it is looked at when the reader has taken something."""
        while not condition():
            self._room = self._desk.loop.new_waiter()
            await self._room

    def _has_room(self) -> bool:
        """Whether the hub takes one more item. While others fill its line, what is on its way already comes first."""
        return self._desk.has_room or not (self._line or self._pending)

    def _ask(self, item: Any, tickets: list[Ticket]) -> None:
        """Give the item its place; what is to be handed in for it is put to the others."""
        try:
            if not tickets:  # those that are handed in together are looked at together
                self._desk.check(PLAIN, self._method)
            ticket = self._desk.ticket(self._method, (item,), {}, self._options, deadline=self._deadline)
            ticket.many = True
        except (Exception, SystemExit) as error:  # noqa: BLE001 - its pickling's, which is told in the item's place
            self._line.append(error)
            self._tell()
            return
        if self._ordered:
            if not self._line:
                ticket.wake = self._tell  # a reader may wait already
            self._line.append(ticket)
        else:
            self._pending[ticket] = None
            ticket.wake = self._has_come
        tickets.append(ticket)

    def _end_with(self, error: BaseException) -> None:
        self._exhausted = True
        self._line.append(error)
        self._tell()

    def _has_come(self, ticket: Ticket) -> None:
        del self._pending[ticket]
        self._line.append(ticket)
        self._tell()

    def _tell(self, _ticket: Ticket | None = None) -> None:
        """Wake the reader, if that has something to give or to learn."""
        if self._waiter is not None and (self._exhausted or not self._open or self._has_next()):
            self._desk.loop.wake(self._waiter)

    # ---- the end

    def _refusal(self) -> Exception:
        if self._source is not None:
            return RuntimeError("results are read within their block: `async with hub.map(...) as results`")
        return anyio.ClosedResourceError()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open = False
        self._exhausted = True
        left = [asked for asked in (*self._line, *self._pending) if not isinstance(asked, BaseException)]
        self._line.clear()
        self._pending.clear()
        if self._readers is not None:
            self._readers.cancel_scope.cancel()
        try:
            for ticket in left:
                ticket.wake = None
            await self._desk.leave(self._options, *left)
        finally:
            for ticket in left:
                self._desk.settle(ticket)
            self._tell()
            if self._readers is not None:
                await self._close(self._readers, exc)

    async def _close(self, readers: TaskGroup, error: BaseException | None) -> None:
        """Wait for who reads the source. The body's own error is no part of a group, and no cancellation takes its place."""
        try:
            await readers.__aexit__(None, None, None)
        except anyio.get_cancelled_exc_class():
            if not isinstance(error, Exception):
                raise

    def __repr__(self) -> str:
        state = "not entered" if self._source is not None else "open" if self._open else "left"
        return f"<gibbs.Results of {self._desk.crew.options.name!r}, {state}>"


Results.__module__ = "gibbs"
