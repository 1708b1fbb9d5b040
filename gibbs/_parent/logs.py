"""What workers log, as records of this program.

Knows `logging`. Promises that a record is handled here as if it had been made here, by the loggers that are there and at the levels that
they have now; and that no record, whatever it says, makes a logger, and no handler, whatever it raises, ends a hub.
"""

from __future__ import annotations

import logging
import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .._core.dispatch import Violation
from .._wire import plain

if TYPE_CHECKING:
    from .._core.seat import Seat

logger = logging.getLogger("gibbs")

_PLAIN = (int, float, str, bool, type(None))
# What `logging` itself, or a formatter, counts on.
_NEEDED = {
    "name": str,
    "levelno": int,
    "levelname": str,
    "msg": str,
    "created": float,
    "msecs": float,
    "lineno": int,
    "pathname": str,
}


def levels() -> tuple[int, dict[str, int]]:
    """The level up to which nothing is logged, and those that were set for loggers, by name; "" is the root's."""
    manager = logging.root.manager
    # Names and levels may be members of an enum, whose module the worker does not find before it has been told where to look.
    known = [
        (str.__str__(name), int(one.level))
        for name, one in list(manager.loggerDict.items())
        if isinstance(one, logging.Logger)
    ]
    set_here = {name: level for name, level in known if level != logging.NOTSET}
    return int(manager.disable), {"": int(logging.root.level)} | set_here


class Records:
    """The records of one hub's workers."""

    def __init__(self, hub: str, *, wanted: bool) -> None:
        self._hub = hub
        self._wanted = wanted
        self._broken = False  # something in this program raised, and was told of

    def handle(self, seat: Seat, link_id: int, body: bytes) -> None:
        """One record, made while that request ran; 0: between two. Raises Violation if it is none."""
        if not self._wanted:
            raise Violation("it sent a record, and was not asked for any")
        parts = _parts(body)
        ticket = seat.held.get(link_id)
        of_worker = {
            "hub": self._hub,
            "seat": seat.index,
            "incarnation": seat.incarnation,
            "processName": f"{self._hub}/{seat.index}",
            "args": None,
            "exc_info": None,
        }
        try:
            target = _logger_of(parts["name"])
            if target.isEnabledFor(parts["levelno"]):
                make = logging.getLogRecordFactory()
                first = [parts[name] for name in ("name", "levelno", "pathname", "lineno", "msg")]
                record = make(*first, (), None)
                vars(record).update({"request_id": None if ticket is None else ticket.number} | parts | of_worker)
                target.handle(record)
        except Exception as error:
            if not self._broken:
                self._broken = True
                with suppress(Exception):  # the same one, perhaps
                    logger.error(
                        "a record of worker %d of the hub %r could not be handled; this is told once",
                        seat.index,
                        self._hub,
                        exc_info=error,
                    )


def _parts(body: bytes) -> dict[str, Any]:
    try:
        parts = plain.loads(body)
        good = type(parts) is dict and all(type(name) is str and type(value) in _PLAIN for name, value in parts.items())
        good = good and all(type(parts[name]) is kind for name, kind in _NEEDED.items())
        good = good and all(map(math.isfinite, (parts["created"], parts["msecs"])))
    except BaseException as error:
        raise Violation(f"its record cannot be read: {type(error).__name__}") from error
    if not good:
        raise Violation("what it logged is no record")
    found: dict[str, Any] = parts
    return found


def _logger_of(name: str) -> logging.Logger:
    """The one that `getLogger` would give, or the nearest above it: a new one would add nothing."""
    known = logging.root.manager.loggerDict
    while name:
        found = known.get(name)
        if isinstance(found, logging.Logger):
            return found
        name = name.rpartition(".")[0]
    return logging.root
