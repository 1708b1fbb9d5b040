"""The commands of one hub: started, some at a time on each host, and none of them left.

Knows the children of one session. Must never know what becomes of a worker. Promises that of a launch which raises or is cancelled nothing
is left but a stream that has ended, with which the worker ends.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from .._parent.insist import insist
from .._parent.own import own
from .child import Children, bury
from .command_process import CommandProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from anyio.abc import TaskGroup

    from ..abc import WorkerSpec
    from .command_process import Command


@asynccontextmanager
async def open_session(command: Command) -> AsyncIterator[CommandSession]:
    """Until it is left, and then no process of it is there."""
    async with anyio.create_task_group() as tg:
        children = Children(tg)
        session = CommandSession(command, children, tg)
        try:
            yield session
        finally:
            try:
                await insist(children.end)
            finally:
                session.is_open = False
                session.forget()
                tg.cancel_scope.cancel()


class CommandSession:
    """Launches the workers of one hub."""

    def __init__(self, command: Command, children: Children, tg: TaskGroup) -> None:
        self.is_open = True
        self._command = command
        self._children = children
        self._tg = tg
        self._pending: set[anyio.CancelScope] = set()  # of what is to be done after a while
        self._starting: dict[str, anyio.Semaphore] = {}

    def forget(self) -> None:
        """What was to be done later is not needed any more."""
        for scope in self._pending:
            scope.cancel()

    async def launch(self, spec: WorkerSpec) -> CommandProcess:
        """One command, behind which a worker has said who it is. Raises LaunchFailed, LaunchRefused or OSError."""
        await checkpoint_if_cancelled()
        if self._command.at_once is None:
            return await self._launch(spec)
        async with self._starting.setdefault(self._command.host(spec), anyio.Semaphore(self._command.at_once)):
            return await self._launch(spec)

    async def _launch(self, spec: WorkerSpec) -> CommandProcess:
        process = CommandProcess.start(spec, self._command, self._later)
        await self._children.add(process, f"gibbs {spec.name} output of worker {spec.seat}")
        try:
            await process.greet()
        except BaseException:
            await bury(process)
            raise
        return process

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        """Do something after a while, if the session is there then. Where it is over, now."""

        async def wait() -> None:
            with anyio.CancelScope(shield=True) as scope:  # also where the hub is cancelled
                self._pending.add(scope)
                await anyio.sleep(seconds)
                act()
            self._pending.discard(scope)

        if self.is_open:
            self._tg.start_soon(own(wait))
        else:
            act()
