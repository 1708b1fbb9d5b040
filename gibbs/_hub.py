"""open_hub and Hub: a hub's public life, from the first process to the last.

Knows the order of opening and closing, and which error leaves. What happens to a request in between is `_desk`'s, what
happens to a worker is `_parent`'s. Promises that no process is left when the `async with` block is left, however it is.
"""

from __future__ import annotations

import math
import sys
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import anyio
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from ._calls import Calls, M_co
from ._context import travelling
from ._core.elastic import Elastic
from ._core.restarts import RestartPolicy
from ._desk import Desk
from ._errors import HubClosed, RecursiveStart, ReloadFailed, WorkerStartFailed
from ._factory import batched_by, check_factory, name_of
from ._launch.local import LocalLauncher
from ._model import Checked, interrupts
from ._options import CallOptions, HubOptions, OnCancel, Safe, check_workers
from ._parent.crew import Crew
from ._parent.fleet import open_fleet
from ._parent.insist import insist
from ._parent.numbers import statistics_of
from ._parent.stacks import stacks_of
from ._records import Health, HubStatistics, WorkerStack
from ._wire.recipe import write_recipe
from ._wire.shared import Keeping

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Callable, Sequence
    from contextlib import AbstractAsyncContextManager
    from contextvars import ContextVar
    from types import FrameType

    from .abc import Launcher, Propagator
    from .events import Observer

M = TypeVar("M")


class Hub(Calls[M_co]):
    """Warm copies of a model in processes of their own. Made by `open_hub`, belongs to the loop that opened it."""

    def __init__(self, *_: object, **__: object) -> None:
        raise TypeError(
            "a Hub is not made by calling its class: write `async with gibbs.open_hub(Model, workers=4) as hub`, which "
            "starts the workers too; for programs of gibbs 0.3 see docs/moving.md"
        )

    @classmethod
    def _over(cls, desk: Desk, options: CallOptions) -> Hub[M_co]:
        """The hub that `open_hub` gives to its body."""
        hub = cls.__new__(cls)
        Calls.__init__(hub, desk, options)
        return hub

    @property
    def name(self) -> str:
        """What the hub is called in logs and errors."""
        return self._desk.crew.options.name

    @property
    def observers(self) -> tuple[Observer, ...]:
        """Who is told what happens in it, as `open_hub` was given them."""
        return tuple(self._desk.crew.options.observers)

    async def wait_ready(self, n: int | None = None) -> None:
        """Return when at least `n` workers are ready; all of them if not given.

        Raises:
            ValueError, TypeError: `n` is no number between 0 and `workers`.
            HubClosed: the hub closed first.
            RuntimeError: called from another thread, or in a fork of the hub's process.

        Cancellation:
            Always a checkpoint; nothing changes when it is cancelled.
        """
        crew = self._desk.crew
        await checkpoint()
        wanted = crew.staffing.wanted if n is None else n  # fewer, if the hub becomes smaller meanwhile
        if isinstance(wanted, bool) or not isinstance(wanted, int):
            raise TypeError(f"n must be a number of workers, not {n!r}")
        if not 0 <= wanted <= crew.staffing.wanted:
            raise ValueError(f"n must be between 0 and workers={crew.staffing.wanted}, not {n!r}")
        self._desk.check_place()
        while True:
            if crew.is_over:
                raise crew.refusal()
            if crew.serving >= min(wanted, crew.staffing.wanted):
                return
            await crew.news.wait()

    async def resize(self, workers: int) -> None:
        """Have so many workers from now on; return when as many serve, and no more.

        Further ones are started; those that are too many go when they have done what they hold, those first that have least to do.
        With 0 workers requests wait. The last of several launchers makes further ones.

        Raises:
            TypeError, ValueError: `workers` is no whole number, less than 0, or out of the bounds of the hub's `gibbs.Elastic`.
            HubClosed: the hub closed first.
            RuntimeError: called from another thread, or in a fork of the hub's process.

        Cancellation:
            Always a checkpoint. Cancelled, the hub becomes as large all the same. Called again meanwhile, the later number counts.
        """
        await checkpoint()
        crew = self._desk.crew
        check_workers(workers, crew.options.elastic)
        self._desk.check_place()
        if crew.is_over:
            raise crew.refusal()
        crew.staffing.resize(workers)
        while crew.staffing.wanted == workers and not crew.staffing.is_settled:
            if crew.is_over:
                raise crew.refusal()
            await crew.news.wait()

    async def reload(
        self, factory: Callable[..., M_co], /, *args: object, check: Callable[[Any], object] | None = None
    ) -> None:
        """Serve another model from now on, built by `factory(*args)`; return when every worker has one.

        One worker after the other is replaced, by one that is ready before it goes. So no request fails for it, none waits longer than it
        would have, and each ends on the model on which it began; in the meantime both serve. If a new worker does not become ready, those that
        were replaced are replaced once more, by the model before. A second reload waits for the first.

        Args:
            factory, *args: as in `open_hub`. The model must offer what callers ask of it. Its methods that run many requests in one call must
                be those of the model before, with the same sizes and waits.
            check: called in the first new worker with its model, before it serves. If it raises, nothing has changed.

        Raises:
            ReloadFailed: a new worker did not become ready, its model does not fit, or `check` raised; its `__cause__` is the WorkerStartFailed.
            TypeError, ValueError, pickle.PicklingError, ...: the factory, its arguments or `check` make no sense, or cannot be pickled.
            HubClosed: the hub closed first.
            RuntimeError: called from another thread, or in a fork of the hub's process.

        Cancellation:
            Always a checkpoint, before it begins. Then it is carried through, or undone: a cancellation is delivered when that is over.

        Example:
            ```python
            await hub.reload(MyAwesomeModel, "weights-2.bin", check=answers_as_expected)
            ```
        """
        await checkpoint()
        check_factory(factory)
        if check is not None and not callable(check):
            raise TypeError(f"check must be callable, with the model, not {check!r}")
        self._desk.check_place()
        crew = self._desk.crew
        if crew.closed is not None:
            raise crew.refusal()
        propagated = travelling(crew.options.propagate)
        with Keeping() as keeping:
            recipe = write_recipe(factory, args, propagated)
            canary = recipe if check is None else write_recipe(Checked(factory, check), args, propagated)
        reload = crew.staffing.begin_reload(recipe, canary, keeping.found)
        await insist(reload.done.wait)
        if isinstance(reload.problem, WorkerStartFailed):
            raise ReloadFailed(self.name, str(reload.problem), undone=reload.undone) from reload.problem
        if reload.problem is not None:
            raise reload.problem
        await checkpoint_if_cancelled()

    async def stacks(self) -> tuple[WorkerStack, ...]:
        """Where every worker is now: its Python stack, by seat, within a second.

        Also of one that starts, and of one that is in C code which holds the interpreter's lock, if it runs on this machine. One that does
        not answer has an empty stack: a process that is stopped, or on another machine and in such code. Calls go on as if nobody had asked.

        Raises:
            RuntimeError: called from another thread, or in a fork of the hub's process.

        Cancellation:
            Always a checkpoint; nothing changes when it is cancelled.

        Example:
            ```python
            for stack in await hub.stacks():
                print(stack)
            ```
        """
        await checkpoint()
        self._desk.check_place()
        workers = [supervisor.worker for supervisor in self._desk.crew.supervisors]
        return await stacks_of([one.whereabouts for one in workers if one is not None and not one.left])

    async def drain(self) -> None:
        """Take no new requests and return when all accepted ones have ended. Irreversible, idempotent.

        New requests raise HubClosed("draining") from the moment of the call, and `health().ready` is False. Leaving the
        `async with` block does not drain.

        Raises:
            HubClosed: the hub closed or failed first, so that accepted requests were not answered.
            RuntimeError: called from another thread, or in a fork of the hub's process.

        Cancellation:
            Always a checkpoint. Cancelled, the hub stays draining.
        """
        await self._desk.drain()

    def statistics(self) -> HubStatistics:
        """What the hub does now and has done: one frozen record. Synchronous; also after the hub has closed.

        Raises:
            RuntimeError: called from another thread (use `anyio.from_thread.run_sync(hub.statistics)`), or in a fork.
        """
        self._desk.check_place()
        return statistics_of(self._desk.crew)

    def health(self) -> Health:
        """Whether the hub can serve now, and what is amiss, from live state. Synchronous; also after the hub has closed.

        Raises:
            RuntimeError: as `statistics`.
        """
        self._desk.check_place()
        crew = self._desk.crew
        reasons = []
        if crew.closed == "failed":
            reasons.append(f"the hub has failed: {crew.failure}")
        elif crew.closed is not None:
            reasons.append(f"the hub is {crew.closed}")
        missing = crew.staffing.wanted - crew.serving
        if missing and crew.closed is None:
            reasons.append(f"{missing} of {crew.staffing.wanted} workers are not ready")
        may_grow = crew.scaler is not None and not crew.staffing.wanted  # nobody is there since nobody asks
        if not crew.staffing.wanted and crew.scaler is None and crew.closed is None:
            reasons.append("the hub has no workers: resize() has let all of them go")
        serves = crew.closed is None and (crew.serving > 0 or may_grow)
        full = serves and not crew.dispatcher.has_room(crew.options.max_pending)
        if full:
            reasons.append(f"the queue is full: {crew.dispatcher.waiting} requests wait")
        failed = crew.closed == "failed"
        return Health(ready=serves and not full, reasons=tuple(reasons), full=full, failed=failed)

    def __repr__(self) -> str:
        crew = self._desk.crew
        state, running = crew.closed or "open", crew.dispatcher.running
        return (
            f"<gibbs.Hub {self.name!r} {state}: {crew.serving} of {crew.staffing.wanted} workers ready, "
            f"{running} requests running, {crew.dispatcher.live - running} queued>"
        )


def open_hub(
    factory: Callable[..., M],
    /,
    *args: object,
    workers: int | Elastic,
    name: str | None = None,
    launcher: Launcher | Sequence[tuple[Launcher, int]] | None = None,
    spares: int = 0,
    ready: int | Literal["all"] = "all",
    start_timeout: float = 60.0,
    start_concurrency: int | None = None,
    close_timeout: float = 5.0,
    max_pending: float = math.inf,
    max_message: float = 1 << 32,
    order: Literal["fifo", "deadline"] = "fifo",
    shed: bool = False,
    results: Safe | None = None,
    on_cancel: OnCancel | None = None,
    cancel_grace: float = 1.0,
    abandon_on_cancel: bool = True,
    restarts: RestartPolicy = RestartPolicy(),  # noqa: B008 - frozen
    propagate: Sequence[ContextVar[Any] | Propagator] = (),
    logs: bool = True,
    observers: Sequence[Observer] = (),
    record_crashes: str | os.PathLike[str] | None = None,
    slow_call: float | None = None,
) -> AbstractAsyncContextManager[Hub[M]]:
    """Start `workers` processes, each with a model of its own built by `factory(*args)`, and serve requests with them.

    An async context manager, entered and left in one task. It enters its body when `ready` models are built. Crashed
    workers are replaced. Leaving the body, in any way, closes the hub: waiting requests raise HubClosed, calls that run are
    cleaned up as for a cancel, and no process is left. It makes no thread, handles no signal and listens on no port, unless its launcher says so (`traits.listens`).

    Args:
        factory: builds the model, in the worker: a class, a function, a partial (for keyword arguments). It may live
            anywhere: a module, a script without a `__main__` guard, a notebook, a function. `gibbs.function(f)` serves `f`.
        *args: its arguments. They are not checked by type checkers.
        workers: how many copies of the model, 1 or more: each takes its own memory. Or a `gibbs.Elastic`: as many as the load needs.
        name: in logs and errors; by default the factory's name.
        launcher: how processes come to be; by default `gibbs.LocalLauncher()`. Or several, each with how many of the workers it makes:
            `[(gibbs.LocalLauncher(), 4), (gibbs.SSHLauncher(["gpu1"]), 8)]`. Among workers that are free one on this machine is preferred.
        spares: how many more workers are kept, with their models built, that take no requests: one of them takes the place of a worker that
            dies, or that is killed for a cancelled call, and another one is built behind. The last of several launchers makes them.
        ready: how many models must be built before the body is entered: "all", or a number from 0.
        start_timeout: seconds for each attempt to start a worker, model included.
        start_concurrency: how many workers of each launcher may start at once; None: all.
        close_timeout: seconds for all workers together to leave; then they are killed.
        max_pending: how many requests may wait for a worker; 0: a request goes to an idle worker or not at all.
        max_message: how many bytes the pickle of a request, or of a result, may have, 1 MiB or more; `math.inf` for no limit.
        order: who comes first among requests of one priority: "fifo", who came first; "deadline", whose caller's time is over first, by the
            scopes around it (`anyio.fail_after`). Who gives none is taken to have a minute.
        shed: whether a request is refused, with HubOverloaded, as soon as its caller's time cannot be enough any more, by what calls take.
        results: None: results are pickles, and workers are trusted; a `gibbs.Safe`: only data of known kinds is opened.
        on_cancel, abandon_on_cancel: what a cancelled request does, as in `Calls.using`.
        cancel_grace: seconds that an interrupted call may take to unwind before its worker is killed.
        restarts: when to give up restarting workers.
        propagate: context variables whose values a call has in the worker as its caller has them, where they are set. The values are
            pickled with the arguments. A batch, whose callers each have their own, has none. And propagators, which bring something else of
            the caller's and put it around the call: see `gibbs.abc.Propagator`, and `gibbs.contrib.opentelemetry` for one.
        logs: True: what workers log by `logging` is handled here, by the loggers and handlers of this program, at the levels that they
            have when the worker starts; False: by what the model sets up in its worker.
        observers: functions that are told what happens, each event as it happens: see `gibbs.events`.
        record_crashes: a directory for what workers were asked when they died, each request in a file that `python -m gibbs replay` runs again. Only
            this program's user can read them; the last 100 are kept, and none of more than 64 MiB. Requests are then kept in memory until their
            end, and large arguments travel in the stream. None: nothing is written.
        slow_call: seconds after which a call that still runs is told of: once, by the logger `gibbs`, with the line that it is on, and to observers. None:
            no call is.

    Raises:
        TypeError, ValueError: an option makes no sense; no process was started.
        OSError: there is no directory for crash records, and none can be made; no process was started.
        pickle.PicklingError, TypeError, ...: the factory or its arguments cannot be pickled; no process was started.
        WorkerStartFailed: not enough workers became ready; none is left.
        RestartsExhausted: workers failed too often later; the body was cancelled. Instead of it WorkerStartFailed, if a launcher says that
            there is no use in trying again.
        RecursiveStart: called by a module that a worker is importing.
        NotImplementedError: on entering, on Windows.

    Cancellation:
        Cancelled while opening, every process is killed and reaped before the cancellation goes on. Opened in a cancelled
        scope, none is started. Closing is shielded and bounded by `close_timeout`, unless the kernel does not end a killed
        process: that is logged after some seconds and left.

    Example:
        ```python
        async with gibbs.open_hub(MyAwesomeModel, workers=4) as hub:
            print(await hub.request(3))
        ```
    """
    check_factory(factory)
    options = HubOptions(
        name=name_of(factory) if name is None else name,
        workers=workers,
        launcher=LocalLauncher() if launcher is None else launcher,
        spares=spares,
        ready=(workers.least if isinstance(workers, Elastic) else workers) if ready == "all" else ready,
        start_timeout=start_timeout,
        start_concurrency=start_concurrency,
        close_timeout=close_timeout,
        max_pending=max_pending,
        max_message=max_message,
        order=order,
        shed=shed,
        results=results,
        cancel_grace=cancel_grace,
        restarts=restarts,
        propagate=propagate,
        logs=logs,
        observers=observers,
        record_crashes=record_crashes,
        slow_call=slow_call,
        call=CallOptions(on_cancel=on_cancel, abandon_on_cancel=abandon_on_cancel, recorded=record_crashes is not None),
    )
    _refuse_recursive_start(options.name)
    return _opened(factory, args, options)


@asynccontextmanager
async def _opened(factory: Callable[..., M], args: tuple[object, ...], options: HubOptions) -> AsyncIterator[Hub[M]]:
    await checkpoint()
    with Keeping() as keeping:
        recipe = write_recipe(factory, args, travelling(options.propagate))
    body_scope = anyio.CancelScope()
    body_error: BaseException | None = None
    crew: Crew | None = None
    try:
        async with open_fleet(options) as fleet, anyio.create_task_group() as tg:
            crew = Crew(options, recipe, fleet, cancel_body=body_scope.cancel)
            crew.staffing.shared = keeping.found
            crew.repertoire.meet_batched(batched_by(factory))
            hub: Hub[M] = Hub._over(Desk(crew), options.call)  # noqa: SLF001 - its own module
            patience = 0.0  # a hub that never opened has nobody to be polite to
            try:
                if options.record_crashes is not None:
                    from ._parent.crash_records import open_records  # whose imports take some milliseconds

                    crew.crash_records = await open_records(options.record_crashes, crew.spawn)
                crew.start(tg)
                await crew.opening.wait()
                patience = options.close_timeout
                with body_scope:
                    yield hub
            except BaseException as error:  # noqa: BLE001 - raised again below, when no process is left
                body_error = error
            try:
                crew.close(patience)
                await insist(crew.gone, on_cut=partial(crew.close, 0.0))
            except BaseException as cut:  # noqa: BLE001 - native, or one more Ctrl-C: it came last and takes the error's place
                body_error = cut
                crew.close(0.0)
    except Exception as error:  # the launcher's own, when its session is left: it must not hide the body's
        if crew is None:
            raise
        if isinstance(body_error, anyio.get_cancelled_exc_class()):
            await checkpoint_if_cancelled()  # the caller's own cancellation, if it was that
            body_error = None  # else the session had failed, and cancelled what ran in it
        crew.failure = crew.failure or error
    finally:
        for arrays in keeping.found if crew is None else crew.staffing.shared:
            arrays.close()
    assert crew is not None
    hub._desk.check_place()  # noqa: SLF001 - a fork of the program that ran on to here is told so
    outcome = _what_to_raise(body_error, crew)
    if outcome is not None:
        raise outcome


def _what_to_raise(body_error: BaseException | None, crew: Crew) -> BaseException | None:
    """A lone error leaves as itself; the hub's failure joins the body's error, unless that is only its echo."""
    if crew.failure is None or isinstance(body_error, anyio.get_cancelled_exc_class()):
        return body_error
    own = _without_echoes(body_error, crew)
    if own is None or own is crew.failure:
        return crew.failure
    return BaseExceptionGroup(f"the hub {crew.options.name!r} and its body failed", [own, crew.failure])


def _without_echoes(error: BaseException | None, crew: Crew) -> BaseException | None:
    """The body's error less what only repeats that this hub has failed."""

    def is_echo(exc: BaseException) -> bool:
        return isinstance(exc, HubClosed) and exc.reason == "failed" and exc.__cause__ is crew.failure

    if isinstance(error, BaseExceptionGroup):
        return error.split(is_echo)[1]
    return None if error is not None and is_echo(error) else error


def _refuse_recursive_start(name: str) -> None:
    """A module that opens a hub while a worker imports it would start workers without end."""
    if not interrupts.thread:
        return
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 - what inspect.currentframe() is, without its import
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            raise RecursiveStart(name)
        frame = frame.f_back


for _public in (Hub, open_hub):
    _public.__module__ = "gibbs"
