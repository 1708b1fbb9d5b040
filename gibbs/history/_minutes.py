"""How many requests ended in the last minutes, and how long they took: a ring of short spells of time, and all that was before them.

Pure: the time is an argument. Promises to stay small, whatever happens: a spell has few methods, and a histogram few bins.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any

from ._records import MethodStatus, Minutes, Quantiles

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..events import RequestEnded

WIDTH = 5.0  # seconds of a spell
SPELLS = 120  # ten minutes
RECENT = 12  # of them are "the last minute"
_METHODS = 30  # are told apart
_OTHERS = "…"
_ERRORS, _LONGEST = 5, 100  # kinds in a spell are told apart, of so many characters

_PER_DECADE = 10  # bins: each is a quarter wider than the one before
_DECADES_BELOW_A_SECOND = 4
_BINS = 9 * _PER_DECADE  # from 100 µs to a day
_MIDDLES = [
    float(f"{10 ** ((number + 0.5) / _PER_DECADE - _DECADES_BELOW_A_SECOND):.2g}") for number in range(_BINS + 1)
]

ENOUGH = 20  # calls, to say what is usual

Histogram = dict[int, int]  # how many by bin


def _bin(seconds: float) -> int:
    if seconds <= 1e-4:
        return 0
    return min(_BINS, int((math.log10(seconds) + _DECADES_BELOW_A_SECOND) * _PER_DECADE))


def quantiles(histogram: Histogram) -> Quantiles:
    """Of all in it; each is the middle of its bin."""
    count = sum(histogram.values())
    found: list[float | None] = [None, None]
    bins = sorted(histogram.items())
    for place, share in enumerate((0.5, 0.99) if count else ()):
        seen = 0
        for number, many in bins:
            seen += many
            if seen >= share * count:
                found[place] = _MIDDLES[number]
                break
    return Quantiles(count=count, p50=found[0], p99=found[1])


def _add(counts: dict[Any, int], others: dict[Any, int]) -> None:
    for what, many in others.items():
        counts[what] = counts.get(what, 0) + many


class _Tally:
    """Of one method."""

    __slots__ = ("ended", "errors", "took", "waited")

    def __init__(self) -> None:
        self.ended: dict[Any, int] = {}  # by outcome
        self.errors: dict[str, int] = {}  # by their class
        self.waited: Histogram = {}
        self.took: Histogram = {}

    def add(self, others: Iterable[_Tally]) -> _Tally:
        for other in others:
            _add(self.ended, other.ended)
            _add(self.errors, other.errors)
            _add(self.waited, other.waited)
            _add(self.took, other.took)
        return self


class Spell:
    """Some seconds. Invariant: what is in `drawn` is so, and was drawn when no more could come."""

    __slots__ = ("died", "drawn", "index", "methods", "queued", "replaced", "slow", "turned_away", "unstarted")

    def __init__(self, index: int) -> None:
        self.index = index
        self.methods: dict[str, _Tally] = {}
        self.queued = self.died = self.replaced = self.unstarted = self.turned_away = self.slow = 0
        self.drawn: tuple[dict[Any, int], Quantiles, Quantiles] | None = None

    def draw(self) -> tuple[dict[Any, int], Quantiles, Quantiles]:
        """Ended by outcome, waits, and durations, of all methods."""
        every = _Tally().add(self.methods.values())
        return every.ended, quantiles(every.waited), quantiles(every.took)


class Ring:
    """The spells of the last minutes, and for each method all that was before the last one.

    Invariants: `_spells` are SPELLS, one after the other by index. The methods of those before `_recent` are in `_before`.
    """

    def __init__(self) -> None:
        self._now = Spell(-1)
        self._spells: deque[Spell] = deque(map(Spell, range(-SPELLS, 0)), maxlen=SPELLS)
        self._spells[-1] = self._now
        self._before: dict[str, _Tally] = {}
        self._best: dict[str, float] = {}  # the least half of its calls have taken in a spell
        self._methods: dict[str, str] = {}  # by what name each is counted

    def at(self, now: float, queued: int) -> Spell:
        """The spell in which it is now. `queued` is how long the queue has been since it was asked last."""
        index = int(now // WIDTH)
        if index > self._now.index:
            self._turn_to(index, queued)
        return self._now

    def _turn_to(self, index: int, queued: int) -> None:
        for one in range(max(self._now.index + 1, index - SPELLS), index + 1):
            for method, tally in self._spells[-RECENT].methods.items():
                before = self._before.setdefault(method, _Tally())
                _add(before.waited, tally.waited)
                _add(before.took, tally.took)
                took = quantiles(tally.took)
                if took.p50 is not None and took.count >= ENOUGH:
                    self._best[method] = min(took.p50, self._best.get(method, math.inf))
            self._now = Spell(one)
            self._now.queued = queued
            self._spells.append(self._now)

    def count(self, event: RequestEnded, queued: int) -> None:
        """A request has ended."""
        spell = self.at(event.at, queued)
        method = self._methods.get(event.method)
        if method is None:
            method = self._methods_name(event.method)
        tally = spell.methods.get(method)
        if tally is None:
            tally = spell.methods[method] = _Tally()
        outcome = event.outcome
        tally.ended[outcome] = tally.ended.get(outcome, 0) + 1
        number = _bin(event.waited)
        tally.waited[number] = tally.waited.get(number, 0) + 1
        if event.error:
            error = event.error[:_LONGEST]
            if error not in tally.errors and len(tally.errors) >= _ERRORS:
                error = _OTHERS
            tally.errors[error] = tally.errors.get(error, 0) + 1
        if outcome in ("done", "failed"):
            number = _bin(event.took)
            tally.took[number] = tally.took.get(number, 0) + 1

    def _methods_name(self, method: str) -> str:
        if len(self._methods) >= _METHODS:
            return _OTHERS
        self._methods[method] = method
        return method

    def usual(self, method: str) -> Quantiles:
        """How long such calls took before the last minute; where that is too little to say, with it."""
        method = self._methods.get(method, _OTHERS)
        before = self._before.get(method, _Tally())
        found = quantiles(before.took)
        return found if found.count >= ENOUGH else quantiles(_Tally().add([before, self._lately(method)]).took)

    @property
    def _recent(self) -> list[Spell]:
        return list(self._spells)[-RECENT:]

    def _lately(self, method: str) -> _Tally:
        return _Tally().add(spell.methods[method] for spell in self._recent if method in spell.methods)

    def methods(self) -> tuple[MethodStatus, ...]:
        """Those of which any has ended."""
        names = dict.fromkeys([*self._before, *(name for spell in self._recent for name in spell.methods)])
        return tuple(map(self._method, names))

    def _method(self, method: str) -> MethodStatus:
        lately, before = self._lately(method), self._before.get(method, _Tally())
        return MethodStatus(
            method=method,
            ended=lately.ended,
            errors=lately.errors,
            waited=quantiles(lately.waited),
            took=quantiles(lately.took),
            usually_waited=quantiles(before.waited),
            usually_took=quantiles(before.took),
            best_took=self._best.get(method),
        )

    def minutes(self, now: float) -> Minutes:
        """As columns."""
        for spell in self._spells:
            if spell.drawn is None and spell is not self._now:
                spell.drawn = spell.draw()
        drawn = [spell.drawn or spell.draw() for spell in self._spells]
        outcomes = dict.fromkeys(outcome for ended, _, _ in drawn for outcome in ended)
        return Minutes(
            width=WIDTH,
            elapsed=min(WIDTH, max(0.0, now - self._now.index * WIDTH)),
            ended={outcome: tuple(ended.get(outcome, 0) for ended, _, _ in drawn) for outcome in outcomes},
            waited_p50=tuple(waited.p50 for _, waited, _ in drawn),
            waited_p99=tuple(waited.p99 for _, waited, _ in drawn),
            took_p50=tuple(took.p50 for _, _, took in drawn),
            took_p99=tuple(took.p99 for _, _, took in drawn),
            queued=tuple(spell.queued for spell in self._spells),
            died=tuple(spell.died for spell in self._spells),
            replaced=tuple(spell.replaced for spell in self._spells),
            unstarted=tuple(spell.unstarted for spell in self._spells),
            turned_away=tuple(spell.turned_away for spell in self._spells),
            slow=tuple(spell.slow for spell in self._spells),
        )
