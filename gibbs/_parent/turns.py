"""How much the hub does in one pass of the event loop, so that others have their turn.

To settle an answer costs little, and is done for many at once. To let its caller go on costs more, since that task then runs, and
most of them ask again: so only some go on in a pass. A caller who waits for its turn has its answer already; whatever becomes of
the worker, or of the caller, meanwhile, it is the same as if it had gone on at once.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any

from anyio.lowlevel import current_token

from .readable import AsyncioReadable, TrioReadable
from .waiter import running_loop

if TYPE_CHECKING:
    from .._core.ticket import Ticket
    from .readable import Act, Readable
    from .socket_stream import Socket

SETTLED = 32  # answers in a pass


class Turns:
    """What the sockets of a hub have to say, and its callers who may go on: so many in a pass, on Trio for each socket.

    `most` is how many callers go on. The numbers are what `benchmarks/lag.py` and `throughput.py` leave room for: fewer cost
    requests a second, more make a task that sleeps meanwhile more than four times as late as beside an idle hub. On asyncio's own loop
    it runs in the third pass after its time has come.

    Invariants: `_left` is infinite but while a turn is taken. On asyncio, while `_going_on`, the loop will go on with what waits by
    itself, and nobody else settles anything, or each of them would go on too and leave no turn to others. On Trio, while some
    wait in `_put_off`, a socket's task is taking turns.
    """

    def __init__(self) -> None:
        self._loop: Any = current_token().native_token
        self._wake = running_loop().wake
        self._waiting: dict[AsyncioReadable, None] = {}  # sockets with something to settle
        self._put_off: deque[Any] = deque()  # waiters of callers who may go on
        self._left = math.inf  # callers who may go on in this pass
        self._going_on = False
        if hasattr(self._loop, "_run_once"):
            self.most = 6
        else:
            self.most = 20 if hasattr(self._loop, "create_future") else 10

    def listen_to(self, sock: Socket, act: Act) -> Readable:
        """For the loop that runs now."""
        if hasattr(self._loop, "create_future"):
            return AsyncioReadable(self, self._loop, sock, act)
        import trio

        return TrioReadable(self, trio.lowlevel, sock, act)

    def wake(self, ticket: Ticket) -> None:
        """Its caller goes on: at once, or in a later pass if enough do in this one."""
        if self._left > 0:
            self._left -= 1
            self._wake(ticket.waiter)
        else:
            self._put_off.append(ticket.waiter)

    def wake_put_off(self) -> None:
        """Those who were put off go on: as many as may in this pass, and all of them outside of a turn."""
        while self._put_off and self._left > 0:
            self._left -= 1
            self._wake(self._put_off.popleft())

    def take(self, act: Act) -> bool:
        """Let go on who was put off, or else settle something. Returns whether another turn is needed."""
        self._left = self.most
        try:
            self.wake_put_off()
            more = self._left == 0 or act(SETTLED)[1]
        finally:
            self._left = math.inf
        return more or bool(self._put_off)

    def ask(self, one: AsyncioReadable) -> None:
        """On asyncio: this socket may have something to settle. It is done now, or when it is its turn."""
        self._waiting[one] = None
        if not self._going_on:
            self._going_on = True
            self._go_on()

    def _go_on(self) -> None:
        try:
            more = self.take(self._settle)
        except BaseException:
            self._going_on = False  # a Ctrl-C, which ends the loop
            raise
        if more:
            self._loop.call_soon(self._go_on)
        else:
            self._going_on = False

    def _settle(self, at_most: int) -> tuple[int, bool]:
        """Of all sockets that have something, so many answers at most."""
        left = at_most
        for one in [*self._waiting]:
            if left <= 0:
                break
            del self._waiting[one]
            settled, goes_on = one.act(left)
            left -= settled
            if goes_on:
                self._waiting[one] = None
        return at_most - left, bool(self._waiting)
