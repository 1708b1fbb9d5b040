"""What any POSIX system tells of a child process: its end, by asking again and again. Nothing reaches it but the stream.

The twin of `watch_linux`, with the same names, for macOS and the BSDs: best effort. A death is seen within `_PAUSE` unless
the stream shows it first, and between the reaping and the killing of the group its id could in theory be another's.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio

from .._records import Ending

if TYPE_CHECKING:
    from typing import Any

    from ..abc import SideChannel

_PAUSE = 0.02  # seconds between two looks


def open_shared() -> Any:
    """None: there is no page, and cancels go in band."""
    return None


def open_arena() -> Any:
    """None: what is large comes in the stream."""
    return None


class Watch:
    """One child process, until it is reaped."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._ending: Ending | None = None

    async def wait(self) -> None:
        """Return when the process may have ended; look then."""
        await anyio.sleep(_PAUSE)

    def look(self) -> Ending | None:
        """How the process ended, or None while it runs. Reaps it, and kills its group then."""
        if self._ending is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                self._ending = Ending(how="unknown")
                return self._ending
            if pid == 0:
                return None
            with suppress(OSError):
                os.killpg(self.pid, signal.SIGKILL)
            code = os.waitstatus_to_exitcode(status)
            self._ending = Ending(how="signalled" if code < 0 else "exited", code=abs(code))
        return self._ending

    def kill(self) -> None:
        """SIGKILL to the process group, while the process is not reaped."""
        if self.look() is None:
            with suppress(OSError):
                os.killpg(self.pid, signal.SIGKILL)

    def stop(self) -> None:
        """SIGSTOP, while the process is not reaped."""
        if self.look() is None:
            with suppress(OSError):
                os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT, in the same way."""
        if self.look() is None:
            with suppress(OSError):
                os.kill(self.pid, signal.SIGCONT)

    is_stopped = True  # nobody tells without reaping

    def close(self) -> None:
        """Nothing to free."""

    def disown(self) -> None:
        """In a fork of the program: the child is not this process's."""
        self._ending = Ending(how="unknown", certain=False)

    def side(self, shared: Any) -> SideChannel:
        raise NotImplementedError("there is no page here")
