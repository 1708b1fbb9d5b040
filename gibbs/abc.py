"""Contracts that others may implement: how workers come to be, what a launcher gives to the hub, and what calls have of their callers.

A `Launcher` is immutable configuration. A hub enters its `session()` once; the session launches one process per worker and
gives it back as a `WorkerProcess`: an ordered, reliable byte stream with the worker's loop (`gibbs.worker.serve`) at its
other end. What a launcher can promise is data, its `Traits`. `gibbs.testing.check_launcher` tries all of it.

A `Propagator` brings something of the caller's to the worker, where it is put around the call.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from anyio.abc import ByteStream

    from ._records import Ending, Origin

__all__ = [
    "LaunchFailed",
    "LaunchRefused",
    "LaunchSession",
    "Launcher",
    "Propagator",
    "SideChannel",
    "Traits",
    "WorkerProcess",
    "WorkerSpec",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What a launcher's workers can promise, as data. What follows from it for a hub's user is the table of docs/cluster.md.

    Attributes:
        same_host: descriptors and memory may be shared with the worker, and it finds the files that this program finds.
        kill_is_certain: after `kill()` and `ended()` the process is proven gone.
        in_place_cancel: a running call can be interrupted, and its worker and model are kept.
        exit_status: what is told of how a process ended: "full", its exit status or the signal, and its last lines of output; "code", the
            same by way of an exit status of something else; "none".
        silent_loss_within: seconds in which a host that says nothing any more is noticed; 0.0 where there is none between, None if nobody
            can promise a number.
        listens: a port is open on this machine as long as the hub is.
        last_words: what a worker has written before it ended is read in any case, or the stream is seen to be cut. Then it is known, also
            without shared memory, what had been sent ahead to it and was not begun.
    """

    same_host: bool
    kill_is_certain: bool
    in_place_cancel: bool = True
    exit_status: Literal["full", "code", "none"] = "full"
    silent_loss_within: float | None = 0.0
    listens: bool = False
    last_words: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """What is to be launched. The model itself follows in the stream, when the process is there.

    Attributes:
        name: the hub's name.
        seat: the seat's index, from 0 to `workers` - 1.
        incarnation: the how-manieth worker of that seat, from 1; never reused within a hub.
        workers: how many of the hub's seats this launcher fills.
        place: which of them this one is, by which hosts and devices are given in turn: a worker that takes another's place by plan has its
            place too. By default the seat's index.
    """

    name: str
    seat: int
    incarnation: int
    workers: int
    place: int = -1

    @property
    def turn(self) -> int:
        """The place, or the seat's index where none is told."""
        return self.seat if self.place < 0 else self.place


class LaunchFailed(Exception):
    """No process could be had, for a reason that may pass: a host that cannot be reached, a place that was lost.

    While a hub opens it is the cause of a WorkerStartFailed, later a failed start that counts under its RestartPolicy.
    """


class LaunchRefused(LaunchFailed):
    """No process could be had, and there is no use in trying again: a key that is refused, another version of Python there.

    The cause of a WorkerStartFailed, which also ends a hub that is open.
    """


class SideChannel(Protocol):
    """Ways to reach a worker beside its stream, for a worker on the same host. Each is synchronous and never raises."""

    def begun(self) -> int:
        """The link id of the last request that the worker began, 0 for none. True also after its death."""
        ...

    def aim(self, link_id: int) -> None:
        """Name the request that is to be skipped, or interrupted by the next `strike`."""
        ...

    def strike(self) -> None:
        """Interrupt the named request if it is running; do nothing otherwise."""
        ...

    def offer(self, count: int) -> None:
        """Allow the worker to begin so many requests more, those that are sent next."""
        ...

    def take_back(self, at_most: int) -> int:
        """Take back what was offered and not begun: the worker will skip it. How many there were, in that moment."""
        ...

    def service_time(self) -> float:
        """Seconds that the worker takes for a request, by its own measure of late; infinity when it has none."""
        ...

    def running_for(self) -> float:
        """Seconds since the worker took up the last request that it began; 0.0 if it began none."""
        ...

    def ask_where(self) -> None:
        """Have the worker say where it is. Asked again before it has said so, nothing more is asked."""
        ...

    def where(self) -> str:
        """What it has said, as `faulthandler` writes it, the main thread first; "" until that is there, and of one that does not say it."""
        ...


class WorkerProcess(Protocol):
    """One launched process, as the hub sees it.

    It may have a `device`: a str, which the model is told, or None; a `silence`: the seconds after which it may end itself if it has heard
    nothing on its stream, which the hub then prevents; and `hang()` and `go_on()`, which `gibbs.testing.hang` calls.
    """

    @property
    def stream(self) -> ByteStream:
        """Ordered, reliable, duplex. Its end means that the worker is gone, or cannot be used any more."""
        ...

    @property
    def side(self) -> SideChannel | None:
        """Ways to reach it beside the stream; None: the stream is all there is."""
        ...

    @property
    def origin(self) -> Origin:
        """Where it runs."""
        ...

    async def ended(self) -> Ending:
        """Return when the process is known to be gone. Repeatable, by one task at a time; cancelling it loses nothing."""
        ...

    def kill(self) -> None:
        """End the process and what it has started, irrevocably. Synchronous, idempotent, never raises, does not wait."""
        ...

    async def aclose(self) -> None:
        """Kill, close the stream, and free all handles. Idempotent. Does not wait for the end of the process."""
        ...


class LaunchSession(Protocol):
    """What a launcher keeps open for the workers of one hub."""

    async def launch(self, spec: WorkerSpec) -> WorkerProcess:
        """Start one process, connected; its model is not built yet.

        Raises OSError when no process can be made, LaunchFailed when none can be had now, LaunchRefused when there is no use in trying
        again. If it raises or is cancelled, nothing of the attempt is left, and nothing of it will appear later.
        """
        ...


class Launcher(Protocol):
    """How workers come to be. Immutable; may be shared between hubs."""

    @property
    def traits(self) -> Traits:
        """What its workers can promise."""
        ...

    def session(self) -> AbstractAsyncContextManager[LaunchSession]:
        """Entered once by each hub, before its first launch. When it is left, every process launched by it is gone."""
        ...


class Propagator(Protocol):
    """Brings something of the caller's to the worker, around the model's call: `open_hub(propagate=[...])`.

    It has two halves. `capture` is called in the caller, once for each request; `around` in the worker, for each call of the model. Only
    `around` travels: it is pickled once, when the hub opens, so that what it imports is imported in the workers of hubs that have it.

    Example:
        ```python
        class Niceness:
            name = "niceness"

            def capture(self, hub, method):
                return 10 if method == "train" else None

            @staticmethod
            @contextmanager
            def around(method, values):
                before = os.getpriority(os.PRIO_PROCESS, 0)
                os.setpriority(os.PRIO_PROCESS, 0, *values)
                yield
                os.setpriority(os.PRIO_PROCESS, 0, before)


        async with gibbs.open_hub(Model, workers=4, propagate=[Niceness()]) as hub:
            ...
        ```
    """

    @property
    def name(self) -> str:
        """What it is called in errors, and in events: no other propagator of the hub has this name."""
        ...

    def capture(self, hub: str, method: str) -> object | None:
        """What goes along with a request: anything that can be pickled; None: nothing, and `around` is not called for it.

        Called in the caller's task and context, synchronously, right before the request is pickled: for a stream or a job when its block is
        entered, for an item of a map when it is read from its source. Observers find the very object in `events.RequestEvent.propagated`. What
        it raises, the caller gets, and nothing is sent. A request may still be refused, or not be picklable, when this was called.

        Args:
            hub: the hub's name.
            method: the model's, "__call__" for the model itself; "" of one who asks for a lease, which is not sent anywhere.
        """
        ...

    @property
    def around(self) -> Callable[[str, Sequence[Any]], AbstractContextManager[object]]:
        """In the worker: a picklable function, of the method and of what its callers brought, that gives what a call is put in.

        It is entered in the call's own context, before the model is called, and left when the call is over, with what that has raised, which it
        cannot swallow: of a generator before its first step and behind its last, with `gibbs.Interrupted` of a call that nobody waits for. A
        batch is one call, with the values of all its callers who brought something; one that is tried again in halves is several. Neither
        entering nor leaving it is interrupted by a cancel. If it cannot be entered, the call fails; if it cannot be left, the worker says so
        on its stderr.
        """
        ...
