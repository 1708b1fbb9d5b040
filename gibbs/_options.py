"""What a hub and a call are told, spelled once, refused at once when it makes no sense.

Knows no process and no loop. Promises that a bad option raises TypeError or ValueError with the value in the message before
anything is started or sent.
"""

from __future__ import annotations

import math
import os
import sys
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ._core.affinity import affinity_of
from ._core.elastic import Elastic
from ._core.restarts import RestartPolicy
from ._core.terms import Terms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .abc import Launcher, Propagator
    from .events import Observer

MOST_PRIORITY = 100  # each that waits has a line of its own
LEAST_MESSAGE = 1 << 20  # bytes; a worker must be able to say in words what went wrong

OnCancel: TypeAlias = Literal["interrupt", "kill", "finish"]

UNSET: Any = object()  # "not given", where None is a value


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOptions:
    """How requests are made through one view of a hub. Immutable: `using` makes a new one."""

    on_cancel: OnCancel | None = None
    abandon_on_cancel: bool = True
    buffer: int = 128
    priority: int = 0
    retries: int = 0
    retry_uncertain: bool = False
    key: str | bytes | int | None = None
    max_wait: float = math.inf
    recorded: bool = False  # whether what kills a worker is written down; said once for the hub
    terms: Terms = field(init=False, repr=False, compare=False)  # what the dispatcher is told of them

    def __post_init__(self) -> None:
        if self.on_cancel not in (None, "interrupt", "kill", "finish"):
            raise ValueError(
                f"on_cancel must be 'interrupt', 'kill', 'finish' or None for what the model says, not {self.on_cancel!r}"
            )
        if not isinstance(self.abandon_on_cancel, bool):
            raise TypeError(f"abandon_on_cancel must be True or False, not {self.abandon_on_cancel!r}")
        _check_number("buffer", self.buffer, at_least=1, whole=True, unit="items")
        if isinstance(self.priority, bool) or not isinstance(self.priority, int):
            raise TypeError(f"priority must be a whole number, the higher the sooner, not {self.priority!r}")
        if abs(self.priority) > MOST_PRIORITY:
            raise ValueError(f"priority must be between -{MOST_PRIORITY} and {MOST_PRIORITY}, not {self.priority!r}")
        _check_number("retries", self.retries, at_least=0, whole=True)
        if not isinstance(self.retry_uncertain, bool):
            raise TypeError(f"retry_uncertain must be True or False, not {self.retry_uncertain!r}")
        if self.key is not None and (isinstance(self.key, bool) or not isinstance(self.key, str | bytes | int)):
            raise TypeError(f"key must be a str, bytes or an int, not {self.key!r}")
        _check_number("max_wait", self.max_wait, at_least=0)
        terms = Terms(  # once for each view
            on_cancel=self.on_cancel,
            priority=self.priority,
            retries=self.retries,
            keeps=self.retries > 0 or self.recorded,
            retry_uncertain=self.retry_uncertain,
            affinity=None if self.key is None else affinity_of(self.key),
            max_wait=self.max_wait,
        )
        object.__setattr__(self, "terms", terms)

    def using(self, **changes: Any) -> CallOptions:
        """These options with some of them replaced; UNSET leaves one as it is."""
        return replace(self, **{name: value for name, value in changes.items() if value is not UNSET})


@dataclass(frozen=True, slots=True, kw_only=True)
class Safe:
    """Open results without running code of theirs: `open_hub(..., results=gibbs.Safe(allow=[MyResult]))`.

    Results may consist of None, bools, numbers, text, bytes, lists, tuples, dicts, sets, OrderedDict, dates and times, Decimal,
    Fraction, UUID, IP addresses, numpy arrays and scalars without objects in them, and of instances of what is in `allow`.
    A result that speaks of anything else raises RemoteError, stage "result", and nothing of it has run. Exceptions of the model
    arrive as RemoteError, in words. Arguments travel as ever: the worker trusts its hub.

    It is a filter and not a sandbox: what is allowed can be called by a worker with any arguments, and memory is bounded by
    `max_message` only as far as honest results go. See docs/security.md.

    Args:
        allow: classes and functions that results may speak of.

    Raises:
        TypeError: `allow` is no list of classes and functions.

    Example:
        ```python
        open_hub(Model, workers=4, results=gibbs.Safe())
        ```
    """

    allow: Sequence[object] = ()

    def __post_init__(self) -> None:
        if isinstance(self.allow, str) or not isinstance(self.allow, list | tuple | set | frozenset):
            raise TypeError(f"allow must be a list of classes and functions, not {self.allow!r}")
        object.__setattr__(self, "allow", tuple(self.allow))
        from ._wire.safe import (
            names_of,
        )  # here, since it needs the module pickle, and a program may have one of its own

        names_of(self.allow)


Safe.__module__ = "gibbs"


@dataclass(frozen=True, slots=True, kw_only=True)
class HubOptions:
    """How a hub runs its workers."""

    name: str
    workers: int | Elastic
    launcher: Launcher | Sequence[tuple[Launcher, int]]
    spares: int
    ready: int
    start_timeout: float
    start_concurrency: int | None
    close_timeout: float
    max_pending: float
    max_message: float
    order: Literal["fifo", "deadline"]
    shed: bool
    results: Safe | None
    cancel_grace: float
    restarts: RestartPolicy
    propagate: Sequence[ContextVar[Any] | Propagator]
    logs: bool
    observers: Sequence[Observer]
    record_crashes: str | os.PathLike[str] | None
    slow_call: float | None
    call: CallOptions
    elastic: Elastic | None = field(init=False)  # None: there are as many workers as somebody says
    crews: tuple[tuple[Launcher, int], ...] = field(init=False)  # which launcher fills how many seats, in their order

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError(f"name must be a string, not {self.name!r}")
        elastic = self.workers if isinstance(self.workers, Elastic) else None
        if elastic is None:
            _check_number("workers", self.workers, at_least=1, whole=True)
        object.__setattr__(self, "elastic", elastic)
        object.__setattr__(self, "crews", _crews_of(self.launcher, self.most))
        _check_number("spares", self.spares, at_least=0, whole=True)
        devices = getattr(self.crews[-1][0], "devices", ())
        if self.spares and devices and len(devices) < self.crews[-1][1] + self.spares:
            raise ValueError(
                f"spares={self.spares} need a device each: the launcher has {len(devices)} devices for "
                f"{self.crews[-1][1] + self.spares} workers"
            )
        if isinstance(self.ready, bool) or not isinstance(self.ready, int):
            raise TypeError(f'ready must be "all" or a number of workers, not {self.ready!r}')
        if not 0 <= self.ready <= self.least:
            raise ValueError(f'ready must be "all" or between 0 and workers={self.least}, not {self.ready!r}')
        _check_number("start_timeout", self.start_timeout, above=0)
        if self.start_concurrency is not None:
            _check_number("start_concurrency", self.start_concurrency, at_least=1, whole=True)
        _check_number("close_timeout", self.close_timeout, at_least=0, finite=True)
        _check_number("max_pending", self.max_pending, at_least=0, whole=True, infinite=True)
        if elastic is not None and self.max_pending == 0:
            raise ValueError("max_pending must be 1 or more with an Elastic: what may not wait can call for no worker")
        _check_number("max_message", self.max_message, at_least=LEAST_MESSAGE, whole=True, infinite=True, unit="bytes")
        if self.order not in ("fifo", "deadline"):
            raise ValueError(f'order must be "fifo" or "deadline", not {self.order!r}')
        if not isinstance(self.shed, bool):
            raise TypeError(f"shed must be True or False, not {self.shed!r}")
        if self.results is not None and not isinstance(self.results, Safe):
            raise TypeError(f"results must be None or a gibbs.Safe, not {self.results!r}")
        _check_number("cancel_grace", self.cancel_grace, at_least=0)
        if not isinstance(self.restarts, RestartPolicy):
            raise TypeError(f"restarts must be a gibbs.RestartPolicy, not {self.restarts!r}")
        _check_propagate(self.propagate)
        object.__setattr__(self, "propagate", tuple(self.propagate))
        if not isinstance(self.logs, bool):
            raise TypeError(f"logs must be True or False, not {self.logs!r}")
        if not isinstance(self.observers, list | tuple) or not all(map(callable, self.observers)):
            raise TypeError(f"observers must be a list of functions, not {self.observers!r}")
        if any(map(iscoroutinefunction, self.observers)):
            raise TypeError(f"observers must not be async functions: nobody would wait for them: {self.observers!r}")
        object.__setattr__(self, "observers", tuple(self.observers))
        if self.record_crashes is not None and not isinstance(self.record_crashes, str | os.PathLike):
            raise TypeError(f"record_crashes must be the path of a directory or None, not {self.record_crashes!r}")
        if self.slow_call is not None:
            _check_number("slow_call", self.slow_call, above=0, finite=True)

    @property
    def least(self) -> int:
        """How many workers there are when the hub opens."""
        return self.workers.least if isinstance(self.workers, Elastic) else self.workers

    @property
    def most(self) -> int:
        """How many there may be, unless somebody says otherwise."""
        return self.workers.most if isinstance(self.workers, Elastic) else self.workers


def _crews_of(launcher: Any, workers: int) -> tuple[tuple[Launcher, int], ...]:
    """Which launcher fills how many seats. Raises TypeError or ValueError."""
    if not isinstance(launcher, list | tuple):
        _check_launcher(launcher)
        return ((launcher, workers),)
    crews = []
    for pair in launcher:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise TypeError(f"launcher must be a launcher, or pairs of one and its number of workers, not {pair!r}")
        _check_launcher(pair[0])
        _check_number("the number of workers of a launcher", pair[1], at_least=1, whole=True)
        crews.append((pair[0], pair[1]))
    if sum(count for _, count in crews) != workers:
        counts = " + ".join(str(count) for _, count in crews) or "none"
        raise ValueError(
            f"the launchers must have as many workers together as the hub, workers={workers}, not {counts}"
        )
    return tuple(crews)


def _check_propagate(propagate: Any) -> None:
    """Refuse what is no context variable and no propagator, and two propagators of one name."""
    names = set()
    for one in propagate if isinstance(propagate, list | tuple) else [propagate]:
        if one is propagate or not (isinstance(one, ContextVar) or _is_propagator(one)):
            raise TypeError(f"propagate must be a list of context variables and propagators, not {propagate!r}")
        if not isinstance(one, ContextVar):
            if one.name in names:
                raise ValueError(f"propagate has two propagators called {one.name!r}")
            names.add(one.name)


def _is_propagator(one: Any) -> bool:
    halves = (getattr(one, "capture", None), getattr(one, "around", None))
    return not isinstance(one, type) and all(map(callable, halves)) and isinstance(getattr(one, "name", None), str)


def _check_launcher(launcher: Any) -> None:
    if isinstance(launcher, type) or not callable(getattr(launcher, "session", None)):
        raise TypeError(f"launcher must be a gibbs.abc.Launcher, not {launcher!r}")


def check_workers(workers: Any, elastic: Elastic | None) -> None:
    """How many workers a hub is to have from now on. Raises TypeError or ValueError."""
    _check_number("workers", workers, at_least=0, whole=True)
    if elastic is not None and not elastic.least <= workers <= elastic.most:
        raise ValueError(
            f"workers must be between {elastic.least} and {elastic.most}, as the hub's Elastic says, not {workers!r}"
        )


def _check_number(
    name: str,
    value: Any,
    *,
    at_least: float | None = None,
    above: float | None = None,
    whole: bool = False,
    infinite: bool = False,
    finite: bool = False,
    unit: str = "",
) -> None:
    """Refuse what is no number of this kind. A bool is not a number; NaN, and an int too long for a float, are out of range."""
    allowed = (int,) if whole and not infinite else (int, float)
    what = f"a whole number{unit and ' of '}{unit}" if whole else "a number of seconds"
    bound = f" ≥ {at_least}" if at_least is not None else f" > {above:g}" if above is not None else ""
    wanted = f"{name} must be {what}{bound}" + (" or math.inf" if infinite else "")
    if isinstance(value, bool) or not isinstance(value, allowed):
        raise TypeError(f"{wanted}, not {value!r}")
    in_range = value == math.inf or value <= sys.float_info.max
    in_range = in_range and (at_least is None or value >= at_least) and (above is None or value > above)
    in_range = in_range and not (finite and value == math.inf)
    if whole and value != math.inf:
        in_range = in_range and value == int(value)
    if not in_range:
        raise ValueError(f"{wanted}, not {value!r}")
