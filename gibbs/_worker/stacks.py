"""Say where this worker is, in the words of `faulthandler`: when it is asked, and when it crashes.

Must never wait, nor hold anything up. Promises that what is said of a running call is said by a thread, so that nothing is done to the
call; a signal, which can disturb one, is only answered where it is sent.
"""

from __future__ import annotations

import faulthandler
import os
import sys
from _thread import get_ident

from .._model import interrupts

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from types import FrameType
else:
    import _signal  # `signal` wraps it in enums

SIGNAL: int = _signal.SIGRTMIN + 6 if hasattr(_signal, "SIGRTMIN") else 0  # beside that which interrupts

_LONGEST = 1 << 16  # bytes: the socket takes so many at once
_DEEPEST = 100  # frames, as with `faulthandler`


def answer_signals(inquiry: int) -> None:
    """From now on the signal is answered, and a crash told, on this descriptor. Of the one thread that it hits: of others it is not safe.

    A fork of the model's is not the worker, and tells of its crash where it writes what else it has to say.
    """
    faulthandler.register(SIGNAL, file=inquiry, all_threads=False)
    faulthandler.enable(file=inquiry, all_threads=False)
    os.register_at_fork(after_in_child=_enable_in_fork)


def _enable_in_fork() -> None:
    try:
        faulthandler.enable(file=2)
    except (OSError, ValueError, RuntimeError):  # it has closed it
        faulthandler.disable()


def answer(inquiry: int) -> bool:
    """Somebody asks on this descriptor. Returns whether anybody may ask again."""
    try:
        if not os.read(inquiry, 64):
            return False
        os.write(inquiry, described() + b"\0")
    except BlockingIOError:  # nobody reads
        pass
    except OSError:
        return False
    return True


def described() -> bytes:
    """The Python stack of every thread but this one, the main thread's first, as far as there is room."""
    frames = sys._current_frames()  # noqa: SLF001 - what it is for
    main = frames.pop(interrupts.thread, None)
    frames.pop(get_ident(), None)
    text = "".join(map(stack_of, [main, *frames.values()]))
    return text.encode(errors="replace")[: _LONGEST - 1].replace(b"\0", b"?")


def stack_of(frame: FrameType | None) -> str:
    """The Python stack whose innermost call that is."""
    lines = ["Thread (most recent call first):\n"]
    while frame is not None and len(lines) <= _DEEPEST:
        code = frame.f_code
        lines.append(f'  File "{code.co_filename}", line {frame.f_lineno or 0} in {code.co_qualname}\n')
        frame = frame.f_back
    return "".join(lines)
