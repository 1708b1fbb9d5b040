"""Both ends of what connects this program with a child of it: a stream, a lifeline, its output.

Knows descriptors. Must never know who the child is. Promises that descriptors meant for one child reach no other process; that those of
the child are closed here once it has them; and that nothing is left when its start fails.
"""

from __future__ import annotations

import os
import socket
import subprocess
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from .output import Output

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ..abc import WorkerSpec
    from .output import Destination


class Ends:
    """Those of one child. `ours` are undone if its start fails, `theirs` in any case."""

    def __init__(self, ours: ExitStack, theirs: ExitStack) -> None:
        self.ours = ours
        self.theirs = theirs

    def stream(self, kind: int = socket.SOCK_STREAM) -> tuple[socket.socket, int]:
        """Our end, which does not block, and the child's."""
        left, right = (end.detach() for end in socket.socketpair(socket.AF_UNIX, kind))
        our_end, their_end = held((self.ours, left), (self.theirs, right))
        sock = socket.socket(fileno=our_end)
        self.ours.callback(sock.detach)  # or it would be closed twice
        sock.setblocking(False)
        return sock, their_end

    def lifeline(self) -> tuple[int, int]:
        """Our end, which is to be closed and no more, and the child's."""
        read, write = os.pipe()
        their_end, our_end = held((self.theirs, read), (self.ours, write))
        return our_end, their_end

    def output(self, spec: WorkerSpec, destination: Destination) -> tuple[Output | None, int | None]:
        """What reads the child's output, and what the child writes on; None: it writes where this program does."""
        if destination == "inherit":
            return None, None
        read, write = os.pipe()
        our_end, their_end = held((self.ours, read), (self.theirs, write))
        return Output(our_end, destination, name=spec.name, seat=spec.seat), their_end

    def spawn(
        self,
        argv: Sequence[str],
        *,
        stdin: int,
        stdout: int | None,
        stderr: int | None,
        env: Mapping[str, str],
        pass_fds: Sequence[int] = (),
    ) -> subprocess.Popen[bytes]:
        """A child that leads a session of its own. Blocks the loop for some 0.3 ms."""
        popen = subprocess.Popen(
            argv, stdin=stdin, stdout=stdout, stderr=stderr, env=env, pass_fds=pass_fds, start_new_session=True
        )
        self.ours.callback(popen.wait)
        self.ours.callback(popen.kill)
        return popen


@contextmanager
def open_ends() -> Iterator[Ends]:
    """In the block the child is started."""
    with ExitStack() as ours, ExitStack() as theirs:
        yield Ends(ours, theirs)
        ours.pop_all()


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
