"""What happened in a simulated world, written down on both sides, and the judge who reads it.

The recorder writes the hub's half (accepted, sent, ordered, a worker's end) by watching three of its verbs; callers and
workers write theirs. One list, in the order of happening, with the virtual time. The judge knows what a hub promises and
nothing of how it keeps it: each promise is one method of `Judge`.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

import anyio

from gibbs._core.dispatch import Dispatcher, Interrupt, Send
from gibbs._parent.crew import Crew
from gibbs._wire import payload
from gibbs.testing import ScriptedWorker

OUTCOMES = {"answer", "model error", "cancelled", "refused", "overloaded", "crashed"}
SAID = {"answers", "fails", "skips"}
CALM_IN = 300.0  # seconds of virtual time in which a world without further faults has answered everybody
EPSILON = 1e-6


class Event(NamedTuple):
    """One thing that happened: to request `n` (0: to none), in or to worker `who` ("seat.incarnation")."""

    at: float
    what: str
    n: int
    who: str
    detail: Any

    def __str__(self) -> str:
        about = f" request {self.n}" if self.n else ""
        where = f" worker {self.who}" if self.who else ""
        return f"{self.at:10.4f}  {self.what}{about}{where}{'' if self.detail is None else f'  {self.detail}'}"


class History:
    """The list. Its clock is that of the event loop in which it is written."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self.facts = facts  # the hub's options
        self.events: list[Event] = []
        self.problems: list[str] = []  # seen on the spot

    def record(self, what: str, n: int = 0, who: str = "", detail: Any = None) -> None:
        self.events.append(Event(anyio.current_time(), what, n, who, detail))

    def __str__(self) -> str:
        return "\n".join([f"{self.facts}", *map(str, self.events)])


def name_of(worker: ScriptedWorker) -> str:
    return f"{worker.spec.seat}.{worker.spec.incarnation}"


def number_of(body: bytes) -> int:
    """Which request a payload is: its argument."""
    number: int = payload.loads(body)[1][0]
    return number


@contextmanager
def recording(history: History) -> Iterator[None]:
    """Write down what the hub does: what it accepts, what it sends to whom, and when a worker's process ends."""
    submit, carry_out, die, kill = Dispatcher.submit, Crew.carry_out, ScriptedWorker.die, ScriptedWorker.kill
    close, fail = Crew.close, Crew.fail

    def recorded_submit(dispatcher: Any, ticket: Any) -> Any:
        history.record("accepted", number_of(ticket.payload))
        return submit(dispatcher, ticket)

    def recorded_carry_out(crew: Any, orders: Any) -> None:
        for order in orders:
            who = f"{order.seat.index}.{order.seat.incarnation}"
            if isinstance(order, Send):
                history.record("sent", number_of(order.ticket.payload), who)
            elif isinstance(order, Interrupt):
                history.record("ordered", 0, who, order.how)
        carry_out(crew, orders)

    def recorded_die(worker: ScriptedWorker, **how: Any) -> None:
        was_alive = worker.ending is None
        die(worker, **how)
        if was_alive:
            history.record("ended", 0, name_of(worker))

    def recorded_kill(worker: ScriptedWorker) -> None:
        if worker.ending is None:
            history.record("killed", 0, name_of(worker))
        kill(worker)

    def recorded_close(crew: Any, patience: float) -> None:
        history.record("closing")
        close(crew, patience)

    def recorded_fail(crew: Any, error: BaseException) -> None:
        history.record("failed", detail=type(error).__name__)
        fail(crew, error)

    with (
        patch.object(Dispatcher, "submit", recorded_submit),
        patch.object(Crew, "carry_out", recorded_carry_out),
        patch.object(Crew, "close", recorded_close),
        patch.object(Crew, "fail", recorded_fail),
        patch.object(ScriptedWorker, "die", recorded_die),
        patch.object(ScriptedWorker, "kill", recorded_kill),
    ):
        yield


def f(n: int) -> int:
    """What the model computes."""
    return n * n + 1


def judge(history: History) -> list[str]:
    """What was promised and is not so, one sentence each."""
    return Judge(history).problems()


class Judge:
    """Reads a whole history. Each method that begins with `no_`, `each_` or `the_` is one promise, and yields what breaks it."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.facts = history.facts
        self.events = [(index, *event) for index, event in enumerate(history.events)]
        self.of_request: dict[int, list[Any]] = defaultdict(list)
        self.of_worker: dict[str, list[Any]] = defaultdict(list)
        self.moments: dict[str, Any] = {}  # the first of each kind that concerns no request
        self.asked: dict[int, Any] = {}
        for entry in self.events:
            _, _, what, n, who, detail = entry
            if n:
                self.of_request[n].append(entry)
            if who:
                self.of_worker[who].append(entry)
            if not n and not who:
                self.moments.setdefault(what, entry)
            if what == "asked":
                self.asked[n] = detail
        self.outcomes = {n: self.find(n, OUTCOMES) for n in self.of_request}

    def problems(self) -> list[str]:
        """What is amiss, each with the promise that it breaks."""
        found = list(self.history.problems)
        for name in dir(self):
            if name.startswith(("no_", "each_", "the_")):
                found += [f"{name}: {problem}" for problem in getattr(self, name)()]
        return found

    def find(self, n: int, kinds: set[str]) -> list[Any]:
        return [entry for entry in self.of_request[n] if entry[2] in kinds]

    def first(self, entries: list[Any], kinds: set[str], *, after: int = -1) -> Any:
        return next((entry for entry in entries if entry[2] in kinds and entry[0] > after), None)

    def index_of(self, moment: str) -> float:
        return self.moments[moment][0] if moment in self.moments else math.inf

    # ---- requests

    def each_request_ends_once(self) -> Iterator[str]:
        for n, outcomes in self.outcomes.items():
            if len(outcomes) != 1:
                yield f"request {n} ended {len(outcomes)} times: {[entry[2] for entry in outcomes]}"

    def each_answer_is_right(self) -> Iterator[str]:
        for n, outcomes in self.outcomes.items():
            for index, _, what, _, _, detail in outcomes:
                if what == "answer" and detail != f(n):
                    yield f"request {n} was answered {detail}, not {f(n)}"
                if what == "model error" and detail != (n,):
                    yield f"request {n} got the error of another: {detail}"
                wanted = {"answer": "answers", "model error": "fails"}.get(what)
                if wanted and not any(entry[2] == wanted and entry[0] < index for entry in self.of_request[n]):
                    yield f"request {n} ended by {what}, which no worker gave"

    def no_request_is_cancelled_by_nobody(self) -> Iterator[str]:
        for n, outcomes in self.outcomes.items():
            for outcome in outcomes:
                if outcome[2] == "cancelled" and not self.find(n, {"cancels"}) and "failed" not in self.moments:
                    yield f"request {n} was cancelled, and nobody did it"

    def no_request_begins_twice(self) -> Iterator[str]:
        for n in self.of_request:
            if len(begun := self.find(n, {"begun"})) > 1:
                yield f"request {n} began {len(begun)} times, in {[entry[4] for entry in begun]}"

    def no_request_is_sent_a_third_time(self) -> Iterator[str]:
        for n in self.of_request:
            if len(sent := self.find(n, {"sent"})) > 2:
                yield f"request {n} was sent {len(sent)} times"

    def no_request_is_sent_after_its_end(self) -> Iterator[str]:
        for n, outcomes in self.outcomes.items():
            for outcome in outcomes:
                if self.first(self.of_request[n], {"sent"}, after=outcome[0]):
                    yield f"request {n} was sent after it was {outcome[2]}"

    def no_cancel_is_confirmed_while_a_worker_has_the_request(self) -> Iterator[str]:
        for n, outcomes in self.outcomes.items():
            if not outcomes or outcomes[0][2] != "cancelled" or self.asked[n]["abandon"]:
                continue
            confirmed = outcomes[0][0]
            if self.first(self.of_request[n], {"begun"}, after=confirmed):
                yield f"request {n} began after its cancel was confirmed"
            for sent in self.find(n, {"sent"}):
                before = [entry for entry in self.of_worker[sent[4]] if entry[0] < confirmed]
                if not any(entry[2] == "ended" or (entry[2] in SAID and entry[3] == n) for entry in before):
                    yield f"the cancel of request {n} was confirmed while worker {sent[4]} had it"

    def no_request_is_accepted_sent_or_begun_after_the_end(self) -> Iterator[str]:
        ends = {
            "accepted": min(self.index_of("draining"), self.index_of("leaving")),
            "sent": self.index_of("leaving"),
            "begun": self.index_of("closed"),
        }
        for index, _, what, n, who, _ in self.events:
            if index > ends.get(what, math.inf):
                yield f"request {n} was {what} {who} after the hub {'drained or ' * (what == 'accepted')}closed"

    def no_refusal_is_early(self) -> Iterator[str]:
        ends = {"draining": self.index_of("draining"), "failed": self.index_of("failed")}
        ends["closed"] = self.index_of("leaving")
        for n, outcomes in self.outcomes.items():
            for index, _, what, _, _, detail in outcomes:
                if what == "refused" and index < ends[detail]:
                    yield f"request {n} was told that the hub is {detail} before it was"
                if what == "refused" and detail == "draining" and self.find(n, {"accepted"}):
                    yield f"request {n} had been accepted and was refused by a hub that drains"
                if what == "overloaded" and self.facts["max_pending"] == math.inf:
                    yield f"request {n} was refused by a queue without limit"

    def no_younger_request_is_sent_first(self) -> Iterator[str]:
        waiting: dict[int, None] = {}  # accepted and never sent, in order of arrival
        for _, _, what, n, _, _ in self.events:
            if what == "accepted":
                waiting[n] = None
            elif what in OUTCOMES:
                waiting.pop(n, None)
            elif what == "sent" and n in waiting:
                if n != (oldest := next(iter(waiting))):
                    yield f"request {n} was sent before {oldest}, which had come earlier"
                del waiting[n]

    # ---- crashes

    def each_crash_is_one(self) -> Iterator[str]:
        for n, outcomes in self.outcomes.items():
            for index, _, what, _, who, detail in outcomes:
                if what != "crashed":
                    continue
                sent = [entry for entry in self.find(n, {"sent"}) if entry[0] < index]
                if not sent or sent[-1][4] != who:
                    yield f"request {n} is said to have died with worker {who}, which did not have it"
                if not any(entry[2] == "ended" and entry[0] < index for entry in self.of_worker[who]):
                    yield f"request {n} is said to have died with worker {who}, which lives"
                begun = [entry[4] for entry in self.find(n, {"begun"})]
                if not detail["may_have_run"] and begun:
                    yield f"request {n} began in {begun}, and its caller was told that it had not run"
                if not detail["may_have_run"] and len(sent) < 2:
                    yield f"request {n} had not begun, and was not sent again"
                if detail["may_have_run"] and self.facts["side"] and begun != [who]:
                    yield f"request {n} never began in {who}, and its caller was told that it may have run"
                if detail["may_still_run"]:
                    yield f"worker {who} is gone, and the caller of request {n} was told that it may run"

    def no_last_word_is_lost(self) -> Iterator[str]:
        """What a worker had written before it died counts, unless it had written nonsense before."""
        for n, outcomes in self.outcomes.items():
            for _, _, what, _, who, _ in outcomes:
                said = next((entry for entry in self.find(n, {"said"}) if entry[4] == who), None)
                if what == "crashed" and said:
                    faults = [entry[5] for entry in self.of_worker[who] if entry[2] == "fault" and entry[0] < said[0]]
                    if not any(
                        word in fault for fault in faults for word in ("garbage", "neighbour", "again", "twice")
                    ):
                        yield f"request {n} is said to have died with worker {who}, which had answered it"

    # ---- workers

    def no_worker_has_two_requests(self) -> Iterator[str]:
        for who, entries in self.of_worker.items():
            has = running = 0
            for _, _, what, n, _, _ in entries:
                if what == "sent":
                    if has:
                        yield f"worker {who} was sent request {n} while it had {has}"
                    has = n
                elif what == "begun":
                    if running:
                        yield f"worker {who} began request {n} in {running}"
                    running = n
                elif what in SAID and n == has:
                    has = running = 0
                elif what == "ended":
                    break

    def no_seat_has_two_workers(self) -> Iterator[str]:
        sits: dict[str, str] = {}
        for _, _, what, _, who, _ in self.events:
            seat = who.partition(".")[0]
            if what == "launched":
                if seat in sits:
                    yield f"worker {who} was launched while {sits[seat]} was alive"
                sits[seat] = who
            elif what == "ended" and sits.get(seat) == who:
                del sits[seat]

    def no_worker_is_sent_a_request_that_is_not_ready_or_was_condemned(self) -> Iterator[str]:
        for who, entries in self.of_worker.items():
            ready = self.first(entries, {"ready"})
            gone = self.first(entries, {"killed"})
            for sent in entries:
                if sent[2] == "sent" and (ready is None or sent[0] < ready[0] or (gone and sent[0] > gone[0])):
                    yield f"worker {who} was sent request {sent[3]} before it was ready or after it was killed"

    def no_worker_is_left(self) -> Iterator[str]:
        end = self.index_of("session over")
        for who, entries in self.of_worker.items():
            if self.first(entries, {"launched"}) and not [e for e in entries if e[2] == "ended" and e[0] < end]:
                yield f"worker {who} outlived the hub"

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
            has = next((entry for entry in reversed(before) if entry[2] == "sent"), None)
            heard = [entry[3] for entry in before if entry[2] in SAID and entry[1] < killed[1]]
            if has is None or has[3] in heard:
                yield f"worker {who} was killed, and had nothing"
                continue
            n = has[3]
            cancel = self.first(self.of_request[n], {"cancels"})
            if cancel is None or cancel[0] > killed[0]:
                yield f"worker {who} was killed with request {n}, whose caller waited"
                continue
            how = self.asked[n]["on_cancel"] or ("interrupt" if self.facts["interruptible"] else "kill")
            begun = not self.facts["side"] or any(entry[2] == "begun" and entry[3] == n for entry in before)
            late = killed[1] - max(cancel[1], has[1]) >= self.facts["cancel_grace"] - EPSILON
            if how == "finish" or not ((how == "kill" and begun) or late):
                yield f"worker {who} was killed with request {n}, which was to {how}, {begun=}"

    # ---- the hub

    def the_close_is_bounded(self) -> Iterator[str]:
        if {"leaving", "closed"} <= self.moments.keys():
            took = self.moments["closed"][1] - self.moments["leaving"][1]
            if took > self.facts["close_timeout"] + 0.5:
                yield f"closing took {took} seconds"

    def the_drain_keeps_its_word(self) -> Iterator[str]:
        for _, _, what, _, _, alive in self.events:
            if what == "drained" and alive:
                yield f"drain() returned while {alive} requests were alive"

    def the_statistics_balance(self) -> Iterator[str]:
        if "statistics" not in self.moments:
            return
        said = self.moments["statistics"][5]
        accepted = {n for n in self.of_request if self.find(n, {"accepted"})}
        were = Counter(entry[2] for n in accepted for entry in self.outcomes[n])
        # A request may end in the instant in which its caller is cancelled, and hear of the cancellation only.
        crossed: Counter[str] = Counter()
        for n in accepted:
            for index, at, what, _, _, _ in self.outcomes[n]:
                if what == "cancelled":
                    cancels = [*self.find(n, {"cancels"}), *filter(None, [self.moments.get("failed")])]
                    at = min((entry[1] for entry in cancels), default=at)
                    crossed["done"] += bool(self.find(n, {"answers"}))
                    crossed["failed"] += bool(self.find(n, {"fails"}))
                    crossed["crashed"] += bool(self.find(n, {"sent"}))
                    crossed["refused"] += (
                        self.index_of("closing") < index and self.moments["closing"][1] >= at - EPSILON
                    )
        names = {"done": "answer", "failed": "model error", "crashed": "crashed", "refused": "refused"}
        for name, outcome in names.items():
            if not were[outcome] <= said[name] <= were[outcome] + crossed[name]:
                yield f"statistics say {said[name]} {name}, {were[outcome]} were"
        if sum(said[name] for name in [*names, "cancelled"]) != len(accepted):
            yield f"{len(accepted)} requests were accepted, and the statistics are {said}"
        if said["queued"] or said["running"]:
            yield f"a closed hub has {said['queued']} queued and {said['running']} running"
        if said["seats"] != {"retired": self.facts["workers"]}:
            yield f"the seats of a closed hub are {said['seats']}"

    def the_hub_raises_what_it_should(self) -> Iterator[str]:
        for _, _, what, _, _, detail in self.events:
            if what == "hub raised" and detail not in self.facts["may_raise"]:
                yield f"the hub raised {detail}, and might raise {self.facts['may_raise']}"
