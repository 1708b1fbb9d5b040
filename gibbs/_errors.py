"""The exceptions that a user meets.

```
GibbsError
├── HubClosed             also anyio.ClosedResourceError: the hub takes no requests (any more)
├── HubOverloaded         also anyio.WouldBlock: the queue is as long as `max_pending` allows, or there is no time left
├── WorkerStartFailed     a worker did not become ready
├── WorkerCrashed         a worker died while it had the request
│   └── PoisonRequest     and so did the one before, which `retries` allows no further
├── LeaseBroken           the worker of a lease died, and with it what it knew
├── RemoteError           the model raised what cannot travel, or what cannot be raised here
├── MessageTooLarge       a request or its result has more bytes than `max_message` allows
├── ReloadFailed          another model was to be served, and could not be
├── RestartsExhausted     workers failed to start more often than the policy allows
└── RecursiveStart        a hub was opened by a module that a worker is importing
```

Each says what happened, to which worker and request, and what to do; its data are attributes; each pickles by its fields
(a cause does not travel).
"""

from __future__ import annotations

from typing import Any, Literal

import anyio

ClosedReason = Literal["closed", "draining", "failed"]
StartFailure = Literal["model", "import", "timeout", "exited", "recursive", "refused", "resources", "launch"]
Stage = Literal["arguments", "call", "result"]


class GibbsError(Exception):
    """What all exceptions of this library have in common."""

    def __reduce__(self) -> tuple[Any, ...]:
        # The fields are its dictionary, and so are its notes and whatever other code has hung on it.
        return _rebuild, (type(self), self.args), self.__dict__


def _rebuild(cls: type[GibbsError], args: tuple[Any, ...]) -> GibbsError:
    return cls.__new__(cls, *args)


class HubClosed(GibbsError, anyio.ClosedResourceError):
    """The hub takes no requests (any more).

    Attributes:
        name: the hub's name.
        reason: "closed", its `async with` block was left; "draining", `drain()` was called; "failed", its supervision gave
            up, and `__cause__` says why.
    """

    def __init__(self, name: str, reason: ClosedReason) -> None:
        self.name = name
        self.reason = reason
        super().__init__(name, reason)

    def __str__(self) -> str:
        return {
            "closed": f"the hub {self.name!r} is closed: its `async with` block has been left",
            "draining": f"the hub {self.name!r} is draining and takes no new requests",
            "failed": f"the hub {self.name!r} has failed and takes no more requests; the cause says why",
        }[self.reason]


class HubOverloaded(GibbsError, anyio.WouldBlock):
    """The request was refused: as many wait as `max_pending` allows, or no worker took it within `max_wait`. It has not run.

    Attributes:
        name: the hub's name.
        pending: how many requests waited.
        max_wait: the seconds within which no worker took it; None if that is not why.
        needed: the seconds that calls take, of a hub that sheds, if that was more than its caller had left; None if that is not why.
    """

    def __init__(self, name: str, pending: int, max_wait: float | None = None, needed: float | None = None) -> None:
        self.name = name
        self.pending = pending
        self.max_wait = max_wait
        self.needed = needed
        super().__init__(name, pending, max_wait, needed)

    def __str__(self) -> str:
        if self.needed is not None:
            why = f"a call takes {self.needed:.3g} seconds, more than the caller of this one had left, and {self.pending} wait"
        elif self.max_wait is None:
            why = f"{self.pending} requests wait already, as many as max_pending allows"
        else:
            why = f"no worker took this request within max_wait={self.max_wait:g} seconds, and {self.pending} wait"
        return f"the hub {self.name!r} is overloaded: {why}. Answer 503, try again later, or give the hub more workers"


class WorkerStartFailed(GibbsError):
    """A worker did not become ready; its process is gone.

    Attributes:
        name: the hub's name.
        seat: the seat's index.
        reason: "model", its construction raised (`__cause__` is that exception); "import", its code could not be loaded
            there; "timeout"; "exited", the process ended first; "recursive", a module that it imports opens a hub;
            "refused", what the factory built cannot be served; "resources", no process could be made (`__cause__` is the
            OSError); "launch", the launcher could not reach a place for it (`__cause__` is its `gibbs.abc.LaunchFailed`).
        exit_code, signal: how the process ended, where that is the story.
        stderr_tail: the last lines that it wrote.
        detail: a sentence about this failure.
    """

    def __init__(
        self,
        name: str,
        seat: int,
        reason: StartFailure,
        *,
        exit_code: int | None = None,
        signal: str | None = None,
        stderr_tail: str = "",
        detail: str = "",
    ) -> None:
        self.name = name
        self.seat = seat
        self.reason = reason
        self.exit_code = exit_code
        self.signal = signal
        self.stderr_tail = stderr_tail
        self.detail = detail
        super().__init__(name, seat, reason)

    def __str__(self) -> str:
        text = f"worker {self.seat} of the hub {self.name!r} did not become ready: {self.detail or self.reason}"
        return _with_tail(text, self.stderr_tail)


class WorkerCrashed(GibbsError):
    """The worker that had the request died before it answered. The other requests are not concerned; the seat is restarted.

    Attributes:
        name: the hub's name.
        pid: its process id, None where the launcher cannot know it.
        seat: the seat's index.
        incarnation: the how-manieth worker of that seat it was, from 1.
        exit_code: its exit status, None if a signal ended it or nobody knows.
        signal: the name of the signal that ended it, such as "SIGKILL", or None.
        stderr_tail: the last lines that it wrote on descriptors 1 and 2.
        probable_cause: a sentence, or "".
        stack: where it was, as a traceback shows it, if a fault in native code has ended it, or the hub for a cancelled call that did not
            unwind; "" where nobody knows.
        may_have_run: False only if it is certain that the model never saw this request; then it can be sent again.
        may_still_run: True if nobody can promise that the old process does not run any more: what led to a worker on another machine
            has ended, and nothing was heard of it. On one machine only if the kernel did not end a killed process in time.
        host: the name of the machine that it ran on; "" for this one.
    """

    def __init__(
        self,
        name: str,
        pid: int | None,
        seat: int,
        incarnation: int,
        *,
        exit_code: int | None = None,
        signal: str | None = None,
        stderr_tail: str = "",
        probable_cause: str = "",
        stack: str = "",
        may_have_run: bool = True,
        may_still_run: bool = False,
        host: str = "",
    ) -> None:
        self.name = name
        self.pid = pid
        self.seat = seat
        self.incarnation = incarnation
        self.exit_code = exit_code
        self.signal = signal
        self.stderr_tail = stderr_tail
        self.probable_cause = probable_cause
        self.stack = stack
        self.may_have_run = may_have_run
        self.may_still_run = may_still_run
        self.host = host
        super().__init__(name, pid, seat, incarnation)

    @property
    def where(self) -> str:
        """Its process, in words."""
        return f"pid {self.pid} on {self.host}" if self.host else f"pid {self.pid}"

    @property
    def how(self) -> str:
        """How it ended, and why probably, in words."""
        if self.signal is not None:
            how = f"ended by {self.signal}"
        elif self.exit_code is not None:
            how = f"exited with status {self.exit_code}"
        elif self.may_still_run:
            how = "is lost, and may still run"
        else:
            how = "ended, nobody knows how"
        return f"{how}; {self.probable_cause}" if self.probable_cause else how

    def __str__(self) -> str:
        text = f"worker {self.seat} of the hub {self.name!r} ({self.where}) died with this request: {self.how}"
        if self.may_still_run:
            text += ". The request may have run, and may run still: send it again only if it can run twice at a time"
        elif self.may_have_run:
            text += ". The request may have run: send it again only if that does no harm"
        else:
            text += ". The request was never begun and can be sent again"
        if self.stack:
            text += f"\nit was at, the innermost call last:\n{self.stack}"
        return _with_tail(text, self.stderr_tail)


class PoisonRequest(WorkerCrashed):
    """The request has killed two workers, one after the other, and is not given another, whatever `retries` says.

    Raised instead of WorkerCrashed where `retries` is 1 or more. What it says of a worker is of the last one.

    Attributes:
        crashes: the crashes before, as they would have been raised; the last of them is the cause of this.
    """

    crashes: tuple[WorkerCrashed, ...] = ()

    def __str__(self) -> str:
        text = (
            f"{len(self.crashes) + 1} workers of the hub {self.name!r} died with this request, which is tried no more; the last, "
            f"worker {self.seat} ({self.where}): {self.how}. Look at its arguments before it is sent again"
        )
        return _with_tail(text, self.stderr_tail)


class LeaseBroken(GibbsError):
    """The worker of a lease has died, and what it knew is lost. The request was not begun, there or anywhere; the seat is restarted.

    The request that it had begun when it died raises WorkerCrashed. This is for those that waited on the lease, and for all that come
    later. `__cause__` is the WorkerCrashed that tells of the death.

    Attributes:
        name: the hub's name.
        seat: the seat's index.
        incarnation: the how-manieth worker of that seat it was, from 1.
        how: how it ended, and why probably, in words.
    """

    def __init__(self, name: str, seat: int, incarnation: int, *, how: str = "ended, nobody knows how") -> None:
        self.name = name
        self.seat = seat
        self.incarnation = incarnation
        self.how = how
        super().__init__(name, seat, incarnation)

    def __str__(self) -> str:
        return (
            f"the lease of worker {self.seat} of the hub {self.name!r} (incarnation {self.incarnation}) is broken, since "
            f"it died: {self.how}. "
            f"What it knew is lost, and this request was not begun: enter a new lease, and tell its worker anew"
        )


class RemoteError(GibbsError):
    """The model raised what cannot travel, or what must not be raised here (SystemExit, KeyboardInterrupt, …).

    Also: its arguments could not be loaded in the worker, or its result could not be sent or loaded. The worker is kept.

    Attributes:
        type_name: the qualified name of the original exception's type.
        message: its text.
        traceback: the traceback as text.
        stage: "arguments", "call" or "result": where it happened.
    """

    def __init__(self, type_name: str, message: str, traceback: str, stage: Stage) -> None:
        self.type_name = type_name
        self.message = message
        self.traceback = traceback
        self.stage = stage
        super().__init__(type_name, message, traceback, stage)

    def __str__(self) -> str:
        where = {
            "arguments": "the arguments could not be loaded in the worker",
            "call": "the model raised what cannot be raised here as itself",
            "result": "the result could not be brought back",
        }[self.stage]
        text = f"{self.type_name}: {self.message}" if self.message else self.type_name
        return f"{where}: {text}"


class MessageTooLarge(GibbsError):
    """A request, or its result, has more bytes than the hub's `max_message` allows. The worker is kept.

    Attributes:
        name: the hub's name.
        what: "request", and nothing was sent; or "result", and the call has run.
        size: how many bytes the pickle has.
        limit: `max_message`.
    """

    def __init__(self, name: str, what: Literal["request", "result"], size: int, limit: float) -> None:
        self.name = name
        self.what = what
        self.size = size
        self.limit = limit
        super().__init__(name, what, size, limit)

    def __str__(self) -> str:
        happened = "nothing was sent" if self.what == "request" else "the call has run, its result stayed behind"
        return (
            f"a {self.what} of the hub {self.name!r} has {self.size} bytes, more than max_message={self.limit}: {happened}. "
            f"Open the hub with a larger max_message, or pass a file's name instead of what is in it"
        )


class ReloadFailed(GibbsError):
    """The hub was to serve another model, and serves the one before as if nothing had happened. `__cause__` says why.

    Attributes:
        name: the hub's name.
        detail: what went wrong, in words.
        undone: False where some had been replaced, and the model before did not start either. They serve until they die, or another reload.
    """

    def __init__(self, name: str, detail: str, *, undone: bool = True) -> None:
        self.name = name
        self.detail = detail
        self.undone = undone
        super().__init__(name, detail)

    def __str__(self) -> str:
        now = "serves as before" if self.undone else "could not be put back, so that both models serve"
        return f"the hub {self.name!r} was not reloaded, and {now}: {self.detail}"


class RestartsExhausted(GibbsError):
    """Workers failed more often than the RestartPolicy allows; the hub has closed.

    Attributes:
        name: the hub's name.
        failures: the last failures, each a WorkerStartFailed or a WorkerCrashed, oldest first.
    """

    def __init__(self, name: str, failures: tuple[GibbsError, ...]) -> None:
        self.name = name
        self.failures = failures
        super().__init__(name, failures)

    def __str__(self) -> str:
        last = f"; the last one: {self.failures[-1]}" if self.failures else ""
        return f"the hub {self.name!r} gave up: its workers failed more often than its RestartPolicy allows{last}"


class RecursiveStart(GibbsError):
    """A worker imported a module that opens a hub while it is being imported; it would start workers without end.

    Attributes:
        name: the name of the hub that was not opened.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(name)

    def __str__(self) -> str:
        return (
            f"the hub {self.name!r} is opened by a module that a worker is importing. Put the call that opens it under "
            f'`if __name__ == "__main__":`, or move the model to a module of its own'
        )


for _error in (
    GibbsError,
    HubClosed,
    HubOverloaded,
    WorkerStartFailed,
    WorkerCrashed,
    PoisonRequest,
    LeaseBroken,
    RemoteError,
    MessageTooLarge,
    ReloadFailed,
    RestartsExhausted,
    RecursiveStart,
):
    _error.__module__ = "gibbs"


def _with_tail(text: str, tail: str) -> str:
    tail = tail.rstrip()
    return f"{text}\nits last lines of output:\n{tail}" if tail else text
