"""Give what this process logs to the hub's program, whose handlers it was meant for.

Knows `logging`, and is ready when it is imported: a model that does not log does not pay for it. Promises that a record which may come
from any thread, also from a `__del__`, and while a call is interrupted, leaves whole; and that a fork of the model's speaks for
itself, on its stderr.
"""

from __future__ import annotations

import os
import sys
from _thread import get_ident
from functools import partial

from .._model import interrupts
from .._wire import plain
from .._wire.messages import LOG
from .channel import SMALL, Channel

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from collections.abc import Callable
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

    from .interrupt import Interrupter

_LONGEST = 16_000  # characters of a text


def send_logs(channel: Channel, interrupter: Interrupter, disabled: int, levels: dict[str, int]) -> None:
    """From the first import of `logging` on: at these levels, by logger's name, "" is the root's; nothing at that level or below."""

    def set_up(logging: Any) -> None:
        logging.disable(disabled)
        logging.root.setLevel(levels.pop("", logging.root.level))
        manager = logging.root.manager
        manager.loggerDict = _LeveledAsTheyCome(levels, manager.loggerDict)
        handler = _handler(logging, channel, interrupter)
        logging.root.addHandler(handler)
        os.register_at_fork(after_in_child=partial(logging.root.removeHandler, handler))

    if "logging" in sys.modules:
        set_up(sys.modules["logging"])
    else:
        sys.meta_path.insert(0, _WhenImported("logging", set_up))


class _LeveledAsTheyCome(dict[str, "Any"]):
    """The loggers by name, each of which has its level from the moment that it is made: as whoever makes it wants it to be."""

    def __init__(self, levels: dict[str, int], loggers: dict[str, Any]) -> None:
        super().__init__()
        self._levels = levels
        for name, logger in loggers.items():
            self[name] = logger

    def __setitem__(self, name: str, logger: Any) -> None:
        super().__setitem__(name, logger)
        if name in self._levels and hasattr(logger, "setLevel"):  # else it stands for one that is not there yet
            logger.setLevel(self._levels.pop(name))


def _handler(logging: Any, channel: Channel, interrupter: Interrupter) -> logging.Handler:
    formatter = logging.Formatter()
    process = os.getpid()

    class ToHub(logging.Handler):  # type: ignore[misc]  # the module is not known before
        """Gives each record to the hub. Has no lock, which an interrupt might leave taken: the channel knows whose turn it is."""

        def createLock(self) -> None:
            self.lock = None

        def handle(self, record: logging.LogRecord) -> bool:
            kept = self.filter(record)
            if kept:
                self.emit(kept if isinstance(kept, logging.LogRecord) else record)
            return bool(kept)

        def emit(self, record: logging.LogRecord) -> None:
            if os.getpid() != process:  # a fork of the model's must not write what is the worker's
                if logging.lastResort is not None and record.levelno >= logging.lastResort.level:
                    logging.lastResort.handle(record)
                return
            try:
                body = _body(record, formatter)
                send = partial(channel.send, LOG, interrupter.armed, body)
                if get_ident() == interrupts.thread:
                    interrupter.undisturbed(send)
                else:
                    send()
            except Exception:  # noqa: BLE001 - an argument's own code; as all handlers do
                self.handleError(record)

    return ToHub()


def _body(record: logging.LogRecord, formatter: logging.Formatter) -> bytes:
    """What can travel: the message is put together, the exception is put into words, and of the rest what is plain."""
    exc_text = record.exc_text or (formatter.formatException(record.exc_info) if record.exc_info else None)
    needed = {
        "name": _text(record.name or "root"),
        "levelno": int(record.levelno),
        "levelname": _text(record.levelname),
        "msg": _text(record.getMessage()),
        "exc_text": _plain(exc_text),
        "pathname": _text(record.pathname or ""),
        "lineno": int(record.lineno or 0),
        "created": float(record.created),
        "msecs": float(record.msecs),
    }
    parts = {_text(name): _plain(value) for name, value in vars(record).items() if _is_plain(value)}
    body = plain.dumps(parts | needed)
    if len(body) < SMALL:
        return body
    return plain.dumps({name: value[:1000] if isinstance(value, str) else value for name, value in needed.items()})


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, str | int | float)


def _plain(value: Any) -> object:
    """The same, of a kind that has no name of its own: an enum's member may be a number, too."""
    if value is None or type(value) is bool:
        return value
    if isinstance(value, str):
        return _text(value)
    return int(value) if isinstance(value, int) else float(value)


def _text(value: object) -> str:
    text = str.__str__(str(value))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text)} characters)"


class _WhenImported:
    """Calls a function with a module when that has been imported, once."""

    def __init__(self, name: str, act: Callable[[Any], None]) -> None:
        self._name = name
        self._act = act
        self._looks = False  # for the one that others find

    def _has_come(self, module: Any) -> None:
        if self in sys.meta_path:  # somebody may only have looked whether it is there
            sys.meta_path.remove(self)
            self._act(module)

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """The import system's protocol."""
        if name != self._name or self._looks:
            return None
        from importlib.util import find_spec

        self._looks = True
        try:
            spec = find_spec(name)
        finally:
            self._looks = False
        if spec is not None and spec.loader is not None:
            spec.loader = _AndThen(spec.loader, self._has_come)  # type: ignore[assignment]  # a loader by what it does
        return spec


class _AndThen:
    """A module's loader, that calls a function when it has loaded it."""

    def __init__(self, loader: Any, act: Callable[[Any], None]) -> None:
        self._loader = loader
        self._act = act

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """The import system's protocol."""
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        """The import system's protocol."""
        spec = module.__spec__
        assert spec is not None
        module.__loader__ = spec.loader = self._loader
        self._loader.exec_module(module)
        self._act(module)
