"""The judge who reads a history: of a simulated world, of a soak, of any hub whose life was written down.

Knows what a hub promises and nothing of how it keeps it. Each promise is one method, and yields a sentence for each thing that breaks
it; `test_judge.py` has a forged history for each. A history may be a chapter of a longer life: then it begins with the
workers that are there, and whatever moments it lacks are not asked for. What only the writer of a script can know
(why a worker was killed) is added by a judge of his own (`tests/simulation/history.py`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from gibbs._core.pace import WINDOW
from tests.histories.history import OUTCOMES, SAID, f
from tests.histories.reading import Reading

EPSILON = 1e-6
TALLY = ("done", "failed", "cancelled", "crashed", "refused")
SETTLED_AS = {"answer": "done", "model error": "failed", "crashed": "crashed", "refused": "refused"}


class Judge(Reading):
    """Each method that begins with `no_`, `each_` or `the_` is one promise, and yields what breaks it."""

    def problems(self) -> list[str]:
        """What is amiss, each with the promise that it breaks."""
        found = list(self.history.problems)
        for name in dir(self):
            if name.startswith(("no_", "each_", "the_")):
                found += [f"{name}: {problem}" for problem in getattr(self, name)()]
        return found

    # ---- requests

    def each_request_ends_once(self) -> Iterator[str]:
        for n, outcomes in self.outcomes.items():
            if len(outcomes) != 1:
                yield f"request {n} ended {len(outcomes)} times: {[entry[2] for entry in outcomes]}"

    def each_request_was_asked(self) -> Iterator[str]:
        for n in self.of_request:
            if n not in self.asked:
                yield f"request {n} was {self.of_request[n][0][2]}, and nobody had asked"

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

    def each_answer_is_of_a_model_that_served(self) -> Iterator[str]:
        """When its worker was given the request: of a new one since its reload began, of those before until it was over."""
        served: frozenset[int] = frozenset()
        models: dict[int, frozenset[int]] = {}
        for _, _, what, n, _, detail in self.events:
            if what == "models":
                served = detail
            elif what == "sent":
                models[n] = served
            elif what == "by model" and detail not in models.get(n, ()):
                yield f"request {n} was answered by model {detail}, and was sent when {sorted(models.get(n, ()))} served"

    def no_worker_has_two_models(self) -> Iterator[str]:
        models: dict[str, int] = {}
        for n in self.of_request:
            for _, _, _, _, _, model in self.find(n, {"by model"}):
                for begun in self.find(n, {"begun"}):
                    if models.setdefault(begun[4], model) != model:
                        yield f"worker {begun[4]} answered by model {models[begun[4]]}, and request {n} by model {model}"

    def no_request_is_cancelled_by_nobody(self) -> Iterator[str]:
        for n, outcomes in self.outcomes.items():
            for outcome in outcomes:
                if outcome[2] == "cancelled" and not self.find(n, {"cancels"}) and "failed" not in self.moments:
                    yield f"request {n} was cancelled, and nobody did it"

    def no_request_begins_twice(self) -> Iterator[str]:
        for n in self.of_request:
            if len(begun := self.find(n, {"begun"})) > 1:
                yield f"request {n} began {len(begun)} times, in {[entry[4] for entry in begun]}"

    def no_request_begins_where_it_was_not_sent(self) -> Iterator[str]:
        for n in self.of_request:
            for index, _, _, _, who, _ in self.find(n, {"begun"}):
                if not any(entry[4] == who and entry[0] < index for entry in self.find(n, {"sent"})):
                    yield f"request {n} began in worker {who}, to which it had not been sent"

    def no_request_is_sent_a_third_time(self) -> Iterator[str]:
        """To have been taken back before it began costs it no chance."""
        for n in self.of_request:
            if len(sent := self.find(n, {"sent"})) - len(self.find(n, {"recalled"})) > 2:
                yield f"request {n} was sent {len(sent)} times"

    def no_request_begins_where_it_was_taken_back(self) -> Iterator[str]:
        for n in self.of_request:
            taken_back: set[str] = set()
            for _, _, what, _, who, _ in self.find(n, {"sent", "recalled", "begun"}):
                if what == "recalled":
                    taken_back.add(who)
                elif what == "sent":
                    taken_back.discard(who)
                elif who in taken_back:
                    yield f"request {n} began in worker {who}, from which it had been taken back"

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
                let_go = self.find(n, SAID | {"recalled"})
                is_free = any(entry[4] == sent[4] and sent[0] < entry[0] < confirmed for entry in let_go)
                if sent[0] < confirmed and not is_free and not self.had_ended(sent[4], confirmed):
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
        """One that comes back from a dead worker has its old place in the queue."""
        places: dict[int, int] = {}
        waiting: dict[int, int] = {}
        for index, _, what, n, _, _ in self.events:
            if what in ("accepted", "returned"):
                waiting[n] = places.setdefault(n, index)
            elif what in OUTCOMES or what == "settled":
                waiting.pop(n, None)
            elif what == "sent" and n in waiting:
                if n != (oldest := min(waiting, key=waiting.__getitem__)):
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
                if not self.had_ended(who, index):
                    yield f"request {n} is said to have died with worker {who}, which lives"
                pids = [entry[5] for entry in self.of_worker[who] if entry[2] == "launched" and entry[5] is not None]
                if pids and detail["pid"] not in pids:
                    yield f"request {n} is said to have died with pid {detail['pid']}; worker {who} was {pids}"
                if not detail.get("gone", True):
                    yield f"request {n} is said to have died with pid {detail['pid']}, which the system still knows"
                begun = [entry[4] for entry in self.find(n, {"begun"})]
                if not detail["may_have_run"] and begun:
                    yield f"request {n} began in {begun}, and its caller was told that it had not run"
                recalled = [entry for entry in self.find(n, {"recalled"}) if entry[0] < index]
                if not detail["may_have_run"] and len(sent) - len(recalled) < 2:
                    yield f"request {n} had not begun, and was not sent again"
                if detail["may_still_run"]:
                    yield f"worker {who} is gone, and the caller of request {n} was told that it may run"

    # ---- workers

    def no_worker_has_more_requests_than_it_may(self) -> Iterator[str]:
        """What it has said is its own no more, though the hub has not read it yet."""
        for who, entries in self.of_worker.items():
            has: list[int] = []
            for _, _, what, n, _, _ in entries:
                if what == "sent":
                    if len(has) >= WINDOW:
                        yield f"worker {who} was sent request {n} while it had {has}"
                    has.append(n)
                elif what in SAID | {"recalled"} and n in has:
                    has.remove(n)

    def no_worker_is_sent_a_request_before_it_has_skipped_what_was_taken_back(self) -> Iterator[str]:
        """Claims look alike: it would run what was taken back for what was sent then.

        One that is asked for what it gives back may skip it before the hub has heard what that is.
        """
        for who, entries in self.of_worker.items():
            unread: set[int] = set()
            skipped: set[int] = set()
            for _, _, what, n, _, _ in entries:
                if what == "recalled":
                    unread |= {n} - skipped
                elif what == "skips":
                    unread.discard(n)
                    skipped.add(n)
                elif what == "sent":
                    if unread:
                        yield f"worker {who} was sent request {n} and has not skipped {sorted(unread)}"
                    skipped.discard(n)

    def no_worker_runs_two_requests(self) -> Iterator[str]:
        """At once, or in another order than that in which they were sent."""
        for who, entries in self.of_worker.items():
            running, last = 0, -1
            sent: dict[int, int] = {}
            for index, _, what, n, _, _ in entries:
                if what == "sent":
                    sent[n] = index
                elif what == "begun":
                    if running:
                        yield f"worker {who} began request {n} in {running}"
                    if sent.get(n, index) < last:
                        yield f"worker {who} began request {n} after one that was sent later"
                    running, last = n, sent.get(n, index)
                elif what in SAID and n == running:
                    running = 0
                elif what == "ended":
                    break

    def no_worker_runs_after_its_end(self) -> Iterator[str]:
        for who, entries in self.of_worker.items():
            if ended := self.first(entries, {"ended"}):
                for _, _, what, n, _, _ in entries[entries.index(ended) :]:
                    if what == "begun":
                        yield f"worker {who} began request {n} after it had been reaped"

    def no_worker_dies_without_a_reason(self) -> Iterator[str]:
        """A fault of its own or of who plays fate, its last call to be cut, or the hub's end. One that starts may fail by itself.

        That it was to go is a reason where no request dies with it.
        """
        end = self.index_of("closing")
        for who, entries in self.of_worker.items():
            ended, ready = self.first(entries, {"ended"}), self.first(entries, {"ready"})
            if not ended or not ready or ended[0] > end or self.first(entries[: entries.index(ended)], {"fault"}):
                continue
            if self.first(entries, {"dismissed"}) and not self.first(entries, {"crashed"}):
                continue
            last = next((entry for entry in reversed(entries) if entry[2] in ("sent", "ordered")), None)
            if last is None or last[2] != "ordered":
                yield f"worker {who} died, and nobody had done anything to it"

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
            gone = self.first(entries, {"killed", "condemned", "dismissed"})
            for sent in entries:
                if sent[2] == "sent" and (ready is None or sent[0] < ready[0] or (gone and sent[0] > gone[0])):
                    yield f"worker {who} was sent request {sent[3]} before it was ready or after it was killed"

    def no_worker_is_left(self) -> Iterator[str]:
        end = self.index_of("session over")
        for who, entries in self.of_worker.items():
            if end < math.inf and self.first(entries, {"launched"}) and not self.had_ended(who, int(end)):
                yield f"worker {who} outlived the hub"

    # ---- the hub

    def the_close_is_bounded(self) -> Iterator[str]:
        if {"leaving", "closed"} <= self.moments.keys():
            took = self.moments["closed"][1] - self.moments["leaving"][1]
            if took > self.facts["close_timeout"] + self.facts.get("close_slack", 0.5):
                yield f"closing took {took} seconds"

    def the_drain_keeps_its_word(self) -> Iterator[str]:
        for _, _, what, _, _, alive in self.events:
            if what == "drained" and alive:
                yield f"drain() returned while {alive} requests were alive"

    def the_ledger_is_exact(self) -> Iterator[str]:
        """What the hub took in, what it settled and what its callers heard are one account, request by request.

        A request may end in the instant in which its caller is cancelled, who then hears of the cancellation only.
        """
        for n, entries in self.of_request.items():
            accepted, settled = self.find(n, {"accepted"}), self.find(n, {"settled"})
            if len(accepted) > 1 or len(accepted) != len(settled):
                yield f"request {n} was accepted {len(accepted)} times and settled {len(settled)} times"
            heard = [SETTLED_AS.get(entry[2], entry[2]) for entry in entries if entry[2] in OUTCOMES]
            for entry in settled:
                if entry[5] not in heard and "cancelled" not in heard:
                    yield f"request {n} was settled as {entry[5]}, and its caller heard {heard}"
                wanted = {"done": "answers", "failed": "fails"}.get(entry[5])
                if wanted and not any(other[2] == wanted and other[0] < entry[0] for other in entries):
                    yield f"request {n} was settled as {entry[5]}, which no worker said"
            if not accepted and not {"cancelled", "refused", "overloaded"} & {*heard}:
                yield f"request {n} was never accepted, and its caller heard {heard}"

    def the_statistics_balance(self) -> Iterator[str]:
        if "statistics" not in self.moments:
            return
        said = self.moments["statistics"][5]
        were = Counter(entry[5] for entry in self.events if entry[2] == "settled")
        if {name: said[name] for name in TALLY} != {name: were[name] for name in TALLY}:
            yield f"statistics say {said}, settled were {dict(were)}"
        if said["queued"] or said["running"]:
            yield f"at its end a hub has {said['queued']} queued and {said['running']} running"
        seats = self.facts.get("seats_at_end", {"retired": self.facts["workers"]})
        if said["seats"] != seats:
            yield f"the seats are {said['seats']}, and should be {seats}"

    def the_hub_raises_what_it_should(self) -> Iterator[str]:
        for _, _, what, _, _, detail in self.events:
            if what == "hub raised" and detail not in self.facts["may_raise"]:
                yield f"the hub raised {detail}, and might raise {self.facts['may_raise']}"
