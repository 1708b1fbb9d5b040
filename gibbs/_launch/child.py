"""A subprocess of this program that leads a session of its own and holds the other end of a stream.

Knows descriptors, pids and process groups. Must never know what is said on the stream, nor what the subprocess is. Promises that
descriptors meant for one child reach no other process; that `kill` is synchronous and reaches the whole group; that what the platform
cannot do is the matter of its `Watch` alone. (`anyio.open_process` costs a thread per process on asyncio 3.11.)
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from weakref import WeakSet

import anyio
from anyio.abc import UNIXSocketStream

from .._parent.own import own
from .._records import Ending
from .kernel import has_memfd, has_pidfd

if has_pidfd() and has_memfd():
    from . import watch_linux as platform
else:
    from . import watch_posix as platform  # type: ignore[no-redef]

if TYPE_CHECKING:
    import socket
    import subprocess
    from contextlib import ExitStack

    from anyio.abc import TaskGroup

    from .output import Output

__all__ = ["Child", "Children", "above_stdio", "bury", "held", "platform"]

_REAP_PATIENCE = 5.0  # seconds for killed processes to be gone, when their session ends


class Child:
    """A subprocess, from its start until nothing of it is left.

    Invariants: `_ending` is set when the process is reaped, and from then on its pid and group are somebody else's;
    descriptors are -1 once closed.
    """

    def __init__(
        self, popen: subprocess.Popen[bytes], watch: platform.Watch, sock: socket.socket, output: Output | None
    ) -> None:
        self.output = output
        self.device: str | None = None  # what the model is told to use
        self._popen = popen
        self._watch = watch
        self._socket = sock
        self._stream: UNIXSocketStream | None = None
        self._ending: Ending | None = None
        self._closed = False
        _of_this_program.add(self)

    async def connect(self) -> None:
        """Wrap this end of the stream."""
        self._stream = await UNIXSocketStream.from_socket(self._socket)

    @property
    def stream(self) -> UNIXSocketStream:
        assert self._stream is not None
        return self._stream

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
        self._has_ended()
        self._popen.poll()
        tail = ""
        if self.output is not None:
            self.output.finish()
            tail = self.output.tail
        self._ending = self._told(ending, tail)
        if self._closed:
            self._watch.close()

    def _has_ended(self) -> None:
        """What is to be done at once when it has ended."""

    def _told(self, ending: Ending, tail: str) -> Ending:
        """How the worker ended, by how this process did and what it said last."""
        return Ending(how=ending.how, code=ending.code, tail=tail)

    def kill(self) -> None:
        if self._ending is None:
            self._watch.kill()

    async def aclose(self) -> None:
        self.kill()
        if self.output is not None:
            self.output.finish()
        self._closed = True
        if self._ending is not None:  # else it is still to be reaped: by who waits for its end, or by the session
            self._watch.close()
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
        """Make sure that nothing which is done with this copy in a fork of the program can reach the program's child."""
        self._ending = Ending(how="unknown", certain=False)
        self._watch.disown()
        self._socket.close()
        if self.output is not None:
            self.output.disown()


class Children:
    """Those of one session: their output is read by its tasks, and none is left when it ends."""

    def __init__(self, tg: TaskGroup) -> None:
        self._tg = tg
        self._started: list[Child] = []

    async def add(self, child: Child, name: str) -> None:
        """It was started: connect its stream, read its output. If that raises or is cancelled, nothing is left of it."""
        self._started = [one for one in self._started if not one.finished]
        self._started.append(child)
        try:
            await child.connect()
            if child.output is not None:
                self._tg.start_soon(own(child.output.read_on), name=name)
        except BaseException:
            await bury(child)
            raise

    async def end(self) -> None:
        """Kill and reap what is still there: nothing, after a hub that closed in peace."""
        left = [one for one in self._started if not one.finished]
        for child in left:
            child.kill()
        with anyio.move_on_after(_REAP_PATIENCE):
            for child in left:
                await child.ended()
        for child in left:
            await child.aclose()
            child.give_up()


async def bury(child: Child) -> None:
    """Kill it, wait for its end and free what belongs to it, whoever is cancelled meanwhile."""
    child.kill()
    with anyio.CancelScope(shield=True):
        await child.ended()
        await child.aclose()


def held(*ends: tuple[ExitStack, int]) -> list[int]:
    """These descriptors, at 3 or above, each closed with its stack. Raises OSError, and then none of them is open."""
    rest = [*ends]
    done = []
    try:
        while rest:
            stack, fd = rest.pop(0)
            done.append(above_stdio(fd))
            stack.callback(os.close, done[-1])
    except BaseException:
        for _, fd in rest:
            os.close(fd)
        raise
    return done


def above_stdio(fd: int) -> int:
    """The same descriptor at 3 or above: in a program without descriptors 0-2 it could have landed there."""
    if fd > 2:
        return fd
    import fcntl  # here, so that Windows can be refused in words

    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(fd)


# What a fork must let go of. Else it could hold a worker's lifeline open; and if it ran on to the end of the hub's block it
# would kill the workers, take their answers and strike their descriptors off the epoll that it shares with the program.
_of_this_program: WeakSet[Child] = WeakSet()


def _disown_all() -> None:
    for child in [*_of_this_program]:
        child.disown()
    _of_this_program.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown_all)
