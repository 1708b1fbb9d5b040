"""What a model asks of its worker, where the worker is a thread: each thread has its own.

Knows what `gibbs._model` keeps, of which there is one in a process. From the first worker in a thread on the two objects look at the
thread that asks. Promises that whoever is no such worker, the program's own threads and those that a model starts, finds what was there.
"""

from __future__ import annotations

import threading
from typing import Any

from .._model import _Here, _Interrupts, here, interrupts


class _Mine(threading.local):
    here: _Here | None = None
    interrupts: _Interrupts | None = None


_mine = _Mine()


class _HereOfThread(_Here):
    """Made of the process's own, to which all modules refer that want to know."""

    __slots__ = ()

    def __getattribute__(self, name: str) -> Any:
        return object.__getattribute__(_mine.here or self, name)

    def __setattr__(self, name: str, value: object) -> None:
        object.__setattr__(_mine.here or self, name, value)


class _InterruptsOfThread(_Interrupts):
    """The same."""

    __slots__ = ()

    def __getattribute__(self, name: str) -> Any:
        return object.__getattribute__(_mine.interrupts or self, name)

    def __setattr__(self, name: str, value: object) -> None:
        object.__setattr__(_mine.interrupts or self, name, value)


def become_a_worker() -> _Interrupts:
    """From now on the running thread is a worker of its own. Returns what its interrupts and shields tell each other."""
    here.__class__ = _HereOfThread
    interrupts.__class__ = _InterruptsOfThread
    _mine.here = _Here()
    _mine.interrupts = own = _Interrupts()
    return own
