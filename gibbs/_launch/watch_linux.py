"""What Linux tells of a child process: its end, by pidfd; and ways to reach it beside the stream: a page, claims and a signal.

The twin of `watch_posix`, with the same names. One way of waiting serves asyncio, uvloop and Trio without a thread, and a
signal sent through a pidfd can never reach somebody else's process. The group is signalled only while its number is provably ours.
"""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack, suppress
from typing import NamedTuple

import anyio

from .._core.pace import UNKNOWN
from .._records import Ending
from .._wire.arena import Arena, create_arena
from .._wire.claims import Claims, create_claims
from .._wire.page import Page, create_page
from .inquiry import Inquiry, open_inquiry

INTERRUPT = signal.SIGRTMIN + 5  # `_worker.interrupt.SIGNAL`, held by a test
WHERE = signal.SIGRTMIN + 6  # `_worker.stacks.SIGNAL`, held by a test


class Shared(NamedTuple):
    """What hub and worker have in common. The hub's own; `page_fd` and `inquiry_fd` are for the worker, and closed by who opened them."""

    page: Page
    page_fd: int
    claims: Claims
    inquiry: Inquiry
    inquiry_fd: int

    def close(self) -> None:
        """Let go of all. Idempotent; what the page said last can still be read."""
        self.page.close()
        self.claims.close()
        self.inquiry.close()


def open_shared() -> Shared | None:
    """What to share with a worker; None: this kernel has not all of it, and the stream must do. Raises OSError."""
    claims = create_claims()
    if claims is None:
        return None
    with ExitStack() as if_it_fails:
        if_it_fails.callback(claims.close)
        page, page_fd = create_page()
        if_it_fails.callback(page.close)
        if_it_fails.callback(os.close, page_fd)
        inquiry, inquiry_fd = open_inquiry()
        if_it_fails.pop_all()
    return Shared(page, page_fd, claims, inquiry, inquiry_fd)


def open_arena() -> Arena | None:
    """Memory to share for what is large; None: there is none to be had, and the stream must do."""
    fd = -1
    try:
        fd = create_arena()
        return Arena(fd)
    except OSError:
        if fd >= 0:
            os.close(fd)
        return None


class Watch:
    """One child process, until it is reaped. Owns a descriptor."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._pidfd = os.pidfd_open(pid)

    async def wait(self) -> None:
        """Return when the process may have ended; look then."""
        await anyio.wait_readable(self._pidfd)

    def look(self) -> Ending | None:
        """How the process ended, or None while it runs. Does not reap. When it returns, its group is killed."""
        try:
            status = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        except ChildProcessError:  # SIGCHLD is ignored, or other code of this program reaps everything
            self._kill_what_it_left()
            return Ending(how="unknown")
        if status is None:
            return None
        with suppress(OSError):  # the unreaped leader keeps the group's id ours
            os.killpg(self.pid, signal.SIGKILL)
        return Ending(how="exited" if status.si_code == os.CLD_EXITED else "signalled", code=status.si_status)

    def kill(self) -> None:
        """SIGKILL to the process and its group, if they are surely ours."""
        with suppress(OSError):
            os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOWAIT | os.WNOHANG)  # raises once it is reaped
            os.killpg(self.pid, signal.SIGKILL)
        with suppress(OSError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def stop(self) -> None:
        """SIGSTOP: it does nothing until it is let `go_on`, or killed."""
        with suppress(OSError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        with suppress(OSError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGCONT)

    @property
    def is_stopped(self) -> bool:
        """Whether it has come to a stop, which takes the kernel a moment."""
        try:
            return os.waitid(os.P_PIDFD, self._pidfd, os.WSTOPPED | os.WNOWAIT | os.WNOHANG) is not None
        except OSError:
            return False

    def _kill_what_it_left(self) -> None:
        """SIGKILL to the group of a process that others have reaped.

        The kernel gives a number to nobody while a group bears it. So a process that has it now is a stranger, and the group
        was empty; and where there is none, the group is what our process left behind.
        """
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            with suppress(OSError):
                os.killpg(self.pid, signal.SIGKILL)
        except OSError:
            pass

    def close(self) -> None:
        """Free the descriptor. Idempotent."""
        if self._pidfd >= 0:
            anyio.notify_closing(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def disown(self) -> None:
        """As `close`, in a fork of the program: its event loop's copy must not be told."""
        pidfd, self._pidfd = self._pidfd, -1
        if pidfd >= 0:
            os.close(pidfd)

    def side(self, shared: Shared) -> Side:
        """Ways to reach the process beside the stream."""
        return Side(shared, self)

    def interrupt(self) -> None:
        """Send the signal that interrupts the call which the page names."""
        self._send(INTERRUPT)

    def press(self) -> None:
        """Send the signal on which it says where it is, though C code holds the interpreter's lock. It ends a process that does not catch it."""
        self._send(WHERE)

    def ask(self, inquiry: Inquiry) -> None:
        """Have it say there where it is."""
        inquiry.ask(self.pid)

    def _send(self, number: int) -> None:
        with suppress(OSError):  # it is gone
            signal.pidfd_send_signal(self._pidfd, number)


class Side:
    """Page, claims and signal, as `gibbs.abc.SideChannel`."""

    __slots__ = ("_claims", "_inquiry", "_page", "_watch")

    def __init__(self, shared: Shared, watch: Watch) -> None:
        self._page = shared.page
        self._claims = shared.claims
        self._inquiry = shared.inquiry
        self._watch = watch

    def begun(self) -> int:
        return self._page.begun

    def aim(self, link_id: int) -> None:
        self._page.target = link_id

    def strike(self) -> None:
        self._watch.interrupt()

    def offer(self, count: int) -> None:
        with suppress(OSError, ValueError):  # it is closed
            self._claims.offer(count)

    def take_back(self, at_most: int) -> int:
        try:
            return self._claims.take_back(at_most)
        except (OSError, ValueError):
            return 0

    def service_time(self) -> float:
        return self._page.pace / 1e9 or UNKNOWN

    def running_for(self) -> float:
        return self._page.running_for

    def ask_where(self) -> None:
        self._watch.ask(self._inquiry)

    def where(self) -> str:
        return self._inquiry.answer(WHERE, self._watch.press)
