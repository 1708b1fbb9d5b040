"""A worker that is a fork of a template: what tells of its birth and its end, since it is not this program's child. Linux.

Knows a pidfd, which proves that a process is gone and reaches no other one, and a socket on which the template tells the pid and the exit
status. Must never know how the template came to be. Promises that the end is seen whatever has become of the template, and that a template
which does not do what it was told is killed, so that nobody waits for it for ever.
"""

from __future__ import annotations

import errno
import os
import select
import signal
from contextlib import suppress
from pathlib import Path
from socket import SOCK_SEQPACKET
from typing import TYPE_CHECKING

import anyio

from .._records import Ending, Origin
from .._wire import forking
from ..abc import LaunchRefused
from .ends import open_ends
from .process import LocalProcess, fit_out
from .watch_linux import Watch

if TYPE_CHECKING:
    import socket

    from ..abc import WorkerSpec
    from .output import Destination
    from .process import Outfit
    from .template import Template

_NOTHING = b"-"  # was said so far
_FORK_PATIENCE = 5.0  # seconds that a template may take to fork, before it is killed
_TOLD_PATIENCE = 2.0  # seconds after the end of a worker in which its template must have told the exit status


class TemplateGone(Exception):
    """It has ended, or was killed, before it forked: another one can."""


class ForkedWatch(Watch):
    """One worker, from the order for it until it has ended. Owns descriptors.

    Invariant: `pid` and the pidfd are set at its birth, until which it has no end but `_stillborn`, set with the reason.
    """

    def __init__(self, told: socket.socket, template: Template) -> None:
        self.pid = -1
        self._pidfd = -1
        self._told = told
        self._template = template
        self._stillborn: Exception | None = None
        self._killed = False

    async def wait(self) -> None:
        """Return when it may have been born, or may have ended; look then."""
        if self._pidfd < 0:
            with anyio.move_on_after(_FORK_PATIENCE) as patience:
                await anyio.wait_readable(self._told)
            if patience.cancelled_caught:
                self._template.kill()
            else:
                self._hear_of_birth()
        else:
            await anyio.wait_readable(self._pidfd)
            with anyio.move_on_after(_TOLD_PATIENCE):
                await anyio.wait_readable(self._told)

    async def born(self) -> None:
        """Return when there is a process. Raises OSError, LaunchRefused or TemplateGone if there will be none."""
        while self._pidfd < 0 and self._stillborn is None:
            await self.wait()
        if self._stillborn is not None:
            raise self._stillborn

    def _hear_of_birth(self) -> None:
        kind, body, descriptors = self._hear()
        if kind == forking.BORN and descriptors:
            self.pid, (self._pidfd,) = forking.number(body), descriptors
            if self._killed:
                self.kill()
        elif kind in (forking.BORN, forking.NOT_NOW):
            # It is born and no descriptor was left here for its pidfd: its lifeline ends it.
            error = errno.EMFILE if kind == forking.BORN else forking.number(body)
            self._stillborn = OSError(error, os.strerror(error))
        elif kind == forking.REFUSED:
            self._stillborn = LaunchRefused(f"no worker can be forked from the template: {forking.text(body)}")
        elif kind != _NOTHING:
            self._stillborn = TemplateGone()

    def _hear(self) -> tuple[bytes, bytes, list[int]]:
        try:
            return forking.hear(self._told)
        except BlockingIOError:
            return _NOTHING, b"", []
        except OSError:  # the template is gone
            return b"", b"", []

    def look(self) -> Ending | None:
        """How it has ended, by its template's word; by nobody's, where that is gone or stands still."""
        if self._stillborn is not None:
            return Ending(how="unknown", detail="it was never forked")
        if self._pidfd < 0 or not _has_ended(self._pidfd):
            return None
        kind, body, _ = self._hear()
        if kind == forking.ENDED:
            code = os.waitstatus_to_exitcode(forking.number(body))
            return Ending(how="signalled" if code < 0 else "exited", code=abs(code))
        ending = super().look()  # a program that is the first process of a container inherits it, and is told
        if ending is None or ending.how != "unknown":
            return ending
        return Ending(
            how="unknown", detail="the template that could have told how it ended is gone too, or stands still"
        )

    def _kill_what_it_left(self) -> None:
        """As where others have reaped it; where nobody has yet, its number is still its own."""
        try:
            signal.pidfd_send_signal(self._pidfd, 0)
        except OSError:
            super()._kill_what_it_left()
        else:
            with suppress(OSError):
                os.killpg(self.pid, signal.SIGKILL)

    def kill(self) -> None:
        """SIGKILL, as soon as it is born. Its group ends by its lifeline, and by its template, which alone knows whether the number is still the group's."""
        self._killed = True
        with suppress(OSError):  # it is not born yet, or gone
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    @property
    def is_stopped(self) -> bool:
        """Whether it has come to a stop, which takes the kernel a moment."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        except OSError:
            return False

    def close(self) -> None:
        """Free the descriptors. Idempotent."""
        with suppress(OSError):
            os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)  # if it was inherited
        super().close()
        if self._told.fileno() >= 0:
            anyio.notify_closing(self._told)
            self._told.close()

    def disown(self) -> None:
        """As `close`, in a fork of the program: its event loop's copy must not be told."""
        super().disown()
        self._told.close()


class ForkedProcess(LocalProcess):
    """A worker's process on this machine, forked from a template."""

    _watch: ForkedWatch

    def __init__(self, watch: ForkedWatch, outfit: Outfit) -> None:
        super().__init__(None, watch, outfit)

    @classmethod
    def fork(
        cls, template: Template, spec: WorkerSpec, destination: Destination, arguments: int, threads: int
    ) -> ForkedProcess:
        """Order it; `born` tells when it is there. Nothing is left when this raises OSError."""
        with open_ends() as ends:
            outfit = fit_out(ends, spec, destination, arguments)
            told, there = ends.stream(SOCK_SEQPACKET)
            given = {"told": there, **outfit.given}
            if outfit.written is not None:
                given["output"] = outfit.written
            # Where it does not come to the template, the end of `there` says so.
            with suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
                template.order(threads, given)
            return cls(ForkedWatch(told, template), outfit)

    async def born(self) -> None:
        """Return when there is a process. Raises OSError, LaunchRefused or TemplateGone if there will be none."""
        await self._watch.born()

    @property
    def origin(self) -> Origin:
        return Origin(launcher="fork", pid=self._watch.pid)

    def kill(self) -> None:
        if self._ending is None:
            self._cut_lifeline()  # by which the kernel kills the group; and what is not born yet will not be
            self._watch.kill()


def _has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))
