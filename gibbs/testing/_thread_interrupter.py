"""How a call that runs in a thread is interrupted: without a signal, which only a main thread can have.

Knows the interpreter's own means, an exception that it raises in another thread between two bytecodes. Promises what the process's
interrupter does: one call is interrupted once, and no code but the model's; not in an import, a `__del__` or a shield. What it cannot
do is to wake a call that waits in C.
"""

from __future__ import annotations

import gc
import sys
import threading
from _thread import get_ident
from contextlib import suppress
from typing import TYPE_CHECKING

from gibbs import Interrupted

from .._model import _Interrupts, interrupts
from .._worker.interrupt import Interrupter, must_not_be_cut

if TYPE_CHECKING:
    from .._wire.page import Page


class Killed(BaseException):
    """Raised in a thread whose worker has ended, where a process would not go on."""


class ThreadInterrupter(Interrupter):
    """Interrupts one thread.

    Whether an interrupt may come is looked at by who sends it, under `_lock`, without which nothing that this depends on changes; and
    what has not come when the call is over is called off. The interpreter raises it before the thread runs on, so the frame that is
    looked at is the one that is hit.
    """

    __slots__ = ("_is_over", "_lock", "_may_be_cut", "_was_sent", "own")

    def __init__(self, page: Page) -> None:
        super().__init__(page)
        self.own = _Interrupts()  # what interrupts and shields of this thread tell each other
        self._lock = threading.RLock()
        self._may_be_cut = True  # the model's code runs, and in no request: it is being built, or asked for its health
        self._was_sent = False
        self._is_over = False

    def install(self) -> None:
        interrupts.thread = get_ident()
        interrupts.deliver = self.check
        interrupts.is_unwanted = self.is_over

    def may_be_cut(self) -> None:
        """From here on the model's code runs in no request, and may be cut by the end of its worker only."""
        with self._lock:
            self._may_be_cut = True

    def must_not_be_cut(self) -> None:
        """That is over."""
        with self._lock:
            self._may_be_cut = False
            self._call_off()

    def begin(self, link_id: int, last: int | None = None) -> None:
        with self._lock:
            super().begin(link_id, last)

    def end(self) -> None:
        with self._lock:
            super().end()
            self._call_off()

    def pause(self) -> None:
        with self._lock:
            super().pause()
            self._call_off()

    def resume(self) -> None:
        with self._lock:
            super().resume()

    def _suspend(self) -> int:
        with self._lock:
            return super()._suspend()

    def check(self) -> None:
        with self._lock:
            super().check()

    def strike(self) -> None:
        """The hub's signal."""
        with self._lock:
            self._met = True
            if not self.running or not self.running <= self._page.target <= self.last:
                return
            if self.own.depth:
                self.own.pending = True
            elif not must_not_be_cut(sys._current_frames().get(self.own.thread)):  # noqa: SLF001 - there is no other way
                self.running = 0
                self.fired = True
                self._send(Interrupted)

    def kill(self) -> None:
        """The worker has ended: cut what the model does."""
        with self._lock:
            if (self.armed or self._may_be_cut) and not self._is_over and self.own.thread:
                self.running = 0
                self._send(Killed)

    def retire(self) -> None:
        """The thread is about to end: nothing comes any more."""
        with self._lock:
            self._is_over = True
            self._call_off()

    def _send(self, kind: type[BaseException]) -> None:
        self._was_sent = True
        _raise_in(self.own.thread, kind)

    def _call_off(self) -> None:
        """What was sent and has not come shall not come any more.

        The interpreter can be told so, but then it looks for it at every step from then on, and in a traced function for ever (3.11). So
        something else takes its place, and comes here: not in a callback of the garbage collector's, which would swallow it with a noise.
        """
        if self._was_sent:
            self._was_sent = False
            collects = gc.isenabled()
            gc.disable()
            try:
                with suppress(_Instead):
                    _raise_in(get_ident(), _Instead)
                    for _ in range(100):  # it comes by the first of them
                        pass
            finally:
                if collects:
                    gc.enable()


class _Instead(BaseException):
    """Nobody sees it."""


def _raise_in(thread: int, kind: type[BaseException]) -> None:
    """Let the interpreter raise it there, soon, and instead of what has not been raised yet."""
    import ctypes

    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(kind))
