"""End with the hub's program, whatever the model is doing.

The first line is the kernel: the lifeline is a pipe on which nothing is ever written and whose other end only the hub holds.
`O_ASYNC` with `F_SETSIG` makes the kernel send SIGKILL to this process group when that end closes: after 6-10 ms, even while
C code holds the GIL, when no thread of ours could run. (`PR_SET_PDEATHSIG` follows the thread that started us, and killed
healthy workers.) The second line is a thread that watches the hub's process and the stream, since a forked copy of the hub's
program can hold the pipe open.
"""

from __future__ import annotations

import os
import select
from _thread import start_new_thread
from time import monotonic

from .stacks import answer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from signal import SIGKILL
    from typing import Any
else:
    from _signal import SIGKILL  # `signal` wraps it in enums, which cost a worker 6 ms

_POLLRDHUP = getattr(select, "POLLRDHUP", 0)
_WITHOUT_PIDFD = 1.0  # seconds between two looks at the parent where the kernel cannot tell us


def die_with_the_hub() -> None:
    """Kill this worker's process group: the model's own subprocesses must not outlive it either. A group that is another's is left alone."""
    try:
        if os.getpgrp() == os.getpid():
            os.killpg(0, SIGKILL)
    finally:
        os._exit(1)


def arm(fd: int) -> None:
    """Let the kernel kill this process group when the other end of the lifeline closes."""
    import fcntl

    if not hasattr(fcntl, "F_SETSIG"):  # not Linux: the guard's thread is all there is
        return
    fcntl.fcntl(fd, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(fd, fcntl.F_SETSIG, SIGKILL)
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC)
    poll = select.poll()
    poll.register(fd, 0)
    if poll.poll(0):  # it closed before it was armed
        die_with_the_hub()


class Guard:
    """The second line: a thread that kills this worker when the hub's process is gone."""

    __slots__ = ("_parent", "pidfd")

    def __init__(self, parent: int) -> None:
        self._parent = parent
        self.pidfd = -1  # of the hub's process; -1 where there is none to be had
        if hasattr(os, "pidfd_open"):
            try:
                self.pidfd = os.pidfd_open(parent)
            except ProcessLookupError:
                die_with_the_hub()
            except OSError:  # it is forbidden, or no descriptor is left: `_run` looks again and again
                pass
        if os.getppid() != parent:  # it died, and the pid may be another's already
            die_with_the_hub()

    def watch(
        self,
        stream: int,
        receive: Callable[[], None] | None = None,
        *,
        silence: float | None = None,
        inquiry: int = -1,
    ) -> None:
        """Start the thread. With `receive` it also reads the stream, a piece each time that something has come.

        Then `silence` may be how many seconds a hub that lives, and can be reached, says nothing at most. Whoever asks on `inquiry` is told where
        this worker is.
        """
        start_new_thread(self._run, (stream, receive, silence, inquiry))

    def _run(self, stream: int, receive: Callable[[], None] | None, silence: float | None, inquiry: int) -> None:
        # Linux: poll() would hold a stream open that the model closes, and the hub would never see its end; epoll does not.
        poll = select.epoll() if self.pidfd >= 0 else select.poll()
        poll.register(stream, select.POLLIN if receive else _POLLRDHUP)
        if self.pidfd >= 0:
            poll.register(self.pidfd, select.POLLIN)
        if inquiry >= 0:
            poll.register(inquiry, select.POLLIN)
        timeout = None if self.pidfd >= 0 else _WITHOUT_PIDFD
        if silence is not None:
            timeout = min(silence, timeout or silence)
        heard = monotonic()
        while True:
            for fd, event in _wait(poll, timeout):
                if fd == inquiry:
                    if not answer(inquiry):
                        poll.unregister(inquiry)
                    continue
                if fd == self.pidfd or (receive is None and event):
                    die_with_the_hub()
                if fd == stream and receive is not None:
                    heard = monotonic()
                    try:
                        receive()
                    except BaseException:  # noqa: BLE001 - out of step with the hub: nothing can be said any more
                        die_with_the_hub()
            if self.pidfd < 0 and os.getppid() != self._parent:  # the worker may be a fork of a template of the hub's
                die_with_the_hub()
            # Judged only when nothing is left to read: else this thread has waited for the interpreter, not for the hub.
            if silence is not None and monotonic() - heard > silence and not _wait(poll, 0):
                die_with_the_hub()


def _wait(poll: Any, seconds: float | None) -> Any:
    """What there is within so many seconds. `epoll` counts in seconds, `poll` in milliseconds."""
    if seconds is None:
        return poll.poll()
    return poll.poll(seconds if hasattr(poll, "fileno") else seconds * 1000)
