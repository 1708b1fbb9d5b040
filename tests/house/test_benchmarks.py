"""Each benchmark runs to its end and measures something, and the page shows what was measured. Nothing here depends on how fast."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from benchmarks import page
from benchmarks.__main__ import ROWS
from benchmarks.measuring import percentile
from benchmarks.record import Check, short

ROOT = Path(__file__).resolve().parents[2]
WATCHDOG = 50


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS)
def test_a_benchmark_runs_to_its_end(row, tmp_path):
    path = tmp_path / "record.json"
    command = [sys.executable, "-m", f"benchmarks.{row}", "--quick", "--backend", "asyncio", "--json", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=WATCHDOG, check=False)
    assert path.exists(), done.stderr
    record = json.loads(path.read_text())
    assert record["errors"] == [], done.stderr
    assert record["figures"]
    assert record["checks"]
    assert all(math.isfinite(each["value"]) for each in record["figures"] + record["checks"])
    assert done.returncode == (0 if all(check["kept"] for check in record["checks"]) else 1)


@pytest.mark.parametrize("row", ROWS)
def test_the_page_says_what_a_row_is(row):
    assert f"| `benchmarks/{row}.py` |" in page.PAGE.read_text()


# ------------------------------------------------------------------------------------------------- judging and counting


@pytest.mark.parametrize(
    ("sense", "value", "kept"), [("<=", 2.0, True), ("<=", 2.1, False), (">=", 2.0, True), (">=", 1.9, False)]
)
def test_a_target_is_met_by_its_own_value(sense, value, kept):
    assert Check("trio", "something", value, sense, 2.0).kept is kept


def test_what_is_no_number_meets_no_target():
    assert not Check("trio", "something", math.nan, "<=", 2.0).kept


@pytest.mark.parametrize(("percent", "value"), [(50, 50), (99, 99), (99.9, 100), (100, 100), (0.1, 1)])
def test_a_percentile_is_a_value_that_was_measured(percent, value):
    assert percentile([float(each) for each in range(1, 101)], percent) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.99961, "1.00"), (0.0123, "0.0123"), (12.34, "12.3"), (999.6, "1,000"), (14290.4, "14,290")],
)
def test_a_figure_has_three_digits(value, text):
    assert short(value) == text


# ------------------------------------------------------------------------------------------------------------- the page


def row_record(p50: float, theirs: float) -> dict[str, Any]:
    """What a row writes, in small."""
    figures = [
        {"loop": "trio", "who": who, "what": "p50", "value": value, "unit": "µs"}
        for who, value in (("gibbs", p50), ("anyio.to_process", theirs))
    ]
    check = {"loop": "trio", "what": "p50 ÷ theirs", "value": p50 / theirs, "sense": "<=", "target": 0.4, "aim": None}
    checks = [check | {"kept": check["value"] <= 0.4}]
    return {"benchmark": "latency", "about": "one", "figures": figures, "checks": checks, "notes": [], "errors": []}


def whole_record(*repetitions: dict[str, Any]) -> dict[str, Any]:
    machine = {"cores": 2, "cpu": "a CPU", "system": "Linux", "python": "CPython", "versions": {"gibbs": "0"}}
    return {"machine": machine, "repetitions": [[each] for each in repetitions]}


def test_the_page_shows_the_worst_repetition():
    text = page.measured(whole_record(row_record(10, 100), row_record(30, 100), row_record(20, 100)), {})
    assert "| latency: p50 ÷ theirs | ≤ 0.4 |  |  | 0.300 |" in text
    assert "| p50, µs | trio | 20.0 | 100 |" in text


def test_the_page_says_what_was_missed_once():
    text = page.measured(whole_record(row_record(10, 100), row_record(50, 100)), {})
    assert "**0.500 missed**" in text


def test_the_page_says_where_a_peer_is_better():
    text = page.measured(whole_record(row_record(30, 20)), {})
    assert "| latency | p50, µs | trio | anyio.to_process | 20.0 | 30.0 |" in text


def test_a_record_of_tiny_counts_makes_no_page():
    with pytest.raises(SystemExit):
        page.measured(whole_record(row_record(10, 100) | {"quick": True}), {})


@pytest.mark.skipif(not find_spec("matplotlib"), reason="matplotlib is not installed")
def test_the_page_keeps_what_stands_around_the_figures(tmp_path):
    target, record = tmp_path / "performance.md", tmp_path / "record.json"
    target.write_text(f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n")
    record.write_text(json.dumps(whole_record(row_record(10, 100))))
    # In a process of its own: matplotlib keeps its fonts open.
    command = [sys.executable, "-m", "benchmarks.page", str(record), "--page", str(target)]
    subprocess.run(command, cwd=ROOT, timeout=WATCHDOG, check=True)
    text = target.read_text()
    assert text.startswith(f"before\n{page.BEGIN}\n\n")
    assert text.endswith(f"\n\n{page.END}\nafter\n")
    assert "old" not in text
    assert "](plots/latency.svg)" in text
    assert (tmp_path / "plots" / "latency.svg").read_text().startswith("<?xml")
