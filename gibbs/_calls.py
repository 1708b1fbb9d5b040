"""What can be asked of a model, typed by the model without a plugin: `Calls` and `Endpoint`.

Knows names, options and types. Must never know how a request travels: the desk takes it from here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

from ._options import UNSET

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._desk import Desk
    from ._options import CallOptions, OnCancel

P = ParamSpec("P")
R = TypeVar("R")
M_co = TypeVar("M_co", covariant=True)
M_contra = TypeVar("M_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


class _Method(Protocol[M_contra, P, R_co]):
    """A method as a class gives it. For mypy, which takes `self` for a possible `**kwargs` name otherwise."""

    def __call__(__self, self: M_contra, *args: P.args, **kwargs: P.kwargs) -> R_co: ...


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
            HubOverloaded: `max_pending` requests wait already; nothing was sent.
            MessageTooLarge: the arguments, or the result, have more bytes than `max_message`.
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

    def using(self, *, on_cancel: OnCancel | None = UNSET, abandon_on_cancel: bool = UNSET) -> Calls[M_co]:
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

    def __repr__(self) -> str:
        return f"<gibbs.Calls of {self._desk.crew.options.name!r}>"


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
            TypeError: it is a generator or async; nothing was sent.
        """
        result: R_co = await self._desk.request(self._name, args, kwargs, self._options)
        return result

    def using(self, *, on_cancel: OnCancel | None = UNSET, abandon_on_cancel: bool = UNSET) -> Endpoint[P, R_co]:
        """The same method with other options, as `Calls.using`."""
        options = self._options.using(on_cancel=on_cancel, abandon_on_cancel=abandon_on_cancel)
        return Endpoint(self._desk, options, self._name)

    def __repr__(self) -> str:
        return f"<gibbs.Endpoint {self._name or '__call__'} of {self._desk.crew.options.name!r}>"


for _public in (Calls, Endpoint):
    _public.__module__ = "gibbs"
