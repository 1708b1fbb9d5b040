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
from benchmarks.soak.course import Plan, Report, soak
from gibbs._parent.numbers import statistics_of

LONG = bool(os.environ.get("GIBBS_LONG"))
SECONDS = 60 if LONG else 5


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_under_load_and_fire_the_ledger_is_exact(tmp_path, caplog):
    caplog.set_level(logging.ERROR, "gibbs")
    for attempt in range(4):  # on a machine that is slower than that, it takes longer to meet all
        folder = tmp_path / f"{attempt}"
        folder.mkdir()
        report = await soak(Plan(seconds=SECONDS * 2**attempt, seed=5, folder=folder))
        if report.problems:
            folder.joinpath("history").write_text(report.story)
            pytest.fail("\n".join([*report.problems[:50], f"the history: {folder / 'history'}"]), pytrace=False)
        if not (missed := not_met(report)):
            break
    assert not missed


def not_met(report: Report) -> list[str]:
    """What must have been met, or the judge's silence proves nothing."""
    failed = sum(count for what, count in report.changes.items() if what.startswith("reload") and "failed" in what)
    met = {
        "many answers": report.totals["answer"] > 100,
        **{outcome: report.totals[outcome] > 0 for outcome in ("model error", "cancelled", "crashed", "refused")},
        "a kill": report.chaos["SIGKILL of a worker that serves"] > 0,
        "a restart": report.hub["restarts"] > 0,
        "a reload": report.changes["reload to another model: done"] > 0,
        "a reload that failed": failed > 0,
        "two resizes": report.changes["resizes"] > 1,
        "an interrupt": report.hub["interrupted"] > 0,
    }
    return [what for what, so in met.items() if not so]


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
