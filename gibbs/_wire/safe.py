"""Results without code: data of fixed kinds, and by name what the user allows. For a hub that does not trust its workers' pickles.

Knows which names a pickle may speak of. The worker's half writes pickles that need few names (arrays as dtype, shape and bytes;
allowed classes by their name alone, so that those of `__main__` can come too); the hub's half looks each name up in a table
and imports nothing on a worker's word. Promises that no callable outside the table is called while a body is opened. It is a filter, not a
sandbox: what is allowed is called with any arguments, and no bound is put on memory.

After "Restricting Globals" in the documentation of Python's pickle.
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
    from collections.abc import Iterable, Mapping
    from typing import Any

    Names = Mapping[tuple[str, str], object]

# Harmless with any arguments, as far as anything is: nothing here calls what it is given, or makes much of little.
_VOCABULARY = {
    "builtins": ("complex", "slice", "Ellipsis", "NotImplemented"),
    "collections": ("OrderedDict",),
    "datetime": ("date", "datetime", "time", "timedelta", "timezone"),
    "decimal": ("Decimal",),
    "fractions": ("Fraction",),
    "uuid": ("UUID", "SafeUUID"),
    "ipaddress": ("IPv4Address", "IPv6Address"),
}


def names_of(allow: Iterable[object] = ()) -> Names:
    """The table of a hub: the fixed vocabulary, and what the user allows. Raises TypeError for what has no name."""
    from importlib import import_module

    names: dict[tuple[str, str], object] = {}
    for module, members in _VOCABULARY.items():
        for member in members:
            names[module, member] = getattr(import_module(module), member)
    # Where the pickles of a version of Python name them otherwise.
    names["_decimal", "Decimal"] = names["decimal", "Decimal"]
    allowed: dict[tuple[str, str], object] = {}
    for one in allow:
        where, name = (getattr(one, attribute, None) for attribute in ("__module__", "__qualname__"))
        if not callable(one) or not isinstance(where, str) or not isinstance(name, str):
            raise TypeError(f"allow takes classes and functions, which a pickle speaks of by name, not {one!r}")
        allowed[where, name] = one
    names.update(allowed)

    def by_name(module: str, name: str) -> object:
        return _looked_up(allowed, module, name)

    names[__name__, "by_name"] = by_name
    names[__name__, "array"] = array
    names[__name__, "scalar"] = scalar
    return names


def loads(body: bytes | bytearray | memoryview, names: Names) -> Any:
    """The object again. Raises UnpicklingError for a name that is not in the table, or what an allowed class raises."""
    if body and body[0] != payload.PLAIN:
        raise UnpicklingError("the body brings code with it (it was pickled by value), which gibbs.Safe never opens")
    return _Reader(BytesIO(body), names).load()


class _Reader(Unpickler):
    def __init__(self, stream: BytesIO, names: Names) -> None:
        super().__init__(stream)
        self._names = names

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        return _looked_up(self._names, module_name, global_name)


def _looked_up(names: Names, module: str, name: str) -> object:
    try:
        return names[module, name]
    except KeyError:
        raise UnpicklingError(
            f"the body speaks of {module}.{name}, which is not allowed. If it is harmless with any arguments, "
            f"allow it: results=gibbs.Safe(allow=[{name}])"
        ) from None


# ---- the worker's half


def dumps(value: object) -> bytes:
    """The object as bytes that need few names. Raises the pickler's own error, or the one that the object's own code raised."""
    stream = BytesIO()
    _Writer(stream, 5).dump(value)
    return stream.getvalue()


class _Writer(Pickler):
    def reducer_override(self, obj: Any, /) -> Any:
        if isinstance(obj, type) and obj.__module__ == "__main__":
            # The hub's program has it under this name. Here it came by value, and `__main__` is something else.
            return by_name, (obj.__module__, obj.__qualname__)
        numpy = sys.modules.get("numpy")
        if numpy is not None:
            if type(obj) is numpy.ndarray and not obj.dtype.hasobject:
                return array, (_dtype_of(obj), obj.shape, obj.tobytes())
            if isinstance(obj, numpy.generic) and not obj.dtype.hasobject:
                return scalar, (_dtype_of(obj), obj.tobytes())
        return NotImplemented


def _dtype_of(obj: Any) -> Any:
    return obj.dtype.descr if obj.dtype.names else obj.dtype.str


def by_name(module: str, name: str) -> object:
    """Stands in a pickle for the allowed class of this name; each hub looks it up in its own table."""
    raise UnpicklingError(f"{module}.{name} can be looked up by a hub only")


def array(dtype: Any, shape: tuple[int, ...], data: bytes) -> Any:
    """A writable numpy array of these bytes. Raises ValueError if the three do not fit together."""
    return _flat(dtype, data).reshape(shape).copy()


def scalar(dtype: Any, data: bytes) -> Any:
    """The numpy scalar of these bytes."""
    return _flat(dtype, data)[0]


def _flat(dtype: Any, data: bytes) -> Any:
    import numpy

    kind = numpy.dtype([tuple(field) for field in dtype] if isinstance(dtype, list) else dtype)
    if kind.hasobject:
        raise ValueError("an array of objects cannot be made from bytes")
    return numpy.frombuffer(data, kind) if data else numpy.empty(0, kind)
