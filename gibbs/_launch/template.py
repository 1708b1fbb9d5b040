"""The hub's end of a template: the process of which the workers of a session are forks.

Knows how it is started, how it says that it is ready or will never be, and how it is given orders. Must never know what becomes of a
worker. Promises that all who wait for it are told the same.
"""

from __future__ import annotations

import os
import socket
import subprocess
from mmap import mmap
from typing import TYPE_CHECKING

import anyio

from .._wire import forking, payload
from ..abc import LaunchFailed, LaunchRefused
from . import child
from .child import Child
from .ends import held, open_ends
from .process import command

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..abc import WorkerSpec
    from .output import Destination, Output

_SPOKEN = {forking.FAILED: LaunchFailed, forking.REFUSED: LaunchRefused}


class Template(Child):
    """One template.

    Invariants: `_why` is set when it will never be ready; `waiting` counts those in `ready`.
    """

    def __init__(
        self,
        popen: subprocess.Popen[bytes],
        watch: child.platform.Watch,
        sock: socket.socket,
        output: Output | None,
        lifeline: int,
    ) -> None:
        super().__init__(popen, watch, sock, output, lifeline)
        self.waiting = 0
        self._turn = anyio.Lock()  # of who waits for its words
        self.is_ready = False
        self._importing = ""
        self._why: tuple[type[LaunchFailed], str] | None = None

    @classmethod
    def start(cls, spec: WorkerSpec, destination: Destination, env: Mapping[str, str], plan: bytes) -> Template:
        """Make the process. What it writes is output of the worker for which it is made. Nothing is left when it raises."""
        with open_ends() as ends:
            sock, control = ends.stream(socket.SOCK_SEQPACKET)
            our_lifeline, lifeline = ends.lifeline()
            output, written = ends.output(spec, destination)
            (paper,) = held((ends.theirs, os.memfd_create("gibbs-plan", os.MFD_CLOEXEC)))
            os.ftruncate(paper, len(plan))
            with mmap(paper, len(plan)) as memory:
                memory[:] = plan
            popen = ends.spawn(
                command("template", control, paper, lifeline),
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=written,
                pass_fds=(control, paper, lifeline),
                env=env,
            )
            return cls(popen, child.platform.Watch(popen.pid), sock, output, our_lifeline)

    async def connect(self) -> None:
        """There is no stream."""

    @property
    def pid(self) -> int:
        return self._watch.pid

    async def ready(self) -> None:
        """Return when it can be forked. Raises LaunchFailed or LaunchRefused when it never will."""
        self.waiting += 1
        try:
            async with self._turn:
                while not self.is_ready and self._why is None:
                    await anyio.wait_readable(self._socket)
                    self._hear()
                if self._why is not None:
                    kind, why = self._why
                    ending = await self.ended()
                    raise kind(self._in_words(why or f"{ending} {self._when}", ending.tail))
        finally:
            self.waiting -= 1

    def _hear(self) -> None:
        try:
            kind, body, _ = forking.hear(self._socket)
        except BlockingIOError:
            return
        except OSError:
            kind, body = b"", b""
        if kind == forking.IMPORTING:
            self._importing = forking.text(body)
        elif kind == forking.READY:
            self.is_ready = True
        else:
            self._why = _SPOKEN.get(kind, LaunchFailed), forking.text(body)
            self.kill()  # it has said its last word

    @property
    def _when(self) -> str:
        return f"while {self._importing!r} was imported" if self._importing else "before it had imported anything"

    @staticmethod
    def _in_words(why: str, tail: str) -> str:
        text = f"no worker can be forked from the template: {why}"
        return f"{text}. It wrote: {tail.strip()}" if tail.strip() else text

    def order(self, threads: int, given: Mapping[str, int]) -> None:
        """Have a worker forked, with these descriptors; the first of them is where it is told of. Raises OSError."""
        forking.say(self._socket, forking.ORDER, payload.dumps((threads, [*given])), [*given.values()])

    def is_gone(self) -> bool:
        """Whether it has ended, as far as can be told at once."""
        if self._ending is None:
            self._reap()
        return self._ending is not None
