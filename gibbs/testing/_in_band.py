"""The in-band twin of any launcher: the same workers, reachable by their stream only.

Knows the launcher's contract and nothing else. Promises that whatever works over it would work over a pipe to another host.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from anyio.abc import ByteStream

    from gibbs import Ending, Origin

    from ..abc import Launcher, LaunchSession, Traits, WorkerProcess, WorkerSpec


@dataclass(frozen=True, slots=True)
class InBand:
    """A launcher with the side channel of its workers masked: `InBand(gibbs.LocalLauncher())`."""

    launcher: Launcher

    @property
    def traits(self) -> Traits:
        """Those of the launcher."""
        return self.launcher.traits

    @asynccontextmanager
    async def session(self) -> AsyncIterator[LaunchSession]:
        """The launcher's own session, masked."""
        async with self.launcher.session() as session:
            yield _Session(session)


class _Session:
    def __init__(self, session: LaunchSession) -> None:
        self._session = session

    async def launch(self, spec: WorkerSpec) -> WorkerProcess:
        return _Process(await self._session.launch(spec))


class _Process:
    """A process without a side channel."""

    def __init__(self, process: WorkerProcess) -> None:
        self._process = process
        self.device = getattr(process, "device", None)

    def __getattr__(self, name: str) -> Any:
        if name not in ("hang", "go_on", "hangs"):  # what it may have, or not
            raise AttributeError(name)
        return getattr(self._process, name)

    @property
    def stream(self) -> ByteStream:
        return self._process.stream

    @property
    def side(self) -> None:
        return None

    @property
    def origin(self) -> Origin:
        return self._process.origin

    async def ended(self) -> Ending:
        return await self._process.ended()

    def kill(self) -> None:
        self._process.kill()

    async def aclose(self) -> None:
        await self._process.aclose()


InBand.__module__ = "gibbs.testing"
