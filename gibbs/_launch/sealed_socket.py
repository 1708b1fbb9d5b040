"""A socket whose bytes are sealed, that looks to a link like any other; and one that remembers who ended it.

Knows non-blocking sockets and TLS. Promises that nothing is kept which was opened, so that readiness of the descriptor tells all; and that
what was sealed leaves whole, and before anything else.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from .._wire.seal import Seal


class TellingSocket(socket.socket):
    """A connection that tells whether the other end has closed it: where a process ends, its kernel does.

    The kernel tells of a failure once, to whoever reads or writes next, and then of an end as if all had come; here there is none then.

    Invariants: `closed_there` is None until it is over; False where this end gave up, which says nothing of the other. `_cut` is set with
    the first failure.
    """

    closed_there: bool | None = None
    _cut = False

    def send(self, data: ReadableBuffer, flags: int = 0, /) -> int:
        """As ever."""
        try:
            return super().send(data, flags)
        except (BlockingIOError, InterruptedError):
            raise
        except OSError:
            self._cut = True
            raise

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """As ever; after a failure what had come before it, and then no end but ConnectionResetError."""
        try:
            data = super().recv(size, flags)
        except (BlockingIOError, InterruptedError):
            raise
        except OSError as error:
            self._cut = True
            if self.closed_there is None:
                self.closed_there = isinstance(error, ConnectionResetError)
            raise
        if not data:
            if self.closed_there is None:
                self.closed_there = True
            if self._cut:
                raise ConnectionResetError
        return data


class SealedSocket:
    """Two directions over one connection, under TLS.

    Invariant: `_record` is what is left to be written of something that was sealed, `_stands_for` how many bytes that was. Until it has
    left, each `send` is a repetition of the one that sealed it, as `Socket.send` demands.
    """

    def __init__(self, sock: socket.socket, seal: Seal) -> None:
        self._socket = sock
        self._seal = seal
        self._record = memoryview(b"")
        self._stands_for = 0

    def fileno(self) -> int:
        """That of the connection."""
        return self._socket.fileno()

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """All that what came says. Raises BlockingIOError when it says nothing yet, OSError when it cannot be opened."""
        data = self._socket.recv(size, flags)
        if not data:
            return b""
        said = self._seal.feed(data)
        if said or self._seal.over:
            return said
        raise BlockingIOError

    def send(self, data: bytes | memoryview, flags: int = 0, /) -> int:
        """Seal all of it, and write that: how many bytes, once nothing is left of it. Raises BlockingIOError until then."""
        if not len(self._record):
            self._seal.put(data)
            self._stands_for = len(data)
            self._record = memoryview(self._seal.take())
        while len(self._record):
            self._record = self._record[self._socket.send(self._record, flags) :]
        return self._stands_for

    def shutdown(self, how: int, /) -> None:
        """Of the connection: a worker takes it for the end."""
        self._socket.shutdown(how)

    def close(self) -> None:
        """The connection."""
        self._socket.close()
