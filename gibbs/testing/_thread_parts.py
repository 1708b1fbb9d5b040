"""The parts of a worker that are memory in a thread, where a process has descriptors: the stream, the line, the claims, the end.

Each asks its worker, which alone knows whether that has ended. Must never wait but by the worker.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NoReturn

from gibbs import Ending

from .._wire.claims import Claims
from .._wire.messages import READY, UNFIT
from .._worker.channel import Channel
from .._worker.health import Process
from .._worker.inbox import DirectInbox

if TYPE_CHECKING:
    from ._thread_worker import ThreadWorker


class ThreadChannel(Channel):
    """The thread's end of the stream."""

    __slots__ = ("_worker",)

    holds_back = False  # nobody would end the thread that sends it

    def __init__(self, worker: ThreadWorker) -> None:
        super().__init__(-1)
        self._worker = worker

    def receive(self) -> tuple[int, int, bytes]:
        self._worker.gate()  # what was read before it hung, it has not taken
        return super().receive()

    def read_piece(self) -> list[tuple[int, int, bytes]]:
        return self._reader.feed(self._worker.take())

    def wait(self, seconds: float) -> bool:
        return bool(self._received) or self._worker.comes(seconds)

    def send(self, kind: int, link_id: int, body: bytes = b"") -> bool:
        if kind in (READY, UNFIT):
            self._worker.interrupter.must_not_be_cut()
        return super().send(kind, link_id, body)

    def _has_room(self) -> bool:
        return True

    def _write(self, data: bytes) -> None:
        self._worker.say(bytes(data))


class ThreadInbox(DirectInbox):
    """The line of requests."""

    __slots__ = ("_worker",)

    def __init__(self, worker: ThreadWorker, channel: Channel) -> None:
        super().__init__(channel, worker.page, worker.claims)
        self._worker = worker

    def begin(self, link_id: int) -> bool:
        begin = super().begin
        return self._worker.begin(lambda: begin(link_id))


class ThreadClaims(Claims):
    """A counter in memory."""

    __slots__ = ("_left", "_lock")

    def __init__(self) -> None:
        super().__init__(-1)
        self._lock = threading.Lock()
        self._left = 0

    def offer(self, count: int) -> None:
        with self._lock:
            self._left += count

    def take(self) -> bool:
        return self.take_back(1) == 1

    def take_back(self, at_most: int) -> int:
        with self._lock:
            taken = min(self._left, at_most)
            self._left -= taken
        return taken


class ThreadLife(Process):
    """What ends with its worker, and nothing else."""

    __slots__ = ("_watchdog", "_worker")

    _watchdog: threading.Timer

    def __init__(self, worker: ThreadWorker) -> None:
        self._worker = worker

    def end(self, status: int) -> NoReturn:
        self._worker.exit(status)

    def watch(self, seconds: float) -> None:
        self._worker.interrupter.may_be_cut()
        self._watchdog = threading.Timer(seconds, self._worker.die, [Ending(how="exited", code=1)])
        self._watchdog.daemon = True
        self._watchdog.start()

    def trust(self) -> None:
        self._watchdog.cancel()
        self._worker.interrupter.must_not_be_cut()
