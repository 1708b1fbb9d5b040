"""The process between a command and its worker: it ends the worker when the stream ends, and ends as the worker did.

A worker at the end of `ssh host`, `srun` or `docker run -i` has no pipe that ties it to its hub's life but its stream, and its own thread
that reads it does not run while C code holds the interpreter's lock. So the worker is forked off a process that does nothing but wait for
one of two things. It promises that the worker and what it started are gone when the stream is; that its own exit status tells how the
worker ended, 128 and more for a signal, as a shell does, since that is all that such commands pass on; and that the worker does not
outlive it either: a lifeline ties the two together, see `lifeline`.
"""

from __future__ import annotations

import os
import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import NoReturn
else:
    import _signal  # `signal` wraps it in enums, which cost a worker 6 ms

_POLLRDHUP = getattr(select, "POLLRDHUP", 0)
_THAT_END_IT = (_signal.SIGTERM, _signal.SIGHUP, _signal.SIGINT)
BY_SIGNAL = 128  # and its number: the exit status for a worker that a signal has ended


def fork_worker(stream: int, out: int) -> int:
    """Fork. Returns in the worker, with the descriptor of its lifeline. The other process never does: it keeps the worker.

    To be called by a process with one thread, which has changed none of its signal handlers.
    """
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())  # who started this may have held some back, and that is inherited
    alive, lifeline = os.pipe()
    woken, waking = os.pipe()
    os.set_blocking(waking, False)
    for signum in (_signal.SIGCHLD, *_THAT_END_IT):
        _signal.signal(signum, lambda *_: None)
    _signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
    worker = os.fork()
    if worker:
        _lead_a_group(worker)
        os.close(alive)
        if out != stream:
            os.close(out)  # that the hub sees when the worker closes it
        _keep(worker, stream, woken)
    _signal.set_wakeup_fd(-1)
    for signum in (_signal.SIGCHLD, *_THAT_END_IT):
        _signal.signal(signum, _signal.default_int_handler if signum == _signal.SIGINT else _signal.SIG_DFL)
    for fd in (lifeline, woken, waking):
        os.close(fd)
    _lead_a_group(0)
    return alive


def _lead_a_group(pid: int) -> None:
    """Both do it: whoever comes first, the other one finds it done."""
    try:
        os.setpgid(pid, pid)
    except OSError:
        pass


def _keep(worker: int, stream: int, woken: int) -> NoReturn:
    """Wait until the worker has ended, which is killed when the stream ends, and end as it did."""
    poll = select.poll()
    poll.register(stream, _POLLRDHUP)  # nothing is read here: that is the worker's
    poll.register(woken, select.POLLIN)
    while not _has_ended(worker):
        for fd, _ in poll.poll():
            if fd == stream:
                poll.unregister(stream)
            if fd == stream or any(signum in _THAT_END_IT for signum in os.read(woken, 1024)):
                _kill_group(worker)
    _kill_group(worker)  # what it started; the number is its own until it is reaped
    status = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
    os._exit(status if status >= 0 else BY_SIGNAL - status)


def _has_ended(worker: int) -> bool:
    """Whether it has. Others may be this process's children too, where it is the first of a container: they are reaped."""
    while True:
        one = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if one is None or one.si_pid == worker:
            return one is not None
        os.waitpid(one.si_pid, os.WNOHANG)


def _kill_group(worker: int) -> None:
    try:
        os.killpg(worker, _signal.SIGKILL)
    except OSError:
        pass
