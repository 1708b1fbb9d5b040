"""How messages reach the main thread: read by itself, or by the guard's thread when the stream is all there is.

With a side channel (page and signal) the main thread reads its own work: no hand-over between threads on the way of a
request. Without one, a cancel comes in the stream while the main thread is in a call, so the guard's thread must read; it
writes the page that nobody else sees and sends the signal to the main thread. Both promise the same: messages in order, and
an end of the process when the stream ends, since the hub is gone then.
"""

from __future__ import annotations

import os
from _queue import SimpleQueue
from _thread import allocate_lock, get_ident

from .._wire.frames import FrameReader, encode, encode_header
from .._wire.messages import CANCEL, INTERRUPT, TO_WORKER
from .interrupt import SIGNAL
from .lifeline import die_with_the_hub

TYPE_CHECKING = False
if TYPE_CHECKING:
    from signal import pthread_kill

    from .._wire.page import Page

    Message = tuple[int, int, bytes]
else:
    from _signal import pthread_kill

_PIECE = 1 << 18
_SMALL = 1 << 16


class Channel:
    """The worker's end of the stream: blocking reads of whole messages, whole writes."""

    __slots__ = ("_reader", "_received", "fd")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._reader = FrameReader(TO_WORKER)
        self._received: list[Message] = []

    def read_piece(self) -> list[Message]:
        """Wait for bytes; return the messages that they complete. The end of the stream ends this process."""
        try:
            data = os.read(self.fd, _PIECE)
        except OSError:
            data = b""
        if not data:
            die_with_the_hub()
        return self._reader.feed(data)

    def receive(self) -> Message:
        """Wait for the next message."""
        while not self._received:
            self._received = self.read_piece()
            self._received.reverse()
        return self._received.pop()

    def send(self, kind: int, link_id: int, body: bytes = b"") -> None:
        """Write one message, whole. A hub that is gone ends this process."""
        if len(body) < _SMALL:
            pieces = [encode(kind, link_id, body)]
        else:
            pieces = [encode_header(kind, link_id, len(body)), body]
        try:
            for piece in pieces:
                view = memoryview(piece)
                while view:
                    view = view[os.write(self.fd, view) :]
        except OSError:
            die_with_the_hub()


class InBandInbox:
    """The inbox where the stream is all there is: the guard's thread reads and hands over.

    Invariant, under `_lock`: a request is either in the queue and not begun, or `begun`; so a cancel skips it or finds it
    running, and is never lost between the two.
    """

    __slots__ = ("_channel", "_lock", "_main", "_page", "_queue", "_unwanted")

    def __init__(self, channel: Channel, page: Page) -> None:
        self._channel = channel
        self._page = page
        self._queue: SimpleQueue[Message] = SimpleQueue()
        self._lock = allocate_lock()
        self._main = get_ident()
        self._unwanted: set[int] = set()

    def read_ahead(self) -> None:
        """Called by the guard's thread when the stream has something."""
        for kind, link_id, body in self._channel.read_piece():
            if kind == CANCEL:
                self._cancel(link_id, interrupt=body == INTERRUPT)
            else:
                self._queue.put((kind, link_id, body))

    def receive(self) -> Message:
        """Wait for the next message, in the main thread."""
        return self._queue.get()

    def begin(self, link_id: int) -> bool:
        """Mark the request as begun; False if it was cancelled first and must be skipped."""
        with self._lock:
            unwanted = link_id in self._unwanted
            if self._unwanted:  # ids only grow: what a late cancel names again is never asked for
                self._unwanted = {one for one in self._unwanted if one > link_id}
            if not unwanted:
                self._page.begun = link_id
            return not unwanted

    def _cancel(self, link_id: int, *, interrupt: bool) -> None:
        with self._lock:
            if link_id > self._page.begun:
                self._unwanted.add(link_id)
                return
        if interrupt and link_id == self._page.begun:
            self._page.target = link_id
            pthread_kill(self._main, SIGNAL)


class DirectInbox:
    """The inbox beside a shared page: the main thread reads its own work."""

    __slots__ = ("_page", "receive")

    def __init__(self, channel: Channel, page: Page) -> None:
        self._page = page
        self.receive = channel.receive

    def begin(self, link_id: int) -> bool:
        """Mark the request as begun; False if it was cancelled first and must be skipped."""
        if self._page.target == link_id:
            return False
        self._page.begun = link_id
        return True
