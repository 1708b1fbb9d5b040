"""What a worker says of its model and of its requests, looked at before it is believed.

Knows the form of each message. Promises that whatever else comes is a Violation of this worker, and no other's affair.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, get_args

from .._core.dispatch import Violation
from .._core.ticket import Answer
from .._errors import StartFailure
from .._wire.failure import load_words
from .._wire.items import NoItems, cut_items
from .._wire.messages import ANSWER, FAILURE, READY, SIZE, TOO_LARGE

if TYPE_CHECKING:
    from .._wire.frames import FrameError

_KINDS = ("plain", "async", "generator", "async generator")


def open_welcome(kind: int, body: bytes, *, trusted: bool) -> Any:
    """As READY a dict of `methods`, `interruptible` and perhaps `batched`, as UNFIT the reason and a failure. Raises Violation."""
    try:
        said = load_words(body, trusted=trusted)
        if kind == READY:
            _check(type(said) is dict and type(said["interruptible"]) is bool and type(said["methods"]) is dict)
            for name, its_kind in said["methods"].items():
                _check(type(name) is str and its_kind in _KINDS)
            for name, (most, patience) in said.get("batched", {}).items():
                _check(said["methods"].get(name) == "plain" and type(most) is int and type(patience) is float)
                _check(most >= 1 and 0 <= patience < math.inf)
            _check(all(type(hook) is str and hook.isidentifier() for hook in said.get("hooks", ())))
        else:
            reason, report = said
            _check(reason in get_args(StartFailure) and type(report) is bytes)
    except BaseException as error:
        raise Violation(f"its first message cannot be read: {type(error).__name__}") from error
    return said


def open_outcome(kind: int, body: bytes, longest: float) -> Answer:
    """ANSWER, FAILURE or TOO_LARGE as what becomes of the request. Raises Violation."""
    assert kind in (ANSWER, FAILURE, TOO_LARGE)
    if kind == TOO_LARGE and (len(body) != SIZE or int.from_bytes(body, "little") <= longest):
        raise Violation("it kept back a result that is not too large")
    return Answer(kind != ANSWER, body, left_behind=kind == TOO_LARGE)


def open_items(body: bytes) -> list[tuple[int, bytes]]:
    """The items of a stream in one message, none of them opened. Raises Violation."""
    try:
        return cut_items(body)
    except NoItems as error:
        raise Violation(f"its items are none: {error}") from error


def open_number(body: bytes) -> int:
    """A link id. Raises Violation."""
    if len(body) != SIZE:
        raise Violation(f"a number has {SIZE} bytes, not {len(body)}")
    return int.from_bytes(body, "little")


def in_words(error: FrameError | Violation) -> str:
    """Why a worker that wrote this is not listened to any more."""
    return f"it wrote what is no message of the protocol: {error}"


def _check(is_so: bool) -> None:
    if not is_so:
        raise TypeError("this is not what a worker says of its model")
