"""A job's public life: a request whose caller wants to know how it is getting on, and then what came of it.

Knows what its reader does. How a ticket travels is the desk's, what the model said last is the core's. Promises that a job is left
whenever its block is, however that is; that a reader sees the last word before the end; and that an outcome is told as often as it is
asked for.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from ._core.progress import Progress
from ._core.ticket import TicketState
from ._wire.verbs import PLAIN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from types import TracebackType

    from ._core.ticket import Ticket
    from ._desk import Desk
    from ._options import CallOptions

R_co = TypeVar("R_co", covariant=True)


class Job(Generic[R_co]):
    """A call whose progress can be followed. Made by `Hub.track`; used once, as a block.

    Invariants: `_ticket` is set once the block was entered, and has ended, or is withdrawn, when it is left. `_waiters` are of tasks that
    wait now, each for its end or for the next word.
    """

    def __init__(
        self, desk: Any, options: CallOptions, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self._desk: Desk = desk
        self._options = options
        self._asked: tuple[str, tuple[Any, ...], dict[str, Any]] | None = (method, args, kwargs)
        self._progress = Progress()
        self._words = _Words(self)
        self._ticket: Ticket | None = None
        self._waiters: dict[Any, None] = {}
        self._outcome: Callable[[], R_co] | None = None  # once it was opened

    async def __aenter__(self) -> Job[R_co]:
        await checkpoint()
        if self._asked is None:
            raise RuntimeError("this job was entered before: call track() again")
        asked, self._asked = self._asked, None
        self._desk.check(PLAIN, asked[0])
        deadline = self._desk.loop.deadline()
        ticket = self._desk.ticket(*asked, self._options, deadline=deadline, progress=self._progress)
        self._progress.wake = self._tell
        ticket.wake = self._has_ended
        self._ticket = ticket
        self._desk.submit(ticket)
        return self

    @property
    def progress(self) -> AsyncIterator[Any]:
        """What the model reports, as it comes: the last word that there is, each at most once. It ends when the call has ended.

        However it ended: `result` tells. A reader who comes late, or takes long over a word, misses those between; the last one is
        never missed.

        Raises:
            RemoteError: from the iteration, in its place: a word cannot be loaded here.
            anyio.BusyResourceError: from the iteration: another task is reading.
            anyio.ClosedResourceError: from the iteration: the block was left before the call had ended.

        Cancellation:
            The iteration is a checkpoint when there is no word. Cancelled there it has lost none.
        """
        return self._words

    async def result(self) -> R_co:
        """Return what the model returned, when it has. Any number of tasks may ask, again and again, also after the block.

        Raises:
            Exception: what the model raised, or anything else that `request` raises when a request was sent.
            anyio.ClosedResourceError: the block was left before the call had ended, which withdrew it.
            RuntimeError: the block was not entered.

        Cancellation:
            Always a checkpoint. Cancelled, it changes nothing: what ends the call is that its block is left.
        """
        await checkpoint()
        ticket = await self._wait_while(lambda ticket: not ticket.ended)
        if self._outcome is None:
            if ticket.state is TicketState.REFUSED:
                await checkpoint_if_cancelled()  # a failed hub cancels its body, which then gets just that
            self._outcome = self._open(ticket)
        return self._outcome()

    async def _wait_while(self, goes_on: Callable[[Ticket], bool]) -> Ticket:
        """Return the ticket when that is over. Raises what there is to say of a job that is not open."""
        ticket = self._ticket
        if ticket is None:
            raise RuntimeError("a job is followed within its block: `async with hub.track(...) as job`")
        while goes_on(ticket):
            waiter = self._desk.loop.new_waiter()
            self._waiters[waiter] = None
            try:
                await waiter
            finally:
                self._waiters.pop(waiter, None)
        if ticket.state is TicketState.CANCELLED:
            raise anyio.ClosedResourceError("the block of this job was left before its call had ended")
        return ticket

    def _tell(self) -> None:
        """Something has come."""
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters:
            self._desk.loop.wake(waiter)

    def _has_ended(self, _ticket: Ticket) -> None:
        self._tell()
        self._desk.has_ended()

    def _open(self, ticket: Ticket) -> Callable[[], R_co]:
        try:
            result: R_co = self._desk.open(ticket)
        except Exception as error:  # noqa: BLE001 - for whoever asks
            return partial(_throw, error, error.__traceback__)
        return lambda: result

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        ticket = self._ticket
        assert ticket is not None
        try:
            await self._desk.leave(self._options, ticket)
        finally:
            self._desk.settle(ticket)

    def __repr__(self) -> str:
        state = "not entered" if self._ticket is None else str(self._ticket.state)
        return f"<gibbs.Job of {self._desk.crew.options.name!r}, {state}>"


class _Words:
    """The reader's end of a job's progress."""

    def __init__(self, job: Job[Any]) -> None:
        self._job = job
        self._waits = False

    def __aiter__(self) -> _Words:
        return self

    async def __anext__(self) -> Any:
        if self._waits:
            raise anyio.BusyResourceError("reading from")
        job, progress = self._job, self._job._progress  # noqa: SLF001 - of one module
        self._waits = True
        try:
            if progress.word is None:
                await checkpoint()
            await job._wait_while(lambda ticket: progress.word is None and not ticket.ended)  # noqa: SLF001
        finally:
            self._waits = False
        word = progress.take()
        if word is None:
            raise StopAsyncIteration
        return job._desk.opener.result(word)  # noqa: SLF001


def _throw(error: BaseException, traceback: TracebackType | None) -> Any:
    raise error.with_traceback(traceback)  # or it would be longer each time


Job.__module__ = "gibbs"
