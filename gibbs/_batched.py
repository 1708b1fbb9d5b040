"""Methods that take many items in one call: the decorator, and what it leaves on a function for others to find.

Standard library only, and little of it: a worker imports it. Knows nothing of hubs. Promises that a decorated method, called
directly, takes one item, so that a model is used in a plain program as its hub's callers use it.
"""

from __future__ import annotations

from types import FunctionType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Literal, Protocol, TypeVar, overload

    Model = TypeVar("Model")
    Item = TypeVar("Item")
    Result = TypeVar("Result")


class BatchMismatch(Exception):
    """A batched method returned another number of results than it was given items. Raised to every caller of that batch.

    Attributes:
        method: its name.
        items, results: how many of each.
    """

    __module__ = "gibbs"

    def __init__(self, method: str, items: int, results: int) -> None:
        super().__init__(method, items, results)
        self.method: str = method
        self.items: int = items
        self.results: int = results

    def __str__(self) -> str:
        return (
            f"{self.method}() is batched, and returned {self.results} results for {self.items} items: "
            f"it must return one for each, in their order"
        )


class Failed:
    """In the place of a result of a batched method: this item's caller gets the exception, the others their results.

    Raises:
        TypeError: `error` is no exception.

    Example:
        ```python
        class Roots:
            @gibbs.batched(max_size=16)
            def __call__(self, numbers):
                return [gibbs.Failed(ValueError(f"{x} has none")) if x < 0 else x**0.5 for x in numbers]
        ```
    """

    __module__ = "gibbs"
    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        if not isinstance(error, BaseException):
            raise TypeError(f"gibbs.Failed() takes the exception that the caller shall get, not {error!r}")
        self.error: BaseException = error

    def __repr__(self) -> str:
        return f"gibbs.Failed({self.error!r})"


_BATCH = "__gibbs_batch__"  # what the decorator leaves on a function
_NOT_PLAIN = 0x20 | 0x80 | 0x100 | 0x200  # generators, coroutines, and what is both


class Batch:
    """What `batched` was told of a method."""

    __slots__ = ("function", "max_size", "max_wait", "name", "on_error", "size_of")

    def __init__(
        self,
        function: Callable[..., Any],
        max_size: int,
        max_wait: float,
        size_of: Callable[[Any], float] | None,
        on_error: str,
    ) -> None:
        self.function = function
        self.name: str = function.__name__
        self.max_size = max_size
        self.max_wait = max_wait
        self.size_of = size_of
        self.on_error = on_error


def batches_of(model: Any) -> dict[str, Batch]:
    """The batched methods of a model or of its class, by name; of a function itself as "__call__". Runs no property."""
    found: dict[str, Batch] = {}
    for cls in reversed((model if isinstance(model, type) else type(model)).__mro__):
        for name, value in list(vars(cls).items()):
            batch = _told_of(value)
            if batch is not None:
                found[name] = batch
            else:
                found.pop(name, None)  # overridden
    if (batch := _told_of(model)) is not None:
        found["__call__"] = batch
    return found


def _told_of(f: Any) -> Batch | None:
    if isinstance(f, staticmethod | classmethod):
        f = f.__func__
    return f.__dict__.get(_BATCH) if isinstance(f, FunctionType) else None


def batch_of(model: Any, method: str) -> tuple[Callable[[list[Any]], Any], Batch]:
    """The undecorated method of a model, bound to it, and what its decorator was told. Raises AttributeError if it has none."""
    one = getattr(model, method) if method else model if isinstance(model, FunctionType) else type(model).__call__
    batch: Batch = getattr(one, _BATCH)
    owner = getattr(one, "__self__", None) if method else model if one is not model else None
    return (batch.function if owner is None else batch.function.__get__(owner)), batch


if TYPE_CHECKING:

    class _Batcher(Protocol):
        """What `batched(...)` gives: a decorator of a method, or of a function."""

        @overload
        def __call__(
            self, f: Callable[[Model, list[Item]], Sequence[Result | Failed]], /
        ) -> Callable[[Model, Item], Result]: ...
        @overload
        def __call__(self, f: Callable[[list[Item]], Sequence[Result | Failed]], /) -> Callable[[Item], Result]: ...

    def batched(
        *,
        max_size: int = 32,
        max_wait: float = 0.0,
        size_of: Callable[[Any], float] | None = None,
        on_error: Literal["fail", "split"] = "fail",
    ) -> _Batcher: ...

else:

    def batched(*, max_size=32, max_wait=0.0, size_of=None, on_error="fail"):
        """Let a method that takes a list and returns a list be called with one item: its worker runs many requests in one call.

        A worker that becomes free takes what waits, up to `max_size` requests, and runs them together. So at low load nothing is
        delayed, and at high load the batches grow by themselves. Each caller sends one item and gets its own result or exception, in
        whatever batch it was. Called directly, in a program without a hub, the method takes one item too.

        The call is interrupted, or its worker killed, when the callers of all its items have left; one who leaves before is dropped
        from the batch if that has not begun, and otherwise its result is.

        Args:
            max_size: how many requests one call takes at most, 1 or more.
            max_wait: seconds that a request may wait for others though a worker is free; 0: it does not.
            size_of: measures an item; then the sizes of a call's items add up to `max_size` at most, unless it is only one.
            on_error: what becomes of the others when a call raises: "fail": all of them get the exception, each a copy of its own;
                "split": the call is repeated with each half of its items, and again, until those that raise are alone. Only for
                methods that may be called again with the same items.

        Raises:
            TypeError, ValueError: an argument makes no sense, or what is decorated is no plain function.
            BatchMismatch: to each caller: the method returned another number of results than it was given items.

        Example:
            ```python
            class Classifier:
                def __init__(self):
                    self.model = load_model()

                @gibbs.batched(max_size=64)
                def label(self, images: list[bytes]) -> list[str]:
                    return self.model.predict(images)


            async with gibbs.open_hub(Classifier, workers=2) as hub:
                label = await hub.method(Classifier.label).request(image)
            ```
        """
        if isinstance(max_size, bool) or not isinstance(max_size, int):
            raise TypeError(f"max_size must be a whole number of requests ≥ 1, not {max_size!r}")
        if max_size < 1:
            raise ValueError(f"max_size must be a whole number of requests ≥ 1, not {max_size!r}")
        if isinstance(max_wait, bool) or not isinstance(max_wait, int | float):
            raise TypeError(f"max_wait must be a number of seconds ≥ 0, not {max_wait!r}")
        if not 0 <= max_wait < float("inf"):
            raise ValueError(f"max_wait must be a number of seconds ≥ 0, not {max_wait!r}")
        if size_of is not None and not callable(size_of):
            raise TypeError(f"size_of must be a function of one item, or None, not {size_of!r}")
        if on_error not in ("fail", "split"):
            raise ValueError(f"on_error must be 'fail' or 'split', not {on_error!r}")

        def decorate(f):
            if not isinstance(f, FunctionType) or f.__code__.co_flags & _NOT_PLAIN:
                raise TypeError(f"gibbs.batched() is for plain functions that take a list and return one, not {f!r}")

            def one(*args):
                *owner, item = args
                results = list(f(*owner, [item]))
                if len(results) != 1:
                    raise BatchMismatch(f.__name__, 1, len(results))
                if isinstance(results[0], Failed):
                    raise results[0].error
                return results[0]

            one.__dict__.update(f.__dict__)
            for name in ("__module__", "__name__", "__qualname__", "__doc__"):
                setattr(one, name, getattr(f, name))
            one.__wrapped__ = f
            setattr(one, _BATCH, Batch(f, max_size, max_wait, size_of, on_error))
            return one

        return decorate


batched.__module__ = "gibbs"
