"""One worker's subprocess on this machine: a child that shares memory with the hub, and that a pipe ties to the hub's life.

Knows what a local worker is given beside its stream: a page, claims, arenas, an inquiry and a lifeline. Must never know what is said. Promises that
nothing is left when `start` raises.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakSet

from .._records import Ending, Origin
from . import child
from .child import Child
from .ends import above_stdio, held, open_ends

if TYPE_CHECKING:
    import socket

    from .._wire.arena import Arena
    from ..abc import SideChannel, WorkerSpec
    from .ends import Ends
    from .output import Destination, Output

# The package, and it alone, is found where this one was, whatever the child's own path; all else where a fresh interpreter
# looks, less the current directory, where a file may be called like a standard module. The parent's path follows in the stream.
_BOOTSTRAP = (
    "import sys; path = [*filter(None, sys.path)]; sys.path[:] = [sys.argv.pop()]; import gibbs; "
    "sys.path[:] = path; import gibbs.worker; gibbs.worker.{door}()"
)
_PACKAGE_HOME = str(Path(__file__).absolute().parent.parent.parent)
GIVEN = (
    "stream",
    "page",
    "claims",
    "arguments",
    "results",
    "inquiry",
    "lifeline",
)  # descriptors, in the order that a worker knows


class Outfit(NamedTuple):
    """What a worker on this machine is given, and what the hub keeps of it."""

    sock: socket.socket
    lifeline: int
    shared: child.platform.Shared | None
    results: Arena | None
    output: Output | None
    given: dict[str, int]  # the worker's descriptors, by their names in GIVEN; some there may not be
    written: int | None  # and what it writes on; None: where this program does


def fit_out(ends: Ends, spec: WorkerSpec, destination: Destination, arguments: int) -> Outfit:
    """All that there can be on this kernel. `arguments` is the descriptor of the hub's arena, or -1."""
    sock, stream = ends.stream()
    our_lifeline, lifeline = ends.lifeline()
    given = {"stream": stream, "lifeline": lifeline}
    shared = child.platform.open_shared()
    results: Arena | None = None
    if shared is not None:
        ends.ours.callback(shared.close)
        given["page"], given["inquiry"] = held((ends.theirs, shared.page_fd), (ends.theirs, shared.inquiry_fd))
        fd, shared.claims.fd = shared.claims.fd, -1
        shared.claims.fd = given["claims"] = above_stdio(fd)
        results = child.platform.open_arena()
    if results is not None:
        ends.ours.callback(results.close)
        (given["results"],) = held((ends.theirs, results.give_descriptor()))
        if arguments >= 0:
            given["arguments"] = arguments
    output, written = ends.output(spec, destination)
    return Outfit(sock, our_lifeline, shared, results, output, given, written)


class LocalProcess(Child):
    """A worker's process on this machine."""

    def __init__(self, popen: subprocess.Popen[bytes] | None, watch: child.platform.Watch, outfit: Outfit) -> None:
        super().__init__(popen, watch, outfit.sock, outfit.output, outfit.lifeline)
        self.results = outfit.results  # what the worker puts its large results into; None: they come in the stream
        self._shared = outfit.shared
        self._side: SideChannel | None = None if self._shared is None else watch.side(self._shared)

    @classmethod
    def start(
        cls, spec: WorkerSpec, destination: Destination, env: dict[str, str], arguments: int = -1
    ) -> LocalProcess:
        """Make the process and all that belongs to it; nothing is left when it raises. Blocks the loop for some 0.3 ms."""
        with open_ends() as ends:
            outfit = fit_out(ends, spec, destination, arguments)
            popen = ends.spawn(
                command("main", *(outfit.given.get(name, -1) for name in GIVEN)),
                stdin=subprocess.DEVNULL,
                stdout=outfit.written,
                stderr=outfit.written,
                pass_fds=[*outfit.given.values()],
                env=env,
            )
            return cls(popen, child.platform.Watch(popen.pid), outfit)

    @property
    def side(self) -> SideChannel | None:
        return self._side

    @property
    def origin(self) -> Origin:
        return Origin(launcher="local", pid=self._watch.pid)

    def _told(self, ending: Ending, tail: str) -> Ending:
        told = super()._told(ending, tail)
        return told if self._shared is None else replace(told, stack=self._shared.inquiry.last_words())

    def hang(self) -> None:
        """For `gibbs.testing.hang`: it does nothing any more, until it is let `go_on`, or killed."""
        self._watch.stop()

    def go_on(self) -> None:
        self._watch.go_on()

    @property
    def hangs(self) -> bool:
        """Whether it does nothing by now."""
        return self._watch.is_stopped

    async def aclose(self) -> None:
        self.kill()
        self._close_memory()
        await super().aclose()

    def _close_memory(self) -> None:
        if self._shared is not None:
            self._shared.close()
        if self.results is not None:
            self.results.close()

    def disown(self) -> None:
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


def command(door: str, *descriptors: int) -> list[str]:
    """What is executed: this interpreter with its own flags, and a function of `gibbs.worker`."""
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001 - as multiprocessing does
    numbers = map(str, (*descriptors, os.getpid()))
    return [sys.executable, *flags, "-c", _BOOTSTRAP.format(door=door), *numbers, _PACKAGE_HOME]
