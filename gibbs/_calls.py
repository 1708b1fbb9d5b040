"""What can be asked of a model, typed by the model without a plugin: `Calls`, `Lease` and `Endpoint`.

Knows names, options and types. Must never know how a request travels: the desk takes it from here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, cast, overload

from ._job import Job
from ._lease import LeaseDesk
from ._map import Results
from ._options import UNSET
from ._stream import Stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Coroutine, Iterable, Iterator
    from types import TracebackType

    from ._desk import Desk
    from ._options import CallOptions, OnCancel

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
M_co = TypeVar("M_co", covariant=True)
M_contra = TypeVar("M_contra", contravariant=True)
T_contra = TypeVar("T_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


class _Method(Protocol[M_contra, P, R_co]):
    """A method as a class gives it. For mypy, which takes `self` for a possible `**kwargs` name otherwise."""

    def __call__(__self, self: M_contra, *args: P.args, **kwargs: P.kwargs) -> R_co: ...


class _TakesOne(Protocol[T_contra, R_co]):
    """An endpoint that can be asked with one argument. For mypy, which does not see that in its ParamSpec."""

    def request(self, item: T_contra, /) -> Coroutine[Any, Any, R_co]: ...


class Calls(Generic[M_co]):
    """What can be asked of a model: `request` calls it, `method` names another of its methods, `using` sets options.

    A `Hub` is one; `using` returns another. It is worth a name of its own in signatures:
    `calls: gibbs.Calls[Callable[[int], str]]` takes the hub of any model that maps an int to a str.
    """

    def __init__(self, desk: Any, options: CallOptions) -> None:  # Any: the desk is not of the public interface
        self._desk: Desk = desk
        self._options = options

    async def request(self: Calls[Callable[P, R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `model(*args, **kwargs)` in a worker that is free, and return its result.

        First come, first served; one call at a time per worker. The arguments are pickled at once, so a later change of
        them is never seen. No keyword is reserved; limits of time are the caller's own scopes (`anyio.fail_after`).

        Raises:
            Exception: what the model raised, as itself, with the worker's traceback in a note.
            RemoteError: the model raised what cannot travel or be raised here, or arguments or result cannot be loaded; with
                `results=gibbs.Safe(...)` whatever the model raised.
            WorkerCrashed: the worker died while it had this request.
            PoisonRequest: with `retries`: two workers died while they ran it.
            HubOverloaded: `max_pending` requests wait already, or no worker took this one within `max_wait`; it has not run.
            MessageTooLarge: the arguments, or the result, have more bytes than `max_message`.
            HubClosed: the hub takes no requests (any more), or closed before the answer came.
            TypeError: the model cannot be called, is a generator, whose verb is `stream`, or is async.
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

    def stream(self: Calls[Callable[P, Iterator[T]]], /, *args: P.args, **kwargs: P.kwargs) -> Stream[T]:
        """What `model(*args, **kwargs)` yields, as it comes: the model is a generator, in a worker that is free.

        The request is handed in when the block is entered; its worker does nothing else until the generator has ended. It is ahead
        of its reader by `buffer` items at most (`using(buffer=...)`): then it pauses at a yield. An item is pickled when it is
        yielded. What the generator returns is dropped.

        Leaving the block early, in whatever way, closes the generator where it yields: its `finally` runs, and the worker is kept.
        Until it comes to a yield it is interrupted if `on_cancel` and the model say so; otherwise its worker is killed if it
        takes longer than `cancel_grace` seconds, or with on_cancel="finish" never.

        Raises:
            TypeError: on entering: the model is no generator, and `request` is its verb.
            Exception: on entering, what `request` raises before it has sent anything.
            Exception: from the iteration, behind all items that came: what the generator raised, or anything else that `request`
                raises when a request was sent.
            anyio.BusyResourceError: another task is reading.
            anyio.ClosedResourceError: the block was left.

        Cancellation:
            Entering is a checkpoint, and so is the iteration when there is no item, and at least once in 16 items. Cancelled there
            it has lost none: the next one comes next. Leaving is none, unless with abandon_on_cancel=False: then it returns when
            the worker is idle again, or gone.

        Example:
            ```python
            async with hub.stream(prompt) as tokens:
                async for token in tokens:
                    print(token, end="")
            ```
        """
        return Stream(self._desk, self._options, "", args, kwargs)

    def track(self: Calls[Callable[P, R]], /, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """A request whose progress can be followed: what the model tells by `gibbs.report`, and then its result.

        The request is handed in when the block is entered. `async for word in job.progress` gives the last word that there is, as the
        model goes on, and ends when the call does; `await job.result()` gives its result, or raises as `request` does. Both may be used
        at once, in any tasks, and neither need be.

        Leaving the block before the call has ended withdraws it, as a request that is cancelled is.

        Raises:
            Exception: on entering, what `request` raises before it has sent anything.

        Cancellation:
            Entering is a checkpoint. Leaving is none, unless with abandon_on_cancel=False: then it returns when the worker is idle
            again, or gone.

        Example:
            ```python
            async with hub.track(pages) as job:
                async for done in job.progress:
                    print(f"{done:.0%}")
                print(await job.result())
            ```
        """
        return Job(self._desk, self._options, "", args, kwargs)

    def map(
        self: Calls[Callable[[T], R]],
        source: Iterable[T] | AsyncIterable[T],
        /,
        *,
        limit: int = 64,
        ordered: bool = True,
    ) -> Results[R]:
        """What the model makes of each item of a source, in one task: `limit` items at most are anywhere on the way.

        The source is read as room appears, so it may be endless, and memory is bounded by `limit`. What becomes of an item is told in
        its place: its exception is raised there, and a reader who catches it may go on.

        Args:
            source: an iterable, which is read in the task of the reader, or an async one, which is read in a task beside; if that
                is a generator it is closed when the block is left.
            limit: items that were read and whose results were not taken, 1 or more. Workers are idle where it is less than they take.
            ordered: True: the results come in the order of the source; False: as they come.

        Raises:
            TypeError, ValueError: an argument makes no sense.
            TypeError, HubClosed, HubOverloaded, RuntimeError: on entering, as `request`.
            Exception: from the iteration: whatever `request` raises for that item; or what the source raised, behind the items before.
            anyio.BusyResourceError: another task is reading.
            anyio.ClosedResourceError: the block was left.

        Cancellation:
            Entering is a checkpoint, and so is the iteration when there is no result, and at least once in 64 results. Cancelled there it
            has lost none: the next one comes next. Leaving the block withdraws what is on its way, as a cancelled request is.

        Example:
            ```python
            async with hub.map(range(1000)) as results:
                async for result in results:
                    print(result)
            ```
        """
        return Results(self._desk, self._options, "", source, limit=limit, ordered=ordered)

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
            AttributeError, TypeError: when it is asked for, if the model has no such method, or another verb fits it.

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
        self,
        *,
        on_cancel: OnCancel | None = UNSET,
        abandon_on_cancel: bool = UNSET,
        priority: int = UNSET,
        retries: int = UNSET,
        retry_uncertain: bool = UNSET,
        key: str | bytes | int | None = UNSET,
        max_wait: float = UNSET,
        buffer: int = UNSET,
    ) -> Calls[M_co]:
        """The same calls with other options; the hub itself is unchanged. The later setting of one option wins.

        Args:
            on_cancel: what happens to the running call when its caller is cancelled: "interrupt" raises
                `gibbs.Interrupted` in the model, which stays warm if it unwinds in time; "kill" replaces the worker;
                "finish" lets the call run out; None is what the model says.
            abandon_on_cancel: True delivers the cancellation at once; False when the worker is idle again or gone.
            priority: a whole number, the higher the sooner; 0 by default. A level is worth ten seconds of waiting, so nobody waits
                for ever behind what is more important.
            retries: how often a request is sent again after a worker died that may have begun it; 0 by default. Never after what
                the model raised, nor a stream of which something came. One that has killed two workers by itself raises
                PoisonRequest. For calls that do no harm when they run twice.
            retry_uncertain: whether `retries` holds too where nobody can say that the old worker does not run it any more
                (`WorkerCrashed.may_still_run`), as on another machine that is not heard of; False by default.
            key: of the workers that are free, the same key finds the same one again, whose caches know it; None by default. It
                waits for none.
            max_wait: seconds within which a worker must take the request, or it raises HubOverloaded; math.inf by default.
            buffer: how many items of a stream its worker may be ahead of its reader, 1 or more; 128 by default.

        Raises:
            TypeError, ValueError: an option makes no sense.

        Example:
            ```python
            await hub.using(on_cancel="finish").request(order)
            ```
        """
        options = self._options.using(
            on_cancel=on_cancel,
            abandon_on_cancel=abandon_on_cancel,
            priority=priority,
            retries=retries,
            retry_uncertain=retry_uncertain,
            key=key,
            max_wait=max_wait,
            buffer=buffer,
        )
        return Calls(self._desk, options)

    def lease(self) -> Lease[M_co]:
        """One worker for a conversation, whose model keeps in mind what was said: a block, in which all that is asked runs on it.

        Entering waits, first come, first served, until a worker has nothing to do; then it is sent nothing else until the block is left.
        What is asked on the lease runs in the order asked, each when the one before is over, and as many may wait there as
        `max_pending` says. One seat at least is never leased: who asks for no lease is served by its worker, and who asks for one too
        many waits, without holding up those behind him.

        The options of `using` hold for getting the lease and for what is asked on it, where `retries`, `priority` and `key` mean
        nothing. A method that is `batched` gets one item at a time.

        When its worker dies the lease is broken, and nothing of it is sent to another: the model there knows nothing of it. Leave the
        block, and enter a new one.

        Raises:
            TypeError: called on a lease.
            ValueError: on entering: the hub has one worker, which would leave none for others.
            HubOverloaded: on entering: `max_pending` requests wait already, or no worker was free within `max_wait`.
            HubClosed: on entering: the hub takes no requests (any more), or drained or closed before there was a worker.
            RuntimeError: on entering: called from another thread, or in a fork of the hub's process; or it was entered before.
            WorkerCrashed: from what is asked on it: the worker died while it had this request.
            LeaseBroken: from what is asked on it: the worker has died, and this request was not begun.
            anyio.ClosedResourceError: from what is asked on it: the block was left.

        Cancellation:
            Entering is a checkpoint; cancelled there, there is no lease. A request on the lease is cancelled as any other; if that kills
            the worker the lease is broken. Leaving the block withdraws what is on its way, and is no checkpoint, unless with
            abandon_on_cancel=False: then it returns when the worker is idle again, or gone.

        Example:
            ```python
            async with hub.lease() as worker:
                await worker.request(1)
                print(await worker.request(2))  # by the same model
            ```
        """
        return Lease(self._desk, self._options)

    def __repr__(self) -> str:
        return f"<gibbs.Calls of {self._desk.crew.options.name!r}>"


class Lease(Calls[M_co]):
    """One worker, held for a conversation. Made by `Hub.lease`; used once, as a block around all that is asked on it.

    It gives what every `Calls` gives: `request`, `method`, `stream`, `map` and `using`. A request that is awaited within the block of a
    stream of the same lease waits for that stream's end.
    """

    def __init__(self, desk: Any, options: CallOptions) -> None:
        self._lease = LeaseDesk(desk)
        super().__init__(self._lease, options)

    async def __aenter__(self) -> Lease[M_co]:
        await self._lease.enter(self._options)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._lease.exit(self._options)

    @property
    def seat(self) -> int:
        """The index of the worker's seat.

        Raises:
            RuntimeError: the block was not entered.
        """
        return self._lease.place[0]

    @property
    def incarnation(self) -> int:
        """Which worker of that seat it is, from 1.

        Raises:
            RuntimeError: the block was not entered.
        """
        return self._lease.place[1]

    def __repr__(self) -> str:
        return f"<gibbs.Lease of {self._desk.crew.options.name!r}, {self._lease.condition}>"


class Endpoint(Generic[P, R_co]):
    """One method of the model, as `Calls.method` gives it."""

    def __init__(self, desk: Any, options: CallOptions, name: str) -> None:
        self._desk: Desk = desk
        self._options = options
        self._name = name

    async def request(self, /, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call this method in a worker that is free, and return its result. All as `Hub.request`.

        Raises:
            AttributeError: the model has no such method; nothing was sent.
            TypeError: it is a generator, whose verb is `stream`, or async; nothing was sent.
        """
        result: R_co = await self._desk.request(self._name, args, kwargs, self._options)
        return result

    def stream(self: Endpoint[P, Iterator[T]], /, *args: P.args, **kwargs: P.kwargs) -> Stream[T]:
        """What this method yields, as it comes. All as `Hub.stream`.

        Raises:
            AttributeError: on entering: the model has no such method.
            TypeError: on entering: it is no generator.
        """
        return Stream(self._desk, self._options, self._name, args, kwargs)

    def track(self, /, *args: P.args, **kwargs: P.kwargs) -> Job[R_co]:
        """A request to this method whose progress can be followed. All as `Hub.track`.

        Raises:
            AttributeError, TypeError: on entering, as `request`.
        """
        return Job(self._desk, self._options, self._name, args, kwargs)

    def map(
        self: _TakesOne[T, R],
        source: Iterable[T] | AsyncIterable[T],
        /,
        *,
        limit: int = 64,
        ordered: bool = True,
    ) -> Results[R]:
        """What this method makes of each item of a source. All as `Hub.map`.

        Raises:
            AttributeError, TypeError: on entering, as `request`.
        """
        endpoint = cast("Endpoint[..., R]", self)
        return Results(endpoint._desk, endpoint._options, endpoint._name, source, limit=limit, ordered=ordered)  # noqa: SLF001 - it is self

    def using(
        self,
        *,
        on_cancel: OnCancel | None = UNSET,
        abandon_on_cancel: bool = UNSET,
        priority: int = UNSET,
        retries: int = UNSET,
        retry_uncertain: bool = UNSET,
        key: str | bytes | int | None = UNSET,
        max_wait: float = UNSET,
        buffer: int = UNSET,
    ) -> Endpoint[P, R_co]:
        """The same method with other options, as `Calls.using`."""
        options = self._options.using(
            on_cancel=on_cancel,
            abandon_on_cancel=abandon_on_cancel,
            priority=priority,
            retries=retries,
            retry_uncertain=retry_uncertain,
            key=key,
            max_wait=max_wait,
            buffer=buffer,
        )
        return Endpoint(self._desk, options, self._name)

    def __repr__(self) -> str:
        return f"<gibbs.Endpoint {self._name or '__call__'} of {self._desk.crew.options.name!r}>"


for _public in (Calls, Lease, Endpoint):
    _public.__module__ = "gibbs"
