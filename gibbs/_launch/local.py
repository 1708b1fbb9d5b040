"""The local launcher: one subprocess per worker on this machine. The default.

Knows options and environment; `process` knows how a process is made and ended. Promises that a launch which raises or is
cancelled leaves nothing, and that a session ends when all its processes are reaped.
"""

from __future__ import annotations

import os
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from .._parent.insist import insist
from .._parent.usable_cpus import usable_cpus
from ..abc import Launcher, Traits
from .child import Children
from .options import check_devices, check_env, check_output
from .process import LocalProcess, open_arguments

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from ..abc import WorkerSpec
    from .output import Destination

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalLauncher(Launcher):
    """Workers as subprocesses of this program: the default.

    Args:
        env: environment variables for the workers, over those of this program.
        threads: "auto" sets the thread variables of OpenMP, MKL, OpenBLAS and NumExpr to usable CPUs ÷ workers, at least 1,
            where neither this program's environment nor `env` sets them; None leaves all as they are.
        output: where lines that a worker writes on descriptors 1 and 2 go: "stderr", this program's, with a prefix;
            "log", the logger `gibbs`; "inherit", the workers share this program's descriptors and no tail is kept;
            "discard"; or a callable `(line, seat)`.
        devices: names that mean something to the model, such as "cuda:0" and "cuda:1"; the seats have them in turn, and the model
            learns its own from `gibbs.current_worker().device`.

    Raises:
        TypeError, ValueError: an argument makes no sense.

    Example:
        ```python
        open_hub(Model, workers=4, launcher=gibbs.LocalLauncher(env={"HF_HOME": "models"}, output="log"))
        ```
    """

    env: Mapping[str, str] | None = None
    threads: str | None = "auto"
    output: Destination = "stderr"
    devices: Sequence[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "devices", check_devices(self.devices))
        check_env(self.env)
        if self.threads not in ("auto", None):
            raise ValueError(f'threads must be "auto" or None, not {self.threads!r}')
        check_output(self.output)

    @property
    def traits(self) -> Traits:
        """What its workers can promise."""
        return Traits(same_host=True, kill_is_certain=True, last_words=True)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[LocalSession]:
        """What the workers of one hub share: the tasks that read their output."""
        if sys.platform == "win32":
            raise NotImplementedError("gibbs does not run on Windows: it needs process groups and signals of POSIX")
        async with open_session(LocalSession, self) as session:
            yield session


class LocalSession:
    """Launches the workers of one hub."""

    def __init__(self, launcher: LocalLauncher, children: Children) -> None:
        self._launcher = launcher
        self._children = children
        self.arguments = open_arguments()  # what the hub puts large arguments into; None: they go in the stream

    async def launch(self, spec: WorkerSpec) -> LocalProcess:
        """One process, connected. Raises OSError; leaves nothing when it raises or is cancelled."""
        await checkpoint_if_cancelled()
        process = LocalProcess.start(spec, self._launcher.output, self._environment(spec), self._arguments_fd)
        await self._add(process, spec)
        return process

    @property
    def _arguments_fd(self) -> int:
        return -1 if self.arguments is None else self.arguments.fd

    async def _add(self, process: LocalProcess, spec: WorkerSpec) -> None:
        devices = self._launcher.devices
        process.device = devices[spec.turn % len(devices)] if devices else None
        await self._children.add(process, f"gibbs {spec.name} output of worker {spec.seat}")

    async def end(self) -> None:
        """Kill and reap what is still there: nothing, after a hub that closed in peace."""
        await self._children.end()
        if self.arguments is not None:
            self.arguments.close()

    def _environment(self, spec: WorkerSpec) -> dict[str, str]:
        env = {**os.environ, **(self._launcher.env or {})}
        if self._launcher.threads == "auto":
            env = dict.fromkeys(THREAD_VARIABLES, str(share_of_cpus(spec))) | env
        return env


S = TypeVar("S", bound=LocalSession)
L = TypeVar("L", bound=LocalLauncher)


@asynccontextmanager
async def open_session(kind: Callable[[L, Children], S], launcher: L) -> AsyncIterator[S]:
    """Until it is left, and then no process of it is there."""
    async with anyio.create_task_group() as tg:
        session = kind(launcher, Children(tg))
        try:
            yield session
        finally:
            try:
                await insist(session.end)
            finally:
                tg.cancel_scope.cancel()


def share_of_cpus(spec: WorkerSpec) -> int:
    """How many threads one worker may have, that all of them together keep the CPUs busy."""
    return max(1, usable_cpus() // spec.workers)


LocalLauncher.__module__ = "gibbs"
