"""Hear of sockets for as long as they live, with the event loop's own means: the cheapest way to receive many small answers.

A twin per loop, as in `waiter`. On asyncio a socket is registered once, for each registration costs more than the rest of a
short request (15-22 µs): it is then read by the loop itself and not in a task. On Trio each wait registers anew. Whoever
stays awake for an answer need not wait for the loop to find out: it looks itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import anyio

from .own import whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from .socket_stream import Socket
    from .turns import Turns

    Act = Callable[[int], tuple[int, bool]]
    """Settle so many at most: how many it were, and whether there are more."""

_MANY = 1 << 16  # for whoever looks itself, and has let others run before


class Readable(Protocol):
    """A socket, and what is to be done when it has something."""

    async def listen(self) -> NoReturn:
        """Act each time, until that raises; what it raises is raised here. Once only; cancellable."""
        ...

    def look(self) -> None:
        """Act now, or when it is this one's turn; from any task. Raises nothing: it is `listen` that does. Does nothing when that is over."""
        ...


class AsyncioReadable:
    """The twin for asyncio and uvloop. Invariant: `_over` is done, or cancelled, when nothing may be called any more."""

    def __init__(self, turns: Turns, loop: Any, sock: Socket, act: Act) -> None:
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
        self._turns.ask(self)

    def act(self, at_most: int) -> tuple[int, bool]:
        """Settle so many at most: how many it were, and whether there are more."""
        if self._over.done():
            return 0, False
        try:
            return self._act(at_most)
        except Exception as error:  # noqa: BLE001 - raised by `listen`; a Ctrl-C ends the loop
            self._over.set_result(error)
            return 0, False


class TrioReadable:
    """The twin for Trio. Invariant: `_error` is what `act` raised while somebody looked; `listen` is on its way to raise it."""

    def __init__(self, turns: Turns, lowlevel: Any, sock: Socket, act: Act) -> None:
        self._turns = turns
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
                    while self._turns.take(self._act):
                        await self._lowlevel.checkpoint()
            assert self._error is not None
            raise self._error
        finally:
            self._over = True
            self._turns.wake_put_off()

    def look(self) -> None:
        if self._over or self._error is not None:
            return
        try:
            while self._act(_MANY)[1]:
                pass
        except Exception as error:  # noqa: BLE001 - raised by `listen`
            self._error = error
            self._scope.cancel()
