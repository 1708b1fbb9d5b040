"""What a model may have beside its methods, found by name and signature: how it is opened, warmed up, asked for its health, closed.

Promises that a hook is what can be called without arguments and is plain: an ordinary method that happens to bear such a name and takes
something is none.
"""

from __future__ import annotations

from types import FunctionType

from .build import Unfit, describe, kind_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

LONGEST = 86400.0
INTERVAL = 10.0  # seconds without a request after which a model is asked for its health, if it does not say


class Hooks:
    """Those of one model. `model` is what is served: what the model gives when it is entered, if it can be."""

    def __init__(self, model: Any) -> None:
        """Raises what entering the model raises."""
        self.found: list[str] = []
        self.model = model
        self._leave: Callable[[], object] | None = None
        kind = type(model)
        if _of_class(kind, "__enter__") and _of_class(kind, "__exit__"):
            self.found.append("__enter__")
            self.model = kind.__enter__(model)
            self._leave = lambda: kind.__exit__(model, None, None, None)
            if self.model is None:
                self.leave()
                raise TypeError(
                    f"{kind.__qualname__}.__enter__() gave None: it must return what is to be served, such as self"
                )
        elif (close := hook(model, "close")) is not None:
            self.found.append("close")
            self._leave = close
        self._warm_up = self._find("warm_up")
        self.healthy = self._find("healthy")
        self.interval = INTERVAL  # seconds without a request after which `healthy` is called, and that it may take

    def _find(self, name: str) -> Callable[[], object] | None:
        found = hook(self.model, name)
        if found is not None:
            self.found.append(name)
        return found

    def warm_up(self) -> None:
        """Raises what the model raises, or that its interval makes no sense."""
        if self.healthy is not None:
            interval = getattr(self.model, "health_interval", INTERVAL)
            if isinstance(interval, bool) or not isinstance(interval, int | float) or not 0 < interval <= LONGEST:
                raise ValueError(f"health_interval must be a number of seconds > 0, a day at most, not {interval!r}")
            self.interval = float(interval)
        if self._warm_up is not None:
            self._warm_up()

    def leave(self) -> None:
        """The worker is about to exit in peace. Raises what the model raises."""
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()


def open_model(model: Any) -> tuple[Hooks, dict[str, Any]]:
    """Enter the model if it can be, warm it up, and describe it. Raises Unfit; then it was left again."""
    try:
        hooks = Hooks(model)
    except BaseException as error:  # noqa: BLE001 - the user's code
        raise Unfit("model", error) from None
    try:
        hooks.warm_up()
        return hooks, describe(hooks.model)
    except BaseException as error:  # noqa: BLE001 - as above
        try:
            hooks.leave()
        except BaseException as another:  # noqa: BLE001 - the first is the one that matters
            error.add_note(f"and then, when it was left: {another!r}")
        raise error if isinstance(error, Unfit) else Unfit("model", error) from None


def hook(model: Any, name: str) -> Callable[[], Any] | None:
    """The model's hook of this name, if it has one. Looks at its class without running properties, and behind decorators."""
    function = _of_class(type(model), name)
    if isinstance(function, staticmethod | classmethod):
        function = function.__func__
    while (inner := getattr(function, "__wrapped__", None)) is not None:
        function = inner
    if not isinstance(function, FunctionType) or kind_of(function) != "plain":
        return None  # or nobody knows what it takes
    code = function.__code__
    given = 0 if isinstance(_of_class(type(model), name), staticmethod) else 1
    wants = code.co_argcount - given - len(function.__defaults__ or ())
    wants += code.co_kwonlyargcount - len(function.__kwdefaults__ or ())
    if wants > 0:
        return None
    found: Callable[[], Any] = getattr(model, name)
    return found


def _of_class(kind: type, name: str) -> Any:
    """What an instance has by its class, and not what the class itself has by its own."""
    return next((vars(cls)[name] for cls in kind.__mro__ if name in vars(cls)), None)
