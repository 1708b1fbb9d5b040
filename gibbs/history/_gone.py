"""Workers that are gone, or never came: the last of them, with what they said last. Pure, and bounded."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import replace
from typing import TYPE_CHECKING

from ._records import EndedWorker

if TYPE_CHECKING:
    from ..events import StartFailed, WorkerEnded

DEATHS, REPLACED = 50, 20  # of them are kept: those that go by plan shall not push out the others
_LINES, _CHARACTERS = 20, 4000  # of what one said


def cut(text: str) -> str:
    """The end of it."""
    return "\n".join(text[-_CHARACTERS:].splitlines()[-_LINES:])


def ended(event: WorkerEnded, lived: float | None, number: int | None, method: str, ran: float) -> EndedWorker:
    """One that was ready; and which request it had had, for how long."""
    return EndedWorker(
        kind=event.reason,
        ago=0.0,
        seat=event.seat,
        incarnation=event.incarnation,
        pid=event.pid,
        host=event.host,
        how=str(event.ending),
        why=cut(event.probable_cause),
        lived=lived,
        number=number,
        method=method,
        ran=ran,
        deaths=0,
        tail=cut(event.ending.tail),
        stack=cut(event.ending.stack),
    )


def unstarted(event: StartFailed) -> EndedWorker:
    """One that did not become ready."""
    return EndedWorker(
        kind="unstarted",
        ago=0.0,
        seat=event.seat,
        incarnation=event.incarnation,
        pid=None,
        host="",
        how="did not become ready",
        why=cut(event.error.detail or event.error.reason),
        lived=None,
        number=None,
        method="",
        ran=0.0,
        deaths=0,
        tail=cut(event.error.stderr_tail),
        stack="",
    )


class Gone:
    """The last of one hub: when each one went, and what is known of it, in the order in which they went."""

    def __init__(self) -> None:
        self._deaths: deque[tuple[float, EndedWorker]] = deque(maxlen=DEATHS)
        self._replaced: deque[tuple[float, EndedWorker]] = deque(maxlen=REPLACED)

    def add(self, at: float, worker: EndedWorker) -> None:
        """One more."""
        (self._deaths if worker.kind in ("died", "unstarted") else self._replaced).append((at, worker))

    def workers(self, now: float) -> tuple[EndedWorker, ...]:
        """The last one first; with how many have died of its request until then."""
        deaths: Counter[int] = Counter()
        found = [*self._replaced]
        for at, worker in self._deaths:
            if worker.number is not None:
                deaths[worker.number] += 1
                worker = replace(worker, deaths=deaths[worker.number])
            found.append((at, worker))
        found.reverse()
        found.sort(key=lambda one: one[0], reverse=True)  # stable: of one moment the later is first
        return tuple(replace(worker, ago=max(0.0, now - at)) for at, worker in found)
