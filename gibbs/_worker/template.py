"""The process that workers are forked from: it imports what they will need, and forks when the hub says so.

It must never run a thread, nor the model: whatever a fork shares with it must be what a fork may have. Promises that a worker which it
forks is alone in a group, has nothing of the other workers, and is killed with the hub from its first line on; that how each ended is told
to the hub, and its group killed before its number is anybody else's; that what is in the way of a fork is told in words, with the module
that brought it; and that it ends with the hub, also while it imports, see `lifeline`.
"""

from __future__ import annotations

import gc
import os
import select
import sys
from _socket import socket
from importlib import import_module

from .._wire import forking, payload
from .._wire.recipe import Recipe
from . import lifeline
from .unforkable import unforkable

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import Any
else:
    import _signal  # `signal` wraps it in enums

_OUR_OWN = "cloudpickle"  # what workers need, and import when they do
_WHY = (
    "Only the thread that forks is there in the fork; what the others held would be held for ever, and a GPU cannot be used any more. "
    "Leave that module to the workers, which import it with the model; or keep it from doing so when it is imported, by env=: "
    "OPENBLAS_NUM_THREADS=1 and OMP_NUM_THREADS=1 for the libraries that know them, JE_ARROW_MALLOC_CONF=background_thread:false for pyarrow"
)


class Template:
    """What is between the hub and its workers."""

    def __init__(self, control: int, lifeline_fd: int, hub: lifeline.Guard) -> None:
        self._control = socket(fileno=control)
        self._lifeline = lifeline_fd
        self._hub = hub
        self._workers: dict[int, tuple[int, socket]] = {}  # by pidfd: the pid, and where the hub hears of it
        self._set_here: list[str] = []  # variables of the environment that say how many threads there may be

    def prepare(self, plan: bytes) -> None:
        """Import what the plan says. Raises SystemExit, after the hub was told why."""
        modules, self._set_here = payload.loads(plan)
        recipe = Recipe(modules)
        recipe.install()
        _, names, _ = recipe.load()
        brought: dict[object, str] = {}
        found: dict[object, str] = {}
        for name in (_OUR_OWN, *names):
            forking.say(self._control, forking.IMPORTING, name)
            try:
                import_module(name)
            except BaseException as error:  # noqa: BLE001 - whatever code of the user's raises
                sys.excepthook(type(error), error, error.__traceback__)
                self._give_up(forking.FAILED, f"importing {name!r} raised {type(error).__name__}: {error}")
            found = unforkable()
            brought = {thing: f"{words}, from importing {name!r}" for thing, words in found.items()} | brought
        if found:
            culprits = ", and ".join(brought[thing] for thing in found)
            self._give_up(forking.REFUSED, f"it cannot be forked, since it has {culprits}. {_WHY}")
        gc.collect()
        gc.freeze()  # or the collector would write on every page that is shared
        forking.say(self._control, forking.READY)

    def _give_up(self, kind: bytes, why: str) -> None:
        forking.say(self._control, kind, why)
        sys.exit(1)

    def wait_for_birth(self) -> dict[str, int]:
        """Fork, whenever the hub says so. Returns in a worker, with its descriptors. The other process never does."""
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._hub.pidfd, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd in self._workers:
                    poll.unregister(fd)
                    self._bury(fd)
                elif fd == self._hub.pidfd:
                    lifeline.die_with_the_hub()
                elif (given := self._take_order(poll)) is not None:
                    return given

    def _take_order(self, poll: select.poll) -> dict[str, int] | None:
        kind, body, descriptors = forking.hear(self._control)
        if not kind:
            os._exit(0)  # the hub has no use for this process any more; the workers go on
        threads, names = payload.loads(body)
        if len(descriptors) < len(names):  # there is no room for them, and the end of the first tells that
            for fd in descriptors:
                os.close(fd)
            return None
        given = dict(zip(names, descriptors, strict=True))
        told = socket(fileno=given.pop("told"))
        if self._fork(told, given, poll):
            self._become_worker(threads, given)
            return given
        for fd in given.values():
            os.close(fd)
        return None

    def _fork(self, told: socket, given: dict[str, int], poll: select.poll) -> bool:
        """Whether this is the worker. The hub is told of it, or why there is none."""
        if found := unforkable():
            why = f"it cannot be forked any more, since it has got {', and '.join(found.values())}. {_WHY}"
            self._tell(told, forking.REFUSED, why)
            return False
        if _is_cut(given["lifeline"]):  # the hub has called it off
            return False
        for output in (sys.stdout, sys.stderr):
            if output is not None:
                output.flush()  # or the worker would write it too
        pid = -1
        try:
            pid = os.fork()
            if pid == 0:
                told.close()
                return True
            pidfd = os.pidfd_open(pid)
        except OSError as error:
            if pid > 0:
                os.kill(pid, _signal.SIGKILL)
                os.waitpid(pid, 0)
            self._tell(told, forking.NOT_NOW, error.errno or 0)
            return False
        self._workers[pidfd] = pid, told
        poll.register(pidfd, select.POLLIN)
        self._tell(told, forking.BORN, pid, pidfd)
        return False

    def _tell(self, told: socket, kind: bytes, what: str | int, *descriptors: int) -> None:
        try:
            forking.say(told, kind, what, descriptors)
        except OSError:  # the hub does not want to know any more
            pass

    def _bury(self, pidfd: int) -> None:
        """It has ended. Until it is reaped, here, its number and its group's are its own."""
        pid, told = self._workers.pop(pidfd)
        os.close(pidfd)
        try:
            os.killpg(pid, _signal.SIGKILL)  # what it has left behind
        except OSError:
            pass
        try:
            self._tell(told, forking.ENDED, os.waitpid(pid, 0)[1])
        except ChildProcessError:  # a module that was imported reaps them all
            pass
        told.close()

    def _become_worker(self, threads: int, given: dict[str, int]) -> None:
        """In the fork: what a worker that was started by itself has from its start."""
        os.setsid()
        lifeline.arm(given.pop("lifeline"))
        os.close(self._lifeline)
        self._control.close()
        for pidfd, (_, told) in self._workers.items():
            os.close(pidfd)
            told.close()
        self._workers.clear()
        if "output" in given:
            output = given.pop("output")
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.close(output)
        os.environ.update(dict.fromkeys(self._set_here, str(threads)))
        threading: Any = sys.modules.get("threading")
        if threading is not None:
            threading.main_thread()._set_native_id()  # noqa: SLF001 - as multiprocessing does
        numpy_random: Any = sys.modules.get("numpy.random")
        if numpy_random is not None:
            numpy_random.seed()  # `random` does so itself


def _is_cut(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, 0)
    return bool(poll.poll(0))
