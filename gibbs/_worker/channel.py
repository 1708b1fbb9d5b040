"""The worker's end of its stream: whole messages in, whole messages out.

Knows bytes, and who may write: any thread, and a `__del__` in the midst of another message. Promises that no message is cut in two, that
they leave in the order in which they were given, and that a hub that is gone ends this process.
"""

from __future__ import annotations

import os
from _thread import RLock
from collections import deque
from select import POLLIN, POLLOUT, poll
from time import perf_counter_ns

from .._wire.frames import FrameReader, encode, encode_header
from .._wire.messages import TO_WORKER
from .later import Later
from .lifeline import die_with_the_hub

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .pace import Pace

    Message = tuple[int, int, bytes]

_LARGE = 1 << 18  # bytes to read at once where much comes; the memory for so many is mapped anew each time
SMALL = 1 << 16  # bytes; a message that is shorter is written by the kernel as a whole, or not yet
_MOST_TOGETHER = 16  # messages in one piece
_LONGEST_TOGETHER = 200_000  # nanoseconds that the first of them waits while others come at once
_LATE = 0.001  # seconds after which a thread writes them, if one takes long
_MOMENT = 30_000  # nanoseconds to wait awake for a message; 100,000 were slower where the hub shares the CPU


class Channel:
    """The worker's end of the stream: blocking reads of whole messages by one thread, whole writes by any.

    `out` is what it writes to where that is another descriptor than the one it reads from.

    Invariant, under `_writing`: `_busy` while a message is being written; who comes then is the same thread, in a `__del__` or a signal
    handler, and leaves its own in `_aside`.
    """

    __slots__ = (
        "_aside",
        "_awake_below",
        "_busy",
        "_later",
        "_out",
        "_pace",
        "_piece",
        "_poll",
        "_reader",
        "_received",
        "_since",
        "_together",
        "_writing",
        "fd",
    )

    holds_back = True  # what follows at once may leave together, if need be by a thread of its own

    def __init__(self, fd: int, out: int = -1) -> None:
        self.fd = fd
        self._out = fd if out < 0 else out
        self._reader = FrameReader(TO_WORKER)
        self._received: list[Message] = []
        self._piece = SMALL
        self._pace: Pace | None = None
        self._awake_below = 0.0
        # Never taken but by `with`: an exception of a model's own signal handler may come between any two other steps.
        self._writing = RLock()
        self._busy = False
        self._aside: deque[Message] = deque()  # to be written by who writes now, behind its own
        self._together: list[bytes] = []  # what is to be written in a moment, before anything else
        self._since = 0  # when the first of it came
        self._later = Later(self.flush, _LATE)

    def stay_awake(self, pace: Pace, below: float) -> None:
        """From now on look for the next message for a moment before going to sleep, while a request takes less than so long."""
        self._pace = pace
        self._awake_below = below * 1e9
        self._poll = poll()
        self._poll.register(self.fd, POLLIN)

    def read_piece(self) -> list[Message]:
        """Wait for bytes; return the messages that they complete. The end of the stream ends this process."""
        size = self._piece
        try:
            data = os.read(self.fd, size)
        except OSError:
            data = b""
        if not data:
            die_with_the_hub()
        self._piece = _LARGE if len(data) == size else SMALL
        return self._reader.feed(data)

    def receive(self) -> Message:
        """Wait for the next message."""
        while not self._received:
            if self._pace is not None and 0 < self._pace.estimate < self._awake_below:
                self._await_awake()
            self._received = self.read_piece()
            self._received.reverse()
        return self._received.pop()

    def wait(self, seconds: float) -> bool:
        """Whether there is a message, or the beginning of one, now or within so many seconds."""
        if self._received:
            return True
        waiting = poll()
        waiting.register(self.fd, POLLIN)
        return bool(waiting.poll(seconds * 1000))

    def _await_awake(self) -> None:
        """Return when something has come, or the moment is over. To be woken costs more than what a short request takes."""
        until = perf_counter_ns() + _MOMENT
        while not self._poll.poll(0) and perf_counter_ns() < until:
            pass

    def send(self, kind: int, link_id: int, body: bytes = b"") -> bool:
        """Write one message, whole; True. A hub that is gone ends this process.

        In the middle of a call only what is SMALL: an exception of the model's own signal handler might cut what is longer in two.
        """
        with self._writing:
            if self._busy:
                self._aside.append((kind, link_id, body))
            elif self._together or len(body) >= SMALL:
                self._write_all(kind, link_id, body)
            else:
                self._busy = True
                try:
                    self._write(encode(kind, link_id, body))
                finally:
                    self._busy = False
                if self._aside:
                    self._write_all()
        return True

    def send_together(self, kind: int, link_id: int, body: bytes) -> None:
        """Write one message, now or in a moment together with those that follow: now, if nothing is here that could bring one."""
        if len(body) >= SMALL or not self.holds_back:
            self.send(kind, link_id, body)
            return
        message = encode(kind, link_id, body)
        with self._writing:
            now = perf_counter_ns()
            self._together.append(message)
            count = len(self._together)
            if count == 1:
                self._since = now
            waits = self._received and count < _MOST_TOGETHER and now - self._since < _LONGEST_TOGETHER
            if not waits or (count == 1 and not self._later.ask()):
                self._write_all()

    def flush(self) -> None:
        """Write what was to be written in a moment."""
        with self._writing:
            if self._together and not self._busy:
                self._write_all()

    def send_at_once(self, kind: int, link_id: int, body: bytes) -> bool:
        """Write one message if that need wait for nobody: for another thread, or for the hub to read. Whether it was written."""
        if self._busy or self._together or len(body) >= SMALL or not self._has_room():
            return False
        return self.send(kind, link_id, body)

    def _has_room(self) -> bool:
        """Whether something small could be written without waiting."""
        room = poll()
        room.register(self._out, POLLOUT)
        return bool(room.poll(0))

    def _write_all(self, *message: Any) -> None:
        """Write what is to leave before it, the message, and what came aside in the meantime."""
        self._busy = True
        try:
            if self._together:
                together, self._together = self._together, []
                self._write(b"".join(together))
            if message:
                self._write_one(*message)
            while self._aside:
                self._write_one(*self._aside.popleft())
        finally:
            self._busy = False

    def _write_one(self, kind: int, link_id: int, body: bytes) -> None:
        if len(body) < SMALL:
            self._write(encode(kind, link_id, body))
        else:
            self._write(encode_header(kind, link_id, len(body)))
            self._write(body)

    def _write(self, data: bytes) -> None:
        try:
            written = os.write(self._out, data)
            while written < len(data):
                written += os.write(self._out, memoryview(data)[written:])
        except OSError as error:
            if error.errno is None:  # not the kernel's: a TimeoutError of the model's own signal handler
                raise
            die_with_the_hub()
