"""What the actors of one hub share: where they dial in, the tasks that see to their end, and the threads in which Ray is asked.

Must never decide whether an actor is gone. Promises that of a launch which raises or is cancelled no actor is left, and none when the session
is over; and that Ray is not waited for without end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from .._parent.insist import insist
from .._parent.own import own
from ._ray_process import RAY_PATIENCE, RayProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from anyio.abc import TaskGroup

    from .._launch.reception import Reception
    from ..abc import WorkerSpec

T = TypeVar("T")

_END_PATIENCE = 6.0  # seconds for those that are left when a session ends
_THREADS = 8
_AVOIDED = 120.0  # seconds; more than Ray takes, by default


class RaySession:
    """Launches the workers of one hub."""

    def __init__(
        self,
        reception: Reception,
        tg: TaskGroup,
        options: Mapping[str, Any],
        context: Callable[[], Any] | None,
        *,
        silence: float | None,
    ) -> None:
        self.reception = reception
        self.options = options
        self.context = context
        self.silence = silence
        self._tg = tg
        self._is_open = True
        self._started: list[RayProcess] = []
        self._avoided: dict[str, float] = {}  # until when
        self._threads = anyio.CapacityLimiter(_THREADS)  # so that none of the program's own must come free first

    async def launch(self, _spec: WorkerSpec) -> RayProcess:
        """One actor that has dialled back. Raises LaunchFailed or LaunchRefused."""
        await checkpoint_if_cancelled()
        process = RayProcess(self, self.reception.expect())
        self._started = [one for one in self._started if not one.finished]
        self._started.append(process)
        try:
            await anyio.to_thread.run_sync(process.make, self.avoided(), limiter=self._threads)
            await process.begin()
        except BaseException:
            process.give_up()
            with anyio.CancelScope(shield=True):
                await process.bury()
            raise
        return process

    async def ask(self, question: Callable[[], T], default: T) -> T:
        """What Ray answers, in a thread; the default if it does not in time, or cannot. The thread is not waited for."""
        with anyio.move_on_after(RAY_PATIENCE):
            try:
                return await anyio.to_thread.run_sync(question, abandon_on_cancel=True, limiter=self._threads)
            except Exception:  # noqa: BLE001 - whatever a cluster that is breaking down may raise
                return default
        return default

    def avoid(self, node: str) -> None:
        """It does not answer, and Ray takes a minute to find out, in which it would send the next worker there too."""
        self._avoided[node] = anyio.current_time() + _AVOIDED

    def avoided(self) -> list[str]:
        """Nodes that do not answer, or did not a moment ago."""
        now = anyio.current_time()
        self._avoided = {node: until for node, until in self._avoided.items() if until > now}
        return [*self._avoided]

    def later(self, seconds: float, act: Callable[[], Any]) -> None:
        """Begin to do something after a while, if the session is there then."""

        async def wait() -> None:
            await anyio.sleep(seconds)
            await act()

        if self._is_open:
            self._tg.start_soon(own(wait))

    async def end(self) -> None:
        """Kill what is still there: nothing, after a hub that closed in peace."""
        try:
            await insist(self._end)
        finally:
            self._is_open = False

    async def _end(self) -> None:
        left = [one for one in self._started if not one.finished]
        for process in left:
            process.kill()
        with anyio.move_on_after(_END_PATIENCE):
            for process in left:
                await process.ended()
        for process in left:
            await process.aclose()
