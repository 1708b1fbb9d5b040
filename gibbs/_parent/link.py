"""One live worker as messages: what to say goes out whole and in order, what it says comes in whole.

Knows bytes and the ways to reach a busy worker. Must never know what a message means, nor how long anything may take. A
caller never owns a half-written message: it appends to the outbox, of which as much as the socket takes is written at once,
and the rest by `write_outbox`, a task of the worker's own. (A cancelled `send` leaves half a message in the peer.)

Where the stream has a socket the link waits for that one itself: on asyncio AnyIO's own `receive` and `send`, cancelled in
the very tick in which the socket becomes ready, set a cancelled future, and the loop reports an InvalidStateError.
"""

from __future__ import annotations

import socket
from collections import deque
from typing import TYPE_CHECKING

import anyio
from anyio.abc import SocketAttribute, UNIXSocketStream

from .._wire.frames import FrameReader, encode, encode_header
from .._wire.messages import CANCEL, INTERRUPT, TO_HUB
from .waiter import Alarm

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..abc import WorkerProcess

    Message = tuple[int, int, bytes]

_PIECE = 1 << 18
_NO_SIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)  # a program may have given SIGPIPE its default back, which would end it
_SMALL = 1 << 16
_MOST_PIECES_LEFT = 64  # more than a socket holds; a grandchild may go on writing for ever
_SILENCE = 0.05  # seconds without a byte after which the stream of a dead worker is taken to be empty

GONE = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)


class Link:
    """The hub's end of a worker.

    Invariant: while `_outbox` is not empty its first piece may be half written, and only `write_outbox` writes.
    """

    def __init__(self, process: WorkerProcess, *, max_message: float) -> None:
        self._stream = process.stream
        self._side = process.side
        # Only of a stream that is nothing but its socket: under TLS, or with a transport or a buffer of its own, it is not ours.
        plain = isinstance(process.stream, UNIXSocketStream)
        self._socket = process.stream.extra(SocketAttribute.raw_socket) if plain else None
        self._reader = FrameReader(TO_HUB, limit=max_message)
        self._outbox: deque[bytes | memoryview] = deque()
        self._more = Alarm()
        self.pieces_taken = 0  # of what did not leave at once: it grows as long as the worker takes what it is sent

    @property
    def in_band(self) -> bool:
        """Whether the stream is the only way to the worker."""
        return self._side is None

    @property
    def flushed(self) -> bool:
        """Whether all that was sent has left this process."""
        return not self._outbox

    def send(self, kind: int, link_id: int = 0, body: bytes = b"") -> None:
        """Send one message, in order, without waiting. To a worker that is gone: nothing, its death arrives by itself."""
        if len(body) < _SMALL:
            self._write(encode(kind, link_id, body))
        else:
            self._write(encode_header(kind, link_id, len(body)))
            self._write(body)

    def _write(self, piece: bytes) -> None:
        rest: bytes | memoryview = piece
        if self._socket is not None and not self._outbox:
            try:
                sent = self._socket.send(piece, _NO_SIGNAL)
            except OSError:  # no room, or the worker is gone: `write_outbox` will see which
                sent = 0
            if sent == len(piece):
                return
            rest = memoryview(piece)[sent:]
        self._outbox.append(rest)
        self._more.ring()

    async def write_outbox(self) -> None:
        """Write what the socket did not take at once; ends when the worker is gone. Cancelled, it may leave half a message."""
        try:
            while True:
                await self._more.wait()
                while self._outbox:
                    self.pieces_taken += await self._write_first()
        except GONE:
            return

    async def _write_first(self) -> bool:
        """Write of the first piece what can be written; whether anything was."""
        first = self._outbox[0]
        if self._socket is None:
            await self._stream.send(first)  # type: ignore[arg-type]  # AnyIO takes any buffer
            self._outbox.popleft()
            return True
        await anyio.wait_writable(self._socket)
        try:
            sent = self._socket.send(first, _NO_SIGNAL)
        except BlockingIOError:
            return False
        except OSError as error:
            raise anyio.BrokenResourceError from error
        if sent == len(first):
            self._outbox.popleft()
        else:
            self._outbox[0] = memoryview(first)[sent:]
        return True

    async def receive(self) -> list[Message]:
        """Wait for bytes; return the messages that they complete. Raises one of GONE, or FrameError."""
        if self._reader.broken is not None:
            raise self._reader.broken
        return self._reader.feed(await self._read())

    async def _read(self) -> bytes:
        if self._socket is None:
            return await self._stream.receive(_PIECE)
        while True:
            await anyio.wait_readable(self._socket)
            try:
                data = self._socket.recv(_PIECE)
            except BlockingIOError:
                continue
            except OSError as error:
                raise anyio.BrokenResourceError from error
            if not data:
                raise anyio.EndOfStream
            return data

    async def drain(self, take: Callable[[int, int, bytes], None]) -> None:
        """Hand over what a dead worker had said last: all messages that are still in the stream.

        A forked grandchild can hold the stream open for ever, so silence ends it too. Of a socket nothing is waited for: what
        a dead worker said is here, and a wait could be over only because this loop stood still. Raises what `take` raises,
        or FrameError. Cancelled, it loses nothing.
        """
        if self._socket is not None:
            self._drain_socket(take)
            return
        while True:
            with anyio.move_on_after(_SILENCE):
                try:
                    messages = await self.receive()
                except GONE:
                    return
                for message in messages:
                    take(*message)
                continue
            return

    def _drain_socket(self, take: Callable[[int, int, bytes], None]) -> None:
        assert self._socket is not None
        if self._reader.broken is not None:
            raise self._reader.broken
        for _ in range(_MOST_PIECES_LEFT):
            try:
                data = self._socket.recv(_PIECE)
            except OSError:  # nothing there
                return
            if not data:
                return
            for message in self._reader.feed(data):
                take(*message)

    def begun(self) -> int | None:
        """The last request that the worker began; None if there is no evidence."""
        return None if self._side is None else self._side.begun()

    def aim(self, link_id: int, *, interrupt: bool) -> None:
        """Tell the worker to skip this request if it has not begun; with `interrupt`, to get ready for a strike."""
        if self._side is None:
            self.send(CANCEL, link_id, INTERRUPT if interrupt else b"")
        else:
            self._side.aim(link_id)

    def strike(self, link_id: int) -> None:
        """Interrupt this request if it is running. May be repeated; the worker raises once."""
        if self._side is None:
            self.send(CANCEL, link_id, INTERRUPT)
        else:
            self._side.strike()
