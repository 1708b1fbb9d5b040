"""How messages reach the main thread: read by itself, or by the guard's thread when the stream is all there is.

With a side channel (page, claims and signal) the main thread reads its own work: no hand-over between threads on the way of a
request. Without one, a cancel comes in the stream while the main thread is in a call, so the guard's thread must read; it
writes the page that nobody else sees and sends the signal to the main thread. Both promise the same: messages in order, and
an end of the process when the stream ends, since the hub is gone then.
"""

from __future__ import annotations

from _queue import Empty, SimpleQueue
from _thread import allocate_lock, get_ident
from collections import deque
from time import perf_counter_ns

from .._wire.messages import CANCEL, GIVEN_BACK, INTERRUPT, PING, RECALL, REQUESTS, SIZE, STACKS, TO_STREAM, WHERE
from .interrupt import SIGNAL
from .lifeline import die_with_the_hub
from .stacks import described

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from signal import pthread_kill

    from .._wire.claims import Claims
    from .._wire.page import Page
    from .channel import Channel, Message
else:
    from _signal import pthread_kill


class _Line:
    """Messages in order; but while a stream runs, what is about that one comes before what waits for its turn."""

    __slots__ = ("_comes", "_next", "_put_off")

    def __init__(self, following: Callable[[], Message], comes: Callable[[float], bool]) -> None:
        self._next = following
        self._comes = comes  # whether there is one, within so many seconds
        self._put_off: deque[Message] = deque()

    def receive(self) -> Message:
        """Wait for the next message."""
        return self._put_off.popleft() if self._put_off else self._next()

    def wait(self, seconds: float) -> bool:
        """Whether there is a message, now or within so many seconds."""
        return bool(self._put_off) or self._comes(seconds)

    def receive_about(self, link_id: int, kinds: frozenset[int] = TO_STREAM) -> tuple[int, bytes]:
        """Wait for the next message about what runs, of these kinds; what was put off for one before it is looked at first."""
        for index, (kind, its_link_id, body) in enumerate(self._put_off):
            if its_link_id == link_id and kind in kinds:
                del self._put_off[index]
                return kind, body
        while True:
            message = self._next()
            kind, its_link_id, body = message
            if its_link_id == link_id and kind in kinds:
                return kind, body
            self._put_off.append(message)


class InBandInbox(_Line):
    """The inbox where the stream is all there is: the guard's thread reads and hands over.

    Invariant, under `_lock`: a request is either in the queue and not begun, or `begun`; so a cancel skips it or finds it
    running, and is never lost between the two. The same of one that is recalled, and the hub hears of that before it is skipped.
    """

    __slots__ = ("_channel", "_last", "_lock", "_main", "_page", "_queue", "_unwanted")

    def __init__(self, channel: Channel, page: Page) -> None:
        self._queue: SimpleQueue[Message] = SimpleQueue()
        super().__init__(self._queue.get, self._is_put_off)
        self._channel = channel
        self._page = page
        self._lock = allocate_lock()
        self._main = get_ident()
        self._last = 0  # the last request that came
        self._unwanted: set[int] = set()

    def _is_put_off(self, seconds: float) -> bool:
        try:
            self._put_off.append(self._queue.get(timeout=seconds))
        except Empty:
            return False
        return True

    def read_ahead(self) -> None:
        """Called by the guard's thread when the stream has something."""
        for kind, link_id, body in self._channel.read_piece():
            if kind == CANCEL:
                self._cancel(link_id, interrupt=body == INTERRUPT)
            elif kind == RECALL:
                self._give_back()
            elif kind == WHERE:
                self._tell_where()
            elif kind != PING:
                if kind in REQUESTS:
                    self._last = link_id
                self._queue.put((kind, link_id, body))

    def begin(self, link_id: int) -> bool:
        """Mark the request as begun; False if it was cancelled first and must be skipped."""
        with self._lock:
            unwanted = link_id in self._unwanted
            if self._unwanted:  # ids only grow: what a late cancel names again is never asked for
                self._unwanted = {one for one in self._unwanted if one > link_id}
            if not unwanted:
                self._page.begun = link_id
            return not unwanted

    def _give_back(self) -> None:
        with self._lock:
            begun = self._page.begun
            self._unwanted.update(range(begun + 1, self._last + 1))
            self._channel.send(GIVEN_BACK, self._last, begun.to_bytes(SIZE, "little"))

    def _tell_where(self) -> None:
        began = self._page.since
        ran = perf_counter_ns() - began if began else 0
        self._channel.send(STACKS, self._page.begun, ran.to_bytes(SIZE, "little") + described())

    def _cancel(self, link_id: int, *, interrupt: bool) -> None:
        with self._lock:
            if link_id > self._page.begun:
                self._unwanted.add(link_id)
                return
        self._page.target = link_id  # of what runs, or is over: the interrupter knows which
        if interrupt:
            pthread_kill(self._main, SIGNAL)


class DirectInbox(_Line):
    """The inbox beside a shared page: the main thread reads its own work."""

    __slots__ = ("_claims", "_page")

    def __init__(self, channel: Channel, page: Page, claims: Claims) -> None:
        super().__init__(channel.receive, channel.wait)
        self._page = page
        self._claims = claims

    def begin(self, link_id: int) -> bool:
        """Claim the request and mark it as begun; False if it was taken back or cancelled first, and must be skipped."""
        try:
            claimed = self._claims.take()
        except OSError:  # the model has closed what is not its own
            die_with_the_hub()
        if not claimed or self._page.target == link_id:
            return False
        self._page.begun = link_id
        return True
