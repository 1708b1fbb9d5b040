"""Hear of a socket for as long as it lives, with the event loop's own means: the cheapest way to receive many small answers.

A twin per loop, as in `waiter`. On asyncio the socket is registered once, for each registration costs more than the rest of a
short request (15-22 µs): `act` is then called by the loop itself and not in a task. On Trio each wait registers anew. Whoever
stays awake for an answer need not wait for the loop to find out: it looks itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import anyio
from anyio.lowlevel import current_token

from .own import whole

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable


class Readable(Protocol):
    """A socket and what is to be done when it has something: `act` returns whether there is more to do."""

    async def listen(self) -> NoReturn:
        """Call `act` each time, until it raises; what it raises is raised here. Once only; cancellable."""
        ...

    def look(self) -> None:
        """Call `act` now, from any task. Raises nothing: it is `listen` that does. Does nothing when that is over."""
        ...


def readable(sock: socket.socket, act: Callable[[], bool]) -> Readable:
    """For the loop that runs now. Other tasks have their turn before there is more to do."""
    native: Any = current_token().native_token
    if hasattr(native, "create_future"):
        return AsyncioReadable(native, sock, act)
    import trio

    return TrioReadable(trio.lowlevel, sock, act)


def most_at_once() -> int:
    """How many answers of a socket may be settled on this loop before others have their turn: each makes a caller go on, too.

    So many that a task which sleeps meanwhile is not four times as late as beside an idle hub (`benchmarks/lag.py`). On asyncio's
    own loop it runs in the third pass after its time has come; uvloop is the quickest.
    """
    native: Any = current_token().native_token
    if not hasattr(native, "create_future"):
        return 8
    return 6 if hasattr(native, "_run_once") else 10


class AsyncioReadable:
    """The twin for asyncio and uvloop.

    Invariants: `_over` is done, or cancelled, when nothing may be called any more; while `_goes_on`, the loop will look again
    by itself, and nobody else does, or each of them would go on too and leave no turn to others.
    """

    def __init__(self, loop: Any, sock: socket.socket, act: Callable[[], bool]) -> None:
        self._loop = loop
        self._fd = sock.fileno()
        self._act = act
        self._over = loop.create_future()
        self._goes_on = False

    async def listen(self) -> NoReturn:
        self._loop.add_reader(self._fd, self.look)
        try:
            raise await self._over
        finally:
            self._loop.remove_reader(self._fd)

    def look(self) -> None:
        if self._over.done() or self._goes_on:
            return
        try:
            if self._act():
                self._goes_on = True
                self._loop.call_soon(self._go_on)
        except Exception as error:  # noqa: BLE001 - raised by `listen`; a Ctrl-C ends the loop
            self._over.set_result(error)

    def _go_on(self) -> None:
        self._goes_on = False
        self.look()


class TrioReadable:
    """The twin for Trio. Invariant: `_error` is what `act` raised while somebody looked; `listen` is on its way to raise it."""

    def __init__(self, lowlevel: Any, sock: socket.socket, act: Callable[[], bool]) -> None:
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
                    while self._act():
                        await self._lowlevel.checkpoint()
            assert self._error is not None
            raise self._error
        finally:
            self._over = True

    def look(self) -> None:
        if self._over or self._error is not None:
            return
        try:
            while self._act():
                pass
        except Exception as error:  # noqa: BLE001 - raised by `listen`
            self._error = error
            self._scope.cancel()
