"""Plain data as bytes, and back, without any code: what is said about a result, never what a result does.

Knows the kinds of data that need no class of a user: what pickle has opcodes for, and a few more, each of which a maker below
builds from numbers and text. Must never import on a worker's word, nor hand out anything that could be changed for others.
Promises that reading calls the makers and nothing else. Light: the worker writes with it. No bound is put on memory.
"""

from __future__ import annotations

import sys
from io import BytesIO

from . import payload

try:
    from _pickle import Pickler, Unpickler, UnpicklingError
except ImportError:  # an interpreter without the C pickler
    from pickle import Pickler, Unpickler, UnpicklingError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Dtype = str | list[tuple[Any, ...]]

# Classes that no attribute can be set on, and which make nothing big of something small.
_VOCABULARY = {
    "builtins": ("complex", "slice", "Ellipsis", "NotImplemented"),
    "collections": ("OrderedDict",),
    "datetime": ("date", "datetime", "time", "timedelta", "timezone"),
    "decimal": ("Decimal",),
}


class NotAllowed(UnpicklingError):
    """The bytes speak of something that is not in the vocabulary."""


# ---- reading


def loads(body: bytes | bytearray | memoryview) -> Any:
    """The data again. Raises UnpicklingError for whatever else it is."""
    return Reader(body).load()


class Reader(Unpickler):
    """Reads one body."""

    def __init__(self, body: bytes | bytearray | memoryview) -> None:
        if body and body[0] != payload.PLAIN:
            raise NotAllowed("the body brings code with it (it was pickled by value), which is never opened here")
        super().__init__(BytesIO(body))

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        return find(module_name, global_name)


def find(module: str, name: str) -> Any:
    """What the bytes may speak of by this name. Raises NotAllowed."""
    if module == __name__ and name in _MAKERS:
        return _Maker(_MAKERS[name])
    if module == "_decimal":  # as some versions of Python say
        module = "decimal"
    if name in _VOCABULARY.get(module, ()):
        from importlib import import_module

        return getattr(import_module(module), name)
    raise NotAllowed(
        f"the body speaks of {module}.{name}, which is not allowed. If it is harmless with any arguments, "
        f"allow it: results=gibbs.Safe(allow=[{name}])"
    )


# ---- writing


def dumps(value: object) -> bytes:
    """The object as bytes that need few names. Raises the pickler's own error, or the one that the object's own code raised."""
    stream = BytesIO()
    _Writer(stream, 5).dump(value)
    return stream.getvalue()


class _Writer(Pickler):
    def reducer_override(self, obj: Any, /) -> Any:
        kind = type(obj)
        if kind is type and obj.__module__ == "__main__":
            # The hub's program has it under this name. Here it came by value, and `__main__` is something else.
            return by_name, (obj.__module__, obj.__qualname__)
        module = kind.__module__
        if module == "fractions" and kind.__name__ == "Fraction":
            return fraction, (obj.numerator, obj.denominator)
        if module == "uuid" and kind.__name__ == "UUID":
            return uuid, (obj.int,)
        if module == "ipaddress" and kind.__name__ in ("IPv4Address", "IPv6Address"):
            return address, (obj.version, int(obj))
        numpy = sys.modules.get("numpy")
        if numpy is not None:
            if kind is numpy.ndarray and not obj.dtype.hasobject:
                return array, (_dtype_of(obj), obj.shape, obj.tobytes())
            if isinstance(obj, numpy.generic) and not obj.dtype.hasobject:
                return scalar, (_dtype_of(obj), obj.tobytes())
        return NotImplemented


def _dtype_of(obj: Any) -> Dtype:
    dtype: Dtype = obj.dtype.descr if obj.dtype.names else obj.dtype.str
    return dtype


# ---- the makers, in both


def by_name(module: str, name: str) -> Any:
    """Stands in the bytes for an allowed class of that name. What reads plain data allows none."""
    return find(module, name)


def array(dtype: Dtype, shape: tuple[int, ...], data: bytes) -> Any:
    """A writable numpy array of these bytes. Raises ValueError if the three do not fit together."""
    return _flat(dtype, data).reshape(shape).copy()


def scalar(dtype: Dtype, data: bytes) -> Any:
    """The numpy scalar of these bytes."""
    return _flat(dtype, data)[0]


def fraction(numerator: int, denominator: int) -> Any:
    """A Fraction of two integers: made from text it could be asked for 10 to the power of a billion."""
    from fractions import Fraction

    return Fraction(numerator, denominator)


def uuid(number: int) -> Any:
    """The UUID with this number."""
    from uuid import UUID

    return UUID(int=number)


def address(version: int, number: int) -> Any:
    """The IP address with this number."""
    from ipaddress import IPv4Address, IPv6Address

    return (IPv4Address if version == 4 else IPv6Address)(number)


def _flat(dtype: Dtype, data: bytes) -> Any:
    import numpy

    kind = numpy.dtype([tuple(field) for field in dtype] if isinstance(dtype, list) else dtype)
    if kind.hasobject:
        raise ValueError("an array of objects cannot be made from bytes")
    return numpy.frombuffer(data, kind) if data else numpy.empty(0, kind)


_MAKERS = {maker.__name__: maker for maker in (by_name, array, scalar, fraction, uuid, address)}


class _Maker:
    """One use of a maker: bytes can set the attributes of what they name, and of a function they would be set for all."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *args: Any) -> Any:
        return self._make(*args)
