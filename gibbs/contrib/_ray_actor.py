"""What runs in the process that Ray has placed: an actor which becomes a worker.

Knows Ray, and the door to a worker. Imported there by name, so it is light. Promises that the worker's loop has the actor's main thread, where
calls can be interrupted; and that the process ends when its hub has told it to leave.
"""

from __future__ import annotations

import os
import sys

from gibbs.worker import connect

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from typing import Any


class GibbsWorker:
    """Where it is, and then what it is there for."""

    def where(self) -> tuple[str, int]:
        """The id of its node, and its pid."""
        import ray

        return ray.get_runtime_context().get_node_id(), os.getpid()

    def serve(self, invitation: str, context: Callable[[], ssl.SSLContext] | None) -> None:
        """Be the worker. Does not return: the actor ends with it."""
        from ray.actor import exit_actor

        with references():
            connect(invitation, context=context)
            sys.stdout.flush()
            exit_actor()


class references:
    """While it is entered, `ray.ObjectRef`s may be in what is pickled.

    A reference that is pickled as any object names no owner, and who gets it waits for ever. Ray's own pickler tells one. gibbs pickles
    without Ray, so this class tells `copyreg`, which is global to the program, how: by Ray's pickler. It says so as long as somebody needs it, and
    leaves alone what somebody else has said.
    """

    _entered = 0

    def __enter__(self) -> None:
        import copyreg

        import ray

        if references._entered == 0 and ray.ObjectRef not in copyreg.dispatch_table:
            copyreg.pickle(ray.ObjectRef, _reduce)
        references._entered += 1

    def __exit__(self, *_: object) -> None:
        import copyreg

        import ray

        references._entered -= 1
        if references._entered == 0 and copyreg.dispatch_table.get(ray.ObjectRef) is _reduce:
            del copyreg.dispatch_table[ray.ObjectRef]


def _reduce(reference: Any) -> tuple[Callable[[bytes], Any], tuple[bytes]]:
    from ray import cloudpickle

    return _restore, (cloudpickle.dumps(reference),)


def _restore(body: bytes) -> Any:
    """The reference again, registered with this process's Ray as borrowed from its owner."""
    from ray import cloudpickle

    return cloudpickle.loads(body)
