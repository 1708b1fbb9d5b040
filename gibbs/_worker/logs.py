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

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from collections.abc import Callable
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

    from .channel import Channel
    from .interrupt import Interrupter

_PLAIN = {int, float, str, bool, type(None)}


def send_logs(channel: Channel, interrupter: Interrupter, disabled: int, levels: dict[str, int]) -> None:
    """From the first import of `logging` on: at these levels, by logger's name, "" is the root's; nothing at that level or below."""

    def set_up(logging: Any) -> None:
        logging.disable(disabled)
        for name, level in levels.items():
            logging.getLogger(name or None).setLevel(level)
        handler = _handler(logging, channel, interrupter)
        logging.root.addHandler(handler)
        os.register_at_fork(after_in_child=partial(logging.root.removeHandler, handler))

    if "logging" in sys.modules:
        set_up(sys.modules["logging"])
    else:
        sys.meta_path.insert(0, _WhenImported("logging", set_up))


def _handler(logging: Any, channel: Channel, interrupter: Interrupter) -> logging.Handler:
    formatter = logging.Formatter()

    class ToHub(logging.Handler):  # type: ignore[misc]  # the module is not known before
        """Gives each record to the hub."""

        def emit(self, record: logging.LogRecord) -> None:
            try:
                body = plain.dumps(_parts(record, formatter))
                send = partial(channel.send_from_anywhere, LOG, interrupter.armed, body)
                if get_ident() == interrupts.thread:
                    interrupter.undisturbed(send)
                else:
                    send()
            except Exception:  # noqa: BLE001 - an argument's own code; as all handlers do
                self.handleError(record)

    return ToHub()


def _parts(record: logging.LogRecord, formatter: logging.Formatter) -> dict[str, object]:
    """What can travel: the message is put together, the exception is put into words, and of the rest what is plain."""
    parts = {name: value for name, value in vars(record).items() if type(value) in _PLAIN}
    parts["msg"] = record.getMessage()
    if record.exc_info and not record.exc_text:
        parts["exc_text"] = formatter.formatException(record.exc_info)
    return parts


class _WhenImported:
    """Calls a function with a module when that has been imported, once."""

    def __init__(self, name: str, act: Callable[[Any], None]) -> None:
        self._name = name
        self._act = act

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """The import system's protocol."""
        if name != self._name:
            return None
        sys.meta_path.remove(self)
        from importlib.util import find_spec

        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _AndThen(spec.loader, self._act)  # type: ignore[assignment]  # a loader by what it does
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
