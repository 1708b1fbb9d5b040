"""Hear of sockets for as long as they live, with the event loop's own means: the cheapest way to receive many small answers.

A twin per loop, as in `waiter`. On asyncio a socket is registered once, for each registration costs more than the rest of a
short request (15-22 µs): it is then read by the loop itself and not in a task. On Trio each wait registers anew. Whoever
stays awake for an answer need not wait for the loop to find out: it looks itself.

What many sockets have to say at once is settled in turns, so that others have theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import anyio
from anyio.lowlevel import current_token

from .own import whole

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    Act = Callable[[int], tuple[int, bool]]
    """Settle so many at most: how many it were, and whether there are more."""


class Readable(Protocol):
    """A socket, and what is to be done when it has something."""

    async def listen(self) -> NoReturn:
        """Act each time, until that raises; what it raises is raised here. Once only; cancellable."""
        ...

    def look(self) -> None:
        """Act now, or when it is this one's turn; from any task. Raises nothing: it is `listen` that does. Does nothing when that is over."""
        ...


class Turns:
    """How many answers are settled before others have their turn. Each makes a caller go on, too.

    On asyncio and uvloop of all sockets of a hub together, on Trio of each. The numbers are what `benchmarks/lag.py` and
    `throughput.py` leave room for: fewer cost requests a second, more make a task that sleeps meanwhile more than four times as
    late as beside an idle hub. On asyncio's own loop it runs in the third pass after its time has come.

    Invariant, on asyncio: while `going_on`, the loop will settle what waits by itself, and nobody else settles anything, or each of
    them would go on too and leave no turn to others.
    """

    def __init__(self) -> None:
        self._loop: Any = current_token().native_token
        self._waiting: dict[AsyncioReadable, None] = {}
        self.going_on = False
        if hasattr(self._loop, "_run_once"):
            self.most = 6
        else:
            self.most = 16 if hasattr(self._loop, "create_future") else 8

    def listen_to(self, sock: socket.socket, act: Act) -> Readable:
        """For the loop that runs now."""
        if hasattr(self._loop, "create_future"):
            return AsyncioReadable(self, self._loop, sock, act)
        import trio

        return TrioReadable(self, trio.lowlevel, sock, act)

    def ask(self, one: AsyncioReadable) -> None:
        """It has something to do, when it is its turn."""
        self._waiting[one] = None
        if not self.going_on:
            self.going_on = True
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        left = self.most
        for one in [*self._waiting]:
            if left <= 0:
                break
            del self._waiting[one]
            left -= one.act(left)
        if self._waiting:
            self._loop.call_soon(self._go_on)
        else:
            self.going_on = False


class AsyncioReadable:
    """The twin for asyncio and uvloop. Invariant: `_over` is done, or cancelled, when nothing may be called any more."""

    def __init__(self, turns: Turns, loop: Any, sock: socket.socket, act: Act) -> None:
        self._turns = turns
        self._loop = loop
        self._fd = sock.fileno()
        self._act = act
        self._over = loop.create_future()

    async def listen(self) -> NoReturn:
        self._loop.add_reader(self._fd, self.look)
        try:
            raise await self._over
        finally:
            self._loop.remove_reader(self._fd)

    def look(self) -> None:
        if self._turns.going_on:
            self._turns.ask(self)
        else:
            self.act(self._turns.most)

    def act(self, at_most: int) -> int:
        """Settle so many at most, and ask for another turn if there are more. Returns how many it were."""
        if self._over.done():
            return 0
        try:
            settled, goes_on = self._act(at_most)
        except Exception as error:  # noqa: BLE001 - raised by `listen`; a Ctrl-C ends the loop
            self._over.set_result(error)
            return 0
        if goes_on:
            self._turns.ask(self)
        return settled


class TrioReadable:
    """The twin for Trio. Invariant: `_error` is what `act` raised while somebody looked; `listen` is on its way to raise it."""

    def __init__(self, turns: Turns, lowlevel: Any, sock: socket.socket, act: Act) -> None:
        self._most = turns.most
        self._lowlevel = lowlevel
        self._sock = sock
        self._act = act
        self._scope = anyio.CancelScope()
        self._over = False
        self._error: Exception | None = None
        self.look = whole(self.look)  # type: ignore[method-assign]  # whoever looks is not a task of the hub's own

    async def listen(self) -> NoReturn:
        try:
            with self._scope:
                while True:
                    await self._lowlevel.wait_readable(self._sock)
                    while self._act(self._most)[1]:
                        await self._lowlevel.checkpoint()
            assert self._error is not None
            raise self._error
        finally:
            self._over = True

    def look(self) -> None:
        if self._over or self._error is not None:
            return
        try:
            while self._act(self._most)[1]:
                pass
        except Exception as error:  # noqa: BLE001 - raised by `listen`
            self._error = error
            self._scope.cancel()
