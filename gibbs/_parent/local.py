"""The local launcher: one subprocess per worker on this machine. The default.

Knows options and environment; `process` knows how a process is made and ended. Promises that a launch which raises or is
cancelled leaves nothing, and that a session ends when all its processes are reaped.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from ..abc import Traits
from .insist import insist
from .own import own
from .process import LocalProcess, open_arguments
from .usable_cpus import usable_cpus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from anyio.abc import TaskGroup

    from ..abc import WorkerSpec
    from .output import Destination

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_REAP_PATIENCE = 5.0  # seconds for killed processes to be gone, when their session ends


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalLauncher:
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
        devices: Any = self.devices
        if (
            isinstance(devices, str)
            or not isinstance(devices, Sequence)
            or not all(isinstance(one, str) for one in devices)
        ):
            raise TypeError(f"devices must be a sequence of strings, not {devices!r}")
        object.__setattr__(self, "devices", tuple(devices))
        if self.env is not None:
            if not hasattr(self.env, "items"):
                raise TypeError(f"env must be a mapping of strings to strings, not {self.env!r}")
            items: list[tuple[Any, Any]] = list(self.env.items())
            for name, value in items:
                if not (isinstance(name, str) and isinstance(value, str)):
                    raise TypeError(f"env must map strings to strings, not {name!r} to {value!r}")
                if not name or "=" in name or "\0" in name + value:
                    raise ValueError(
                        f"env must map names to values that a process can be given, not {name!r} to {value!r}"
                    )
        if self.threads not in ("auto", None):
            raise ValueError(f'threads must be "auto" or None, not {self.threads!r}')
        if not callable(self.output) and self.output not in ("stderr", "log", "inherit", "discard"):
            raise ValueError(
                f'output must be "stderr", "log", "inherit", "discard" or a callable (line, seat), not {self.output!r}'
            )

    @property
    def traits(self) -> Traits:
        """What its workers can promise."""
        return Traits(same_host=True, kill_is_certain=True)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[LocalSession]:
        """What the workers of one hub share: the tasks that read their output."""
        if sys.platform == "win32":
            raise NotImplementedError("gibbs does not run on Windows: it needs process groups and signals of POSIX")
        async with anyio.create_task_group() as tg:
            session = LocalSession(self, tg)
            try:
                yield session
            finally:
                try:
                    await insist(session.end)
                finally:
                    tg.cancel_scope.cancel()


class LocalSession:
    """Launches the workers of one hub."""

    def __init__(self, launcher: LocalLauncher, tg: TaskGroup) -> None:
        self._launcher = launcher
        self._tg = tg
        self._launched: list[LocalProcess] = []
        self.arguments = open_arguments()  # what the hub puts large arguments into; None: they go in the stream

    async def launch(self, spec: WorkerSpec) -> LocalProcess:
        """One process, connected. Raises OSError; leaves nothing when it raises or is cancelled."""
        await checkpoint_if_cancelled()
        process = LocalProcess.start(
            spec,
            self._launcher.output,
            self._environment(spec),
            -1 if self.arguments is None else self.arguments.fd,
        )
        devices = self._launcher.devices
        process.device = devices[spec.seat % len(devices)] if devices else None
        self._launched = [one for one in self._launched if not one.finished]
        self._launched.append(process)
        try:
            await process.connect()
            if process.output is not None:
                name = f"gibbs {spec.name} output of worker {spec.seat}"
                self._tg.start_soon(own(process.output.read_on), name=name)
        except BaseException:
            process.kill()
            with anyio.CancelScope(shield=True):
                await process.ended()
                await process.aclose()
            raise
        return process

    async def end(self) -> None:
        """Kill and reap what is still there: nothing, after a hub that closed in peace."""
        left = [one for one in self._launched if not one.finished]
        for process in left:
            process.kill()
        with anyio.move_on_after(_REAP_PATIENCE):
            for process in left:
                await process.ended()
        for process in left:
            await process.aclose()
            process.give_up()
        if self.arguments is not None:
            self.arguments.close()

    def _environment(self, spec: WorkerSpec) -> dict[str, str]:
        env = {**os.environ, **(self._launcher.env or {})}
        if self._launcher.threads == "auto":
            share = str(max(1, usable_cpus() // spec.workers))
            for variable in _THREAD_VARIABLES:
                env.setdefault(variable, share)
        return env


LocalLauncher.__module__ = "gibbs"
