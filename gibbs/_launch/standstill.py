"""Whether a process stands still in one call, and lets no other thread run Python code: judged from outside, by looking twice. Linux.

Knows what the kernel tells of a main thread. Must never say so of one that runs Python code. While a thread wants the interpreter's lock,
Python code that has it goes to sleep every few milliseconds, to let that one in; and code that does not have it lets it have it. So a
thread that never goes to sleep, or never wakes, while another one waits for the lock, has the lock and is in one call of C code.
"""

from __future__ import annotations

import os
from time import monotonic
from typing import NamedTuple

_HASTE = 0.02  # seconds in which nearly all answer
_STILL = 0.1  # seconds between two looks: twenty times as long as a thread that wants the lock waits before it has Python code let go of it
_BUSY = 5  # ticks of the processor's time meanwhile, of 10 ms: less may mean that it had no CPU
_PAGE = 1 << 14  # bytes: more than the kernel tells


class _Look(NamedTuple):
    """At a main thread: how often it has gone to sleep, whether it sleeps, and the ticks that it has run."""

    naps: int
    sleeps: bool
    ticks: int


class Standstill:
    """One process, from the moment when it was asked for something that any of its threads that can have the lock would do at once."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._first: _Look | None = None  # since when it has not gone to sleep
        self._next = monotonic() + _HASTE  # when it is to be looked at

    def is_seen(self, number: int) -> bool:
        """Whether it is seen by now, and the signal with this number is caught by that process. Looked at again and again."""
        now = monotonic()
        if now < self._next:
            return False
        look, self._next = self._look(number), now + _STILL
        if look is None or self._first is None or look.naps != self._first.naps:
            self._first = look
            return False
        return look.sleeps or look.ticks - self._first.ticks >= _BUSY

    def _look(self, number: int) -> _Look | None:
        try:
            status = dict(line.split(":", 1) for line in self._read("status").splitlines())
            state, *numbers = self._read("stat").rpartition(")")[2].split()
            if not int(status["SigCgt"], 16) >> (number - 1) & 1:
                return None  # the signal would end it: it is not that far yet, or its model has taken it away
            return _Look(int(status["voluntary_ctxt_switches"]), state in "SD", int(numbers[10]) + int(numbers[11]))
        except (OSError, ValueError, KeyError, IndexError):
            return None

    def _read(self, name: str) -> str:
        fd = os.open(f"/proc/{self._pid}/task/{self._pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(fd, _PAGE).decode("ascii", "replace")
        finally:
            os.close(fd)
