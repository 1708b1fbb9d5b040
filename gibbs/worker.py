"""The door to a worker process, for launchers: `serve()` runs the loop on a descriptor; `main()` is the local launcher's entry.

Example:
    A launcher that starts `python -c "from gibbs.worker import serve; serve(3)"` with descriptor 3 connected to the hub has
    made a worker.
"""

from __future__ import annotations

import os
import sys

from ._worker.serve import serve as serve

__all__ = ["serve"]

serve.__module__ = __name__


def _give_way() -> None:
    """Never take a CPU from others the moment that there is something to do: one of them is the hub, for whose loop others wait. Linux."""
    try:
        if os.sched_getscheduler(0) == os.SCHED_OTHER:
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    except (AttributeError, OSError):  # another platform, or it is forbidden
        pass


def main() -> None:
    """Be the worker that the local launcher started: the arguments are descriptors and the pid of the hub's program."""
    import faulthandler
    from io import TextIOWrapper

    _give_way()
    stream, page, claims, arguments, results, lifeline, parent = map(int, sys.argv[1:8])
    sys.argv[1:] = []
    if sys.stderr is not None:
        faulthandler.enable()  # a segmentation fault says where it was, in WorkerCrashed.stderr_tail
    for output in (sys.stdout, sys.stderr):
        if isinstance(output, TextIOWrapper):
            output.reconfigure(line_buffering=True)
    serve(
        stream,
        page=page,
        claims=claims,
        arguments=arguments,
        results=results,
        lifeline_fd=lifeline,
        parent=parent,
    )
