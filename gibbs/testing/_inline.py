"""`open_inline_hub`: a hub whose workers are threads of this process, and the launcher that makes them.

Knows the launcher's contract and the event loop; what a worker does is `_thread_worker`'s, which is the real worker's own code. So what
a hub does with them is what it does with processes, and what is left out is what only a process has. Promises that no thread is left
when a hub has closed, or says in which line of the model one still is.

Why threads, and not calls in the event loop: a request can be running while the test does something else, so that cancelling it,
overloading the hub or crashing the worker can be tested with a model that blocks, as models do; and the worker's code is the one that
runs in processes, with every verb. For what must be decided to the last step there is `ScriptedLauncher`.
"""

from __future__ import annotations

import math
import sys
import time
import traceback
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import anyio
from anyio.lowlevel import checkpoint, current_token

from gibbs import RestartPolicy, open_hub

from ..abc import Traits
from ._thread_process import KILLED, ThreadProcess

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Callable, Sequence
    from contextlib import AbstractAsyncContextManager
    from contextvars import ContextVar

    from gibbs import Elastic, Hub, Safe

    from ..abc import Propagator, WorkerSpec
    from ..events import Observer
    from ._thread_worker import ThreadWorker

M = TypeVar("M")

_FIRST_PID = 1 << 22  # no process on Linux has a larger id, so that nobody else is hit by it
_THREAD_PATIENCE = 5.0  # seconds of the wall for a thread to come back, when its hub has closed
_CALL_PATIENCE = 2.0  # seconds of the wall that a call may take before a clock that jumps does


def open_inline_hub(
    factory: Callable[..., M],
    /,
    *args: object,
    workers: int | Elastic = 1,
    name: str | None = None,
    spares: int = 0,
    ready: int | Literal["all"] = "all",
    start_timeout: float = math.inf,
    start_concurrency: int | None = None,
    close_timeout: float = 5.0,
    max_pending: float = math.inf,
    max_message: float = 1 << 32,
    order: Literal["fifo", "deadline"] = "fifo",
    shed: bool = False,
    results: Safe | None = None,
    on_cancel: Literal["interrupt", "kill", "finish"] | None = None,
    cancel_grace: float = 1.0,
    abandon_on_cancel: bool = True,
    restarts: RestartPolicy = RestartPolicy(),  # noqa: B008 - frozen
    propagate: Sequence[ContextVar[Any] | Propagator] = (),
    observers: Sequence[Observer] = (),
    record_crashes: str | os.PathLike[str] | None = None,
    slow_call: float | None = None,
) -> AbstractAsyncContextManager[Hub[M]]:
    """A real hub without processes: each worker is a thread of this process, with a model of its own.

    So a debugger stops in the model, coverage sees it, and what a test patches is patched for it. All verbs and options are those of
    `gibbs.open_hub`, and arguments and results are pickled there and back, so that what cannot travel is found here too. It opens
    in some milliseconds.

    What differs, since a thread is no process:

    - An interrupt comes between two lines of the model, and does not wake it where it waits in C (`time.sleep`, a lock).
    - A worker that is killed, by the hub or by `crash`, is gone for the hub at once, and another takes its place. Its thread is cut
      between two lines, so that `finally` blocks run; in C it goes on until that returns.
    - `os._exit`, and a fault in native code, end the test itself.
    - A thread that the model starts is in no worker: there `gibbs.cancelled()` is False.
    - What the model logs is logged here, by no worker.
    - Classes and modules are there once: what one model changes in them, all see.

    On Trio with `MockClock` no time passes while a model works, for two seconds of real time at most.

    Args:
        factory, *args: as in `open_hub`.
        workers: how many threads, each with a model.
        start_timeout: as in `open_hub`; infinite by default, since who debugs `__init__` takes time.
        name, spares, ready, start_concurrency, close_timeout, max_pending, max_message, order, shed, results, on_cancel, cancel_grace, abandon_on_cancel,
            restarts, propagate, observers, record_crashes, slow_call: as in `open_hub`.

    Raises:
        Exception: whatever `open_hub` raises.
        RuntimeError: on leaving: a model's thread has not come back within five seconds. It says in which line it is.

    Cancellation:
        As `open_hub`.

    Example:
        ```python
        async with open_inline_hub(MyAwesomeModel, workers=2) as hub:
            assert await hub.request(3) == 9
        ```
    """
    return open_hub(
        factory,
        *args,
        workers=workers,
        name=name,
        launcher=InlineLauncher(),
        spares=spares,
        ready=ready,
        start_timeout=start_timeout,
        start_concurrency=start_concurrency,
        close_timeout=close_timeout,
        max_pending=max_pending,
        max_message=max_message,
        order=order,
        shed=shed,
        results=results,
        on_cancel=on_cancel,
        cancel_grace=cancel_grace,
        abandon_on_cancel=abandon_on_cancel,
        restarts=restarts,
        propagate=propagate,
        observers=observers,
        record_crashes=record_crashes,
        logs=False,  # the model logs in this program
        slow_call=slow_call,
    )


class InlineLauncher:
    """Workers that are threads of this process: what `open_inline_hub` gives to `open_hub`, for an app that takes a launcher."""

    @property
    def traits(self) -> Traits:
        """As those of processes: after its end a worker begins nothing and says nothing, whatever its thread still does."""
        return Traits(same_host=True, kill_is_certain=True, last_words=True)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[_Session]:
        """The threads of one hub."""
        session = _Session()
        try:
            async with _holding_time(session):
                yield session
        finally:
            session.kill()
            with anyio.CancelScope(shield=True):
                await session.gone()


class _Session:
    def __init__(self) -> None:
        self.more = anyio.Event()
        self._launched = 0
        self._workers: list[ThreadWorker] = []

    async def launch(self, spec: WorkerSpec) -> ThreadProcess:
        await checkpoint()
        process = ThreadProcess(spec, _FIRST_PID + self._launched, self.stir)
        try:
            process.worker.thread.start()
        except RuntimeError as error:
            raise OSError(str(error)) from error
        self._launched += 1
        self._workers = [worker for worker in self._workers if worker.thread.is_alive()]
        self._workers.append(process.worker)
        self.stir()
        return process

    def stir(self) -> None:
        """Some worker may have something to do."""
        self.more.set()

    @property
    def works(self) -> bool:
        """Whether some worker is at something."""
        return any(worker.works for worker in self._workers)

    def kill(self) -> None:
        for worker in self._workers:
            worker.die(KILLED)

    async def gone(self) -> None:
        """Return when no thread is left. Raises RuntimeError if one does not come back."""
        until = time.monotonic() + _THREAD_PATIENCE
        while left := [worker.thread for worker in self._workers if worker.thread.is_alive()]:
            if time.monotonic() > until:
                raise _stuck(left[0].name, sys._current_frames().get(left[0].ident or 0))  # noqa: SLF001 - as debuggers do
            await anyio.sleep(0.001)


def _stuck(name: str, frame: Any) -> RuntimeError:
    error = RuntimeError(
        f"{name} has ended, and its model still runs {_THREAD_PATIENCE:g} seconds later: a thread cannot be killed. Let "
        f"the call return before the hub is left, such as by an event that the test sets; its lines are in a note"
    )
    if frame is not None:
        error.add_note("".join(traceback.format_stack(frame)))
    return error


@asynccontextmanager
async def _holding_time(session: _Session) -> AsyncIterator[None]:
    """On a clock that jumps when all tasks wait, let one of them not wait while a thread works."""
    if not _clock_jumps():
        yield
        return
    async with anyio.create_task_group() as tg:
        tg.start_soon(_stay_awake, session)
        try:
            yield
        finally:
            tg.cancel_scope.cancel()


def _clock_jumps() -> bool:
    if hasattr(current_token().native_token, "create_future"):
        return False
    import trio

    return hasattr(trio.lowlevel.current_clock(), "autojump_threshold")


async def _stay_awake(session: _Session) -> None:
    while True:
        until = time.monotonic() + _CALL_PATIENCE
        session.more = anyio.Event()
        while session.works and time.monotonic() < until:
            await checkpoint()
        await session.more.wait()


open_inline_hub.__module__ = InlineLauncher.__module__ = "gibbs.testing"
