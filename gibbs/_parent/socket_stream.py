"""A stream that is nothing but its socket, so that a link may use the socket itself.

Knows a non-blocking socket, or what behaves as one: `recv` and `send` that raise BlockingIOError, and a descriptor whose readiness means that
they would not. Must never keep a byte: what was not read is in the socket.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Protocol

import anyio
from anyio.abc import ByteStream, SocketAttribute, UNIXSocketStream
from anyio.lowlevel import checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Socket(Protocol):
    """What a link needs of a socket."""

    def fileno(self) -> int:
        """Its descriptor."""
        ...

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """What is there, about so much at most; b"" at the end. Raises OSError."""
        ...

    def send(self, data: bytes | memoryview, flags: int = 0, /) -> int:
        """Write the beginning; how much. Raises OSError: after a BlockingIOError the next call must begin with the same bytes."""
        ...

    def shutdown(self, how: int, /) -> None:
        """End one direction, or both. Raises OSError."""
        ...

    def close(self) -> None:
        """Free the descriptor."""
        ...


class SocketStream(ByteStream):
    """The stream over a socket, which it owns."""

    def __init__(self, sock: Socket) -> None:
        self._socket = sock
        self._closed = False

    @property
    def socket(self) -> Socket:
        """What it is nothing but."""
        return self._socket

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Wait for bytes. Raises EndOfStream, BrokenResourceError or ClosedResourceError."""
        await checkpoint()
        while True:
            self._check()
            try:
                data = self._socket.recv(max_bytes)
            except BlockingIOError:
                await anyio.wait_readable(self._socket)
            except OSError as error:
                raise anyio.BrokenResourceError from error
            else:
                if not data:
                    raise anyio.EndOfStream
                return data

    async def send(self, item: bytes) -> None:
        """Write all of it. Cancelled, it may leave a part. Raises BrokenResourceError or ClosedResourceError."""
        await checkpoint()
        left = memoryview(item)
        while len(left):
            self._check()
            try:
                left = left[self._socket.send(left, getattr(socket, "MSG_NOSIGNAL", 0)) :]
            except BlockingIOError:
                await anyio.wait_writable(self._socket)
            except OSError as error:
                raise anyio.BrokenResourceError from error

    async def send_eof(self) -> None:
        """Say that nothing follows."""
        await checkpoint()
        self._check()
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise anyio.BrokenResourceError from error

    async def aclose(self) -> None:
        """Close it; who waits for it is told."""
        self.close()
        await checkpoint()

    def close(self) -> None:
        """The same at once."""
        if not self._closed:
            self._closed = True
            anyio.notify_closing(self._socket)
            self._socket.close()

    def _check(self) -> None:
        if self._closed:
            raise anyio.ClosedResourceError

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """The socket, where it is one."""
        if isinstance(self._socket, socket.socket):
            return {SocketAttribute.raw_socket: lambda: self._socket}
        return {}


def socket_of(stream: ByteStream) -> Socket | None:
    """That of a stream which is nothing but its socket; None: it has a transport or a buffer of its own, and so its socket is not ours."""
    if isinstance(stream, SocketStream):
        return stream.socket
    if isinstance(stream, UNIXSocketStream):
        raw: Socket = stream.extra(SocketAttribute.raw_socket)
        return raw
    return None
