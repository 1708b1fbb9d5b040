"""A history as it is read: by request, by worker, by moment.

Knows the words of a history, and nothing of what is right.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import Any

from tests.histories.history import OUTCOMES, History


class Reading:
    """The events of a history in their orders. An entry is an event with its place before it: (index, at, what, n, who, detail)."""

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

    def find(self, n: int, kinds: set[str]) -> list[Any]:
        return [entry for entry in self.of_request[n] if entry[2] in kinds]

    def first(self, entries: list[Any], kinds: set[str], *, after: int = -1) -> Any:
        return next((entry for entry in entries if entry[2] in kinds and entry[0] > after), None)

    def index_of(self, moment: str) -> float:
        return self.moments[moment][0] if moment in self.moments else math.inf

    def ledger(self) -> Counter[tuple[str, str]]:
        """Every request once: how the hub settled it ("" for one that it never took in), and what its caller heard."""
        return Counter(
            (", ".join(entry[5] for entry in self.find(n, {"settled"})), ", ".join(entry[2] for entry in outcomes))
            for n, outcomes in self.outcomes.items()
        )

    def had_ended(self, who: str, index: int) -> bool:
        """Whether the worker was gone before this place."""
        return any(entry[2] == "ended" and entry[0] < index for entry in reversed(self.of_worker[who]))
