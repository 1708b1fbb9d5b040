"""A worker in a thread, as the hub sees a process: the stream, the side channel, the end.

Knows the event loop, which the thread tells of its news, and the thread's worker. Promises that what a worker has said before its end
can be read after it; and that nothing here waits for the thread.
"""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import ByteStream
from anyio.lowlevel import checkpoint, current_token

from gibbs import Ending, Origin

from ._thread_worker import ThreadWorker

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..abc import SideChannel, WorkerSpec

KILLED = Ending(how="signalled", code=9)


class ThreadProcess:
    """The hub's view of one worker."""

    device: str | None = None

    def __init__(self, spec: WorkerSpec, pid: int, stir: Callable[[], None]) -> None:
        self._pid = pid
        self._stir = stir  # called when the worker may have something to do
        native: Any = current_token().native_token
        self._call_soon = getattr(native, "call_soon_threadsafe", None) or native.run_sync_soon
        self._news = anyio.Event()
        name = f"worker {spec.seat}.{spec.incarnation} of {spec.name!r}"
        self.worker = ThreadWorker(f"{name} (gibbs)", self._tell)
        self._stream = _Stream(self)

    def _tell(self) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody listens
            self._call_soon(self._announce)

    def _announce(self) -> None:
        news, self._news = self._news, anyio.Event()
        news.set()

    async def news(self) -> None:
        """Wait until the worker has said something, or ended."""
        await self._news.wait()

    def hear(self, data: bytes) -> bool:
        """Say something to the worker; False if it is gone."""
        heard = self.worker.hear(data)
        self._stir()
        return heard

    @property
    def stream(self) -> ByteStream:
        return self._stream

    @property
    def side(self) -> SideChannel:
        return _Side(self.worker)

    @property
    def origin(self) -> Origin:
        return Origin(launcher="inline", pid=self._pid)

    async def ended(self) -> Ending:
        while self.worker.ending is None:
            await self.news()
        return self.worker.ending

    def kill(self) -> None:
        self.worker.die(KILLED)

    async def aclose(self) -> None:
        self.kill()
        await self._stream.aclose()

    def hang(self) -> None:
        """For `gibbs.testing.hang`: it takes nothing and says nothing."""
        self.worker.hang()

    def go_on(self) -> None:
        """It does again."""
        self.worker.go_on()
        self._stir()


class _Stream(ByteStream):
    """The hub's end of the stream: what it writes is taken at once, and kept by the worker."""

    def __init__(self, process: ThreadProcess) -> None:
        self._process = process
        self._is_closed = False

    async def receive(self, max_bytes: int = 65536) -> bytes:
        await checkpoint()
        worker = self._process.worker
        while True:
            has_ended = worker.ending is not None  # looked at first: what it said before is there by now
            if worker.heard:
                break
            if self._is_closed:
                raise anyio.ClosedResourceError
            if has_ended:
                raise anyio.EndOfStream
            await self._process.news()
        data = worker.heard.popleft()
        if len(data) > max_bytes:
            worker.heard.appendleft(data[max_bytes:])
        return data[:max_bytes]

    async def send(self, item: bytes) -> None:
        await checkpoint()
        if self._is_closed:
            raise anyio.ClosedResourceError
        if not self._process.hear(bytes(item)):
            raise anyio.BrokenResourceError

    async def send_eof(self) -> None:
        self._process.kill()

    async def aclose(self) -> None:
        self._is_closed = True
        self._process.kill()
        await checkpoint()


class _Side:
    """The page, the claims, and how a call is interrupted."""

    def __init__(self, worker: ThreadWorker) -> None:
        self._worker = worker

    def begun(self) -> int:
        return self._worker.page.begun

    def aim(self, link_id: int) -> None:
        self._worker.page.target = link_id

    def strike(self) -> None:
        self._worker.strike()

    def offer(self, count: int) -> None:
        self._worker.claims.offer(count)

    def take_back(self, at_most: int) -> int:
        return self._worker.claims.take_back(at_most)

    def service_time(self) -> float:
        return self._worker.page.pace / 1e9 or math.inf

    def running_for(self) -> float:
        return self._worker.page.running_for

    def ask_where(self) -> None:
        pass  # it need not be asked

    def where(self) -> str:
        return self._worker.where()
