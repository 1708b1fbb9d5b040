"""A worker that has nothing to do asks its model how it is, and makes room for another one if it is not well.

Knows the hook and the inbox. Promises that a model which does not come back from the question is ended too, also where C code holds
the interpreter's lock: the watchdog is a thread of C, and writes where the model was.
"""

from __future__ import annotations

import faulthandler
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .inbox import DirectInbox, InBandInbox

UNWELL = 70  # exit status of a worker whose model asks to be replaced (EX_SOFTWARE)


def wait_well(inbox: DirectInbox | InBandInbox, healthy: Callable[[], object], interval: float) -> None:
    """Return when there is a message; ask the model each time that none came for so long, which it has to answer in as long."""
    while not inbox.wait(interval):
        faulthandler.dump_traceback_later(interval, exit=True, file=2)
        try:
            answer = healthy()
        except BaseException as exc:  # noqa: BLE001 - whatever it is, the model is not well
            replace(exc)
        finally:
            faulthandler.cancel_dump_traceback_later()
        if not answer and answer is not None:
            os.write(2, f"gibbs: healthy() returned {answer!r}, so this worker is replaced\n".encode())
            replace()


def replace(error: BaseException | None = None) -> None:
    """End this process, which the hub replaces; the error is told as one that nobody caught."""
    if error is not None:
        sys.excepthook(type(error), error, error.__traceback__)
    if sys.stderr is not None:
        sys.stderr.flush()
    os._exit(UNWELL)
