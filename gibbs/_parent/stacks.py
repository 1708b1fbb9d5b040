"""Where workers are: asked beside the stream or in it, waited for so long and no longer, and made into records.

Knows what `faulthandler` writes, and which frames are this library's own. Must never hold up a request, nor think worse of a worker that
does not answer. Cancelled, it leaves nothing: what was asked is answered to whoever asks next.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeAlias

import anyio

from .._records import Frame, WorkerStack, place
from .._wire.messages import SIZE, WHERE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._core.seat import Seat
    from .._records import Ending
    from ..abc import WorkerProcess
    from .link import Link

Threads: TypeAlias = tuple[tuple[Frame, ...], ...]

PATIENCE = 1.0  # seconds for workers to answer: far more than one takes that can
_LONGEST = 1 << 18  # bytes of an answer that are read
_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.02  # seconds between two looks

_OURS = re.compile(
    r"[/\\]gibbs[/\\](?:_worker[/\\]|_wire[/\\]|testing[/\\]_thread_|worker\.py|_model\.py|_batched\.py)"
)
_FRAME = re.compile(r'  File "(.*)", line (\d{1,9}) in (.*)')
_FAULTS = {"SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL"}
_CURRENT = "Current thread"
_HEADER = "(most recent call first):"
_FOUNDATION = ("live", "converse")  # functions of `_worker.serve`, and what is beneath them is the launcher's


class Whereabouts:
    """The question to one worker, and its answer.

    Invariant: `_asked` while there is an answer to come; meanwhile nobody asks again.
    """

    def __init__(self, seat: Seat, process: WorkerProcess, link: Link) -> None:
        self._seat = seat
        self._origin = process.origin
        self._side = process.side
        self._link = link
        self._asked = False
        self._told = ""
        self._running_for = 0.0

    def ask(self) -> None:
        """Have it say where it is."""
        if self._side is not None:
            self._side.ask_where()
        elif not self._asked:
            self._asked = True
            self._running_for = 0.0
            self._link.send(WHERE)

    def hear(self, body: bytes) -> None:
        """It says so in the stream."""
        self._asked = False
        self._running_for = int.from_bytes(body[:SIZE], "little") / 1e9
        self._told = body[SIZE:_LONGEST].decode(errors="replace")

    @property
    def told(self) -> str:
        """Its answer; "" until it is there."""
        if self._side is not None:
            return self._side.where()
        return "" if self._asked else self._told

    def record(self, text: str) -> WorkerStack:
        """What is known now, with this answer."""
        ticket = self._seat.held.get(self._link.begun() or 0) or next(iter(self._seat.held.values()), None)
        seconds = self._running_for if self._side is None else self._side.running_for()
        return WorkerStack(
            seat=self._seat.index,
            incarnation=self._seat.incarnation,
            pid=self._origin.pid,
            host=self._origin.host,
            method=None if ticket is None else ticket.method,
            seconds=0.0 if ticket is None else seconds,
            threads=threads_in(text),
        )


class LastLook:
    """Where a worker is that may have to be killed: asked once, and waited for by who looks again and again."""

    def __init__(self, whereabouts: Whereabouts) -> None:
        self._whereabouts = whereabouts
        self._is_asked = False
        self.threads: Threads = ()

    def take(self) -> None:
        """Ask, or see what it has answered."""
        if not self._is_asked:
            self._is_asked = True
            self._whereabouts.ask()
        self.threads = self.threads or threads_in(self._whereabouts.told)


async def stacks_of(workers: Iterable[Whereabouts], patience: float = PATIENCE) -> tuple[WorkerStack, ...]:
    """Where these are, in their order, within so many seconds."""
    records: dict[Whereabouts, WorkerStack | None] = dict.fromkeys(workers)
    for worker in records:
        worker.ask()
    give_up, pause = anyio.current_time() + patience, _FIRST_PAUSE
    while None in records.values() and anyio.current_time() < give_up:
        await anyio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
        for worker, record in records.items():
            if record is None and (text := worker.told):
                records[worker] = worker.record(text)
    return tuple(record or worker.record("") for worker, record in records.items())


def threads_in(text: str) -> Threads:
    """The stacks in such a text, the one that crashed first, each without this library's own frames and with the innermost call last."""
    threads: list[list[Frame]] = []
    current = 0
    for line in text.splitlines():
        if line.endswith(_HEADER):
            threads.append([])
            current = len(threads) - 1 if line.startswith(_CURRENT) else current
        elif threads and (frame := _FRAME.fullmatch(line)):
            threads[-1].append(Frame(file=frame[1], line=int(frame[2]), function=frame[3]))
    if not threads:
        return ()
    threads.insert(0, threads.pop(current))
    first, *others = (_without_ours(thread[::-1]) for thread in threads)
    return first, *filter(None, others)


def crash_of(ending: Ending) -> Threads:
    """Where a worker was when a fault in native code has ended it, by its own words or its last lines; () if neither tells."""
    if ending.signal not in _FAULTS:
        return ()
    _, found, crash = (ending.stack or ending.tail).rpartition("Fatal Python error")
    return threads_in(crash) if found else ()


def place_of(threads: Threads) -> str:
    """Where the first of them is, in words; or ""."""
    return place(threads[0]) if threads else ""


def _without_ours(frames: list[Frame]) -> tuple[Frame, ...]:
    """The frames of the model's own code, and of what that calls."""
    start = 0
    for index, frame in enumerate(frames):
        if frame.function in _FOUNDATION and _OURS.search(frame.file):
            start = index
            break
    end = len(frames)
    while start < end and _OURS.search(frames[start].file):
        start += 1
    while start < end and _OURS.search(frames[end - 1].file):  # the model asks something of it
        end -= 1
    return tuple(frames[start:end])
