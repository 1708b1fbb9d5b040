"""A socket beside the stream, on which a worker is asked where it is, and says so: now, and when it crashes.

Knows who answers. A thread of the worker does, within milliseconds, unless C code holds the interpreter's lock. Then a signal is sent, on
which `faulthandler` answers without the lock; and only then, since it reads what a running interpreter is about to change: sent to
Python code that creates functions as fast as it can it has ended workers by SIGSEGV, once in some hundred times (3.12, 3.13). So it must
first be seen that the main thread stands still. Neither end ever waits: what finds no room is dropped.
"""

from __future__ import annotations

import re
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from .standstill import Standstill

if TYPE_CHECKING:
    from collections.abc import Callable

_LONGEST = 1 << 18  # bytes that are kept of what it says
_CRASH = b"Fatal Python error"
BY_ITSELF = "Thread (most recent call first):\n"  # how `_worker.stacks` begins, held by a test

# What `faulthandler` writes has no mark at its end, but ends with the outermost frame, that of `process._BOOTSTRAP`, or says that there are more.
_ALL = re.compile(
    r'(?:worker\.py", line \d+ in (?:main|template)\n  File "<string>", line 1 in <module>|^  \.\.\.)\n\Z', re.MULTILINE
)


class Inquiry:
    """The hub's end. Owns a socket.

    Invariant: `_standstill` is set from the asking until the answer is there; meanwhile nobody asks again.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._heard = b""
        self._answer = ""
        self._standstill: Standstill | None = None
        self._is_pressed = False

    def ask(self, pid: int) -> None:
        """Have it say where it is, if it was not asked already."""
        if self._standstill is None:
            self._hear()  # what nobody has waited for
            self._heard, self._is_pressed, self._standstill = b"", False, Standstill(pid)
            with suppress(OSError):
                self._socket.send(b"?")

    def answer(self, number: int, press: Callable[[], None]) -> str:
        """All of its answer; "" until it is there. Presses one that cannot answer by itself, if it catches the signal with this number."""
        if self._standstill is None:
            return self._answer
        self._hear()
        if not self._heard and not self._is_pressed and self._standstill.is_seen(number):
            self._is_pressed = True
            press()
        heard, is_all, rest = self._heard.partition(b"\0")
        said = heard.decode(errors="replace")
        if not is_all and not (self._is_pressed and _ALL.search(said)):
            return ""
        self._standstill, self._heard = None, rest
        # One that was pressed may have come to answer by itself, behind that.
        self._answer = said[max(said.find(BY_ITSELF), 0) :]
        return self._answer

    def last_words(self) -> str:
        """What it has said of its crash, once it is dead; "" if it said nothing."""
        self._hear()
        start = self._heard.rfind(_CRASH)
        return self._heard[start:].decode(errors="replace") if start >= 0 else ""

    def _hear(self) -> None:
        with suppress(OSError):
            while len(self._heard) < _LONGEST and (data := self._socket.recv(_LONGEST)):
                self._heard += data

    def close(self) -> None:
        """Free the socket. Idempotent."""
        self._socket.close()


def open_inquiry() -> tuple[Inquiry, int]:
    """Both ends: the second is for the worker, and closed by who opened it. Neither waits. Raises OSError."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    ours.setblocking(False)
    theirs.setblocking(False)
    return Inquiry(ours), theirs.detach()
