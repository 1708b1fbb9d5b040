"""Run a generator and send what it yields: as much as its reader has room for, and several items at once where they come quickly.

Knows credit and time. Each item is closed by the voice when it is yielded, so a later change of it is not seen; but those that cannot
change, and are small, are closed together, when they leave. Promises that the generator is closed on every way out, so that its
`finally` has run when the request is over; that it is interrupted in its own code only; and that no item waits for the next one for
more than a moment.

Items that come at once are held back, to leave in one piece. The generator may take long over the next one all the same, so a thread
sends what is held when a moment is over.
"""

from __future__ import annotations

import sys
from _thread import allocate_lock
from collections import deque
from time import perf_counter_ns

from .._wire.items import pack_items, share_of
from .._wire.messages import CLOSE, CREDIT, ITEMS, SKIPPED
from .later import Later

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any

    from .._wire.items import Run
    from .channel import Channel
    from .inbox import DirectInbox, InBandInbox
    from .interrupt import Interrupter
    from .voice import Voice

_AT_ONCE = 20_000  # nanoseconds; an item that comes sooner than this after the last one is held back
_MOMENT = 200_000  # nanoseconds that items are held back while more of them come
_LATE = 0.001  # seconds after which the thread sends them
_MANY = 1 << 16  # bytes that are never held back

_END: Any = object()  # what no generator yields


class _Held:
    """Items that are to leave together.

    Invariants: what was not sent is `_runs`, which only who has `_lock` looks at, and behind them `_alike`, to which the main thread
    adds without it, since it would take as long as all the rest. `_count`, `_size` and `_since` are the main thread's: of what it
    has put since it last sent, some of which the other thread may have sent.
    """

    __slots__ = (
        "_alike",
        "_channel",
        "_close",
        "_count",
        "_later",
        "_link_id",
        "_lock",
        "_runs",
        "_since",
        "_size",
    )

    def __init__(self, channel: Channel, close: Callable[[list[Any]], bytes]) -> None:
        self._channel = channel
        self._close = close
        self._lock = allocate_lock()
        self._runs: list[Run] = []
        self._alike: deque[Any] = deque()  # that may share a payload, which is not made yet
        self._count = 0
        self._size = 0
        self._since = 0
        self._link_id = 0
        self._later = Later(self._send, _LATE)

    def start(self, link_id: int) -> None:
        """What is put from now on is of this stream. Nothing of another is left."""
        self._link_id = link_id

    def put(self, item: Any, body: bytes | None, size: int, now: int, most: int) -> bool:
        """One more, which may wait for others, as long as they are fewer than so many, not large, and not held for long.

        `body` is its payload; None: it may share one. Returns whether they have left.
        """
        if not self._count:
            self._since = now
        elif self._size + size > _MANY:
            self.send()  # a message must not be longer than the hub takes
            self._since = now
        self._count += 1
        self._size += size
        if body is None:
            self._alike.append(item)
        else:
            with self._lock:
                self._end_run()
                self._runs.append((1, body))
        if self._count >= most or self._size >= _MANY or now - self._since >= _MOMENT:
            self.send()
            return True
        if not self._later.ask():
            self.send()
            return True
        return False

    def _end_run(self) -> None:
        alike = [self._alike.popleft() for _ in range(len(self._alike))]
        if alike:
            self._runs.append((len(alike), self._close(alike)))

    def send(self) -> None:
        """Send them now. In the main thread."""
        self._count = self._size = 0
        self._send()

    def _send(self) -> None:
        with self._lock:
            self._end_run()
            if self._runs:
                self._channel.send(ITEMS, self._link_id, pack_items(self._runs))
                self._runs = []

    def drop(self) -> None:
        """Nobody reads them."""
        self._count = self._size = 0
        with self._lock:
            self._alike.clear()
            self._runs = []


class Streamer:
    """One worker's way of running generators."""

    __slots__ = ("_held", "_holds_back", "_inbox", "_interrupter", "_voice")

    def __init__(
        self, channel: Channel, inbox: DirectInbox | InBandInbox, interrupter: Interrupter, voice: Voice
    ) -> None:
        self._held = _Held(channel, voice.run)
        self._holds_back = channel.holds_back
        self._inbox = inbox
        self._interrupter = interrupter
        self._voice = voice

    def run(self, link_id: int, generator: Generator[Any]) -> tuple[int, int, bytes] | None:
        """Send what it yields. Returns the message that ends the stream, or None if the generator came to its end.

        Raises what the generator raises. Called in the interruptible part of a request, which is over when this is left.
        """
        interrupter, held, close_item = self._interrupter, self._held, self._voice.item
        pause, resume, put = interrupter.pause, interrupter.resume, held.put  # called for each item
        pause()
        held.start(link_id)
        try:
            credit = self._await_credit(link_id)
            # A part of the window at once: the reader takes one while the next is made.
            many = credit // 2 if self._holds_back else 0
            last = 0
            while credit:
                resume()
                item = next(generator, _END)
                pause()
                if item is _END:
                    held.send()
                    return None
                body, size = None, share_of(item)
                if not size:
                    kind, _, body = close_item(link_id, item)
                    if kind != ITEMS:
                        held.send()
                        return kind, link_id, body
                    size = len(body)
                now = perf_counter_ns()
                credit -= 1
                at_once = now - last < _AT_ONCE
                last = now
                if put(item, body, size, now, many if at_once and credit else 0):
                    if interrupter.is_unwanted(link_id):
                        break
                    if not credit:
                        credit = self._await_credit(link_id)
            return SKIPPED, link_id, b""
        except BaseException:
            interrupter.pause()
            held.send()  # what it yielded before it raised
            raise
        finally:
            held.drop()
            _close(generator)

    def _await_credit(self, link_id: int) -> int:
        """How many more items may be sent, once that is more than none; 0: nobody reads them any more."""
        credit = 0
        while not credit and not self._interrupter.is_unwanted(link_id):
            kind, body = self._inbox.receive_about(link_id)
            if kind == CLOSE:
                return 0
            if kind != CREDIT:
                raise RuntimeError(f"message {kind} makes no sense to a stream")
            credit = int.from_bytes(body, "little")
        return credit


def _close(generator: Generator[Any]) -> None:
    """Let its `finally` run. What that raises is nobody's: it is told as an exception that nobody caught is."""
    try:
        generator.close()
    except BaseException as exc:  # noqa: BLE001 - the model's code, SystemExit too
        sys.excepthook(type(exc), exc, exc.__traceback__)
