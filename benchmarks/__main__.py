"""Every row, one after the other, and what of it was reached.

    python -m benchmarks [ROW ...] [--repeat 3] [--rounds N] [--backend trio] [--json PATH] [--quick]

Each row is a program of its own, `python -m benchmarks.ROW`, and runs in a fresh process. Exits with 1 if any check is missed in any
repetition.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.measuring import LOOPS
from benchmarks.record import machine, short

ROWS = [
    "latency",
    "throughput",
    "many_workers",
    "arrays",
    "fairness",
    "slow_calls",
    "idle",
    "starting",
    "memory",
    "lag",
    "over_http",
    "streams",
    "maps",
]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="every row of docs/performance.md")
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"default: all, which are {', '.join(ROWS)}")
    parser.add_argument("--repeat", type=int, default=1, help="the whole, so many times (default: %(default)s)")
    parser.add_argument("--rounds", type=int, help="of each row; default: its own")
    parser.add_argument("--backend", choices=LOOPS, action="append", help="default: all that are installed")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write all records there")
    parser.add_argument(
        "--quick", action="store_true", help="tiny counts, to see that it runs; the figures mean nothing"
    )
    options = parser.parse_args()
    if unknown := set(options.rows) - set(ROWS):
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    asked = ["--quick"] * options.quick
    for backend in options.backend or []:
        asked += ["--backend", backend]
    if options.rounds:
        asked += ["--rounds", str(options.rounds)]

    facts = machine()
    repetitions = []
    for number in range(options.repeat):
        start = time.monotonic()
        repetitions.append([record_of(row, asked) for row in options.rows or ROWS])
        print(f"repetition {number + 1} of {options.repeat} took {time.monotonic() - start:.0f} s\n", flush=True)
    if options.json:
        options.json.write_text(json.dumps({"machine": facts, "repetitions": repetitions}, indent=1) + "\n")
    print(summary(repetitions))
    return 0 if all(kept(record) for records in repetitions for record in records) else 1


def record_of(row: str, asked: list[str]) -> dict[str, Any]:
    """Run a row's program, let it print, and return what it wrote."""
    with tempfile.TemporaryDirectory(prefix="gibbs-benchmarks-") as folder:
        path = Path(folder, "record.json")
        done = subprocess.run([sys.executable, "-m", f"benchmarks.{row}", "--json", path, *asked], check=False)
        print(flush=True)
        if path.exists():
            record: dict[str, Any] = json.loads(path.read_text())
            return record
    error = f"the program ended with status {done.returncode} and wrote nothing"
    return {"benchmark": row, "about": "", "figures": [], "checks": [], "notes": [], "errors": [error]}


def kept(record: dict[str, Any]) -> bool:
    return not record["errors"] and all(check["kept"] for check in record["checks"])


def summary(repetitions: list[list[dict[str, Any]]]) -> str:
    """A line for each check, with what was reached in each repetition."""
    lines: dict[tuple[str, str], list[dict[str, Any]]] = {}
    words = []
    for records in repetitions:
        for record in records:
            for check in record["checks"]:
                # The best peer's name, in brackets, may be another's in the next repetition.
                what = check["what"].partition(" (")[0]
                lines.setdefault((f"{record['benchmark']}: {what}", check["loop"]), []).append(check)
            words += [f"{record['benchmark']}: {text}" for text in [*record["notes"], *record["errors"]]]
    text = [f"{'':64} {'loop':8} {'target':>8}  reached"]
    for (what, loop), checks in lines.items():
        target = f"{checks[0]['sense']} {checks[0]['target']:g}"
        reached = "".join(f"{short(check['value']) + ('' if check['kept'] else ' !'):>10}" for check in checks)
        verdict = "" if all(check["kept"] for check in checks) else "  MISSED"
        text.append(f"{what:64} {loop:8} {target:>8}{reached}{verdict}")
    return "\n".join([*text, *dict.fromkeys(words)])


if __name__ == "__main__":
    sys.exit(main())
