"""Tell the hub how far the running call has come: the last word, soon, and without waiting for anybody.

Knows the channel and time. Promises that the last word of a call is told, at once or in a moment and before the call's outcome; that
nothing is told of a call that is over; that whoever reports waits neither for the hub nor for another thread; and that an interrupt
cuts no message in two.

A model may report as often as it likes. The first words of a burst leave at once, since what comes next may be C code that holds the
interpreter's lock; of those behind them a thread sends the last one, every few milliseconds.
"""

from __future__ import annotations

import os
from _thread import RLock, get_ident
from functools import partial
from time import perf_counter_ns

from .._model import here, interrupts
from .._wire.messages import REPORT
from .later import Later

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable

    from .channel import Channel
    from .interrupt import Interrupter
else:
    import _signal  # `signal` wraps it in enums

_PAUSE = 0.005  # seconds between two words of a model that goes on reporting
_EACH = 5_000_000  # nanoseconds: the same, as what a word takes of the allowance
_ALLOWANCE = 8 * _EACH  # what may leave at once, when nothing has for a while


class Reporter:
    """One worker's way of telling how its calls are getting on.

    Invariants: `_link_id` is 0 but while a call runs whose caller wants to know. `_last` is what was reported last, and `_told` what
    was told last: whoever reports stores the first without a lock, whoever has `_lock` sends it and stores the second.
    """

    __slots__ = (
        "_channel",
        "_close",
        "_complained",
        "_interrupter",
        "_last",
        "_later",
        "_link_id",
        "_lock",
        "_process",
        "_spent_until",
        "_telling",
        "_told",
    )

    def __init__(self, channel: Channel, interrupter: Interrupter, close: Callable[[object], bytes]) -> None:
        """`close` makes a payload that the hub takes, or raises."""
        self._channel = channel
        self._interrupter = interrupter
        self._close = close
        self._process = os.getpid()
        self._link_id = 0
        self._last = self._told = (0, b"")
        self._lock = RLock()  # never taken but by `with`, as the channel's
        self._telling = False
        self._spent_until = 0  # when all of the allowance is there again
        self._complained = False
        self._later = Later(self._tell_late, _PAUSE)
        here.report = self.report

    def begin(self, link_id: int) -> None:
        """What is reported from now on is of this request."""
        self._link_id = link_id

    def end(self) -> None:
        """The call is over: its last word is told now, if it was not, and none after it."""
        with self._lock:
            self._tell()
            self._link_id = 0

    def report(self, value: object) -> None:
        """The running call has come so far. From any thread."""
        link_id = self._link_id
        if not link_id or os.getpid() != self._process:  # a fork of the model's must not write what is the worker's
            return
        take = partial(self._take, link_id, value)
        if get_ident() == interrupts.thread:
            self._interrupter.undisturbed(take)
        else:
            take()

    def _take(self, link_id: int, value: object) -> None:
        try:
            body = self._close(value)
        except (Exception, SystemExit) as exc:
            if _came_by_a_signal(exc):
                raise
            self._complain(exc)
            return
        if link_id != self._link_id:  # it took long, and that call is over
            return
        self._last = link_id, body
        if not self._tell_now() and self._channel.holds_back:
            self._later.ask()

    def _tell_now(self) -> bool:
        """Whether nobody was in the way, and not too much was told just before."""
        now = perf_counter_ns()
        if self._telling or (self._spent_until > now + _ALLOWANCE - _EACH and self._channel.holds_back):
            return False
        with self._lock:
            self._spent_until = max(self._spent_until, now) + _EACH
            return self._tell(self._channel.send_at_once)

    def _tell(self, send: Callable[[int, int, bytes], bool] | None = None) -> bool:
        """Send the last word, if it is news of what runs. By who has the lock. Returns whether there is no more to say."""
        last = self._last
        link_id, body = last
        if last is self._told or link_id != self._link_id:
            return True
        self._telling = True
        try:
            if not (send or self._channel.send)(REPORT, link_id, body):
                return False
            self._told = last
        finally:
            self._telling = False
        return True

    def _tell_late(self) -> None:
        with self._lock:
            self._tell()

    def _complain(self, error: BaseException) -> None:
        if not self._complained:
            self._complained = True
            try:
                why = repr(error)
            except Exception:  # noqa: BLE001 - the error's own code
                why = type(error).__name__
            words = f"gibbs: report() was given what cannot be sent, and its caller is not told: {why}\n"
            try:
                os.write(2, words.encode(errors="replace"))
            except OSError:  # the model has closed it
                pass


def _came_by_a_signal(error: BaseException) -> bool:
    """Whether a handler of the model's own has raised it, such as that of a limit of time."""
    handlers = {getattr(_signal.getsignal(number), "__code__", None) for number in _signal.valid_signals()}
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code in handlers:
            return True
        trace = trace.tb_next
    return False
