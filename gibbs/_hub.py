"""open_hub, and the public life of a request: pickle, submit, wait, open the answer.

Where to look for what happens to a request: it is *queued* in `Dispatcher.submit`, *sent* in `Dispatcher._assign`, *answered*
in `Dispatcher.answered`, *cancelled* in `Dispatcher.withdraw` and *lost to a crash* in `Dispatcher.lost`, all in
`_core/dispatch.py`. Exceptions about requests are made here, where the caller waits.
"""

from __future__ import annotations

import math
import os
import sys
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Literal, ParamSpec, Protocol, TypeVar, overload

import anyio
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from ._core.dispatch import Answer, Lost
from ._core.restarts import RestartPolicy
from ._core.ticket import Ticket, TicketState
from ._errors import HubClosed, HubOverloaded, RecursiveStart, RemoteError
from ._model import interrupts
from ._options import UNSET, CallOptions, HubOptions, OnCancel, check_factory, name_of
from ._parent.crew import Crew
from ._parent.insist import insist
from ._parent.local import LocalLauncher
from ._parent.waiter import waiter_factory
from ._records import Health, HubStatistics
from ._wire import failure, payload
from ._wire.recipe import write_recipe

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from ._parent.supervisor import Death
    from .abc import Launcher

P = ParamSpec("P")
R = TypeVar("R")
M = TypeVar("M")
M_co = TypeVar("M_co", covariant=True)
M_contra = TypeVar("M_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


class _Method(Protocol[M_contra, P, R_co]):
    """A method as a class gives it. For mypy, which takes `self` for a possible `**kwargs` name otherwise."""

    def __call__(__self, self: M_contra, *args: P.args, **kwargs: P.kwargs) -> R_co: ...  # noqa: N805


class Calls(Generic[M_co]):
    """What can be asked of a model: `request` calls it, `method` names another of its methods, `using` sets options.

    A `Hub` is one; `using` returns another. It is worth a name of its own in signatures:
    `calls: gibbs.Calls[Callable[[int], str]]` takes the hub of any model that maps an int to a str.
    """

    def __init__(self, desk: _Desk, options: CallOptions) -> None:
        self._desk = desk
        self._options = options

    async def request(self: Calls[Callable[P, R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `model(*args, **kwargs)` in a worker that is free, and return its result.

        First come, first served; one call at a time per worker. The arguments are pickled at once, so a later change of
        them is never seen. No keyword is reserved; limits of time are the caller's own scopes (`anyio.fail_after`).

        Raises:
            Exception: what the model raised, as itself, with the worker's traceback in a note.
            RemoteError: the model raised what cannot travel or be raised here, or arguments or result cannot be loaded.
            WorkerCrashed: the worker died while it had this request.
            HubOverloaded: `max_pending` requests wait already; nothing was sent.
            HubClosed: the hub takes no requests (any more), or closed before the answer came.
            TypeError: the model cannot be called, or is async.
            RuntimeError: called from another thread, or in a fork of the hub's process.
            pickle.PicklingError, TypeError, ...: the arguments cannot be pickled; nothing was sent.

        Cancellation:
            Always a checkpoint. The caller gets its cancellation at once; a queued request is never sent, a running call
            is interrupted, its worker killed, or the call left to finish, as `on_cancel` and the model say.

        Example:
            ```python
            with anyio.fail_after(2):
                label = await hub.request(image)
            ```
        """
        result: R = await self._desk.request("", args, kwargs, self._options)
        return result

    @overload
    def method(self, f: _Method[M_co, P, R], /) -> Endpoint[P, R]: ...
    @overload
    def method(self, f: Callable[Concatenate[M_co, P], R], /) -> Endpoint[P, R]: ...
    @overload
    def method(self, name: str, /) -> Endpoint[..., Any]: ...
    def method(self, f: Callable[..., Any] | str, /) -> Endpoint[..., Any]:
        """Another method of the model: `hub.method(Model.embed)`, or `hub.method("embed")` without types.

        It is looked up by name on the built model, so an override in a subclass is what runs.

        Raises:
            TypeError: `f` is neither a method nor a name, or its name is private.
            AttributeError, TypeError: on `request`, if the model has no such method, or it is a generator or async.

        Example:
            ```python
            vector = await hub.method(Model.embed).request("a text")
            ```
        """
        name = f if isinstance(f, str) else getattr(f, "__name__", None)
        if not isinstance(name, str) or not name.isidentifier():
            raise TypeError(f"method() takes a method of the model, such as Model.embed, or its name, not {f!r}")
        if name.startswith("_") and name != "__call__":
            raise TypeError(f"{name!r} is private to the model")
        return Endpoint(self._desk, self._options, "" if name == "__call__" else name)

    def using(
        self, *, on_cancel: OnCancel | None = UNSET, abandon_on_cancel: bool = UNSET
    ) -> Calls[M_co]:
        """The same calls with other options; the hub itself is unchanged. The later setting of one option wins.

        Args:
            on_cancel: what happens to the running call when its caller is cancelled: "interrupt" raises
                `gibbs.Interrupted` in the model, which stays warm if it unwinds in time; "kill" replaces the worker;
                "finish" lets the call run out; None is what the model says.
            abandon_on_cancel: True delivers the cancellation at once; False when the worker is idle again or gone.

        Raises:
            TypeError, ValueError: an option makes no sense.

        Example:
            ```python
            await hub.using(on_cancel="finish").request(order)
            ```
        """
        return Calls(self._desk, self._options.using(on_cancel=on_cancel, abandon_on_cancel=abandon_on_cancel))


class Endpoint(Generic[P, R_co]):
    """One method of the model, as `Calls.method` gives it."""

    def __init__(self, desk: _Desk, options: CallOptions, name: str) -> None:
        self._desk = desk
        self._options = options
        self._name = name

    async def request(self, /, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call this method in a worker that is free, and return its result. All as `Hub.request`.

        Raises:
            AttributeError: the model has no such method; nothing was sent.
            TypeError: it is a generator or async; nothing was sent.
        """
        result: R_co = await self._desk.request(self._name, args, kwargs, self._options)
        return result

    def using(
        self, *, on_cancel: OnCancel | None = UNSET, abandon_on_cancel: bool = UNSET
    ) -> Endpoint[P, R_co]:
        """The same method with other options, as `Calls.using`."""
        options = self._options.using(on_cancel=on_cancel, abandon_on_cancel=abandon_on_cancel)
        return Endpoint(self._desk, options, self._name)

    def __repr__(self) -> str:
        return f"<gibbs.Endpoint {self._name or '__call__'} of {self._desk.crew.options.name!r}>"


class Hub(Calls[M_co]):
    """Warm copies of a model in processes of their own. Made by `open_hub`, belongs to the loop that opened it."""

    @property
    def name(self) -> str:
        """What the hub is called in logs and errors."""
        return self._desk.crew.options.name

    async def wait_ready(self, n: int | None = None) -> None:
        """Return when at least `n` workers are ready; all of them if not given.

        Raises:
            ValueError, TypeError: `n` is no number between 0 and `workers`.
            HubClosed: the hub closed first.

        Cancellation:
            Always a checkpoint; nothing changes when it is cancelled.
        """
        crew = self._desk.crew
        wanted = crew.options.workers if n is None else n
        if isinstance(wanted, bool) or not isinstance(wanted, int):
            raise TypeError(f"n must be a number of workers, not {n!r}")
        if not 0 <= wanted <= crew.options.workers:
            raise ValueError(f"n must be between 0 and workers={crew.options.workers}, not {n!r}")
        self._desk.check_place()
        await checkpoint()
        while crew.serving < wanted:
            if crew.closed in ("closed", "failed"):
                raise crew.refusal()
            await crew.news.wait()

    async def drain(self) -> None:
        """Take no new requests and return when all accepted ones have ended. Irreversible, idempotent.

        New requests raise HubClosed("draining") from the moment of the call, and `health().ready` is False. Leaving the
        `async with` block does not drain.

        Raises:
            HubClosed: the hub closed or failed first, so that accepted requests were not answered.

        Cancellation:
            Always a checkpoint. Cancelled, the hub stays draining.
        """
        await self._desk.drain()

    def statistics(self) -> HubStatistics:
        """What the hub does now and has done: one frozen record. Synchronous; may be called at any time."""
        return self._desk.crew.statistics()

    def health(self) -> Health:
        """Whether the hub can serve now, and what is amiss, from live state. Synchronous; may be called at any time."""
        crew = self._desk.crew
        reasons = []
        if crew.closed == "failed":
            reasons.append(f"the hub has failed: {crew.failure}")
        elif crew.closed is not None:
            reasons.append(f"the hub is {crew.closed}")
        missing = crew.options.workers - crew.serving
        if missing and crew.closed is None:
            reasons.append(f"{missing} of {crew.options.workers} workers are not ready")
        ready = crew.closed is None and crew.serving > 0
        if ready and not crew.dispatcher.has_room(crew.options.max_pending):
            ready = False
            reasons.append(f"the queue is full: {crew.dispatcher.queued} requests wait")
        return Health(ready=ready, reasons=tuple(reasons))

    def __repr__(self) -> str:
        crew = self._desk.crew
        state = crew.closed or "open"
        return (
            f"<gibbs.Hub {self.name!r} {state}: {crew.serving} of {crew.options.workers} workers ready, "
            f"{crew.dispatcher.live - crew.dispatcher.queued} requests running, {crew.dispatcher.queued} queued>"
        )

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError(f"the hub {self.name!r} cannot be pickled: it belongs to the program that opened it")


class _Desk:
    """Where requests are handed in: the road from a caller to the dispatcher and back, shared by a hub's views.

    Invariant: a ticket that was submitted is withdrawn, or has ended, when `request` returns or raises.
    """

    def __init__(self, crew: Crew) -> None:
        self.crew = crew
        self._new_waiter = waiter_factory()
        self._thread = threading.get_ident()
        self._process = os.getpid()

    async def request(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], options: CallOptions) -> Any:
        crew = self.crew
        try:
            self.check_place()
            self._check_open()
            self._check_method(method)
            body = payload.dumps((method, args, kwargs))
        except BaseException:
            await checkpoint()
            raise
        await checkpoint_if_cancelled()
        self._check_open()  # it may have closed meanwhile
        waiter = self._new_waiter()
        ticket = Ticket(
            body,
            on_cancel=options.on_cancel or crew.options.call.on_cancel,
            wake=waiter.wake,
            created=anyio.current_time(),
        )
        crew.carry_out(crew.dispatcher.submit(ticket))
        try:
            await waiter.wait()
        except BaseException:
            crew.carry_out(crew.dispatcher.withdraw(ticket))
            if not options.abandon_on_cancel and ticket.seat is not None:
                await self._released(ticket)
            raise
        finally:
            if crew.closed is not None and not crew.dispatcher.live:
                crew.news.announce()
        return await self._open(ticket)

    async def _open(self, ticket: Ticket) -> Any:
        """The end of a ticket as a result or an exception, in the task of its caller."""
        outcome = ticket.outcome
        if isinstance(outcome, Answer):
            return _open_answer(outcome)
        if isinstance(outcome, Lost):
            death: Any = outcome.death
            raise death.error(may_have_run=outcome.may_have_run)
        assert ticket.state is TicketState.REFUSED
        await checkpoint_if_cancelled()  # a failed hub cancels its body, which then gets just that
        raise self.crew.refusal()

    async def _released(self, ticket: Ticket) -> None:
        """Wait until no worker has to do with a cancelled request any more."""
        waiter = self._new_waiter()
        ticket.released = waiter.wake
        with anyio.CancelScope(shield=True):
            await waiter.wait()

    async def drain(self) -> None:
        self.check_place()
        crew = self.crew
        if crew.closed is None:
            crew.closed = "draining"
            crew.news.announce()
        await checkpoint()
        while crew.dispatcher.live:
            await crew.news.wait()
        if crew.closed != "draining":
            raise crew.refusal()

    def check_place(self) -> None:
        """Refuse a caller in another process or thread."""
        if os.getpid() != self._process:
            raise RuntimeError(
                f"the hub {self.crew.options.name!r} belongs to process {self._process}; this is a fork of it. "
                f"Open a hub here"
            )
        if threading.get_ident() != self._thread:
            raise RuntimeError(
                f"the hub {self.crew.options.name!r} belongs to the event loop of another thread. From a thread that "
                f"AnyIO started, use anyio.from_thread.run(hub.request, x)"
            )

    def _check_open(self) -> None:
        crew = self.crew
        if crew.closed is not None:
            raise crew.refusal()
        if not crew.dispatcher.has_room(crew.options.max_pending):
            raise HubOverloaded(crew.options.name, crew.dispatcher.queued)

    def _check_method(self, name: str) -> None:
        methods = self.crew.methods
        if not methods:  # no worker was ready so far; what comes is refused by the worker
            return
        kind = methods.get(name or "__call__")
        if kind is None and not name:
            raise TypeError(f"the model of the hub {self.crew.options.name!r} cannot be called: use hub.method(...)")
        if kind is None:
            raise AttributeError(f"the model of the hub {self.crew.options.name!r} has no method {name!r}")
        if kind != "plain":
            article = "a" if kind == "generator" else "an"
            raise TypeError(
                f"{name or '__call__'!r} of the hub {self.crew.options.name!r} is {article} {kind} function: "
                f"request() needs one that returns its result"
            )


def _open_answer(answer: Answer) -> Any:
    """The result, or raise the model's exception. A body that cannot be opened hurts its own caller only."""
    error: BaseException | failure.RemoteFailure
    if answer.failed:
        error = failure.load_failure(answer.body)
    else:
        try:
            return payload.loads(answer.body)
        except BaseException as exc:  # noqa: BLE001 - unpickling runs the user's code, which may raise SystemExit
            error = failure.describe_failure(exc, stage="result")
    if isinstance(error, failure.RemoteFailure):
        remote = RemoteError(error.type_name, error.message, error.traceback, error.stage)  # type: ignore[arg-type]
        remote.add_note(error.traceback)
        raise remote
    raise error


def open_hub(
    factory: Callable[..., M],
    /,
    *args: object,
    workers: int,
    name: str | None = None,
    launcher: Launcher | None = None,
    ready: int | Literal["all"] = "all",
    start_timeout: float = 60.0,
    start_concurrency: int | None = None,
    close_timeout: float = 5.0,
    max_pending: float = math.inf,
    on_cancel: OnCancel | None = None,
    cancel_grace: float = 1.0,
    abandon_on_cancel: bool = True,
    restarts: RestartPolicy = RestartPolicy(),  # noqa: B008 - frozen
) -> AbstractAsyncContextManager[Hub[M]]:
    """Start `workers` processes, each with a model of its own built by `factory(*args)`, and serve requests with them.

    An async context manager, entered and left in one task. It enters its body when `ready` models are built. Crashed
    workers are replaced. Leaving the body, in any way, closes the hub: waiting requests raise HubClosed, calls that run are
    cleaned up as for a cancel, and no process is left. It makes no thread, handles no signal and listens on no port.

    Args:
        factory: builds the model, in the worker: a class, a function, a partial (for keyword arguments). It may live
            anywhere: a module, a script without a `__main__` guard, a notebook, a function. `gibbs.function(f)` serves `f`.
        *args: its arguments. They are not checked by type checkers.
        workers: how many copies of the model, 1 or more: each takes its own memory.
        name: in logs and errors; by default the factory's name.
        launcher: how processes come to be; by default `gibbs.LocalLauncher()`.
        ready: how many models must be built before the body is entered: "all", or a number from 0.
        start_timeout: seconds for each attempt to start a worker, model included.
        start_concurrency: how many workers may start at once; None: all.
        close_timeout: seconds for all workers together to leave; then they are killed.
        max_pending: how many requests may wait for a worker; 0: a request goes to an idle worker or not at all.
        on_cancel, abandon_on_cancel: what a cancelled request does, as in `Calls.using`.
        cancel_grace: seconds that an interrupted call may take to unwind before its worker is killed.
        restarts: when to give up restarting workers.

    Raises:
        TypeError, ValueError: an option makes no sense; no process was started.
        pickle.PicklingError, TypeError, ...: the factory or its arguments cannot be pickled; no process was started.
        WorkerStartFailed: not enough workers became ready; none is left.
        RestartsExhausted: workers failed too often later; the body was cancelled.
        RecursiveStart: called by a module that a worker is importing.

    Cancellation:
        Cancelled while opening, every process is killed and reaped before the cancellation goes on. Opened in a cancelled
        scope, none is started. Closing is shielded and bounded by `close_timeout`.

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
        ready=workers if ready == "all" else ready,
        start_timeout=start_timeout,
        start_concurrency=start_concurrency,
        close_timeout=close_timeout,
        max_pending=max_pending,
        cancel_grace=cancel_grace,
        restarts=restarts,
        call=CallOptions(on_cancel=on_cancel, abandon_on_cancel=abandon_on_cancel),
    )
    _refuse_recursive_start(options.name)
    return _opened(factory, args, options)


@asynccontextmanager
async def _opened(factory: Callable[..., M], args: tuple[object, ...], options: HubOptions) -> AsyncIterator[Hub[M]]:
    recipe = write_recipe(factory, args)
    await checkpoint()
    body_scope = anyio.CancelScope()
    body_error: BaseException | None = None
    async with options.launcher.session() as session, anyio.create_task_group() as tg:
        crew = Crew(options, recipe, session, cancel_body=body_scope.cancel)
        hub: Hub[M] = Hub(_Desk(crew), options.call)
        patience = 0.0  # a hub that never opened has nobody to be polite to
        try:
            crew.start(tg)
            await crew.open()
            patience = options.close_timeout
            with body_scope:
                yield hub
        except BaseException as error:  # noqa: BLE001 - raised again below, when no process is left
            body_error = error
        crew.close(patience)
        try:
            await insist(crew.gone, on_cut=lambda: crew.close(0.0))
        except BaseException as native:  # noqa: BLE001 - as above
            body_error = native
    error = _what_to_raise(body_error, crew)
    if error is not None:
        raise error


def _what_to_raise(body_error: BaseException | None, crew: Crew) -> BaseException | None:
    """A lone error leaves as itself; the hub's failure joins the body's error, unless that is only its echo."""
    hub_failure = crew.failure
    if hub_failure is None or isinstance(body_error, anyio.get_cancelled_exc_class()):
        return body_error
    body_error = _without_echoes(body_error, crew)
    if body_error is None or body_error is hub_failure:
        return hub_failure
    return BaseExceptionGroup(f"the hub {crew.options.name!r} and its body failed", [body_error, hub_failure])


def _without_echoes(error: BaseException | None, crew: Crew) -> BaseException | None:
    """The body's error less what only repeats that this hub has failed."""

    def is_echo(exc: BaseException) -> bool:
        return isinstance(exc, HubClosed) and exc.reason == "failed" and exc.__cause__ is crew.failure

    if isinstance(error, BaseExceptionGroup):
        _, error = error.split(is_echo)
    elif error is not None and is_echo(error):
        return None
    return error


def _refuse_recursive_start(name: str) -> None:
    """A module that opens a hub while a worker imports it would start workers without end."""
    if not interrupts.thread:
        return
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            raise RecursiveStart(name)
        frame = frame.f_back  # type: ignore[assignment]


for _public in (Calls, Endpoint, Hub, open_hub):
    _public.__module__ = "gibbs"
