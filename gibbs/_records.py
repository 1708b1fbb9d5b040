"""Frozen records of what is and of what happened. They know nothing of how it came about."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a worker runs, as its launcher knows it.

    Attributes:
        launcher: the launcher's name.
        host: the host's name, or "" for this one.
        pid: the process id on that host, or None where the launcher cannot know it.
    """

    launcher: str
    host: str = ""
    pid: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a worker's process ended.

    Attributes:
        how: "exited" with an exit status, "signalled" by a signal, "lost" when what led to it has ended and nothing was heard of it, or
            "unknown" when somebody else reaped the process, the kernel has not ended it, or its launcher cannot know more than that it is gone.
        code: the exit status or the signal's number; None when unknown.
        certain: False when nobody can promise that the process does not run any more.
        tail: the last lines that it wrote on descriptors 1 and 2, capped; "" where they are not captured.
        detail: what the launcher, or what it uses, says about it, in words; or "".
        stack: where it was when it crashed, in the words of `faulthandler`, where these are not in its output; or "".
    """

    how: Literal["exited", "signalled", "lost", "unknown"]
    code: int | None = None
    certain: bool = True
    tail: str = ""
    detail: str = ""
    stack: str = ""

    @property
    def exit_code(self) -> int | None:
        """The exit status, if the process exited by itself."""
        return self.code if self.how == "exited" else None

    @property
    def signal(self) -> str | None:
        """The name of the signal that ended the process, such as "SIGKILL"."""
        if self.how != "signalled" or self.code is None:
            return None
        try:
            return signal.Signals(self.code).name
        except ValueError:
            return f"signal {self.code}"

    def __str__(self) -> str:
        if self.how == "exited":
            return f"exited with status {self.code}"
        if self.how == "signalled":
            return f"was ended by {self.signal}"
        if self.how == "lost":
            return f"is lost: {self.detail}" if self.detail else "is lost"
        if not self.certain:
            return "was killed, and the kernel has not ended it yet"
        if self.detail:
            return f"is gone: {self.detail}"
        return "is gone, its exit status was taken by other code of this program"


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One call on a stack.

    Attributes:
        file: the file of its code.
        line: the line that it is on.
        function: the function's name, with that of its class where the worker could tell.
    """

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} in {self.function}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStack:
    """Where a worker is, at one moment. `str()` of it is for people.

    Attributes:
        seat: the seat's index.
        incarnation: the how-manieth worker of that seat it is, from 1.
        pid: its process id, None where the launcher cannot know it.
        host: the name of the machine that it runs on; "" for this one.
        method: the method that it runs, None if none.
        seconds: how long that has run.
        threads: the Python stack of each thread as calls, the innermost last; first the main thread, in which the model runs. What is
            this library's own is left out: of an idle worker the main thread has no frames, and its other threads are not there. Empty if
            the worker did not answer. If C code holds the interpreter's lock it is the main thread alone.
    """

    seat: int
    incarnation: int
    pid: int | None
    host: str = ""
    method: str | None = None
    seconds: float = 0.0
    threads: tuple[tuple[Frame, ...], ...] = ()

    @property
    def answered(self) -> bool:
        """Whether it has said where it is."""
        return bool(self.threads)

    @property
    def frames(self) -> tuple[Frame, ...]:
        """The main thread's."""
        return self.threads[0] if self.threads else ()

    @property
    def place(self) -> str:
        """Where the innermost call of the main thread is, in words; in a library, also where it was called from. "" if there is none."""
        return place(self.frames)

    def __str__(self) -> str:
        where = f"pid {self.pid} on {self.host}" if self.host else f"pid {self.pid}"
        doing = f"in {self.method!r} for {self.seconds:.3g} seconds" if self.method is not None else "idle"
        text = f"worker {self.seat} ({where}), {doing}"
        if not self.answered:
            return f"{text}, does not say where it is"
        return f"{text}:\n{in_lines(self.threads)}" if any(self.threads) else text


_A_LIBRARY = re.compile(r"[/\\](?:site|dist)-packages[/\\]|[/\\]lib[/\\]python\d|^<frozen ")


def place(frames: tuple[Frame, ...]) -> str:
    """Where the innermost of these calls is, in words; in a library, also where it was called from. "" if there is none."""
    if not frames:
        return ""
    own = next((frame for frame in reversed(frames) if not _A_LIBRARY.search(frame.file)), frames[-1])
    return str(own) if own is frames[-1] else f"{frames[-1]}, called from {own}"


def in_lines(threads: tuple[tuple[Frame, ...], ...]) -> str:
    """Stacks as a traceback shows them."""
    return "\nanother thread:\n".join(
        "\n".join(f'  File "{frame.file}", line {frame.line}, in {frame.function}' for frame in thread)
        for thread in threads
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HubStatistics:
    """What a hub is doing and has done, at one moment.

    Attributes:
        seats: how many seats are in each state: "vacant", "starting", "spare", "serving", "interrupting", "dying",
            "retired".
        pids: the process id of each seat's worker, by seat index; None where there is none.
        queued: requests that wait for their turn, also those that were sent ahead to a worker that runs another.
        running: requests that a worker holds and somebody waits for.
        done: requests answered by a result.
        failed: requests answered by an exception: the model's, or one about what could not be loaded or brought back.
        cancelled: requests whose caller was cancelled.
        crashed: requests that ended with WorkerCrashed, or with LeaseBroken.
        expired: requests that no worker took within their `max_wait`.
        turned_away: requests that were never accepted, since as many waited as `max_pending` allows or their callers had too little time left.
        retried: how often a request was sent again after its worker had died.
        leases: how many leases are held; those who wait for one are among the queued.
        refused: accepted requests that ended with HubClosed.
        restarts: workers started in the place of one that had died, or had not become ready; not by plan.
        interrupted: cancelled calls that were interrupted or not begun; their workers were kept.
        killed: cancelled calls that cost their worker.
        oldest_wait: seconds that the first of the queue has waited; 0.0 for an empty queue.
    """

    seats: Mapping[str, int]
    pids: tuple[int | None, ...] = ()
    queued: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    cancelled: int = 0
    crashed: int = 0
    expired: int = 0
    turned_away: int = 0
    retried: int = 0
    leases: int = 0
    refused: int = 0
    restarts: int = 0
    interrupted: int = 0
    killed: int = 0
    oldest_wait: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Whether a hub can serve now, and if not why.

    Attributes:
        ready: whether a new request would be accepted and some worker is there to take it.
        reasons: sentences for a person, empty when there is nothing to say. A hub can be ready with reasons (one seat of
            four is down).
        full: whether only that is missing: a queue that has no room, as it will again when requests are answered.
        failed: whether the hub has given up: it will never be ready again.
    """

    ready: bool
    reasons: tuple[str, ...] = field(default=())
    full: bool = False
    failed: bool = False


for _record in (Origin, Ending, Frame, WorkerStack, HubStatistics, Health):
    _record.__module__ = "gibbs"


def probable_cause(
    ending: Ending, *, violation: str | None = None, out_of_memory: bool | None = None, last: str = ""
) -> str:
    """A sentence on why a worker probably ended so, or "".

    `out_of_memory`: whether the kernel has ended some process for want of memory meanwhile; None: nobody counts. `last`: where it was.
    """
    cause = _cause(ending, violation, out_of_memory)
    if not last:
        return cause
    return f"{cause}; it was at {last}" if cause else f"it was at {last}"


def _cause(ending: Ending, violation: str | None, out_of_memory: bool | None) -> str:
    if violation:
        return f"it was killed by the hub, since {violation}"
    if ending.detail:
        return ending.detail
    if ending.how == "unknown" and not ending.certain:
        return "it was killed, and the kernel has not ended it yet"
    if ending.how == "exited":
        return "the model, or a library of it, ended the process (os._exit, or an uncaught error in the worker)"
    if ending.signal == "SIGKILL" and out_of_memory is not None:
        if out_of_memory:
            return (
                "the kernel's out-of-memory killer, which has ended a process of this program's control group meanwhile"
            )
        return (
            "not the kernel's out-of-memory killer, by the counter of this program's control group: "
            "somebody has sent it, or it killed itself"
        )
    return {
        "SIGKILL": "often this is the kernel's out-of-memory killer",
        "SIGSEGV": "native code of the model, or of a library of it, has a fault",
        "SIGBUS": "native code of the model, or of a library of it, has a fault, or a disk is full",
        "SIGABRT": "native code of the model, or of a library of it, called abort()",
        "SIGXCPU": "a CPU limit was reached",
    }.get(ending.signal or "", "")
