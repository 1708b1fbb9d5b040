"""The local launcher: one subprocess per worker on this machine, with its page, signal, lifeline and output.

Knows how a process is made, killed and reaped by this platform's means (Linux: pidfd). Must never know what is said on the
stream. Promises that descriptors meant for one worker reach no other process, that `kill` is synchronous, reaches the whole
process group and never touches a group that is not ours any more, and that one way of reaping serves all event loops
without a thread: `wait_readable` on a pidfd. (`anyio.open_process` costs a thread per process on asyncio 3.11.)
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from anyio.abc import UNIXSocketStream

from .._records import Ending, Origin
from .._wire.page import Page, create_page
from ..abc import Traits
from .output import Output
from .usable_cpus import usable_cpus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from ..abc import SideChannel, WorkerSpec
    from .output import Destination

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_INTERRUPT = signal.SIGRTMIN + 5 if hasattr(signal, "SIGRTMIN") else None  # `_worker.interrupt.SIGNAL`, held by a test

# The package is found where this one was, whatever the child's own path; the parent's path follows in the stream.
_BOOTSTRAP = "import sys; sys.path.insert(0, sys.argv[5]); import gibbs.worker; sys.path.pop(0); gibbs.worker.main()"
_PACKAGE_HOME = str(Path(__file__).resolve().parent.parent.parent)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalLauncher:
    """Workers as subprocesses of this program: the default.

    Args:
        env: environment variables for the workers, over those of this program.
        threads: "auto" sets the thread variables of OpenMP, MKL, OpenBLAS and NumExpr to usable CPUs ÷ workers, at least 1,
            where neither this program's environment nor `env` sets them; None leaves all as they are.
        output: where lines that a worker writes on descriptors 1 and 2 go: "stderr", this program's, with a prefix;
            "log", the logger `gibbs`; "inherit", the workers share this program's descriptors and no tail is kept;
            "discard"; or a callable `(line, seat)`.

    Raises:
        TypeError, ValueError: an argument makes no sense.

    Example:
        ```python
        open_hub(Model, workers=4, launcher=gibbs.LocalLauncher(env={"HF_HOME": "models"}, output="log"))
        ```
    """

    env: Mapping[str, str] | None = None
    threads: str | None = "auto"
    output: Destination = "stderr"

    def __post_init__(self) -> None:
        if self.env is not None:
            for name, value in self.env.items():
                if not isinstance(name, str) or not isinstance(value, str):
                    raise TypeError(f"env must map strings to strings, not {name!r} to {value!r}")
        if self.threads not in ("auto", None):
            raise ValueError(f'threads must be "auto" or None, not {self.threads!r}')
        if not callable(self.output) and self.output not in ("stderr", "log", "inherit", "discard"):
            raise ValueError(
                f'output must be "stderr", "log", "inherit", "discard" or a callable (line, seat), not {self.output!r}'
            )

    @property
    def traits(self) -> Traits:
        return Traits(same_host=True, kill_is_certain=True)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[LocalSession]:
        """What the workers of one hub share: the tasks that read their output."""
        if not hasattr(os, "pidfd_open"):
            raise NotImplementedError("gibbs.LocalLauncher needs Linux 5.3 or newer (pidfd)")
        async with anyio.create_task_group() as tg:
            session = LocalSession(self, tg)
            try:
                yield session
            finally:
                tg.cancel_scope.cancel()


class LocalSession:
    """Launches the workers of one hub."""

    def __init__(self, launcher: LocalLauncher, tg: anyio.abc.TaskGroup) -> None:
        self._launcher = launcher
        self._tg = tg

    async def launch(self, spec: WorkerSpec) -> LocalProcess:
        await anyio.lowlevel.checkpoint_if_cancelled()
        process = LocalProcess.start(spec, self._launcher.output, self._environment(spec))
        try:
            await process.connect()
            if process.output is not None:
                self._tg.start_soon(process.output.read_on, name=f"gibbs {spec.name} output of worker {spec.seat}")
        except BaseException:
            process.kill()
            with anyio.CancelScope(shield=True):
                await process.ended()
                await process.aclose()
            raise
        return process

    def _environment(self, spec: WorkerSpec) -> dict[str, str]:
        env = {**os.environ, **(self._launcher.env or {})}
        if self._launcher.threads == "auto":
            share = str(max(1, usable_cpus() // spec.workers))
            for variable in _THREAD_VARIABLES:
                env.setdefault(variable, share)
        return env


class LocalSide:
    """Page and signal."""

    __slots__ = ("_page", "_pidfd")

    def __init__(self, page: Page, pidfd: int) -> None:
        self._page = page
        self._pidfd = pidfd

    def begun(self) -> int:
        return self._page.begun

    def aim(self, link_id: int) -> None:
        self._page.target = link_id

    def strike(self) -> None:
        assert _INTERRUPT is not None
        with suppress(OSError):  # it is gone
            signal.pidfd_send_signal(self._pidfd, _INTERRUPT)


class LocalProcess:
    """A subprocess that leads a session of its own.

    Invariants: `_ending` is set when the process is reaped, and from then on its pid and group are somebody else's;
    descriptors are -1 once closed.
    """

    def __init__(
        self,
        popen: subprocess.Popen[bytes],
        pidfd: int,
        lifeline: int,
        sock: socket.socket,
        page: Page,
        output: Output | None,
    ) -> None:
        self.output = output
        self._popen = popen
        self._pidfd = pidfd
        self._lifeline = lifeline
        self._socket: socket.socket | None = sock
        self._stream: UNIXSocketStream | None = None
        self._side = LocalSide(page, pidfd)
        self._ending: Ending | None = None

    @classmethod
    def start(cls, spec: WorkerSpec, destination: Destination, env: dict[str, str]) -> LocalProcess:
        """Make the process and all that belongs to it; nothing is left when it raises. Blocks the loop for some 0.3 ms."""
        theirs: list[int] = []  # the child's ends, which are closed here in any case
        ours: list[int] = []  # this end, closed if it fails
        popen: subprocess.Popen[bytes] | None = None
        try:
            left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            ours.append(_above_stdio(left.detach()))
            theirs.append(_above_stdio(right.detach()))
            page, page_fd = create_page()
            theirs.append(_above_stdio(page_fd))
            lifeline_read, lifeline_write = os.pipe()
            lifeline_write = _above_stdio(lifeline_write)
            ours.append(lifeline_write)
            theirs.append(_above_stdio(lifeline_read))
            arguments = [str(fd) for fd in theirs]
            captured = destination != "inherit"
            if captured:
                output_read, output_write = os.pipe()
                output_read = _above_stdio(output_read)
                ours.append(output_read)
                theirs.append(output_write)
            popen = subprocess.Popen(
                [
                    sys.executable,
                    *subprocess._args_from_interpreter_flags(),  # type: ignore[attr-defined]  # noqa: SLF001 - as multiprocessing does
                    "-c",
                    _BOOTSTRAP,
                    *arguments,
                    str(os.getpid()),
                    _PACKAGE_HOME,
                ],
                stdin=subprocess.DEVNULL,
                stdout=output_write if captured else None,
                stderr=output_write if captured else None,
                pass_fds=theirs[:3],
                env=env,
                start_new_session=True,
            )
            ours.append(_above_stdio(os.pidfd_open(popen.pid)))
            output = None
            if captured:
                output = Output(output_read, destination, name=spec.name, seat=spec.seat)
            left = socket.socket(fileno=ours[0])
            left.setblocking(False)
            return cls(popen, ours[-1], lifeline_write, left, page, output)
        except BaseException:
            if popen is not None:
                popen.kill()
                popen.wait()
            for fd in ours:
                os.close(fd)
            raise
        finally:
            for fd in theirs:
                os.close(fd)

    async def connect(self) -> None:
        """Wrap this end of the stream."""
        assert self._socket is not None
        self._stream = await UNIXSocketStream.from_socket(self._socket)

    @property
    def stream(self) -> UNIXSocketStream:
        assert self._stream is not None
        return self._stream

    @property
    def side(self) -> SideChannel:
        return self._side

    @property
    def origin(self) -> Origin:
        return Origin(launcher="local", pid=self._popen.pid)

    async def ended(self) -> Ending:
        while self._ending is None:
            await anyio.wait_readable(self._pidfd)
            self._reap()
        return self._ending

    def _reap(self) -> None:
        """The process has exited: kill what it left in its group while the group is still ours, then reap."""
        try:
            status = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        except ChildProcessError:  # SIGCHLD is ignored, or other code of this program reaps everything
            how: Ending | None = Ending(how="unknown")
        else:
            if status is None:
                return
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._popen.pid, signal.SIGKILL)
            if status.si_code == os.CLD_EXITED:
                how = Ending(how="exited", code=status.si_status)
            else:
                how = Ending(how="signalled", code=status.si_status)
        self._cut_lifeline()  # what was forked, not started, goes with it even when the group could not be named
        self._popen.poll()
        tail = ""
        if self.output is not None:
            self.output.finish()
            tail = self.output.tail
        self._ending = Ending(how=how.how, code=how.code, tail=tail)

    def kill(self) -> None:
        if self._ending is not None:
            return
        with suppress(OSError):
            # Only while the process is unreaped is the group surely ours; waitid without reaping says so.
            os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOWAIT | os.WNOHANG)
            os.killpg(self._popen.pid, signal.SIGKILL)
        with suppress(OSError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def _cut_lifeline(self) -> None:
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1

    async def aclose(self) -> None:
        self.kill()
        self._cut_lifeline()
        if self.output is not None:
            self.output.finish()
        if self._pidfd >= 0:
            anyio.notify_closing(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        if self._stream is not None:
            await self._stream.aclose()
        elif self._socket is not None:
            self._socket.close()


def _above_stdio(fd: int) -> int:
    """The same descriptor at 3 or above: in a program without descriptors 0-2 it could have landed there."""
    if fd > 2:
        return fd
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(fd)
