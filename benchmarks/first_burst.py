"""The first burst of a fresh server: ten requests, at once, over HTTP, to four workers.

    python benchmarks/first_burst.py [--starts 5] [--backend trio] [--json PATH]

Each start is a server of its own; ten client processes, ready before it, fire as soon as it
answers at all. `ratio` is the best start's time by the ideal one, 3 × 0.25 s; the promise is
at most 1.10. `at once` is the most calls that ever ran at the same time, by the workers' own
stamps; more than four, or a failure, and the benchmark exits with 1.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))

from load import Clients
from servers import COMMANDS, Server
from stamped_model import most_at_once, read_stamps
from walkthrough import CLIENTS, IDEAL, WORKERS


class Start(NamedTuple):
    seconds: float
    failures: int
    at_once: int
    left: int


class Series(NamedTuple):
    """All starts of one loop."""

    backend: str
    starts: int
    failures: int
    left: int  # processes that outlived their server
    at_once: int
    best_s: float
    median_s: float
    worst_s: float
    ratio: float  # of the best to the ideal

    @property
    def kept(self) -> bool:
        return self.failures == 0 and self.left == 0 and self.at_once <= WORKERS


def start(backend: str, clients: Clients) -> Start:
    with Server("stamped_app:app", backend) as server:
        burst = clients.burst(f"{server.url}/request")
        for answer in burst.failures:
            print(f"{backend}: {answer}", file=sys.stderr)
        at_once = most_at_once(read_stamps(server.stamps))
        left = server.stop()
    return Start(burst.seconds, len(burst.failures), at_once, len(left))


def series(backend: str, clients: Clients, number: int) -> Series:
    starts = [start(backend, clients) for _ in range(number)]
    seconds = [each.seconds for each in starts]
    return Series(
        backend=backend,
        starts=number,
        failures=sum(each.failures for each in starts),
        left=sum(each.left for each in starts),
        at_once=max(each.at_once for each in starts),
        best_s=round(min(seconds), 4),
        median_s=round(statistics.median(seconds), 4),
        worst_s=round(max(seconds), 4),
        ratio=round(min(seconds) / IDEAL, 4),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="the first burst of a fresh server")
    parser.add_argument("--starts", type=int, default=5, help="of each loop")
    parser.add_argument("--backend", choices=COMMANDS, action="append", help="default: all")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the record there")
    options = parser.parse_args()

    print(f"{CLIENTS} requests at once, {WORKERS} workers, ideal {IDEAL:.2f} s")
    print("loop     starts  failures  left  at once  best s  median s  worst s  ratio")
    rows = []
    with Clients(CLIENTS) as clients:
        for backend in options.backend or COMMANDS:
            row = series(backend, clients, options.starts)
            rows.append(row)
            print(
                f"{row.backend:8} {row.starts:6} {row.failures:9} {row.left:5} {row.at_once:8}"
                f" {row.best_s:7.3f} {row.median_s:9.3f} {row.worst_s:8.3f} {row.ratio:6.3f}",
                flush=True,
            )

    if options.json:
        record = {
            "benchmark": "first_burst",
            "python": platform.python_version(),
            "ideal_s": IDEAL,
            "loops": [row._asdict() for row in rows],
        }
        options.json.write_text(json.dumps(record, indent=2) + "\n")
    return 0 if all(row.kept for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
