"""The first line of a worker that was reached by a command: who speaks, before anything is said that must be unpickled.

Knows one line of text. Must never know how it came. Promises that whatever else is on the way, such as what a login shell prints, is
told apart from it, that nothing is believed of it but what it has to be, and that a reader of too much noise gives up.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import PackageNotFoundError, version

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

try:
    VERSION = version("gibbs")
except PackageNotFoundError:  # a checkout on a path
    VERSION = "?"
PROTOCOL = 1  # raised by whoever changes what a message is, or what it means
MOST_NOISE = 1 << 16  # bytes before the line, and of the line
_START = b"gibbs-worker-hello "
_FIELDS = ("protocol", "gibbs", "python", "pid", "host")


class NoHello(Exception):
    """What came is not the line of a worker, in words."""


class Hello:
    """What a worker says of itself: plain words without blanks, and its pid."""

    __slots__ = ("gibbs", "host", "pid", "protocol", "python")

    def __init__(self, protocol: str, gibbs: str, python: str, pid: int, host: str) -> None:
        self.protocol: str = protocol
        self.gibbs: str = gibbs
        self.python: str = python
        self.pid: int = pid
        self.host: str = host

    @classmethod
    def of_this_process(cls, pid: int) -> Hello:
        """That of a worker with this pid, which is this process or its child."""
        return cls(str(PROTOCOL), VERSION, sys.version.partition(" ")[0], pid, os.uname().nodename)

    def line(self) -> bytes:
        """As it is written; on a line of its own, whatever was written before it."""
        words = " ".join(f"{name}={_one_word(getattr(self, name))}" for name in _FIELDS)
        return b"\n" + _START + words.encode(errors="replace") + b"\n"

    def misfit(self) -> str | None:
        """Why a hub in this process cannot have such a worker: in words, or None if it can."""
        ours = ".".join(map(str, sys.version_info[:2]))
        if self.protocol != str(PROTOCOL) or self.gibbs != VERSION:
            return f"it has gibbs {self.gibbs}, and this program {VERSION}: install the same version there"
        if self.python.split(".")[:2] != ours.split("."):
            return f"it runs Python {self.python}, and this program {ours}: what is sent fits one version only"
        return None


class HelloReader:
    """Collects what comes until the line is there."""

    __slots__ = ("_came",)

    def __init__(self) -> None:
        self._came = b""

    def feed(self, data: bytes) -> Hello | None:
        """Take what arrived; the line, when it is whole. Raises NoHello."""
        self._came += data
        *lines, rest = self._came.split(b"\n")
        for number, line in enumerate(lines):
            if line.startswith(_START):
                if rest or number < len(lines) - 1:
                    raise NoHello(
                        f"something wrote behind the worker's first line: {self.noise([*lines[number + 1 :], rest])}"
                    )
                return _read(line)
        if len(self._came) > MOST_NOISE:
            raise NoHello(
                f"what came before a worker's first line had no end; it began with {self.noise(lines or [rest])}"
            )
        return None

    def noise(self, lines: list[bytes] | None = None) -> str:
        """The beginning of what came, as it is quoted; "nothing" if it is that."""
        text = b"\n".join(self._came.split(b"\n") if lines is None else lines).strip()
        return repr(text[:200].decode(errors="replace")) if text else "nothing"


def _read(line: bytes) -> Hello:
    fields: dict[str, Any] = {}
    for word in line[len(_START) :].decode(errors="replace").split():
        name, _, value = word.partition("=")
        fields[name] = value
    if fields.keys() != set(_FIELDS) or not fields["pid"].isdecimal() or len(line) > 1000:
        raise NoHello(f"a worker's first line must tell {', '.join(_FIELDS)}, not {line[:200]!r}")
    return Hello(**{**fields, "pid": int(fields["pid"])})


def _one_word(value: object) -> str:
    return "".join(char if char.isprintable() and not char.isspace() else "?" for char in str(value)) or "?"
