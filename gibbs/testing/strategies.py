"""Values for Hypothesis: those that survive the way to a worker and back, and those that cannot be sent.

Knows Hypothesis, which it alone needs, and pickle's and cloudpickle's habits. What travels is what an app's own tests may draw
arguments and results from; what does not is for its error paths.
"""

from __future__ import annotations

import collections
import datetime
import io
import socket
import threading
import types
import weakref
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from ._samples import Colour, Flags, Frozen, Local, Pair, Record, Refuses

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["does_not_travel", "travels"]


def travels() -> st.SearchStrategy[Any]:
    """Values that come back equal, and of the same type, when a model returns what it was given.

    Plain data of every kind, nested: also numbers that fit into no word, infinities, lone surrogates, times with zones, enums,
    dataclasses, named tuples, classes and functions by their names, and an instance of a class that no worker can import. NaN is not
    among them, since it does not equal itself; it travels all the same. Nor are exceptions, which equal nothing but themselves.

    Example:
        ```python
        @given(travels())
        async def test_my_model_stores_anything(value):
            async with open_inline_hub(Store) as hub:
                assert await hub.request(value) == value
        ```
    """
    return st.recursive(_keys() | _leaves(), _containers, max_leaves=20)


def does_not_travel() -> st.SearchStrategy[Any]:
    """Values that no worker can be sent: a request with one raises in its caller, and nothing has left.

    Locks, generators, sockets, weak references, objects whose own code refuses, and whatever holds one of those: containers, instances
    and functions of yours. Lambdas, local functions and local classes are not among them: they travel, by value. So do files that are
    open for reading text, of which a copy of what is left to read arrives.

    Example:
        ```python
        @given(does_not_travel())
        async def test_what_cannot_be_sent_is_the_callers_error(value):
            async with open_inline_hub(Store) as hub:
                with pytest.raises(Exception):
                    await hub.request(value)
        ```
    """
    return st.one_of(_UNSENT, st.builds(_hide, _UNSENT, st.sampled_from(_PLACES), travels()))


_ZONES = (None, datetime.UTC, datetime.timezone(datetime.timedelta(hours=-3, minutes=-30)))


def _keys() -> st.SearchStrategy[Any]:
    """What can be a key, or in a set."""
    return st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.integers(min_value=1 << 64, max_value=1 << 3000),
        st.floats(allow_nan=False),
        st.complex_numbers(allow_nan=False),
        st.text(st.characters()),  # lone surrogates too
        st.binary(),
        st.dates(),
        st.datetimes(timezones=st.sampled_from(_ZONES)),
        st.times(),
        st.timedeltas(),
        st.decimals(allow_nan=False),
        st.fractions(),
        st.uuids(),
        st.ip_addresses(),
        st.sampled_from(Colour),
        st.sampled_from([Flags(0), Flags.A, Flags.A | Flags.C]),
        st.sampled_from([Ellipsis, int, Record, len, Colour, Local]),
        st.builds(PurePosixPath, st.text(st.characters(min_codepoint=1), max_size=5)),
        st.builds(range, st.integers(-9, 9), st.integers(-9, 9)),
    )


def _leaves() -> st.SearchStrategy[Any]:
    return st.one_of(
        st.binary().map(bytearray),
        st.sets(_keys(), max_size=3),
        st.frozensets(_keys(), max_size=3),
        st.builds(Frozen, _keys()),
        st.builds(slice, st.integers(), st.none() | st.integers()),
    )


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.lists(inner, max_size=4).map(collections.deque),
        st.dictionaries(_keys(), inner, max_size=4),
        st.dictionaries(st.text(), inner, max_size=4).map(collections.OrderedDict),
        st.builds(Pair, inner, inner),
        st.builds(Record, st.text(), inner),
        st.builds(Local, inner),
    )


def _generator() -> Any:
    yield


def _closed_socket() -> socket.socket:
    with socket.socket() as made:
        return made


class _Weak:
    pass


_KEPT = _Weak()

_MAKE: tuple[Callable[[], Any], ...] = (
    threading.Lock,
    threading.RLock,
    threading.Condition,
    threading.local,
    _generator,
    _closed_socket,
    lambda: weakref.ref(_KEPT),
    lambda: io.BufferedReader(io.BytesIO()),
    lambda: (lambda lock: lambda: lock)(threading.Lock()),  # a function that holds one
    lambda: Local(threading.Lock()),
    lambda: types.SimpleNamespace(lock=threading.Lock()),
    lambda: Refuses(ValueError),
    lambda: Refuses(ZeroDivisionError),
)
_UNSENT: st.SearchStrategy[Any] = st.sampled_from(_MAKE).map(lambda make: make())

_PLACES: tuple[Callable[[Any, Any], Any], ...] = (
    lambda unsent, other: [other, unsent],
    lambda unsent, other: (unsent, other),
    lambda unsent, other: {"a": other, "b": unsent},
    lambda unsent, other: Record("a record", [other, unsent]),
    lambda unsent, other: Local(Pair(other, unsent)),
)


def _hide(unsent: Any, place: Callable[[Any, Any], Any], other: Any) -> Any:
    return place(unsent, other)
