"""Plain data as pickles that need few names: how the words of a worker are written, and its results where they are not trusted.

Knows which kinds of data need no class of a user's: what pickle has opcodes for, and a few more, each of which a maker below builds from
numbers, text and bytes, and from nothing else, so that no maker can be made to do much for little. `safe` reads them. Light: the
worker writes with it.
"""

from __future__ import annotations

import sys
from io import BytesIO

try:
    from _pickle import Pickler, Unpickler, UnpicklingError
except ImportError:  # an interpreter without the C pickler
    from pickle import Pickler, Unpickler, UnpicklingError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Dtype = str | list[tuple[Any, ...]]

_Function = type(lambda: None)

_MOST_BITS = 100_000  # of the parts of a fraction: their greatest common divisor takes the square of it
_MOST_FIELDS = 10_000
_LONGEST_FORMAT = 1_000


def dumps(value: object) -> bytes:
    """The object as bytes that need few names. Raises the pickler's own error, or the one that the object's own code raised."""
    stream = BytesIO()
    _Writer(stream, 5).dump(value)
    return stream.getvalue()


def loads(body: bytes | bytearray | memoryview) -> Any:
    """Words again, of a worker that is trusted: what needs no name at all. Raises UnpicklingError for the rest."""
    return _Words(BytesIO(body)).load()


class _Words(Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        raise UnpicklingError(f"words speak of nothing, and these of {module_name}.{global_name}, which is not allowed")


class _Writer(Pickler):
    def reducer_override(self, obj: Any, /) -> Any:
        kind = type(obj)
        if isinstance(obj, type | _Function) and obj.__module__ == "__main__":
            # The hub's program has it under this name. Here it came by value, and `__main__` is something else.
            return by_name, (obj.__module__, obj.__qualname__)
        if kind in _PARTS:
            return _PARTS[kind](obj)
        if kind.__module__ in _PARTS_BY_NAME:
            parts = _PARTS_BY_NAME[kind.__module__].get(kind.__name__)
            return NotImplemented if parts is None else parts(obj)
        numpy = sys.modules.get("numpy")
        if numpy is not None:
            if kind is numpy.ndarray and not obj.dtype.hasobject:
                return array, (_dtype_of(obj), obj.shape, obj.tobytes())
            if isinstance(obj, numpy.generic) and not obj.dtype.hasobject:
                return scalar, (_dtype_of(obj), obj.tobytes())
        return NotImplemented


def _dtype_of(obj: Any) -> Dtype:
    from numpy.lib.format import dtype_to_descr

    dtype: Dtype = dtype_to_descr(obj.dtype)
    return dtype


# ---- the makers


def by_name(module: str, name: str) -> Any:
    """Stands in the bytes for the allowed class or function of that name; only who reads them knows which it is."""
    raise TypeError(f"{module}.{name} is looked up by who reads it")


def array(dtype: Dtype, shape: tuple[int, ...], data: bytes) -> Any:
    """A writable numpy array of these bytes. Raises TypeError or ValueError if the three do not fit together."""
    if type(shape) is not tuple or len(shape) > 64:
        raise TypeError("the shape of an array is a tuple of whole numbers")
    _check(int, *shape)
    return _flat(dtype, data).reshape(shape).copy()


def scalar(dtype: Dtype, data: bytes) -> Any:
    """The numpy scalar of these bytes."""
    return _flat(dtype, data)[0]


def fraction(numerator: int, denominator: int) -> Any:
    """A Fraction of two whole numbers: from text it could be asked for 10 to the power of a billion."""
    from fractions import Fraction

    _check(int, numerator, denominator)
    if max(numerator.bit_length(), denominator.bit_length()) > _MOST_BITS:
        raise ValueError(f"a fraction of more than {_MOST_BITS} bits is not opened")
    return Fraction(numerator, denominator)


def decimal(text: str) -> Any:
    """The Decimal with this text."""
    from decimal import Context, Decimal, InvalidOperation

    _check(str, text)
    return Decimal(text, Context(traps=[InvalidOperation]))  # not the program's own context, whose flags it could set


def uuid(number: int) -> Any:
    """The UUID with this number."""
    from uuid import UUID

    _check(int, number)
    return UUID(int=number)


def address(version: int, number: int) -> Any:
    """The IP address with this number."""
    from ipaddress import IPv4Address, IPv6Address

    _check(int, version, number)
    return (IPv4Address if version == 4 else IPv6Address)(number)


def complex_(real: float, imaginary: float) -> complex:
    """A complex number."""
    _check(float, real, imaginary)
    return complex(real, imaginary)


def slice_(start: int | None, stop: int | None, step: int | None) -> slice:
    """A slice of whole numbers. One of anything else could be of slices, as deep as one likes, and fell on being freed."""
    _check(int, *(part for part in (start, stop, step) if part is not None))
    return slice(start, stop, step)


def ordered_dict() -> Any:
    """An empty OrderedDict; its items follow."""
    from collections import OrderedDict

    return OrderedDict()


MAKERS: dict[str, Callable[..., Any]] = {
    maker.__name__: maker for maker in (array, scalar, fraction, decimal, uuid, address, complex_, slice_, ordered_dict)
}

# How the writer takes apart what a maker puts together.
_PARTS: dict[type, Callable[[Any], Any]] = {
    complex: lambda obj: (complex_, (obj.real, obj.imag)),
    slice: lambda obj: (slice_, (obj.start, obj.stop, obj.step)),
}
_PARTS_BY_NAME: dict[str, dict[str, Callable[[Any], Any]]] = {  # the worker may never have loaded their modules
    "collections": {"OrderedDict": lambda obj: (ordered_dict, (), None, None, iter(obj.items()))},
    "decimal": {"Decimal": lambda obj: (decimal, (str(obj),))},
    "fractions": {"Fraction": lambda obj: (fraction, (obj.numerator, obj.denominator))},
    "uuid": {"UUID": lambda obj: (uuid, (obj.int,))},
    "ipaddress": {
        "IPv4Address": lambda obj: (address, (4, int(obj))),
        "IPv6Address": lambda obj: (address, (6, int(obj))),
    },
}


def _check(kind: type, *parts: object) -> None:
    """Of this very type, each: whatever else is there may have code of its own, or parts without end."""
    for part in parts:
        if type(part) is not kind:
            raise TypeError(f"expected {kind.__name__}, not {type(part).__name__}")


def _flat(dtype: Dtype, data: bytes) -> Any:
    import numpy
    from numpy.lib.format import descr_to_dtype

    _check(bytes, data)
    kind = descr_to_dtype(_checked(dtype, depth=10))
    if kind.hasobject:
        raise ValueError("an array of objects cannot be made from bytes")
    return numpy.frombuffer(data, kind) if data else numpy.empty(0, kind)


def _checked(dtype: Any, *, depth: int) -> Any:
    """A dtype as numpy's own files say it, and nothing else. Raises TypeError."""
    if type(dtype) is str and len(dtype) <= _LONGEST_FORMAT:
        return dtype
    if type(dtype) is not list or not depth or len(dtype) > _MOST_FIELDS:
        raise TypeError("this is no dtype")
    fields = []
    for field in dtype:
        if type(field) is not tuple or len(field) not in (2, 3):
            raise TypeError("this is no field of a dtype")
        name, kind, *shape = field
        titles = name if type(name) is tuple and len(name) == 2 else (name,)
        _check(str, *titles)
        for dimensions in shape:
            _check(int, *(dimensions if type(dimensions) is tuple else (dimensions,)))
        fields.append((name, _checked(kind, depth=depth - 1), *shape))
    return fields
