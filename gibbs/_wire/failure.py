"""How an exception travels from the worker to the caller.

Knows the ladder: the exception's own pickle; its parts, put together without its `__init__`; a description in words. Each
rung is tried as a whole round trip in the worker, so that the hub does not meet what cannot be rebuilt. Must never know
the public errors: `RemoteFailure` is the hub's to translate. Promises: neither side raises here, whatever the exception
does; what comes out is a fresh object that is safe to raise in anybody's task, or a RemoteFailure; the worker's
traceback always arrives, as text; the words are capped, so that all of them fit into `WORDS` bytes.
"""

from __future__ import annotations

import sys

from . import payload, plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    T = TypeVar("T")

WORDS = 1 << 19  # bytes; more than all of the following in UTF-8
_NAME = 500  # characters
_MESSAGE = 8_000
_TRACEBACK = 64_000
_NOTES = 8_000  # all together
_STAGES = ("arguments", "call", "result")
_SCALARS = (str, int, float, bool, bytes, complex, type(None))
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class made by Python code

# These mean something to whoever runs a coroutine. The cancellations of asyncio and Trio are no Exceptions; a class may
# derive from both, so the one that can be derived from is looked for as well.
_SIGNALS = (StopIteration, StopAsyncIteration, SystemExit, KeyboardInterrupt, GeneratorExit)


class RemoteFailure:
    """An exception in words, because it cannot or must not travel as itself. `stage`: "arguments", "call" or "result"."""

    __slots__ = ("message", "stage", "traceback", "type_name")

    def __init__(self, type_name: str, message: str, traceback: str, stage: str) -> None:
        self.type_name = type_name
        self.message = message
        self.traceback = traceback
        self.stage = stage

    def __repr__(self) -> str:
        return f"<RemoteFailure in the {self.stage}: {self.type_name}: {self.message[:80]}>"


def dump_failure(error: BaseException, *, stage: str, where: str, longest: float = sys.maxsize) -> bytes:
    """The exception as bytes. Never raises. `where` names the worker, for the note that the caller will read.

    It travels as itself if that takes no more than `longest` bytes, else in words, which take up to WORDS more.
    """
    try:
        words = describe_failure(error, stage=stage)
        body = _travelling(error) if stage == "call" and longest > 0 else None
        if body is not None and len(body) > longest:
            body = None
        return plain.dumps((words.type_name, words.message, words.traceback, stage, where, _notes_of(error), body))
    except BaseException as problem:  # noqa: BLE001 - no memory, or an interrupt: the request still needs an answer
        name, reason = _type_name(error), _type_name(problem)
        return plain.dumps((name, "", f"(lost: {reason})", stage, where, [], None))


def load_failure(body: bytes | bytearray | memoryview, *, trusted: bool = True) -> BaseException | RemoteFailure:
    """A new exception for this caller, or what is known of it. Never raises: an exception's class may run any code here.

    Of a worker that is not `trusted` the words are read, which run none.
    """
    try:
        type_name, message, traceback, stage, where, notes, travelling = load_words(body, trusted=trusted)
        if (
            not all(type(text) is str for text in (type_name, message, traceback, where, *notes))
            or stage not in _STAGES
        ):
            raise TypeError("these are not the words of a failure")
        words = RemoteFailure(
            _capped(type_name, _NAME), _capped(message, _MESSAGE), _capped(traceback, _TRACEBACK), stage
        )
    except BaseException as problem:  # noqa: BLE001 - no dump_failure made this
        return describe_failure(problem, stage="result")
    if travelling is None or not trusted:
        return words
    try:
        error: BaseException = payload.loads(travelling)
        if not is_safe_to_raise(error):
            return words
        note = f"Raised in {where}. The traceback there:\n\n{traceback}"
        # Not add_note: a frozen exception refuses it.
        BaseException.__setattr__(error, "__notes__", [*notes, note])
    except BaseException:  # noqa: BLE001 - KeyboardInterrupt too: the class is not here, or its code raises what it likes
        return words
    return error


def failure_name(body: bytes | bytearray | memoryview, *, trusted: bool) -> str:
    """The exception's class by its name, with its module unless that is `builtins`; "" if it is not told. Never raises, runs nothing of it."""
    try:
        name = load_words(body, trusted=trusted)[0]
    except Exception:  # noqa: BLE001 - no dump_failure made this
        return ""
    return _capped(name, _NAME) if type(name) is str else ""


def load_words(body: bytes | bytearray | memoryview, *, trusted: bool) -> Any:
    """What a worker says, as plain data that speak of no names. Raises pickle's errors for whatever else it is."""
    if trusted:
        return plain.loads(body)
    from . import safe  # here, since it needs the module pickle, and a program may have one of its own

    return safe.loads(body)


def describe_failure(error: BaseException, *, stage: str) -> RemoteFailure:
    """The exception in words. Never raises."""
    message = _attempt(lambda: _capped(str.__str__(str(error)), _MESSAGE), "<exception str() failed>")
    traceback = _attempt(lambda: _capped(_traceback_of(error), _TRACEBACK), "(no traceback: it could not be formatted)")
    return RemoteFailure(_type_name(error), message, traceback, stage)


def is_safe_to_raise(error: object) -> bool:
    """Whether raising this very object does no harm to a task: ordinary exceptions only, its members and causes included."""
    asyncio = sys.modules.get("asyncio.exceptions")
    signals = (*_SIGNALS, asyncio.CancelledError) if asyncio else _SIGNALS
    seen: dict[int, object] = {}
    todo: list[object] = [error]
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen[id(one)] = one
        # By type(): an object may lie about its __class__.
        if not issubclass(type(one), Exception) or issubclass(type(one), signals):
            return False
        assert isinstance(one, Exception)
        todo += [other for other in (one.__cause__, one.__context__) if other is not None]
        if isinstance(one, BaseExceptionGroup):
            todo += one.exceptions
    return True


def _travelling(error: BaseException) -> bytes | None:
    """Bytes that become an equal and safe exception, or None."""
    return _tried(error, error) or _tried(_Parts(error), error)


def _tried(carrier: object, error: BaseException) -> bytes | None:
    body, copy = _round_trip(carrier)
    return body if _attempt(lambda: _same(copy, error) and is_safe_to_raise(copy), False) else None


def _round_trip(value: object) -> tuple[bytes | None, Any]:
    try:
        body = payload.dumps(value)
        return body, payload.loads(body)
    except BaseException:  # noqa: BLE001 - a __reduce__ or __init__ may call sys.exit
        return None, None


class _Parts:
    """An exception that is pickled as what it is made of, not by its own pickling."""

    __slots__ = ("_error",)

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __reduce__(self) -> tuple[Callable[..., BaseException], tuple[Any, ...]]:
        error = self._error
        # The builtin's own way knows what is in no `args` and in no `__dict__`: a file name, a module's name.
        _, args, *more = _builtin_base(type(error)).__reduce__(error)
        if isinstance(error, BaseExceptionGroup):
            # One member that needs this road must not make words of the whole group.
            args = (error.message, [one if _tried(one, one) else _Parts(one) for one in error.exceptions])
        state = dict(more[0] or {}) if more else {}
        state.pop("__notes__", None)
        state = {name: value for name, value in state.items() if _round_trip(value)[0]}
        return _put_together, (type(error), args, state)


def _put_together(cls: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]) -> BaseException:
    """An exception without a call of its class's `__init__`, which wants arguments that nobody kept."""
    base: Any = _builtin_base(cls)
    # Nor of its `__new__`, where group classes have their own arguments, unless it is a C type that insists.
    copy: BaseException | None = _attempt(lambda: base.__new__(cls, *args), None)
    if copy is None:
        copy = cls.__new__(cls, *args)
    base.__init__(copy, *args)  # sets what the builtin keeps in C: errno, lineno, name
    for name, value in state.items():
        BaseException.__setattr__(copy, name, value)
    return copy


def _builtin_base(cls: type[BaseException]) -> Any:
    return next(base for base in cls.__mro__ if not base.__flags__ & _HEAP_TYPE)


def _same(copy: BaseException, error: BaseException) -> bool:
    """Whether the copy can stand for the exception: type, text, and the arguments as far as they can be compared."""
    if copy is error or type(copy) is not type(error) or _text(copy) != _text(error):
        return False
    # A class that keeps no arguments may get some from being rebuilt (pydantic's ValidationError does).
    if error.args and not (len(copy.args) == len(error.args) and all(map(_alike, copy.args, error.args))):
        return False
    if isinstance(error, BaseExceptionGroup) and isinstance(copy, BaseExceptionGroup):
        return len(copy.exceptions) == len(error.exceptions) and all(map(_same, copy.exceptions, error.exceptions))
    return True


def _alike(a: object, b: object) -> bool:
    if type(a) in _SCALARS and type(b) in _SCALARS:
        return type(a) is type(b) and (a == b or a != a)  # the last: a NaN
    return True  # `==` of anything else may mean anything: an array, or identity


def _text(error: BaseException) -> str:
    import re

    try:
        return re.sub("0x[0-9a-fA-F]+", "0x", str(error))  # the address of an argument without a repr of its own
    except Exception:  # noqa: BLE001 - a broken __str__ is no reason not to travel, when the copy's is broken too
        return "<exception str() failed>"


def _traceback_of(error: BaseException) -> str:
    import traceback

    return "".join(traceback.format_exception(error))


def _type_name(error: BaseException) -> str:
    cls = type(error)
    return _attempt(
        lambda: _capped(f"{cls.__module__}.{cls.__qualname__}".removeprefix("builtins."), _NAME), "<unknown>"
    )


def _notes_of(error: BaseException) -> list[str]:
    notes: list[object] = _attempt(lambda: list(error.__notes__), [])
    texts: list[str] = _attempt(lambda: [str.__str__(note) for note in notes if isinstance(note, str)], [])
    if sum(map(len, texts)) <= _NOTES:
        return texts
    return [_capped("\n".join(texts), _NOTES)]


def _capped(text: str, limit: int) -> str:
    """Head and tail: a traceback begins with the cause and ends with the error."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"


def _attempt(make: Callable[[], T], otherwise: T) -> T:
    try:
        return make()
    except BaseException:  # noqa: BLE001 - the exception's own code runs here, and may call sys.exit
        return otherwise
