"""The door to a worker process, for launchers: `serve()` runs the loop on a descriptor; `main()` is the local launcher's entry.

Example:
    A launcher that starts `python -c "from gibbs.worker import serve; serve(3)"` with descriptor 3 connected to the hub has
    made a worker.
"""

from __future__ import annotations

import sys

from ._worker.serve import serve as serve

__all__ = ["serve"]

serve.__module__ = __name__


def main() -> None:
    """Be the worker that the local launcher started: the arguments are descriptors and the pid of the hub's program."""
    import faulthandler
    from io import TextIOWrapper

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
