"""A subprocess of this program that leads a session of its own and holds the other end of a stream, and maybe of a lifeline.

Knows descriptors, pids and process groups. Must never know what is said on the stream, nor what the subprocess is. Promises that
`kill` is synchronous and reaches the whole group; that what the platform cannot do is the matter of its `Watch` alone.
(`anyio.open_process` costs a thread per process on asyncio 3.11.)
"""

from __future__ import annotations

import os
from dataclasses import replace
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

    from anyio.abc import TaskGroup

    from .output import Output

__all__ = ["Child", "Children", "bury", "platform"]

_REAP_PATIENCE = 5.0  # seconds for killed processes to be gone, when their session ends


class Child:
    """A subprocess, from its start until nothing of it is left.

    Invariants: `_ending` is set when the process is reaped, and from then on its pid and group are somebody else's;
    descriptors are -1 once closed.
    """

    def __init__(
        self,
        popen: subprocess.Popen[bytes] | None,  # None: it is a child of another process
        watch: platform.Watch,
        sock: socket.socket,
        output: Output | None,
        lifeline: int = -1,
    ) -> None:
        self.output = output
        self.device: str | None = None  # what the model is told to use
        self._popen = popen
        self._watch = watch
        self._socket = sock
        self._lifeline = lifeline
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
        self._cut_lifeline()  # what was forked goes with it, even where the group could not be named any more
        if self._popen is not None:
            self._popen.poll()
        tail = ""
        if self.output is not None:
            self.output.finish()
            tail = self.output.tail
        self._ending = self._told(ending, tail)
        if self._closed:
            self._watch.close()

    def _told(self, ending: Ending, tail: str) -> Ending:
        """How the worker ended, by how this process did and what it said last."""
        return replace(ending, tail=tail)

    def kill(self) -> None:
        if self._ending is None:
            self._watch.kill()

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
        self._cut_lifeline()
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


# What a fork must let go of. Else it could hold a worker's lifeline open; and if it ran on to the end of the hub's block it
# would kill the workers, take their answers and strike their descriptors off the epoll that it shares with the program.
_of_this_program: WeakSet[Child] = WeakSet()


def _disown_all() -> None:
    for child in [*_of_this_program]:
        child.disown()
    _of_this_program.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown_all)
