"""A snapshot as lines for a terminal. Pure. Promises that nothing which a worker has said reaches a terminal but as printable characters."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

from ..history import called, seconds_in_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.text import Text

Style = Literal["", "title", "bad", "odd", "dim"]
_RICH: dict[Style, str] = {"": "", "title": "bold", "bad": "bold red", "odd": "yellow", "dim": "dim"}
_BARS = " ▁▂▃▄▅▆▇█"
_GONE = 8  # workers that are shown
_LAST_WORDS = 3  # lines of each


def as_text(snapshot: dict[str, Any]) -> str:
    """What `gibbs.top.snapshot` says, as lines of printable characters."""
    return "\n".join(line for _, line in _printable(snapshot))


def as_rich(snapshot: dict[str, Any]) -> Text:
    """The same for rich, with what stands out in colours. A line that is too long is cut.

    Raises:
        ImportError: rich is not installed: `pip install 'gibbs[top]'`.

    Example:
        ```python
        from rich.live import Live


        async def show(hub):
            with Live(auto_refresh=False, screen=True) as live:
                while True:
                    live.update(as_rich(snapshot(hub)), refresh=True)
                    await anyio.sleep(1)
        ```
    """
    from rich.text import Text

    text = Text(no_wrap=True, overflow="ellipsis")
    for style, line in _printable(snapshot):
        text.append(f"{line}\n", style=_RICH[style])
    return text


for _public in (as_text, as_rich):
    _public.__module__ = "gibbs.top"


def printable(text: str) -> str:
    """What is no printable character as an escape: a terminal obeys some, and some turn the others around."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def _printable(snapshot: dict[str, Any]) -> Iterator[tuple[Style, str]]:
    at = time.strftime("%H:%M:%S", time.localtime(snapshot["time"]))
    yield "title", printable(f"gibbs, pid {snapshot['pid']} on {snapshot['host']}, {at}")
    for hub in snapshot["hubs"]:
        yield "", ""
        for style, line in _hub(hub):
            yield style, printable(line)


def _hub(hub: dict[str, Any]) -> Iterator[tuple[Style, str]]:
    history = hub["history"]
    if history is None:
        yield "title", hub["name"]
        yield "", f"  {hub['missing']}"
        return
    states = Counter(seat["state"] for seat in history["seats"])
    since = "" if history["opened"] is None else f", {seconds_in_words(history['opened'])} since it opened"
    yield "title", f"{hub['name']}: {history['state']}{since}; {_listed(states) or 'no seats'}"
    for remark in history["remarks"]:
        style: Style = "bad" if remark["level"] == "bad" else "odd"
        yield style, f"  {'!' if style == 'bad' else '-'} {remark['text']}"
    if not history["remarks"]:
        yield "dim", "  Nothing stands out."
    yield from _in_numbers(history)
    seats = [["seat", "runs", "request", "for", "state", "memory", "ready for", "process"]]
    late: set[int] = set()
    for row, seat in enumerate(history["seats"], 1):
        seats.append(_seat(seat))
        if seat["call"] is not None and seat["call"]["overdue"]:
            late.add(row)
    yield from _table(seats, late)
    methods = [["method", "a second", "raised", "waited", "99 of 100", "usually", "took", "99 of 100", "usually"]]
    methods += [_method(method) for method in history["methods"]]
    yield from _table(methods)
    for worker in history["ended"][:_GONE]:
        yield from _gone(worker)


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{many} {what}" for what, many in counts.items())


def _in_numbers(history: dict[str, Any]) -> Iterator[tuple[Style, str]]:
    minutes = history["minutes"]
    first = f", the first for {seconds_in_words(history['oldest_wait'])}" if history["queued"] else ""
    gone = {
        "died": sum(minutes["died"]),
        "not started": sum(minutes["unstarted"]),
        "replaced": sum(minutes["replaced"]),
    }
    yield "", f"  {history['queued']} waiting{first}; workers of the last 10 minutes: {_listed(gone)}"
    columns = [*minutes["ended"].values()] or [[0] * len(minutes["queued"])]
    ended = [sum(column) / minutes["width"] for column in zip(*columns, strict=True)]
    yield "dim", f"  ended a second {_bars(ended)} {max(ended):.3g} at most"
    yield "dim", f"  queue          {_bars(minutes['queued'])} {max(minutes['queued'])} at most"


def _bars(values: Iterable[float]) -> str:
    """Two spells a character, the last minutes from left to right."""
    paired = [max(pair) for pair in zip(*[iter(values)] * 2, strict=True)]
    most = max(paired)
    return "".join(_BARS[-(-value * 8 // most).__trunc__() if value else 0] for value in paired)


def _seat(seat: dict[str, Any]) -> list[str]:
    call = seat["call"]
    runs = ["-", "", ""]
    if call is not None:
        ahead = f" +{seat['ahead']}" if seat["ahead"] else ""
        left = " (left)" if call["left"] else ""
        runs = [f"{called(call['method'])}{left}", f"{call['number']}{ahead}", seconds_in_words(call["seconds"])]
    memory = "-" if seat["memory"] is None else f"{seat['memory'] / (1 << 20):.0f} MiB"
    pid = "-" if seat["pid"] is None else f"{seat['pid']} {seat['host']}".rstrip()
    state = seat["state"] if seat["leased"] is None else f"{seat['state']}, leased"
    return [f"{seat['seat']}", *runs, state, memory, _seconds(seat["age"]), pid]


def _method(method: dict[str, Any]) -> list[str]:
    times = []
    for what in ("waited", "took"):
        now, usual = method[what], method[f"usually_{what}"]
        times += [_seconds(now["p50"]), _seconds(now["p99"]), f"{_seconds(usual['p50'])}, {_seconds(usual['p99'])}"]
    ended = method["ended"]
    return [called(method["method"]), f"{sum(ended.values()) / 60:.2g}", f"{ended.get('failed', 0)}", *times]


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else seconds_in_words(seconds)


def _gone(worker: dict[str, Any]) -> Iterator[tuple[Style, str]]:
    had = "" if worker["number"] is None else f", with request {worker['number']} of {called(worker['method'])}"
    again = f", which has killed {worker['deaths']} workers" if worker["deaths"] > 1 else ""
    why = f": {worker['why']}" if worker["why"] else ""
    kind = "" if worker["kind"] in ("died", "unstarted") else f"{worker['kind']}: "
    style: Style = "dim" if kind else ""
    who = f"worker {worker['seat']}.{worker['incarnation']}"
    yield style, f"  {kind}{seconds_in_words(worker['ago'])} ago {who} {worker['how']}{had}{again}{why}"
    for line in worker["tail"].splitlines()[-_LAST_WORDS:]:
        yield "dim", f"      {line}"


def _table(rows: list[list[str]], bad: set[int] | None = None) -> Iterator[tuple[Style, str]]:
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for number, row in enumerate(rows):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        style: Style = "dim" if not number else "bad" if number in (bad or ()) else ""
        yield style, f"  {line}"
