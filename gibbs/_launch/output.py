"""What a worker writes on descriptors 1 and 2: read, cut into lines, passed on, the tail kept.

Knows bytes and lines. Must never let the model wait while the hub's loop runs, nor let whoever takes the lines break the
hub: a sink that raises is logged once and then left out. Promises that lines are capped, that invalid UTF-8 is replaced,
and that what was written before the worker's death is passed on before `finish` returns.
"""

from __future__ import annotations

import logging
import os
import sys
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, TypeAlias

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable

Sink: TypeAlias = "Callable[[str, int], object]"
Destination: TypeAlias = "Literal['stderr', 'log', 'inherit', 'discard'] | Sink"

logger = logging.getLogger("gibbs")
_PIECE = 1 << 16
_LONGEST_LINE = 8192
_TAIL_LINES = 20
_LONGEST_TAIL = 8192


class Lines:
    """Bytes in, whole lines out; the last ones are kept."""

    def __init__(self) -> None:
        self._rest = b""
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)

    def feed(self, data: bytes, *, last: bool = False) -> list[str]:
        """The lines that are complete now; with `last` also what has no end yet. Long ones come in pieces."""
        pieces = (self._rest + data).split(b"\n")
        self._rest = pieces.pop()
        while len(self._rest) > _LONGEST_LINE or (last and self._rest):
            pieces.append(self._rest[:_LONGEST_LINE])
            self._rest = self._rest[_LONGEST_LINE:]
        lines = [
            piece[start : start + _LONGEST_LINE].decode(errors="replace").rstrip("\r")
            for piece in pieces
            for start in range(0, len(piece) or 1, _LONGEST_LINE)
        ]
        self._tail.extend(lines)
        return lines

    @property
    def tail(self) -> str:
        """The last lines, capped."""
        return "\n".join(self._tail)[-_LONGEST_TAIL:]


class Output:
    """Reads one worker's pipe and passes its lines on. Owns the descriptor."""

    def __init__(self, fd: int, destination: Destination, *, name: str, seat: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._seat = seat
        self._lines = Lines()
        self._sink = _sink_for(destination, name)
        self._scope = anyio.CancelScope(shield=True)

    @property
    def tail(self) -> str:
        return self._lines.tail

    async def read_on(self) -> None:
        """Pass lines on as they come, until `finish`. A task of the launch session's own."""
        # `finish` closes the pipe under it; a native cancellation of this task must not end the session's other tasks.
        with suppress(anyio.get_cancelled_exc_class()), self._scope, suppress(anyio.ClosedResourceError):
            while self._fd >= 0:
                await anyio.wait_readable(self._fd)
                if not self._read_once():
                    break

    def finish(self) -> None:
        """The worker is gone: pass on what it had written and close. Synchronous; idempotent.

        Does not wait for the end of the pipe: a forked grandchild can hold it open.
        """
        self._scope.cancel()
        if self._fd < 0:
            return
        for _ in range(256):  # what a pipe can hold, and more; a grandchild may go on writing for ever
            if not self._read_once():
                break
        self._pass_on(self._lines.feed(b"", last=True))
        anyio.notify_closing(self._fd)
        os.close(self._fd)
        self._fd = -1

    def disown(self) -> None:
        """In a fork of the program: close this copy of the pipe, whose lines are the program's."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _read_once(self) -> bool:
        try:
            data = os.read(self._fd, _PIECE)
        except OSError:  # nothing there
            return False
        if data:
            self._pass_on(self._lines.feed(data))
        return bool(data)

    def _pass_on(self, lines: list[str]) -> None:
        if self._sink is None or not lines:
            return
        try:
            self._sink(lines, self._seat)
        except Exception:
            self._sink = None
            logger.exception("worker %d: what takes its output raised; it is not called again", self._seat)


def _sink_for(destination: Destination, name: str) -> Callable[[list[str], int], None] | None:
    if callable(destination):
        take_line = destination

        def to_callable(lines: list[str], seat: int) -> None:
            for line in lines:
                take_line(line, seat)

        return to_callable
    if destination == "log":

        def to_log(lines: list[str], seat: int) -> None:
            for line in lines:
                logger.info("[%s/%d] %s", name, seat, line, extra={"hub": name, "seat": seat})

        return to_log
    if destination == "stderr":

        def to_stderr(lines: list[str], seat: int) -> None:
            stream = sys.stderr
            if stream is None or stream.closed:
                return
            stream.write("".join(f"[{name}/{seat}] {line}\n" for line in lines))
            stream.flush()

        return to_stderr
    return None
