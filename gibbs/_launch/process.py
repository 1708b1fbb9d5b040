"""One worker's subprocess on this machine: a child that shares memory with the hub, and that a pipe ties to the hub's life.

Knows what a local worker is given beside its stream: a page, claims, arenas and a lifeline. Must never know what is said. Promises that
nothing is left when `start` raises.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakSet

from .._records import Origin
from . import child
from .child import Child, above_stdio, held
from .output import Output

if TYPE_CHECKING:
    from .._wire.arena import Arena
    from ..abc import SideChannel, WorkerSpec
    from .output import Destination

# The package, and it alone, is found where this one was, whatever the child's own path; all else where a fresh interpreter
# looks, less the current directory, where a file may be called like a standard module. The parent's path follows in the stream.
_BOOTSTRAP = (
    "import sys; path = [*filter(None, sys.path)]; sys.path[:] = [sys.argv[8]]; import gibbs; "
    "sys.path[:] = path; import gibbs.worker; gibbs.worker.main()"
)
_PACKAGE_HOME = str(Path(__file__).absolute().parent.parent.parent)


class LocalProcess(Child):
    """A worker's process on this machine."""

    def __init__(
        self,
        popen: subprocess.Popen[bytes],
        watch: child.platform.Watch,
        lifeline: int,
        sock: socket.socket,
        shared: child.platform.Shared | None,
        output: Output | None,
        results: Arena | None,
    ) -> None:
        super().__init__(popen, watch, sock, output)
        self.results = results  # what the worker puts its large results into; None: they come in the stream
        self._lifeline = lifeline
        self._shared = shared
        self._side: SideChannel | None = None if shared is None else watch.side(shared)

    @classmethod
    def start(
        cls, spec: WorkerSpec, destination: Destination, env: dict[str, str], arguments: int = -1
    ) -> LocalProcess:
        """Make the process and all that belongs to it; nothing is left when it raises. Blocks the loop for some 0.3 ms."""
        page_fd = claims_fd = results_fd = -1
        output_read = output_write = None
        results: Arena | None = None
        platform = child.platform
        with ExitStack() as ours, ExitStack() as theirs:  # ours are closed if it fails, theirs in any case
            left, right = (end.detach() for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM))
            stream_end, stream = held((ours, left), (theirs, right))
            read, write = os.pipe()
            lifeline, lifeline_write = held((theirs, read), (ours, write))
            shared = platform.open_shared()
            if shared is not None:
                ours.callback(shared.close)
                (page_fd,) = held((theirs, shared.page_fd))
                fd, shared.claims.fd = shared.claims.fd, -1
                shared.claims.fd = claims_fd = above_stdio(fd)
                results = platform.open_arena()
            if results is not None:
                ours.callback(results.close)
                (results_fd,) = held((theirs, results.give_descriptor()))
            else:
                arguments = -1
            if destination != "inherit":
                read, write = os.pipe()
                output_read, output_write = held((ours, read), (theirs, write))
            inherited = (stream, page_fd, claims_fd, arguments, results_fd, lifeline)
            popen = subprocess.Popen(
                _command(*inherited),
                stdin=subprocess.DEVNULL,
                stdout=output_write,
                stderr=output_write,
                pass_fds=[fd for fd in inherited if fd >= 0],
                env=env,
                start_new_session=True,
            )
            ours.callback(popen.wait)
            ours.callback(popen.kill)
            watch = platform.Watch(popen.pid)
            output = None
            if output_read is not None:
                output = Output(output_read, destination, name=spec.name, seat=spec.seat)
            sock = socket.socket(fileno=stream_end)
            sock.setblocking(False)
            made = cls(popen, watch, lifeline_write, sock, shared, output, results)
            ours.pop_all()
            return made

    @property
    def side(self) -> SideChannel | None:
        return self._side

    @property
    def origin(self) -> Origin:
        return Origin(launcher="local", pid=self._popen.pid)

    def _has_ended(self) -> None:
        self._cut_lifeline()  # what was forked goes with it, even where the group could not be named any more

    def hang(self) -> None:
        """For `gibbs.testing.hang`: it does nothing any more, until it is let `go_on`, or killed."""
        self._watch.stop()

    def go_on(self) -> None:
        self._watch.go_on()

    @property
    def hangs(self) -> bool:
        """Whether it does nothing by now."""
        return self._watch.is_stopped

    def _cut_lifeline(self) -> None:
        lifeline, self._lifeline = self._lifeline, -1
        if lifeline >= 0:
            os.close(lifeline)

    async def aclose(self) -> None:
        self.kill()
        self._cut_lifeline()
        self._close_memory()
        await super().aclose()

    def _close_memory(self) -> None:
        if self._shared is not None:
            self._shared.close()
        if self.results is not None:
            self.results.close()

    def disown(self) -> None:
        self._cut_lifeline()
        self._close_memory()
        super().disown()


_its_arguments: WeakSet[Arena] = WeakSet()  # of this program, which a fork of it must let go of


def open_arguments() -> Arena | None:
    """What all workers of a hub read their large arguments from; None if there can be none."""
    arena = child.platform.open_arena()
    if arena is not None:
        arena.fd = above_stdio(arena.fd)
        _its_arguments.add(arena)
    return arena


def _disown_arguments() -> None:
    for arena in [*_its_arguments]:
        arena.close()
    _its_arguments.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown_arguments)


def _command(*descriptors: int) -> list[str]:
    """What is executed: this interpreter with its own flags, and `gibbs.worker.main`."""
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001 - as multiprocessing does
    numbers = map(str, (*descriptors, os.getpid()))
    return [sys.executable, *flags, "-c", _BOOTSTRAP, *numbers, _PACKAGE_HOME]
