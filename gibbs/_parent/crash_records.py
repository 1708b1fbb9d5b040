"""Writes down what workers were asked when they died, in files that `python -m gibbs replay` runs again.

Knows files. Must never open a request. Promises that only the program's user can read them; that they are few, and none is large; and that
what cannot be written is said once in the log and costs nobody anything.
"""

from __future__ import annotations

import logging
import os
import platform
import re
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import anyio
from anyio import to_thread

from .._wire.crash import write_record

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .._core.seat import Seat
    from .._core.ticket import Ticket
    from .._errors import WorkerCrashed

    Spawn: TypeAlias = "Callable[[Callable[[], Awaitable[None]], str], None]"

logger = logging.getLogger("gibbs")

SUFFIX = ".crash"
MOST = 100  # files; the oldest go
LARGEST = 64 << 20  # bytes of one


async def open_records(directory: str | os.PathLike[str], spawn: Spawn) -> CrashRecords:
    """Those that will be in this directory, which is made if it is not there. Raises OSError. `spawn` runs a task that the hub waits for."""
    await anyio.Path(directory).mkdir(mode=0o700, parents=True, exist_ok=True)
    return CrashRecords(directory, spawn)


class CrashRecords:
    """Those of one hub, in a directory that may be shared with others."""

    def __init__(self, directory: str | os.PathLike[str], spawn: Spawn) -> None:
        self._directory = Path(directory)
        self._spawn = spawn
        self._complained = False

    def record(self, crash: WorkerCrashed, recipe: bytes, seat: Seat, begun: int | None) -> None:
        """The seat's worker has died, and this is the last that it had begun; None: nobody knows. Files are written a little later."""
        died = time.time_ns()  # by which files are in order: a thread that writes one may be overtaken
        for ticket in _running(seat, begun):
            facts = {
                **{name: getattr(crash, name) for name in ("name", "seat", "incarnation", "pid", "host")},
                **{name: getattr(crash, name) for name in ("how", "stderr_tail", "stack")},
                "request": ticket.number,
                "method": ticket.method,
                "batched": ticket.group is not None,
            }
            request = cast("bytes", ticket.payload)
            self._spawn(
                partial(self._save, died, facts, recipe, request), f"record of {crash.seat}.{crash.incarnation}"
            )

    async def _save(self, died: int, facts: dict[str, Any], recipe: bytes, request: bytes) -> None:
        if len(recipe) + len(request) > LARGEST:
            logger.warning(
                "what worker %d was asked has %d bytes, too many for a crash record", facts["seat"], len(request)
            )
            return
        try:
            with anyio.CancelScope(shield=True):  # who leaves the hub waits for it
                file = await to_thread.run_sync(self._write, died, facts, recipe, request)
        except Exception:
            if not self._complained:
                self._complained = True
                logger.exception("a crash record could not be written; this is said once for each hub")
        else:
            logger.warning("what worker %d was asked is in %s", facts["seat"], file)

    def _write(self, died: int, facts: dict[str, Any], recipe: bytes, request: bytes) -> Path:
        """In a thread, since a disk may take its time."""
        about = {
            "written": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "python": platform.python_version(),
            "gibbs": version("gibbs"),
        }
        hub = re.sub(r"[^\w-]", "_", facts["name"])[:60]
        name = f"{died}-{hub}-{facts['seat']}.{facts['incarnation']}-{facts['request']}"
        unfinished, file = self._directory / f".{name}", self._directory / f"{name}{SUFFIX}"
        fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(fd, "wb") as writing:
                writing.write(write_record(facts | about, recipe, request))
            unfinished.rename(file)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        for old in sorted(self._directory.glob(f"*{SUFFIX}"))[:-MOST]:
            old.unlink(missing_ok=True)
        return file


def _running(seat: Seat, begun: int | None) -> list[Ticket]:
    """What it was at, that somebody still waited for: one request, or those of one call."""
    if begun is None:
        begun = next(iter(seat.held), 0)
    had_begun = [ticket for link_id, ticket in seat.held.items() if link_id <= max(begun, seat.begun)]
    return [ticket for ticket in (had_begun if seat.together else had_begun[-1:]) if not ticket.ended]
