"""What happened in a simulated world, and what only the writer of its script can judge.

The hub's half is written by `tests.histories.recorder`, with the end of each scripted worker beside it; callers and workers write theirs.
One list, in the order of happening, with the virtual time. Most promises are those of any hub (`tests.histories.judge`); here are the ones
for which one must know what a worker was told to do, or that time passes only where somebody waits.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from gibbs.testing import ScriptedWorker
from tests.histories.history import SAID, History, f, number_of
from tests.histories.judge import EPSILON, Judge
from tests.histories.recorder import HubHalf

__all__ = ["CALM_IN", "LIE", "History", "f", "judge", "name_of", "number_of", "recording"]

LIES = ("garbage", "neighbour", "again", "twice", "wanted", "claims", "taken back")  # words of what ends all trust
LIE = "claims what it was not offered"
CALM_IN = 300.0  # seconds of virtual time in which a world without further faults has answered everybody


def name_of(worker: ScriptedWorker) -> str:
    return f"{worker.spec.seat}.{worker.spec.incarnation}"


@contextmanager
def recording(history: History) -> Iterator[None]:
    """Write down what the hub does, and when a scripted worker's process ends."""
    die, kill = ScriptedWorker.die, ScriptedWorker.kill

    def recorded_die(worker: ScriptedWorker, **how: Any) -> None:
        was_alive = worker.ending is None
        die(worker, **how)
        if was_alive:
            history.record("ended", 0, name_of(worker))

    def recorded_kill(worker: ScriptedWorker) -> None:
        if worker.ending is None:
            history.record("killed", 0, name_of(worker))
        kill(worker)

    with (
        HubHalf(history).watching(),
        patch.object(ScriptedWorker, "die", recorded_die),
        patch.object(ScriptedWorker, "kill", recorded_kill),
    ):
        yield


def judge(history: History) -> list[str]:
    """What was promised and is not so, one sentence each.

    A worker that lies about claims runs what was taken back from it: nobody can keep it from that, so what it begins after its
    lie is not read. All that the others do is.
    """
    liars: set[str] = set()
    believed = History(history.facts)
    believed.problems = history.problems
    for event in history.events:
        if event.what == "fault" and event.detail == LIE:
            liars.add(event.who)
        if event.what != "begun" or event.who not in liars:
            believed.events.append(event)
    return WorldJudge(believed, liars).problems()


class WorldJudge(Judge):
    """Also reads why each worker did what it did."""

    def __init__(self, history: History, liars: Collection[str] = ()) -> None:
        super().__init__(history)
        self.liars = liars

    def no_worker_runs_after_its_end(self) -> Iterator[str]:
        """Not asked of a script: it runs on to its next checkpoint, whatever became of its worker meanwhile."""
        return iter(())

    def no_crash_is_said_of_what_never_began(self) -> Iterator[str]:
        for n, outcomes in self.outcomes.items():
            for _, _, what, _, who, detail in outcomes:
                begun = [entry[4] for entry in self.find(n, {"begun"})]
                skipped = any(entry[2:5] == ("skips", n, who) for entry in self.of_worker[who])
                if what != "crashed" or who in self.liars or skipped:  # who lied about it is not believed
                    continue
                if detail["may_have_run"] and self.facts["side"] and begun != [who]:
                    yield f"request {n} never began in {who}, and its caller was told that it may have run"

    def no_last_word_is_lost(self) -> Iterator[str]:
        """What a worker had written before it died counts, unless it had written nonsense before."""
        for n, outcomes in self.outcomes.items():
            for _, _, what, _, who, _ in outcomes:
                said = next((entry for entry in self.find(n, {"said"}) if entry[4] == who), None)
                if what == "crashed" and said:
                    faults = [entry[5] for entry in self.of_worker[who] if entry[2] == "fault" and entry[0] < said[0]]
                    if not any(word in fault for fault in faults for word in LIES):
                        yield f"request {n} is said to have died with worker {who}, which had answered it"

    def no_worker_is_killed_without_a_reason(self) -> Iterator[str]:
        """A fault of its own, a start that took too long, a cancelled call that had to be cut, or the hub's end."""
        end = self.index_of("closing")
        for who, entries in self.of_worker.items():
            killed = self.first(entries, {"killed"})
            if killed is None or killed[0] > end or self.first(entries[: entries.index(killed)], {"fault"}):
                continue
            before = [entry for entry in entries if entry[0] < killed[0]]
            if not self.first(before, {"ready"}):
                took = killed[1] - self.first(before, {"launching"})[1]
                if took < self.facts["start_timeout"] - EPSILON:
                    yield f"worker {who} was killed while it started, after {took} seconds"
                continue
            held: dict[int, float] = {}  # when each was sent
            for entry in before:
                if entry[2] == "sent":
                    held[entry[3]] = entry[1]
                elif entry[2] == "recalled" or (entry[2] in SAID and entry[1] < killed[1]):
                    held.pop(entry[3], None)
            why_not = [self.why_not_kill(n, sent, killed, before) for n, sent in held.items()]
            if not why_not:
                yield f"worker {who} was killed, and had nothing"
            elif all(why_not):
                yield f"worker {who} was killed with {'; '.join(why_not)}"

    def why_not_kill(self, n: int, sent: float, killed: Any, before: list[Any]) -> str:
        """Why request `n` is no reason to kill the worker that has it; "" if it is."""
        cancel = self.first(self.of_request[n], {"cancels"})
        if cancel is None or cancel[0] > killed[0]:
            return f"request {n}, whose caller waited"
        how = self.asked[n]["on_cancel"] or ("interrupt" if self.facts["interruptible"] else "kill")
        begun = not self.facts["side"] or any(entry[2] == "begun" and entry[3] == n for entry in before)
        late = killed[1] - max(cancel[1], sent) >= self.facts["cancel_grace"] - EPSILON
        return (
            ""
            if how != "finish" and ((how == "kill" and begun) or late)
            else f"request {n}, which was to {how}, {begun=}"
        )
