"""examples/on_call.py: each of its faults is found by docs/on_call.md alone, on the page, in the metrics and in the traces."""

from __future__ import annotations

import re
import time
import urllib.request

import pytest

from tests.examples.serving import served_example

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
WATCHDOG = 90
A_NUMBER = r"[1-9][\d.e+]*"


def says(url: str, words: str) -> None:
    """Wait until it does."""
    until = time.monotonic() + WATCHDOG
    text = ""
    while not re.search(words, text, re.DOTALL):
        assert time.monotonic() < until, f"{words!r} is not in:\n{text}"
        with urllib.request.urlopen(url, timeout=WATCHDOG) as answer:
            text = answer.read().decode()
        time.sleep(0.2)


# What is found where, and on which loop.
@pytest.mark.parametrize(
    ("fault", "backend", "page", "metrics", "traces"),
    [
        (
            "leak",
            "asyncio",
            r"recycled in the last 10 minutes. The last, since it takes \d+ MiB of memory",
            rf'gibbs_worker_memory_bytes.*gibbs_workers_recycled_total{{hub="reader"}} {A_NUMBER}',
            "the last that failed\n\nthe slowest",
        ),
        (
            "hang",
            "trio",
            r"Worker \d .* has been in the model, request \d+, for .* It is at .* in fullmatch, called from .*on_call.py:\d+ in (Reader\.)?count",
            rf'gibbs_slow_calls_total{{hub="reader",method="__call__"}} {A_NUMBER}',
            r"gibbs.outcome=cancelled gibbs.seat=\d gibbs.slow_call.*count: [1-9]\d*\.\d+ s",
        ),
        (
            "poison",
            "uvloop",
            r"\d+ workers died in the last 10 minutes, all in the model. The last one was ended by SIGSEGV: .* it was at .* in string_at",
            rf'gibbs_worker_deaths_total{{cause="SIGSEGV",hub="reader"}} {A_NUMBER}',
            r"ERROR gibbs.outcome=crashed error.type=gibbs.WorkerCrashed",
        ),
        (
            "downstream",
            "asyncio",
            r"All 4 workers are busy, and \d+ requests wait, the first for .*\. Half of the calls of the model take 1(\.\d)? s, or longer",
            rf'gibbs_requests_queued{{hub="reader"}} {A_NUMBER}',
            r"rate: 1\.\d+ s",
        ),
    ],
    ids=["leak", "hang", "poison", "downstream"],
)
def test_the_page_for_who_is_on_call_finds_it(fault: str, backend: str, page: str, metrics: str, traces: str) -> None:
    with served_example(
        "on_call:app", backend, FAULT=fault, VISITORS="60", FEW="100", CALM="0", PATIENCE="8"
    ) as server:
        says(f"{server.url}/status.json", page)
        says(f"{server.url}/metrics/", metrics)
        says(f"{server.url}/traces", traces)
