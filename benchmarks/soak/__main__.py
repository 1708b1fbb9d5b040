"""A hub under load and under fire, judged to the last request.

    python -m benchmarks.soak [--minutes M] [--seed N] [--loop asyncio|uvloop|trio] [--workers W] [--kill-every 0.3] [--in-band]

Prints counts, and what the judge found. Exits with 1 if he found anything; the history of that chapter is then in a file that is named.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from pathlib import Path

import anyio

from benchmarks.soak.course import Plan, Report, soak
from tests.histories.history import OUTCOMES

LOOPS = {
    "asyncio": ("asyncio", {"use_uvloop": False}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description="A hub under load and under fire.")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--loop", choices=[*LOOPS], default="asyncio")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--kill-every", type=float, default=0.3, metavar="SECONDS")
    parser.add_argument("--in-band", action="store_true", help="workers that are reached by their stream alone")
    options = parser.parse_args()
    logging.getLogger("gibbs").setLevel(logging.ERROR)  # thousands of deaths, each a line
    backend, backend_options = LOOPS[options.loop]
    with tempfile.TemporaryDirectory(prefix="gibbs-soak-") as folder:
        plan = Plan(
            seconds=60 * options.minutes,
            seed=options.seed,
            folder=Path(folder),
            workers=options.workers,
            kill_every=options.kill_every,
            in_band=options.in_band,
        )
        report = anyio.run(soak, plan, backend=backend, backend_options=backend_options)
    show(report, options.loop)
    if not report.problems:
        return 0
    kept = Path(tempfile.gettempdir(), f"gibbs-soak-{options.loop}-{options.seed}.history")
    kept.write_text(report.story)
    print(f"\n{len(report.problems)} problems; the history of their chapter: {kept}")
    print("\n".join(report.problems[:50]))
    return 1


def show(report: Report, loop: str) -> None:
    plan, totals = report.plan, report.totals
    print(f"{loop}, seed {plan.seed}: {report.seconds:.1f} s, {report.chapters} chapters")
    print(f"{plan.workers} workers and {plan.spares} spare, {plan.recycle}")
    print(f"\nrequests: {totals['asked']}")
    for outcome in sorted(OUTCOMES):
        print(f"{totals[outcome]:10}  {outcome}")
    print(f"{sum(totals[outcome] for outcome in OUTCOMES):10}  in all")
    print("\nledger: settled by the hub as, heard by the caller as")
    for (settled, heard), count in sorted(report.ledger.items()):
        print(f"{count:10}  {settled or 'never taken in':15} {heard}")
    print(f"{sum(report.ledger.values()):10}  in all")
    details = {name.strip(): count for name, count in totals.items() if name.startswith(" ")}
    told = {"details": details, "the hub's statistics": report.hub, "chaos": report.chaos, "changes": report.changes}
    for kind, counts in told.items():
        print(f"\n{kind}:")
        for name, count in sorted(counts.items()):
            print(f"{count:10}  {name}")
    print(f"\nbefore the hub:          {report.before}")
    if report.rests:
        print(f"after the first chapter: {report.rests[0]}")
        print(f"after the last chapter:  {report.rests[-1]}")
    print(f"after the hub:           {report.after}")
    print(f"the judge: {'nothing' if not report.problems else f'{len(report.problems)} problems'}")


if __name__ == "__main__":
    sys.exit(main())
