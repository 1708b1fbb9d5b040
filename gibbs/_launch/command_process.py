"""One command of this program, and the worker somewhere behind it.

Knows what the child's end proves of the worker's, and what not. Must never know what is said on the stream after the first line. Promises
that nothing is unpickled before that line is there, and that a worker is asked to go before what leads to it is killed, so that its end
can be told for certain.
"""

from __future__ import annotations

import os
import signal
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import anyio

from .._records import Ending, Origin
from .._wire.hello import HelloReader, NoHello
from ..abc import LaunchFailed, LaunchRefused
from . import child
from .child import Child
from .ends import open_ends
from .options import check_words

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Mapping, Sequence

    from .._wire.hello import Hello
    from ..abc import WorkerSpec
    from .output import Destination, Output

    Later: TypeAlias = "Callable[[float, Callable[[], None]], None]"
    """Do something after so many seconds."""

_BY_SIGNAL = 128  # and its number: how a shell's exit status, and that of a worker's keeper, tells of one
_NOT_THERE = (126, 127)  # exit statuses of a shell that has no such program
_KILL_PATIENCE = 2.0  # seconds for a worker whose stream has ended to be gone, before what leads to it is killed
_EXIT_PATIENCE = 1.0  # seconds for a command to end whose stdout has ended before a worker spoke
SIGNS_MISSED = 3  # of the hub's, one after the other, after which a worker ends itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """How workers are made: what is run for each, and what is made of the end of that."""

    launcher: str
    argv: Callable[[WorkerSpec], Sequence[str]]
    host: Callable[[WorkerSpec], str]  # where it leads, "" if that is for the worker to tell
    env: Mapping[str, str] | None
    output: Destination
    devices: tuple[str, ...]
    keepalive: float | None
    lost: frozenset[int]  # exit statuses that are not the worker's: what led to it has failed
    at_once: int | None = None  # how many may be at their start for one host
    refused: tuple[str, ...] = ()  # what it writes where there is no use in trying again


class CommandProcess(Child):
    """A command of this program, and the worker behind it.

    Invariant: `hello` is set when the worker has said who it is, and before that it is sent nothing.
    """

    side = None  # its stream is all there is

    def __init__(
        self,
        popen: subprocess.Popen[bytes],
        watch: child.platform.Watch,
        sock: socket.socket,
        output: Output | None,
        command: Command,
        later: Later,
        host: str,
        program: str,
    ) -> None:
        super().__init__(popen, watch, sock, output)
        self.hello: Hello | None = None
        keepalive = command.keepalive
        self.silence = None if keepalive is None else SIGNS_MISSED * keepalive
        self._command = command
        self._later = later
        self._host = host
        self._program = program
        self._asked_to_go = False

    @classmethod
    def start(cls, spec: WorkerSpec, command: Command, later: Later) -> CommandProcess:
        """Run the command; nothing is left when it raises. Blocks the loop for some 0.3 ms."""
        argv = check_words("what argv returns", command.argv(spec))
        with open_ends() as ends:
            sock, stream = ends.stream()
            output, written = ends.output(spec, command.output)
            env = {**os.environ, **(command.env or {})}
            try:
                popen = ends.spawn(argv, stdin=stream, stdout=stream, stderr=written, env=env)
            except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
                raise LaunchRefused(f"the command cannot be run: {error}") from error
            watch = child.platform.Watch(popen.pid)
            made = cls(popen, watch, sock, output, command, later, command.host(spec), argv[0])
        if command.devices:
            made.device = command.devices[spec.turn % len(command.devices)]
        return made

    async def greet(self) -> None:
        """Return when the worker has said who it is, and fits. Raises LaunchFailed, or LaunchRefused."""
        reader = HelloReader()
        hello: Hello | None = None
        try:
            while hello is None:
                try:
                    data = self._socket.recv(1 << 16)
                except BlockingIOError:
                    await anyio.wait_readable(self._socket)
                    continue
                except OSError:
                    data = b""
                if not data:
                    raise await self._no_worker(reader)
                hello = reader.feed(data)
        except NoHello as error:
            raise LaunchRefused(f"{self._place} speaks otherwise than a worker: {error}") from error
        misfit = hello.misfit()
        if misfit is not None:
            raise LaunchRefused(f"the worker at {self._place} does not fit: {misfit}")
        self.hello = hello

    async def _no_worker(self, reader: HelloReader) -> LaunchFailed:
        """Why the command has ended, or hung up, before a worker spoke."""
        ending: Ending | None = None
        with anyio.move_on_after(_EXIT_PATIENCE):
            ending = await self.ended()
        tail = ending.tail.strip() if ending else ""
        code = ending.code if ending and ending.how == "exited" else None
        known = {
            "No module named gibbs": "gibbs is not installed for the Python that was run there",
            "No module named 'gibbs": "gibbs is not installed for the Python that was run there",
            **dict.fromkeys(self._command.refused, "it was refused"),
        }
        why = next((why for words, why in known.items() if words in tail), None)
        if why is None and code in _NOT_THERE:
            why = "there is no such program there"
        text = f"no worker came of {self._place}: the command {ending or 'has hung up'}"
        text += f"; {why}" if why else ""
        text += f". It wrote: {tail}" if tail else f". What came was {reader.noise()}"
        return (LaunchFailed if why is None else LaunchRefused)(text)

    @property
    def _place(self) -> str:
        return f"{self._program!r} to {self._host}" if self._host else repr(self._program)

    @property
    def origin(self) -> Origin:
        hello = self.hello
        host = self._host or (hello.host if hello is not None and hello.host != os.uname().nodename else "")
        return Origin(launcher=self._command.launcher, host=host, pid=None if hello is None else hello.pid)

    def kill(self) -> None:
        """End its stream, with which the worker ends; what leads to it is killed if it has not followed soon."""
        if self._ending is not None:
            return
        if self.hello is None:
            super().kill()
        elif not self._asked_to_go:
            self._asked_to_go = True
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)
            self._later(_KILL_PATIENCE, super().kill)

    def _told(self, ending: Ending, tail: str) -> Ending:
        """The worker's own end, as far as the command's tells."""
        code = ending.code
        if ending.how != "exited" or code is None or code in self._command.lost:
            last = tail.rstrip().rpartition("\n")[2]
            detail = f"the command {self._place} {ending}" + (f": {last}" if last else "")
            return Ending(how="lost", certain=False, tail=tail, detail=detail)
        if _BY_SIGNAL < code < _BY_SIGNAL + signal.NSIG:
            return Ending(how="signalled", code=code - _BY_SIGNAL, tail=tail)
        return Ending(how="exited", code=code, tail=tail)
