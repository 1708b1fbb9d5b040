"""Who may have a request that was sent ahead: a counter in the kernel, of which worker and hub take.

The hub offers one claim for each request that it sends. The worker takes one before it begins a request, and skips it if none
is left; the hub takes all that are left to have back what was not begun. The kernel gives each claim once, so a request is
begun or taken back and never both: without a lock, without a thread in the worker, in the moment of the asking, and also while
C code holds the worker's GIL. Claims look alike. A worker reads requests in their order, so what it has not claimed are those
that were sent last; and nothing more is sent before it has skipped what was taken back.

It is an eventfd in semaphore mode (Linux). Both ends are one file, so a model that takes away the flag of not blocking takes it
away from both: neither counts on it. A worker that offers claims to itself gains nothing but its end.
"""

from __future__ import annotations

import errno
import os
from select import POLLOUT, poll


class Claims:
    """One end of the counter. Owns its descriptor."""

    __slots__ = ("_taken", "fd")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._taken = [bytearray(8)]  # where the kernel writes what was taken: always 1

    def offer(self, count: int) -> None:
        """The hub sends so many requests: call this before they leave. Raises OSError when a worker has filled the counter."""
        room = poll()
        room.register(self.fd, POLLOUT)
        if not room.poll(0):
            raise BlockingIOError("there is no room for more claims")
        os.eventfd_write(self.fd, count)

    def take(self) -> bool:
        """Take one; False if none is left. Never blocks."""
        try:
            os.preadv(self.fd, self._taken, -1, os.RWF_NOWAIT)
        except BlockingIOError:
            return False
        return True

    def take_back(self, at_most: int) -> int:
        """Take what is left, so many at most, and say how many there were."""
        for taken in range(at_most):
            if not self.take():
                return taken
        return at_most

    def close(self) -> None:
        """Free the descriptor. Idempotent."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


def create_claims() -> Claims | None:
    """A counter that stands at nothing; None if this kernel has none that can be asked without waiting (before 5.8), or forbids it.

    Linux. Raises OSError.
    """
    fd = -1
    try:
        fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK | os.EFD_SEMAPHORE)
        claims = Claims(fd)
        claims.take()
    except OSError as error:
        if fd >= 0:
            os.close(fd)
        if error.errno in (errno.EOPNOTSUPP, errno.EPERM, errno.ENOSYS):
            return None
        raise
    return claims
