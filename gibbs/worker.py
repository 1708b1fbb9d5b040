"""The door to a worker process, for launchers: `serve()` runs the loop on a descriptor, `connect()` on a connection that it makes itself,
`python -m gibbs.worker --stdio` on stdin and stdout.

Example:
    A launcher that starts `python -c "from gibbs.worker import serve; serve(3)"` with descriptor 3 connected to the hub has
    made a worker. `gibbs.CommandLauncher(["ssh", "-T", "host", "python3 -m gibbs.worker --stdio"])` makes one over a command.
"""

from __future__ import annotations

import os
import sys


def _look_last_in_the_current_directory() -> None:
    """`python -m` looks there first, where a file may be called like a standard module. Before anything else is imported."""
    here = os.getcwd()
    if sys.path and sys.path[0] in ("", here):
        sys.path.append(sys.path.pop(0) or here)


if __name__ == "__main__":
    _look_last_in_the_current_directory()

from ._worker.serve import serve as serve  # noqa: E402

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

__all__ = ["connect", "serve"]

serve.__module__ = "gibbs.worker"


def connect(invitation: str, *, context: Callable[[], ssl.SSLContext] | None = None) -> None:
    """Dial the hub that has sent this invitation, and serve it until it says LEAVE. Called once, in the main thread of a process of its own.

    For processes that something else has started, such as an engine of a cluster: it passes the invitation on, by a way that keeps secrets,
    since whoever has it may be the worker. It is good once. Both ends prove that they know its token before anything is unpickled, and the
    connection is encrypted, if the launcher that made the invitation says so.

    The process becomes the leader of a process group of its own. It ends, with that group, when the hub is gone, or its connection.

    Args:
        invitation: what a launcher that listens has made for this worker.
        context: makes the `ssl.SSLContext` of the worker's end, where the user has given the launcher one for its own.

    Raises:
        ValueError: that is no invitation.
        ConnectionError: the hub cannot be reached, or does not expect this worker any more.
        ssl.SSLError, RuntimeError: there is no way to encrypt that suits both, or the other end is not the hub.
    """
    from ._wire.greeting import Invitation, NotAuthentic
    from ._worker.dial import dial
    from ._worker.lifeline import Guard
    from ._worker.serve import converse

    guard = Guard(os.getppid())
    try:
        channel = dial(Invitation.read(invitation), context)
    except NotAuthentic as error:
        raise RuntimeError(f"what answers where the hub should be is not the hub: {error}") from error
    converse(channel, guard)


def main() -> None:
    """Be the worker that the local launcher started: the arguments are descriptors and the pid of the hub's program."""
    _give_way()
    stream, page, claims, arguments, results, inquiry, lifeline, parent = map(int, sys.argv[1:])
    sys.argv[1:] = []
    _speak_in_lines()
    serve(
        stream,
        page=page,
        claims=claims,
        arguments=arguments,
        results=results,
        inquiry=inquiry,
        lifeline_fd=lifeline,
        parent=parent,
    )


def template() -> None:
    """Be the process that the fork launcher's workers are forks of, and in each fork that worker."""
    import _signal

    from ._worker.channel import Channel
    from ._worker.lifeline import Guard, arm
    from ._worker.serve import converse
    from ._worker.template import Template

    _give_way()
    control, plan, lifeline, parent = map(int, sys.argv[1:])
    sys.argv[1:] = []
    for fd in (control, plan, lifeline):
        os.set_inheritable(fd, False)
    guard = Guard(parent)
    arm(lifeline)
    _signal.signal(_signal.SIGTERM, lambda *_: None)  # as workers do: it is for the hub's program to decide
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)  # a program that ignores it would not be told how workers end
    _speak_in_lines()
    process = Template(control, lifeline, guard)
    with open(plan, "rb") as file:
        process.prepare(file.read())
    given = process.wait_for_birth()
    converse(Channel(given.pop("stream")), guard, **given)


def over_stdio() -> None:
    """Be a worker whose stdin and stdout lead to the hub. What the model prints goes to stderr; its stdin is empty."""
    import fcntl

    from ._wire.hello import Hello
    from ._worker.keeper import fork_worker

    if sys.argv[1:] != ["--stdio"] or os.isatty(0):
        sys.exit(
            "usage: python -m gibbs.worker --stdio\n"
            "It is started by a program that has a hub, see gibbs.CommandLauncher: stdin and stdout lead there."
        )
    sys.argv[1:] = []
    try:
        stream, out = (fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3) for fd in (0, 1))
    except OSError as error:
        sys.exit(f"stdin and stdout must lead to a hub, see gibbs.CommandLauncher: {error}")
    empty = os.open(os.devnull, os.O_RDWR)
    os.dup2(empty, 0)
    try:
        os.dup2(2, 1)
    except OSError:  # there is no stderr
        os.dup2(empty, 1)
    os.close(empty)
    lifeline = fork_worker(stream, out)
    _give_way()
    _speak_in_lines()
    os.write(out, Hello.of_this_process(os.getpid()).line())
    serve(stream, out=out, lifeline_fd=lifeline, parent=os.getppid())


def _give_way() -> None:
    """Never take a CPU from others the moment that there is something to do: one of them is the hub, for whose loop others wait. Linux."""
    try:
        if os.sched_getscheduler(0) == os.SCHED_OTHER:
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    except (AttributeError, OSError):  # another platform, or it is forbidden
        pass


def _speak_in_lines() -> None:
    import faulthandler
    from io import TextIOWrapper

    if sys.stderr is not None:
        faulthandler.enable()  # a segmentation fault says where it was, in the last lines of output
    for output in (sys.stdout, sys.stderr):
        if isinstance(output, TextIOWrapper):
            output.reconfigure(line_buffering=True)


if __name__ == "__main__":
    from gibbs.worker import over_stdio  # the module that others import, not a second one

    over_stdio()
