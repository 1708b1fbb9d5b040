"""The launcher of workers that are forks of one process, in which modules are imported already. Linux.

Knows options, and when there must be another template. Promises that a template is there only once somebody needs a worker; that its death
costs no worker and no launch; and that none is left when its session ends, or the launches that waited for it are called off.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anyio.lowlevel import checkpoint_if_cancelled

from .._wire import payload
from .._wire.recipe import write_recipe
from ..abc import LaunchFailed
from .child import bury
from .kernel import has_memfd, has_pidfd
from .local import THREAD_VARIABLES, LocalLauncher, LocalSession, open_session, share_of_cpus
from .options import check_words

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from ..abc import WorkerSpec
    from .forked import ForkedProcess
    from .template import Template

logger = logging.getLogger("gibbs")

_TEMPLATES = 3  # that may die over one launch


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkLauncher(LocalLauncher):
    """Workers as forks of one process of this machine, the template, which has imported modules for all of them. Linux.

    A worker starts in milliseconds however long the imports take, and shares the memory that they fill. The template is started with the
    first worker, imports what `preload` names, and does nothing else. It cannot be forked, and the launch is refused, if it has a thread or
    a GPU's state by then; which module brought it is told. When it dies its workers go on, and the next start makes another one.

    What all workers have of the template: its environment, umask and directory, as they were in this program when it was started; the seed of
    `hash()`; and whatever the imports have set up. Random numbers differ: `random` and `numpy.random` are seeded anew in each worker.

    Args:
        preload: names of modules. Those that the model's own module imports, and that module, if it has a name.
        env: environment variables for the template and the workers, over those of this program.
        threads: "auto" sets the thread variables of OpenMP, MKL, OpenBLAS and NumExpr where neither this program's environment nor `env` sets
            them: to 1 for the template, so that what it imports starts no threads; in the workers, for what they import themselves, to
            usable CPUs ÷ workers, at least 1. None leaves all as they are.
        output: where lines go that workers write, as in `LocalLauncher`. What the template writes while it imports is taken for the
            output of the worker for which it was started.
        devices: names that mean something to the model; the seats have them in turn, as `gibbs.current_worker().device`.

    Raises:
        TypeError, ValueError: an argument makes no sense. Opening a hub raises NotImplementedError where the kernel cannot do it.

    Example:
        ```python
        open_hub(Model, workers=4, launcher=gibbs.ForkLauncher(preload=["numpy"]))
        ```
    """

    preload: Sequence[str] = ()

    def __post_init__(self) -> None:
        LocalLauncher.__post_init__(self)
        object.__setattr__(self, "preload", check_words("preload", self.preload))
        if not all(self.preload):
            raise ValueError("preload must name modules, and has an empty name")

    @asynccontextmanager
    async def session(self) -> AsyncIterator[ForkSession]:
        """What the workers of one hub share: their template, and the tasks that read their output."""
        if sys.platform != "linux" or not (has_pidfd() and has_memfd()):
            raise NotImplementedError(
                "gibbs.ForkLauncher needs a fork, pidfds and memfds as Linux has them: use gibbs.LocalLauncher here"
            )
        async with open_session(ForkSession, self) as session:
            yield session


class ForkSession(LocalSession):
    """Launches the workers of one hub."""

    _launcher: ForkLauncher
    _template: Template | None = None

    async def launch(self, spec: WorkerSpec) -> ForkedProcess:
        """One process, connected. Raises OSError, LaunchFailed or LaunchRefused; leaves nothing when it raises or is cancelled."""
        from .forked import ForkedProcess, TemplateGone

        await checkpoint_if_cancelled()
        for _ in range(_TEMPLATES):
            template = await self._ready_template(spec)
            process = ForkedProcess.fork(template, spec, self._launcher.output, self._arguments_fd, share_of_cpus(spec))
            await self._add(process, spec)
            try:
                await process.born()
            except TemplateGone:
                await bury(process)
                await self._discard(template)
            except BaseException:
                await bury(process)
                raise
            else:
                return process
        raise LaunchFailed(f"{_TEMPLATES} templates, one after the other, have ended when they were to be forked")

    async def _ready_template(self, spec: WorkerSpec) -> Template:
        """One that can be forked. Who waits for the same hears the same."""
        template = self._template
        if template is not None and template.is_ready and template.is_gone():
            await self._discard(template)
        template = self._template or await self._start_template(spec)
        try:
            await template.ready()
        except LaunchFailed:
            await self._discard(template)
            raise
        except BaseException:
            if not template.waiting:  # it may import for ever, or stand still
                await self._discard(template)
            raise
        return template

    async def _start_template(self, spec: WorkerSpec) -> Template:
        from .template import Template

        env = {**os.environ, **(self._launcher.env or {})}
        missing = [name for name in THREAD_VARIABLES if name not in env] if self._launcher.threads == "auto" else []
        plan = payload.dumps((write_recipe(list, tuple(self._launcher.preload)), missing))
        template = Template.start(spec, self._launcher.output, env | dict.fromkeys(missing, "1"), plan)
        self._template = template
        await self._children.add(template, f"gibbs {spec.name} output of the template")
        return template

    async def _discard(self, template: Template) -> None:
        """It has ended, or is to."""
        if self._template is not template:
            return
        self._template = None
        await bury(template)
        if template.is_ready:
            logger.warning(
                "the template of workers (pid %d) %s; those that run go on, the next one is forked from another template",
                template.pid,
                await template.ended(),
            )


ForkLauncher.__module__ = "gibbs"
