"""A launcher whose workers live in memory and do what scripts say.

Knows the launcher's contract and makes the streams; what a worker does is `scripted_worker`'s. Starts no process, thread or
socket, so a hub over it runs under a virtual clock. Promises what any launcher must (`check_launcher` tries it), unless a
script breaks the promise on purpose.
"""

from __future__ import annotations

import math
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import anyio
from anyio.lowlevel import checkpoint
from anyio.streams.buffered import BufferedByteStream
from anyio.streams.stapled import StapledObjectStream

from gibbs import Origin

from ..abc import Traits
from ._scripted_worker import ScriptedWorker, serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from anyio.abc import ByteStream, TaskGroup

    from gibbs import Ending

    from ..abc import SideChannel, WorkerSpec
    from ._scripted_worker import Script

_FIRST_PID = 1 << 22  # no process on Linux has a larger id, so that nobody else is hit by it


class ScriptedLauncher:
    """Workers in memory. By default each builds the hub's model in this process and serves it.

    Args:
        *scripts: what workers do: the first is for the first worker of each seat, the second for the one in its place, and
            so on; the last for all further ones. A script may look at `worker.spec.seat`. Its end is the worker's exit; an
            exception that escapes it is the test's own mistake, and ends the hub's session with it.
        launching: awaited before each worker comes to be, with its spec: it may wait, for ever too, or raise OSError.
        side: False makes workers that can be reached by their stream only.

    Attributes:
        workers: all that were launched so far, in order.

    Example:
        ```python
        async def never_answers(worker):
            await worker.start()
            await anyio.sleep_forever()


        async with gibbs.open_hub(Model, workers=1, launcher=ScriptedLauncher(never_answers)) as hub:
            with anyio.move_on_after(1):
                await hub.request(1)
        ```
    """

    def __init__(
        self,
        *scripts: Script,
        launching: Callable[[WorkerSpec], Awaitable[object]] | None = None,
        side: bool = True,
    ) -> None:
        self.workers: list[ScriptedWorker] = []
        self._scripts = scripts or (serve,)
        self._launching = launching
        self._side = side

    @property
    def traits(self) -> Traits:
        """As those of processes on this host."""
        return Traits(same_host=True, kill_is_certain=True, last_words=True)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[_Session]:
        """The tasks of the workers of one hub."""
        async with anyio.create_task_group() as tg:
            session = _Session(self, tg)
            try:
                yield session
            finally:
                for process in session.processes:
                    process.discard()
                tg.cancel_scope.cancel()

    def worker(self, seat: int = 0) -> ScriptedWorker:
        """The worker that was launched last for this seat."""
        return next(worker for worker in reversed(self.workers) if worker.spec.seat == seat)

    async def make(self, spec: WorkerSpec, tg: TaskGroup) -> _Process:
        """Launch one worker, its script running in that task group."""
        await checkpoint()
        if self._launching is not None:
            await self._launching(spec)
        script = self._scripts[min(spec.incarnation, len(self._scripts)) - 1]
        process = _Process(spec, _FIRST_PID + len(self.workers), side=self._side)
        self.workers.append(process.worker)
        tg.start_soon(process.worker.live, partial(script, process.worker), name=str(process.worker))
        return process


class _Session:
    def __init__(self, launcher: ScriptedLauncher, tg: TaskGroup) -> None:
        self.processes: list[_Process] = []
        self._launcher = launcher
        self._tg = tg

    async def launch(self, spec: WorkerSpec) -> _Process:
        process = await self._launcher.make(spec, self._tg)
        self.processes.append(process)
        return process


class _Process:
    """The hub's view of a worker in memory. What the hub sends is taken only when the worker reads."""

    def __init__(self, spec: WorkerSpec, pid: int, *, side: bool) -> None:
        self._send, hub_says = anyio.create_memory_object_stream[bytes](0)
        hub_hears, self._receive = anyio.create_memory_object_stream[bytes](math.inf)
        self.worker = ScriptedWorker(spec, pid, hub_says, hub_hears)
        self._stream = BufferedByteStream(StapledObjectStream(self._send, self._receive))
        self._has_side = side

    @property
    def stream(self) -> ByteStream:
        return self._stream

    @property
    def side(self) -> SideChannel | None:
        return _Side(self.worker) if self._has_side else None

    @property
    def origin(self) -> Origin:
        return Origin(launcher="scripted", pid=self.worker.pid)

    async def ended(self) -> Ending:
        return await self.worker.wait_ended()

    def kill(self) -> None:
        self.worker.kill()

    def hang(self) -> None:
        self.worker.hang()

    def go_on(self) -> None:
        self.worker.go_on()

    async def aclose(self) -> None:
        self.kill()
        if not self.worker.immortal:
            self.worker.hang_up()
        await self._stream.aclose()

    def discard(self) -> None:
        """End what is left of it with the session, an immortal worker too."""
        self.worker.die(signal=9)
        self.worker.hang_up()
        self._send.close()
        self._receive.close()


class _Side:
    """The page, the claims and the signal."""

    def __init__(self, worker: ScriptedWorker) -> None:
        self._worker = worker

    def begun(self) -> int:
        return self._worker.begun

    def aim(self, link_id: int) -> None:
        self._worker.aim(link_id)

    def strike(self) -> None:
        self._worker.strike()

    def offer(self, count: int) -> None:
        self._worker.offer(count)

    def take_back(self, at_most: int) -> int:
        return self._worker.take_back(at_most)

    def service_time(self) -> float:
        return self._worker.service_time

    def running_for(self) -> float:
        return 0.0

    def ask_where(self) -> None:
        pass

    def where(self) -> str:
        return self._worker.where


ScriptedLauncher.__module__ = "gibbs.testing"
