"""Five seconds of soak on each loop, with one seed, within the ordinary run; `GIBBS_LONG=1`: a minute. The long ones are
`python -m benchmarks.soak`.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
import tempfile

import pytest

from benchmarks.soak.__main__ import main
from benchmarks.soak.course import Plan, soak
from gibbs._parent.numbers import statistics_of

LONG = bool(os.environ.get("GIBBS_LONG"))
SECONDS = 60 if LONG else 5


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_under_load_and_fire_the_ledger_is_exact(tmp_path, caplog):
    caplog.set_level(logging.ERROR, "gibbs")
    report = await soak(Plan(seconds=SECONDS, seed=5, folder=tmp_path))
    if report.problems:
        tmp_path.joinpath("history").write_text(report.story)
        pytest.fail("\n".join([*report.problems[:50], f"the history: {tmp_path / 'history'}"]), pytrace=False)
    # What must have been met, or the judge's silence proves nothing.
    assert report.totals["answer"] > 100
    assert min(report.totals[outcome] for outcome in ("model error", "cancelled", "crashed", "refused")) > 0
    assert report.chaos["SIGKILL of a worker that serves"] > 0
    assert report.hub["restarts"] > 0
    assert report.changes["reload to another model: done"] > 0
    assert any(count for what, count in report.changes.items() if what.startswith("reload") and "failed" in what)
    assert report.changes["resizes"] > 1
    assert report.hub["interrupted"] > 0


@pytest.mark.slow
def test_a_hub_that_miscounts_is_found_out_and_its_history_kept(tmp_path, monkeypatch, caplog, capsys):
    caplog.set_level(logging.ERROR, "gibbs")
    lying = lambda crew: dataclasses.replace(said := statistics_of(crew), done=said.done + 1)  # noqa: E731
    monkeypatch.setattr("gibbs._hub.statistics_of", lying)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["soak", "--minutes", "0.05", "--seed", "7"])
    assert main() == 1
    printed = capsys.readouterr().out
    kept = tmp_path / "gibbs-soak-asyncio-7.history"
    assert str(kept) in printed
    assert "the_statistics_balance" in printed
    assert "sent request" in kept.read_text()
