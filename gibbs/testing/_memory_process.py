"""A process in memory: what a kernel would do for a worker, and what a hub can do to it.

Knows bytes, the words of the page, claims, signals, and how a process ends. What a worker says is `scripted_worker`'s. Promises
that the hub sees the same order of events as with a process: what was written before the end can be read after it, an
interrupt hits the running call and no other, and a process that ends has closed its stream, unless told otherwise.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

import anyio

from gibbs import Ending

from .._wire.frames import FrameReader, encode
from .._wire.messages import (
    CANCEL,
    DEADLINE,
    GIVEN_BACK,
    INTERRUPT,
    PACED,
    RECALL,
    SECONDS,
    SIZE,
    TO_STREAM,
    TO_WORKER,
    WHERE,
)
from ._message import Message

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyio.abc import TaskGroup
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

    from ..abc import WorkerSpec

_GONE = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)
_SIGKILL = 9


class MemoryProcess:
    """A process that is a task. What the hub writes waits until it is read: nothing is buffered between."""

    def __init__(
        self,
        spec: WorkerSpec,
        pid: int,
        hub_says: MemoryObjectReceiveStream[bytes],
        hub_hears: MemoryObjectSendStream[bytes],
    ) -> None:
        self.spec = spec
        self.pid = pid
        self.calls: list[Message] = []
        self.seconds_left: dict[int, float] = {}  # by link id: what the caller had when it was sent, if that was told
        self.begun: int = 0
        self.running: int = 0
        self.target: int = 0
        self.claims: int = 0
        self.service_time: float = math.inf
        self._told_pace = math.inf
        self.interrupts: int = 0
        self.kills: int = 0
        self.immortal = False
        self.hung: bool = False
        self.where = ""  # what it says when it is asked, as `faulthandler` writes it; "": nothing
        self.ending: Ending | None = None
        self._hub_says, self._hub_hears = self._ends = hub_says, hub_hears
        self._reader = FrameReader(TO_WORKER)
        self._inbox: deque[Message] = deque()
        self._reads_on = False
        self._writing = anyio.Lock(fast_acquire=True)
        self._last = 0  # the last request that was read
        self._unwanted: set[int] = set()
        self._awaited_interrupts = 0
        self._news = anyio.Event()
        self._ended = anyio.Event()
        self._call_scope: anyio.CancelScope | None = None
        self._tasks: TaskGroup | None = None

    # ---- to end

    def die(
        self,
        *,
        code: int | None = None,
        signal: int | None = None,
        tail: str = "",
        hang_up: bool = True,
        certain: bool = True,
    ) -> None:
        """End the process at once. `hang_up=False` leaves the stream open, as a forked grandchild would.

        `certain=False`: what led to it has ended, and nobody can say whether it still runs, as with a host that is not heard of.
        """
        if self.ending is not None:
            return
        if not certain:
            self.ending = Ending(how="lost", certain=False, tail=tail, detail="its host is not heard of any more")
        elif signal is not None:
            self.ending = Ending(how="signalled", code=signal, tail=tail)
        else:
            self.ending = Ending(how="exited", code=code or 0, tail=tail)
        if hang_up:
            self.hang_up()
        if self._tasks is not None:
            self._tasks.cancel_scope.cancel()
        self._ended.set()

    def hang_up(self) -> None:
        """Close the stream, without ending the process."""
        for end in self._ends:
            end.close()

    # ---- what the hub does to it, beside the stream

    def kill(self) -> None:
        """SIGKILL."""
        self.kills += 1
        if not self.immortal:
            self.die(signal=_SIGKILL)

    def hang(self) -> None:
        """SIGSTOP: its verbs hear and say nothing."""
        self.hung = True

    def go_on(self) -> None:
        """SIGCONT."""
        self.hung = False
        self._tell()

    async def _gate(self) -> None:
        while self.hung:  # one that is killed meanwhile gets no further: it would begin what it has read
            await self._news.wait()

    def aim(self, link_id: int) -> None:
        """The hub writes into the page."""
        self.target = link_id
        self._tell()

    def strike(self) -> None:
        """The hub's signal arrives."""
        if not self.hung and self.running and self.running <= self.target <= self.begun:
            self.interrupts += 1
            if self._call_scope is not None:
                self._call_scope.cancel()
            self._tell()

    def offer(self, count: int) -> None:
        """The hub sends so many requests."""
        self.claims += count

    def take_back(self, at_most: int) -> int:
        """The hub recalls what was not begun."""
        taken = min(self.claims, at_most)
        self.claims -= taken
        if taken:
            self._tell()
        return taken

    def claim(self) -> bool:
        """Take a request that was sent; False if the hub has recalled it. In band there is nothing to take."""
        if self._reads_on:
            return True
        if not self.claims:
            return False
        self.claims -= 1
        return True

    def mark_begun(self, link_id: int, *, first: int | None = None) -> None:
        """What the page tells from now on. `first`: of several requests that are one call."""
        self.begun = link_id
        self.running = link_id if first is None else first
        self._awaited_interrupts = self.interrupts  # those of an earlier request are nobody's any more

    def mark_over(self, link_id: int) -> None:
        """This request cannot be interrupted any more."""
        if link_id == self.running:
            self.running = 0

    async def wait_ended(self) -> Ending:
        """Return when it is gone."""
        await self._ended.wait()
        assert self.ending is not None
        return self.ending

    async def live(self, main: Callable[[], Awaitable[object]]) -> None:
        """Run `main`, whose end is the end of the process, until it ends or is killed."""
        try:
            async with anyio.create_task_group() as self._tasks:
                self._tasks.cancel_scope.shield = True  # who cancels the hub does not cancel its processes
                if self.ending is None:
                    await main()
                self.die(code=0)
        except* _GONE:
            if self.ending is None:
                raise

    # ---- the stream

    async def receive(self) -> Message:
        """The next message of the hub. A hub that is gone ends the worker."""
        while True:
            await self._gate()
            while not self._inbox:
                await self._more()
                await self._gate()
            message = self._inbox.popleft()
            if message.kind == DEADLINE:
                (self.seconds_left[message.link_id],) = SECONDS.unpack(message.body)
            elif message.kind not in TO_STREAM:  # about one that is over
                return message

    async def receive_about(self, link_id: int) -> Message:
        """The next message about a stream that runs; others wait for their turn."""
        while True:
            await self._gate()
            for message in self._inbox:
                if message.link_id == link_id and message.kind in TO_STREAM:
                    self._inbox.remove(message)
                    return message
            await self._more()

    async def _more(self) -> None:
        if self._reads_on:
            await self._news.wait()
        else:
            await self._read()

    def read_on(self) -> None:
        """From now on a task of its own reads, so that a cancel in the stream arrives during a call."""
        assert self._tasks is not None
        self._reads_on = True
        self._tasks.start_soon(self._read_on)

    async def _read_on(self) -> None:
        while True:
            await self._read()

    async def _read(self) -> None:
        try:
            data = await self._hub_says.receive()
        except _GONE:
            self.die(signal=_SIGKILL)
            raise
        for message in map(Message._make, self._reader.feed(bytes(data))):
            if message.kind == CANCEL:
                self._cancel(message.link_id, interrupt=message.body == INTERRUPT)
            elif message.kind == RECALL:
                await self._give_back()
            elif message.kind != WHERE:  # in band it does not say that
                if message.is_call:
                    self.calls.append(message)
                    self._last = message.link_id
                self._inbox.append(message)
        self._tell()

    def _cancel(self, link_id: int, *, interrupt: bool) -> None:
        if link_id > self.begun:
            self._unwanted.add(link_id)
        else:
            self.target = link_id
            if interrupt:
                self.strike()

    async def _give_back(self) -> None:
        """What was not begun, as the hub asks for it where there are no claims."""
        self._unwanted.update(range(self.begun + 1, self._last + 1))
        await self.say(encode(GIVEN_BACK, self._last, self.begun.to_bytes(SIZE, "little")))

    def pace(self) -> bytes:
        """What tells how long it takes, where there is no page, and the hub was not told yet."""
        if not self._reads_on or self.service_time in (self._told_pace, math.inf):
            return b""
        self._told_pace = self.service_time
        return encode(PACED, round(self.service_time * 1e9))

    async def say(self, data: bytes) -> None:
        """Write any bytes. A hub that is gone ends the worker."""
        await self._gate()
        try:
            async with self._writing:
                await self._hub_hears.send(data)
        except _GONE:
            self.die(signal=_SIGKILL)
            raise

    def _tell(self) -> None:
        news, self._news = self._news, anyio.Event()
        news.set()

    def __str__(self) -> str:
        return f"worker {self.spec.seat}.{self.spec.incarnation} of {self.spec.name!r} (in memory)"


Message.__module__ = MemoryProcess.__module__ = "gibbs.testing"
