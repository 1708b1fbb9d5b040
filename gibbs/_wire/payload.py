"""One object as bytes, and back.

Knows pickle, cloudpickle, and which of the two an object needs. Must never know what the object is for, nor which side it
is on: both sides speak alike, so identity is kept in both directions. Promises: `__main__` is never imported by a reader,
since what lives there travels by value; a class that the reader already has is given back as it is, never built or set
again (cloudpickle alone would reset its attributes and methods, in the hub's program too).
"""

from __future__ import annotations

from functools import cache
from io import BytesIO

try:
    from _pickle import PicklingError, Unpickler, UnpicklingError
    from _pickle import dumps as _dumps
    from _pickle import loads as _loads
except ImportError:  # an interpreter without the C pickler
    from pickle import PicklingError, Unpickler, UnpicklingError
    from pickle import dumps as _dumps
    from pickle import loads as _loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

# A payload's first byte says who reads it. A plain pickle begins with its own PROTO, so nothing is put before it and a large
# one is not copied.
PLAIN = 0x80
_BY_VALUE = 0x01

# How a pickle begins a name in that module: SHORT_BINUNICODE, the length, the text, MEMOIZE. A longer text that contains the
# word is not taken for it; a text that is just the word costs the slow road and nothing else. The last byte is rare in
# texts, which makes the search fast.
_NAMES_MAIN = b"\x8c\x08__main__\x94"

# cloudpickle's ids of the classes whose building has begun here and has not ended. An id stays behind when a stream fails
# half way: then the class is there, empty, and the next stream that brings it must fill it.
_unfinished: set[str] = set()

# cloudpickle holds the classes that it built weakly. A worker that has answered one request holds nothing more of its
# argument, and would build the class anew, its attributes reset, for the next. So the latest ones are held here. The number
# bounds what a model costs that makes a class in every call.
_held: dict[str, type] = {}
_HELD = 256


def dumps(value: object, aside: Callable[[Any], object] | None = None) -> bytes:
    """The object as bytes. Raises the pickler's own error, or the one that the object's own code raised.

    `aside` is told of each buffer that could travel elsewhere and says whether it is to stay. A body that does not begin with PLAIN
    has all of them, whatever it said.
    """
    failure: Exception | None = None
    try:
        body = _dumps(value, 5, buffer_callback=aside)
        if body.find(_NAMES_MAIN) < 0:  # half the time of `in`
            return body
    except (RecursionError, MemoryError):
        raise  # the second pickler needs more of both
    except Exception as error:  # noqa: BLE001 - picklers raise TypeError, AttributeError, PicklingError; a __reduce__ anything
        failure = error
    try:
        try:
            return _dumps_by_value(value)
        except Exception:
            # An object without an importable name is no obstacle, so the second pickler, which went further, knows the
            # real one. Any other complaint of the first is about the object itself.
            if failure is None or isinstance(failure, AttributeError | PicklingError):
                raise
        raise failure
    finally:
        del failure  # or the error and this frame would hold each other, and the object


def loads(body: bytes | bytearray | memoryview, buffers: Iterable[Any] = ()) -> Any:
    """The object again. May raise anything at all, SystemExit too: it runs what the object's classes define."""
    flavour = body[0] if body else None
    if flavour == PLAIN:
        return _loads(body, buffers=buffers)
    if flavour == _BY_VALUE:
        stream = BytesIO(body)
        stream.seek(1)
        return _ByValue(stream).load()
    raise UnpicklingError(f"a payload does not begin with {flavour}")


loads_plain = _loads  # of a body that begins with PLAIN


def _dumps_by_value(value: object) -> bytes:
    stream = BytesIO()
    stream.write(bytes((_BY_VALUE,)))
    try:
        _pickler_by_value()(stream, 5).dump(value)
    except PicklingError as error:
        if isinstance(error.__cause__, RecursionError):
            raise error.__cause__ from None  # cloudpickle renames it
        raise
    return stream.getvalue()


@cache
def _pickler_by_value() -> Any:
    """cloudpickle's, made when it is needed first, to which context variables are no obstacle."""
    from contextvars import ContextVar

    import cloudpickle

    from . import variables

    class ByValue(cloudpickle.Pickler):
        def reducer_override(self, obj: Any) -> Any:
            if type(obj) is ContextVar:
                return variables.parts_of(obj)
            return super().reducer_override(obj)  # type: ignore[no-untyped-call]

    return ByValue


class _ByValue(Unpickler):
    """Reads what cloudpickle wrote, and leaves alone the classes that are already here."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        found = super().find_class(module_name, global_name)
        if module_name == "cloudpickle.cloudpickle":
            if global_name in ("_make_skeleton_class", "_make_skeleton_enum"):
                return lambda *args: _make_once(found, *args)
            if global_name == "_class_setstate":
                return lambda cls, state: _set_once(found, cls, state)
        return found


def _make_once(make: Callable[..., type], *args: Any) -> type:
    """`make(*args)`, unless the class is here. Not building it also spares `__init_subclass__` and metaclasses a second run."""
    from cloudpickle.cloudpickle import _DYNAMIC_CLASS_TRACKER_BY_ID as CLASSES

    tracker_id: str = args[-2]
    known: type | None = CLASSES.get(tracker_id)
    if known is not None:
        return known
    _unfinished.add(tracker_id)  # before the class is there, since an interrupt may come between any two lines
    return make(*args)


def _set_once(set_state: Callable[..., object], cls: type, state: object) -> type:
    """`set_state(cls, state)`, unless the class was here before the stream."""
    from cloudpickle.cloudpickle import _DYNAMIC_CLASS_TRACKER_BY_CLASS as IDS

    tracker_id: str = IDS.get(cls, "")
    if tracker_id in _unfinished:
        set_state(cls, state)
        _held[tracker_id] = cls
        if len(_held) > _HELD:
            del _held[next(iter(_held))]
        _unfinished.discard(tracker_id)
    return cls
