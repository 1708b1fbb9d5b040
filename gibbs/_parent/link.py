"""One live worker as messages: what to say goes out whole and in order, what it says comes in whole.

Knows bytes and the ways to reach a busy worker. Must never know what a message means, nor how long anything may take. A
caller never owns a half-written message: it appends to the outbox, of which as much as the socket takes is written at once or
at the end of the tick, and the rest by `write_outbox`, a task of the worker's own. (A cancelled `send` leaves half a message in the peer.)

Where the stream has a socket the link waits for that one itself: on asyncio AnyIO's own `receive` and `send`, cancelled in
the very tick in which the socket becomes ready, set a cancelled future, and the loop reports an InvalidStateError.
"""

from __future__ import annotations

import socket
from collections import deque
from typing import TYPE_CHECKING, TypeAlias

import anyio
from anyio.lowlevel import checkpoint

from .._core.pace import UNKNOWN
from .._wire.frames import FrameReader, encode, encode_all, encode_header
from .._wire.messages import CANCEL, INTERRUPT, REQUESTS, TO_HUB
from .socket_stream import socket_of
from .waiter import Alarm

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..abc import WorkerProcess
    from .readable import Readable
    from .socket_stream import Socket
    from .turns import Turns

Message: TypeAlias = tuple[int, int, bytes]

_LARGE = 1 << 18  # bytes to read or write at once where there are many; memory to read so many is mapped anew each time
_NO_SIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)  # a program may have given SIGPIPE its default back, which would end it
_SMALL = 1 << 16
_FEW = 4  # messages; of more it takes less time to make one piece at once
_MOST_PIECES_LEFT = 64  # more than a socket holds; a grandchild may go on writing for ever
_SILENCE = 0.05  # seconds without a byte after which the stream of a dead worker is taken to be empty

GONE = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)


class Link:
    """The hub's end of a worker.

    Invariants: the first piece of the outbox may be half written, and whoever writes begins with it; what leaves was offered
    before; `_heard` is handed over before more is read.
    """

    def __init__(self, process: WorkerProcess, turns: Turns, *, max_message: float) -> None:
        self._stream = process.stream
        self._side = process.side
        self._socket = socket_of(process.stream)
        self._reader = FrameReader(TO_HUB, limit=max_message)
        self._outbox: deque[bytes | memoryview] = deque()
        self._heard: list[Message] = []  # what came, and nobody was told yet
        self._turns = turns
        self._piece = _SMALL
        self._more = Alarm()
        self._readable: Readable | None = None  # once somebody listens
        self._corked = False  # whether what is sent leaves together, a little later
        self._unoffered = 0  # requests that were sent, which the worker may not begin yet
        self.told_pace = UNKNOWN  # what the worker has said in the stream of how long it takes
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
        self.send_all([(kind, link_id, body)])

    def send_all(self, messages: list[Message], *, later: bool = False) -> None:
        """Send some, as `send` does. With `later` they may wait for others of the same tick, to leave with them in one piece."""
        if len(messages) > _FEW and all(len(body) < _SMALL for _, _, body in messages):
            self._outbox.append(encode_all(messages))
            self._unoffered += sum([kind in REQUESTS for kind, _, _ in messages])
        else:
            for kind, link_id, body in messages:
                if len(body) < _SMALL:
                    self._outbox.append(encode(kind, link_id, body))
                else:
                    self._outbox += encode_header(kind, link_id, len(body)), body
                self._unoffered += kind in REQUESTS
        if not later:
            self.flush()
        elif not self._corked:
            self._more.ring()

    def flush(self) -> None:
        """Write what the socket takes of all that was sent, and not too much; the rest is left to `write_outbox`."""
        self._offer()
        if self._socket is not None:
            written = 0
            try:
                while self._outbox and written < _LARGE:
                    written += self._write_some(self._socket)
            except OSError:  # no room, or the worker is gone: `write_outbox` will see which
                pass
        if self._outbox:
            self._more.ring()

    async def write_outbox(self) -> None:
        """Write what could not leave at once; ends when the worker is gone. Cancelled, it may leave half a message."""
        try:
            while True:
                await self._more.wait()
                while self._outbox:
                    self._offer()  # also what has been sent since the last write
                    await self._write_first()
                    await checkpoint()  # a worker that reads as fast as this writes would keep the loop for itself
        except GONE:
            return

    async def _write_first(self) -> None:
        """Write of what is first as much as can be written, waiting for room if there is none."""
        if self._socket is None:
            await self._stream.send(self._outbox[0])  # type: ignore[arg-type]  # AnyIO takes any buffer
            self._outbox.popleft()
            self.pieces_taken += 1
            return
        try:
            self._write_some(self._socket)
        except BlockingIOError:
            await anyio.wait_writable(self._socket)
        except OSError as error:
            raise anyio.BrokenResourceError from error

    def _write_some(self, sock: Socket) -> int:
        """One write of what is first, small messages together; how many bytes. Raises OSError, and then nothing has changed.

        As long as the worker reads what is written, the kernel goes on with a write, so no more is asked of it than
        what leaves others their turn.
        """
        outbox = self._outbox
        if len(outbox) > 1 and len(outbox[0]) < _SMALL:
            together = [outbox.popleft()]
            room = _SMALL - len(together[0])
            while outbox and len(outbox[0]) <= room:
                room -= len(outbox[0])
                together.append(outbox.popleft())
            outbox.appendleft(b"".join(together))
        first = outbox[0]
        sent = sock.send(first if len(first) <= _LARGE else memoryview(first)[:_LARGE], _NO_SIGNAL)
        if sent == len(first):
            outbox.popleft()
        else:
            outbox[0] = memoryview(first)[sent:]
        self.pieces_taken += 1
        return sent

    def _offer(self) -> None:
        """Allow the worker to begin what leaves next; before it leaves, or the worker would take it for recalled."""
        if self._unoffered and self._side is not None:
            self._side.offer(self._unoffered)
        self._unoffered = 0

    def take_back(self, at_most: int) -> int:
        """Have back, of the requests that were sent, the last ones that the worker has not begun: how many."""
        if self._side is None:
            return 0
        taken = min(self._unoffered, at_most)
        self._unoffered -= taken
        return taken + self._side.take_back(at_most - taken)

    async def listen(self, hear: Callable[[list[Message]], None]) -> None:
        """Give to `hear` the messages that come, as they come. Raises one of GONE, FrameError, or what `hear` raises.

        After so many messages other tasks have their turn. What `hear` sends goes out when it has all that came, in one piece:
        each write may wake a worker, which then takes the CPU.
        """

        def hear_some(at_most: int) -> tuple[int, bool]:
            if not self._heard:
                self._heard = self._reader.feed(self._read())
            told = self._tell(hear, at_most) if self._heard else 0
            return told, bool(self._heard)

        if self._socket is not None:
            self._readable = self._turns.listen_to(self._socket, hear_some)
            await self._readable.listen()
        while True:
            self._heard = await self._receive()
            while self._heard:
                self._tell(hear, self._turns.most)
                await checkpoint()

    def look(self) -> None:
        """Give what has come to whoever listens, now and in the task that asks. Raises nothing: that is for `listen`."""
        if self._readable is not None:
            self._readable.look()

    def _tell(self, hear: Callable[[list[Message]], None], at_most: int) -> int:
        messages, self._heard = self._heard[:at_most], self._heard[at_most:]
        self._corked = True
        try:
            hear(messages)
        finally:
            self._corked = False
            if self._outbox and not self._heard:
                self.flush()
        if self._reader.broken is not None and not self._heard:
            raise self._reader.broken
        return len(messages)

    def _read(self) -> bytes:
        """What is there, without waiting; b"" if it is nothing. Raises one of GONE."""
        assert self._socket is not None
        size = self._piece
        try:
            data = self._socket.recv(size)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise anyio.BrokenResourceError from error
        if not data:
            raise anyio.EndOfStream
        self._piece = _LARGE if len(data) == size else _SMALL
        return data

    async def _receive(self) -> list[Message]:
        """Wait for bytes of a stream that has no socket of its own; return the messages that they complete."""
        if self._reader.broken is not None:
            raise self._reader.broken
        return self._reader.feed(await self._stream.receive(_LARGE))

    async def drain(self, take: Callable[[int, int, bytes], None]) -> bool:
        """Hand over what a dead worker had said last, all that is still in the stream. Returns whether that came to its end, and was not cut.

        A forked grandchild can hold the stream open for ever, so silence ends it too, the second time: the first may be over only
        because this loop stood still. Of a socket nothing is waited for: what a dead worker said is here. Raises what `take`
        raises, or FrameError. Cancelled, it loses nothing.
        """
        heard, self._heard = self._heard, []
        for message in heard:
            take(*message)
        if self._socket is not None:
            return self._drain_socket(take)
        silences = 0
        while silences < 2:
            with anyio.move_on_after(_SILENCE):
                try:
                    messages = await self._receive()
                except GONE as error:
                    return isinstance(error, anyio.EndOfStream)
                for message in messages:
                    take(*message)
                continue
            silences += 1
        return False

    def _drain_socket(self, take: Callable[[int, int, bytes], None]) -> bool:
        assert self._socket is not None
        if self._reader.broken is not None:
            raise self._reader.broken
        for _ in range(_MOST_PIECES_LEFT):
            try:
                data = self._socket.recv(_LARGE)
            except ConnectionResetError:  # of a socket pair: the end comes behind it, and nothing was lost
                continue
            except OSError:
                return False
            if not data:
                return True
            for message in self._reader.feed(data):
                take(*message)
        return False

    @property
    def service_time(self) -> float:
        """Seconds that the worker takes for a request, as it says; infinity if nobody knows."""
        return self.told_pace if self._side is None else self._side.service_time()

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
