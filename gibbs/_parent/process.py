"""One worker's subprocess on this machine: how it is made, killed and reaped, and what belongs to it.

Knows descriptors, pids and process groups. Must never know what is said on the stream. Promises that descriptors meant for
one worker reach no other process; that `kill` is synchronous and reaches the whole group; that what the platform cannot do
is the matter of its `Watch` alone. (`anyio.open_process` costs a thread per process on asyncio 3.11.)
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

from anyio.abc import UNIXSocketStream

from .._records import Ending, Origin
from .kernel import has_memfd, has_pidfd
from .output import Output

if has_pidfd() and has_memfd():
    from . import watch_linux as platform
else:
    from . import watch_posix as platform  # type: ignore[no-redef]

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


class LocalProcess:
    """A subprocess that leads a session of its own.

    Invariants: `_ending` is set when the process is reaped, and from then on its pid and group are somebody else's;
    descriptors are -1 once closed.
    """

    def __init__(
        self,
        popen: subprocess.Popen[bytes],
        watch: platform.Watch,
        lifeline: int,
        sock: socket.socket,
        shared: platform.Shared | None,
        output: Output | None,
        results: Arena | None,
    ) -> None:
        self.output = output
        self.device: str | None = None  # what the model is told to use
        self.results = results  # what the worker puts its large results into; None: they come in the stream
        self._popen = popen
        self._watch = watch
        self._lifeline = lifeline
        self._socket = sock
        self._stream: UNIXSocketStream | None = None
        self._shared = shared
        self._side: SideChannel | None = None if shared is None else watch.side(shared)
        self._ending: Ending | None = None
        self._closed = False
        _of_this_program.add(self)

    @classmethod
    def start(
        cls, spec: WorkerSpec, destination: Destination, env: dict[str, str], arguments: int = -1
    ) -> LocalProcess:
        """Make the process and all that belongs to it; nothing is left when it raises. Blocks the loop for some 0.3 ms."""
        page_fd = claims_fd = results_fd = -1
        output_read = output_write = None
        results: Arena | None = None
        with ExitStack() as ours, ExitStack() as theirs:  # ours are closed if it fails, theirs in any case
            left, right = (end.detach() for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM))
            stream_end, stream = _held((ours, left), (theirs, right))
            read, write = os.pipe()
            lifeline, lifeline_write = _held((theirs, read), (ours, write))
            shared = platform.open_shared()
            if shared is not None:
                ours.callback(shared.close)
                (page_fd,) = _held((theirs, shared.page_fd))
                fd, shared.claims.fd = shared.claims.fd, -1
                shared.claims.fd = claims_fd = _above_stdio(fd)
                results = platform.open_arena()
            if results is not None:
                ours.callback(results.close)
                (results_fd,) = _held((theirs, results.give_descriptor()))
            else:
                arguments = -1
            if destination != "inherit":
                read, write = os.pipe()
                output_read, output_write = _held((ours, read), (theirs, write))
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

    async def connect(self) -> None:
        """Wrap this end of the stream."""
        self._stream = await UNIXSocketStream.from_socket(self._socket)

    @property
    def stream(self) -> UNIXSocketStream:
        assert self._stream is not None
        return self._stream

    @property
    def side(self) -> SideChannel | None:
        return self._side

    @property
    def origin(self) -> Origin:
        return Origin(launcher="local", pid=self._popen.pid)

    @property
    def finished(self) -> bool:
        """Whether it is reaped and closed: nothing is left of it."""
        return self._closed and self._ending is not None

    async def ended(self) -> Ending:
        while self._ending is None:
            await self._watch.wait()
            self._reap()
        return self._ending

    def _reap(self) -> None:
        ending = self._watch.look()
        if ending is None:
            return
        self._cut_lifeline()  # what was forked goes with it, even where the group could not be named any more
        self._popen.poll()
        tail = ""
        if self.output is not None:
            self.output.finish()
            tail = self.output.tail
        self._ending = Ending(how=ending.how, code=ending.code, tail=tail)
        if self._closed:
            self._watch.close()

    def kill(self) -> None:
        if self._ending is None:
            self._watch.kill()

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
        if self.output is not None:
            self.output.finish()
        self._closed = True
        if self._ending is not None:  # else it is still to be reaped: by who waits for its end, or by the session
            self._watch.close()
        if self._shared is not None:
            self._shared.close()
        if self.results is not None:
            self.results.close()
        if self._stream is not None:
            await self._stream.aclose()
        else:
            self._socket.close()

    def give_up(self) -> None:
        """Reap it if it is gone by now, else let go of a process that cannot be reaped."""
        if self._ending is None:
            self._reap()
        self._watch.close()

    def disown(self) -> None:
        """Make sure that nothing which is done with this copy in a fork of the program can reach the program's worker."""
        self._ending = Ending(how="unknown", certain=False)
        self._cut_lifeline()
        self._watch.disown()
        self._socket.close()
        if self._shared is not None:
            self._shared.close()
        if self.results is not None:
            self.results.close()
        if self.output is not None:
            self.output.disown()


# What a fork must let go of. Else it could hold a worker's lifeline open; and if it ran on to the end of the hub's block it
# would kill the workers, take their answers and strike their descriptors off the epoll that it shares with the program.
_of_this_program: WeakSet[LocalProcess] = WeakSet()
_its_arguments: WeakSet[Arena] = WeakSet()


def open_arguments() -> Arena | None:
    """What all workers of a hub read their large arguments from; None if there can be none."""
    arena = platform.open_arena()
    if arena is not None:
        arena.fd = _above_stdio(arena.fd)
        _its_arguments.add(arena)
    return arena


def _disown_all() -> None:
    for process in [*_of_this_program]:
        process.disown()
    for arena in [*_its_arguments]:
        arena.close()
    _of_this_program.clear()
    _its_arguments.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown_all)


def _command(*descriptors: int) -> list[str]:
    """What is executed: this interpreter with its own flags, and `gibbs.worker.main`."""
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001 - as multiprocessing does
    numbers = map(str, (*descriptors, os.getpid()))
    return [sys.executable, *flags, "-c", _BOOTSTRAP, *numbers, _PACKAGE_HOME]


def _held(*ends: tuple[ExitStack, int]) -> list[int]:
    """These descriptors, at 3 or above, each closed with its stack. Raises OSError, and then none of them is open."""
    rest = [*ends]
    held = []
    try:
        while rest:
            stack, fd = rest.pop(0)
            held.append(_above_stdio(fd))
            stack.callback(os.close, held[-1])
    except BaseException:
        for _, fd in rest:
            os.close(fd)
        raise
    return held


def _above_stdio(fd: int) -> int:
    """The same descriptor at 3 or above: in a program without descriptors 0-2 it could have landed there."""
    if fd > 2:
        return fd
    import fcntl  # here, so that Windows can be refused in words

    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(fd)
