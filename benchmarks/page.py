"""Write what was measured into docs/performance.md, and draw its plots.

    python -m benchmarks --repeat 3 --json PATH
    python -m benchmarks.page PATH [--page docs/performance.md]

Knows the record that `python -m benchmarks` writes, and nothing of how it came about. What stands between the two markers of the page is
written anew; the plots go to the folder `plots` beside the page. Of repetitions, figures are medians, and of checks the worst is shown.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks.measuring import LOOPS
from benchmarks.plots import draw
from benchmarks.record import short

BEGIN, END = "<!-- measured -->", "<!-- end of measured -->"
PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
BETTER = 1.05  # a peer is better if it is so by more than that
MORE_IS_BETTER = {"requests/s": True, "ms": False, "µs": False, "MB private": False, "times": False}

Figures = dict[tuple[str, str, str], dict[str, float]]  # (benchmark, what with unit, loop) → who → value


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.page", description="write the measured part of docs/performance.md"
    )
    parser.add_argument("record", type=Path, help="what `python -m benchmarks --json` wrote")
    parser.add_argument("--page", type=Path, default=PAGE, help="(default: docs/performance.md)")
    options = parser.parse_args()
    record = json.loads(options.record.read_text())
    head, begin, rest = options.page.read_text().partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        parser.error(f"{options.page} has no part between {BEGIN} and {END}")
    folder = options.page.parent / "plots"
    plots = draw(figures_of(record), folder)
    options.page.write_text(f"{head}{begin}\n\n{measured(record, plots)}\n\n{end}{tail}")
    return 0


def measured(record: dict[str, Any], plots: dict[str, str]) -> str:
    """All that stands between the markers. `plots`: the title of each that was drawn, by its file's name."""
    first = record["repetitions"][0]
    if any(each.get("quick") for each in first):
        raise SystemExit("this record was made with --quick: its figures mean nothing")
    figures = figures_of(record)
    parts = [
        where(record),
        "### What was to be reached",
        checks(record),
        *(f"![{title}](plots/{name})" for name, title in plots.items()),
        "### Where a peer is better",
        peers_ahead(figures),
        "### The figures",
    ]
    for each in first:
        parts += [f"**{each['benchmark']}**: {each['about']}", table(each["benchmark"], figures)]
    if said := dict.fromkeys(
        text for records in record["repetitions"] for each in records for text in each["notes"] + each["errors"]
    ):
        parts += ["Left out, or went wrong:", "\n".join(f"- {text}" for text in said)]
    return "\n\n".join(parts)


def where(record: dict[str, Any]) -> str:
    facts = record["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return (
        f"Measured on {facts['cores']} cores of {facts['cpu']}, {facts['system']}, with {facts['python']}, {versions}; "
        f"{len(record['repetitions'])} repetitions."
    )


def checks(record: dict[str, Any]) -> str:
    """A line for each target, with the worst of the repetitions on each loop."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for records in record["repetitions"]:
        for each in records:
            for check in each["checks"]:
                what = f"{each['benchmark']}: {check['what'].partition(' (')[0]}"
                found.setdefault(what, {}).setdefault(check["loop"], []).append(check)
    lines = [f"| | target | {' | '.join(LOOPS)} |", "| --- | --- |" + " ---: |" * len(LOOPS)]
    for what, by_loop in found.items():
        targets = dict.fromkeys(target_of(each[0]) for each in by_loop.values())
        cells = [worst_of(by_loop[loop]) if loop in by_loop else "" for loop in LOOPS]
        lines.append(f"| {what} | {'; '.join(targets)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def target_of(check: dict[str, Any]) -> str:
    sign = {"<=": "≤", ">=": "≥"}[check["sense"]]
    return f"{sign} {check['target']:g}" + (f", aim {check['aim']:g}" if check["aim"] is not None else "")


def worst_of(repetitions: list[dict[str, Any]]) -> str:
    worst = (max if repetitions[0]["sense"] == "<=" else min)(repetitions, key=lambda check: check["value"])
    return short(worst["value"]) if worst["kept"] else f"**{short(worst['value'])} missed**"


def figures_of(record: dict[str, Any]) -> Figures:
    """The median of the repetitions."""
    every: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    for records in record["repetitions"]:
        for each in records:
            for figure in each["figures"]:
                key = (each["benchmark"], f"{figure['what']}, {figure['unit']}", figure["loop"])
                every.setdefault(key, {}).setdefault(figure["who"], []).append(figure["value"])
    return {key: {who: statistics.median(values) for who, values in row.items()} for key, row in every.items()}


def table(benchmark: str, figures: Figures) -> str:
    mine = {key: row for key, row in figures.items() if key[0] == benchmark}
    columns = list(dict.fromkeys(who for row in mine.values() for who in row))
    if not columns:
        return "Nothing was measured."
    lines = [f"| | loop | {' | '.join(columns)} |", "| --- | --- |" + " ---: |" * len(columns)]
    for what in dict.fromkeys(key[1] for key in mine):
        for loop in LOOPS:
            if row := mine.get((benchmark, what, loop)):
                cells = [short(row[who]) if who in row else "" for who in columns]
                lines.append(f"| {what} | {loop} | {' | '.join(cells)} |")
    return "\n".join(lines)


def peers_ahead(figures: Figures) -> str:
    """Each figure in which a peer is better than gibbs by more than `BETTER`."""
    lines = []
    for (benchmark, what, loop), row in figures.items():
        more = MORE_IS_BETTER.get(what.rpartition(", ")[2])
        if more is None or "gibbs" not in row or " idle, before" in what:  # which is the loop's own, and nobody's
            continue
        ours = row["gibbs"]
        for who, theirs in row.items():
            ahead = theirs > ours * BETTER if more else ours > theirs * BETTER
            if who not in ("gibbs", "memcpy", "python -c pass") and ahead:
                lines.append(f"| {benchmark} | {what} | {loop} | {who} | {short(theirs)} | {short(ours)} |")
    if not lines:
        return "Nowhere among these figures."
    return "\n".join(["| | | loop | who | theirs | gibbs |", "| --- | --- | --- | --- | ---: | ---: |", *lines])


if __name__ == "__main__":
    sys.exit(main())
