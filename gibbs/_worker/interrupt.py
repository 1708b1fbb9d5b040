"""Raise `Interrupted` in the running call, and in no other.

The hub writes the id of the unwanted request into the page and then sends a real-time signal; only a real signal wakes a
blocked call, and only one from outside arrives while C code holds the GIL. Signals can be late, early or somebody else's, so
the handler believes nothing but the ids: it raises if the target is what runs, and clears `running` before it does. So one
call is interrupted once, its `finally` blocks are not hit again, and a signal that comes after the call finds 0.

Two places must not be interrupted: an import (left half done it poisons the process: "cannot load module more than once")
and a `__del__` (its exceptions are dropped by the interpreter). There the handler does nothing: the hub repeats the signal
until the call has ended. What is dropped all the same is seen by `sys.unraisablehook`, which arms the call again.
"""

from __future__ import annotations

import sys
from _thread import get_ident

from .._model import Interrupted, interrupts

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable
    from types import FrameType
    from typing import TypeVar

    from .._wire.page import Page

    T = TypeVar("T")
else:
    import _signal  # `signal` wraps it in enums, which cost a worker 6 ms

# Never SIGINT or SIGUSR1, which programs and libraries use for themselves. macOS has no real-time signals.
SIGNAL: int = _signal.SIGRTMIN + 5 if hasattr(_signal, "SIGRTMIN") else _signal.SIGUSR2


class Interrupter:
    """Which request runs in the main thread, and whether it was interrupted.

    Invariant: `running` is a link id only between the first and the last bytecode that may be interrupted. Of a call that is
    several requests it is the first one's, and `last` the last one's; otherwise both are the same.
    """

    __slots__ = ("_met", "_page", "armed", "fired", "last", "running")

    def __init__(self, page: Page) -> None:
        self._page = page
        self._met = False  # a signal came while it was held off
        self.running = 0
        self.last = 0
        self.armed = 0  # the request that `running` is set back to when an interrupt was swallowed
        self.fired = False  # whether the current request was interrupted at least once

    def install(self) -> None:
        """Take the signal, from the main thread. A model that takes it away is killed instead of interrupted."""
        interrupts.thread = get_ident()
        interrupts.deliver = self.check
        interrupts.is_unwanted = self.is_over
        _signal.signal(SIGNAL, self._on_signal)
        sys.unraisablehook = self._on_unraisable

    def begin(self, link_id: int, last: int | None = None) -> None:
        """From here to `end` the call may be interrupted. Raises Interrupted when it is unwanted already."""
        self.fired = False
        interrupts.pending = False
        self.last = link_id if last is None else last
        self.armed = self.running = link_id
        self.check()

    def end(self) -> None:
        """The call is over; a signal that comes from now on is late and does nothing."""
        self.running = 0
        self.armed = 0

    def pause(self) -> None:
        """From here to `resume` it is not the model's code that runs, and nothing is interrupted."""
        self.running = 0

    def resume(self) -> None:
        """The model's code goes on. Whether it is unwanted was looked at; a signal that came since comes again."""
        self.running = self.armed

    def undisturbed(self, act: Callable[[], T]) -> T:
        """Do, inside of the call, what must not be cut. An interrupt that came meanwhile is raised behind it.

        Else a call that does nothing but wait in here would never be met by one.
        """
        before, self._met = self._met, False
        running = self._suspend()
        try:
            result = act()
        finally:
            self.running = running
            met, self._met = self._met, before or self._met
        if met and not must_not_be_cut(sys._getframe()):  # noqa: SLF001 - as a signal has it
            if not interrupts.depth:
                self.check()
            elif self.is_over():
                interrupts.pending = True
        return result

    def _suspend(self) -> int:
        running, self.running = self.running, 0
        return running

    def is_unwanted(self, link_id: int) -> bool:
        """Whether the hub has aimed at this request."""
        return self._page.target == link_id

    def is_over(self) -> bool:
        """Whether nobody waits for the running call any more, for all that is known here. From any thread."""
        armed = self.armed
        return armed > 0 and (self.fired or armed <= self._page.target <= self.last)

    def check(self) -> None:
        """Raise Interrupted if the running request is the unwanted one."""
        if self.running and self.running <= self._page.target <= self.last:
            self.running = 0
            self.fired = True
            raise Interrupted

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        self._met = True
        if not self.running or not self.running <= self._page.target <= self.last or must_not_be_cut(frame):
            return
        if interrupts.depth:
            interrupts.pending = True
            return
        self.check()

    def _on_unraisable(self, unraisable: sys.UnraisableHookArgs) -> None:
        if isinstance(unraisable.exc_value, Interrupted):
            self.running = self.armed
        else:
            sys.__unraisablehook__(unraisable)


def must_not_be_cut(frame: FrameType | None) -> bool:
    while frame is not None:
        code = frame.f_code
        if code.co_name == "__del__" or code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def disregard_sigterm() -> None:
    """Leave SIGTERM to the hub's program: a signal to everybody must not take the workers before it has decided.

    A handler that does nothing, not SIG_IGN, which the model's subprocesses would inherit. A forked child of the model is
    not a worker: there the signal does what it does by default. It is held back while the child puts that right, since
    the interpreter of a new child forgets what its handlers have not seen yet.
    """
    import os

    masks: dict[int, set[int]] = {}

    def before_fork() -> None:
        masks[get_ident()] = _signal.pthread_sigmask(_signal.SIG_BLOCK, (_signal.SIGTERM,))

    def after_fork() -> None:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, masks.pop(get_ident()))

    def after_fork_in_child() -> None:
        if _signal.getsignal(_signal.SIGTERM) is do_nothing:
            _signal.signal(_signal.SIGTERM, _signal.SIG_DFL)
        after_fork()

    def do_nothing(signum: int, frame: FrameType | None) -> None:
        pass

    _signal.signal(_signal.SIGTERM, do_nothing)
    os.register_at_fork(before=before_fork, after_in_parent=after_fork, after_in_child=after_fork_in_child)
