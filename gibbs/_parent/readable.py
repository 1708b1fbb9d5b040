"""Hear of a socket for as long as it lives, with the event loop's own means: the cheapest way to receive many small answers.

A twin per loop, as in `waiter`. On asyncio the socket is registered once, for each registration costs more than the rest of a
short request (15-22 µs): `act` is then called by the loop itself and not in a task. On Trio each wait registers anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from anyio.lowlevel import current_token

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable


async def whenever_readable(sock: socket.socket, act: Callable[[], bool]) -> NoReturn:
    """Call `act` each time that the socket has something, until it raises; what it raises is raised here. Cancellable.

    It returns whether there is more to do, when other tasks have had their turn.
    """
    native: Any = current_token().native_token
    if hasattr(native, "create_future"):
        await _on_asyncio(native, sock.fileno(), act)
    import trio

    while True:
        await trio.lowlevel.wait_readable(sock)
        while act():
            await trio.lowlevel.checkpoint()


async def _on_asyncio(loop: Any, fd: int, act: Callable[[], bool]) -> NoReturn:
    over = loop.create_future()

    def on_readable() -> None:
        if over.done():
            return
        try:
            if act():
                loop.call_soon(on_readable)
        except Exception as error:  # noqa: BLE001 - raised below; a Ctrl-C ends the loop
            over.set_result(error)

    loop.add_reader(fd, on_readable)
    try:
        raise await over
    finally:
        loop.remove_reader(fd)
