"""A worker that has nothing to do asks its model how it is, and makes room for another one if it is not well.

Knows the hook, the inbox and the process. Promises that a model which does not come back from the question is ended too, also where C
code holds the interpreter's lock: the watchdog is a thread of C, and writes where the model was.
"""

from __future__ import annotations

import faulthandler
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from .inbox import DirectInbox, InBandInbox

UNWELL = 70  # exit status of a worker whose model asks to be replaced (EX_SOFTWARE)
PATIENCE = 3.0  # seconds that a model has at least: a busy machine may hold one up that is well


class Process:
    """What a worker lives in, as it ends it from within. `gibbs.testing` has workers that live in threads, which end otherwise."""

    __slots__ = ()

    def end(self, status: int) -> NoReturn:
        """At once, with nothing run that would run at an exit."""
        os._exit(status)

    def watch(self, seconds: float) -> None:
        """End it after so many seconds, unless `trust` comes first."""
        faulthandler.dump_traceback_later(seconds, exit=True, file=2)

    def trust(self) -> None:
        """What was watched is over."""
        faulthandler.cancel_dump_traceback_later()


def wait_well(
    inbox: DirectInbox | InBandInbox, healthy: Callable[[], object], interval: float, process: Process
) -> None:
    """Return when there is a message; ask the model each time that none came for so long. It has as long to answer, and `PATIENCE` at least."""
    while not inbox.wait(interval):
        process.watch(max(interval, PATIENCE))
        try:
            answer = healthy()
        except BaseException as exc:  # noqa: BLE001 - whatever it is, the model is not well
            replace(process, exc)
        finally:
            process.trust()
        if not answer and answer is not None:
            os.write(2, f"gibbs: healthy() returned {answer!r}, so this worker is replaced\n".encode())
            replace(process)


def replace(process: Process, error: BaseException | None = None) -> NoReturn:
    """End this worker, which the hub replaces; the error is told as one that nobody caught."""
    if error is not None:
        sys.excepthook(type(error), error, error.__traceback__)
    if sys.stderr is not None:
        sys.stderr.flush()
    process.end(UNWELL)
