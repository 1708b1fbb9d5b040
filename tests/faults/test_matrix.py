"""The fault matrix: every fault of a worker in every phase of its life. See `rows` for what must be seen, `outcomes` for the words."""

from __future__ import annotations

import logging
import os

import pytest

import gibbs
from gibbs.testing import InBand
from tests.faults import changing, phases
from tests.faults.cells import WATCHDOG, Cell
from tests.faults.families import CHANGING
from tests.faults.rows import DEATHS, DESCRIPTORS, EXCEPTIONS, HANGS, LIES, PHASES, RESULTS, ROWS

BY_KIND = [*EXCEPTIONS, *RESULTS]
FEW = {"killed", "sigstop_self", "garbage_on_all_fds"}  # rows that an ordinary run has while the hub changes
ROADS = phases.ROADS | changing.ROADS

LONG = "GIBBS_LONG" in os.environ


def every(row):
    """In so many phases an ordinary run has this fault once."""
    return 3 if row in BY_KIND else 1 if row in (*DEATHS, *HANGS) else 2


def cells(rows, phases):
    """The cells that make sense, numbered: the number is whose turn among the loops it is.

    What a model raises, and what it returns, differs by what that is and hardly by the phase: in an ordinary run each comes in every
    third phase, in turn; of the other faults, deaths and hangs come in all of them, the rest in every second.
    """
    found = [
        (row, phase)
        for turn, row in enumerate(rows)
        for place, phase in enumerate(phases)
        if not isinstance(row.cells[phase], str) and (LONG or (turn + place) % every(row) == 0)
    ]
    return pytest.mark.parametrize(
        ("number", "row", "phase"),
        [pytest.param(number, *cell, id=f"{cell[0].name}-{cell[1]}") for number, cell in enumerate(found)],
    )


@pytest.fixture
def patience(row, monkeypatch):
    """What a worker becomes has its stream no more: it ends in its own time, and the hub's patience with it is a fraction of a second."""
    if row.name == "becomes_true":
        monkeypatch.setattr("gibbs._parent.worker.EXIT_PATIENCE", WATCHDOG)


@pytest.mark.cell
@pytest.mark.usefixtures("patience")
@cells(ROWS, PHASES)
async def test_a_fault_in_a_phase_is_what_the_matrix_says_and_the_hub_serves_on(number, row, phase, tmp_path, caplog):
    await ROADS[phase](Cell(row, phase, tmp_path))
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


# What the in-band twin does otherwise: its thread reads when there is something, so a stream that does not block is none to it.
OTHERWISE_IN_BAND = {"makes_the_stream_nonblocking"}


@pytest.mark.cell
@pytest.mark.usefixtures("patience")
@cells(
    [row for row in [*DEATHS, *HANGS, *DESCRIPTORS, *LIES] if row.name not in OTHERWISE_IN_BAND],
    ["receiving", "busy", "cancelled"],
)
async def test_a_fault_is_the_same_where_the_stream_is_the_only_way_to_the_worker(number, row, phase, tmp_path, caplog):
    await ROADS[phase](Cell(row, phase, tmp_path, InBand(gibbs.LocalLauncher(output="discard"))))
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.cell
@pytest.mark.usefixtures("patience")
@cells([row for row in ROWS if LONG or row.name in FEW], CHANGING)
async def test_a_fault_while_the_hub_changes_is_what_the_matrix_says_and_the_hub_serves_on(
    number, row, phase, tmp_path, caplog
):
    await ROADS[phase](Cell(row, phase, tmp_path))
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


# In an ordinary run those that touch what is different of a fork: how it ends, and who knows; its group; its descriptors.
OF_A_FORK = {
    *("self_sigkill", "os_exit", "fork_then_die", "becomes_true", "killed", "holds_the_gil", "stopped"),
    *("closes_0_1_2", "closes_all_fds", "exit_grandchild", "model_uses_multiprocessing", "sigterm"),
}


@pytest.mark.cell
@pytest.mark.usefixtures("patience")
@cells(
    [row for row in ROWS if LONG or row.name in OF_A_FORK],
    PHASES if LONG else ["starting", "busy", "cancelled", "closing"],
)
async def test_a_fault_is_the_same_where_the_worker_is_a_fork(number, row, phase, tmp_path, caplog):
    launcher = gibbs.ForkLauncher(preload=["tests.faults.models"], output="discard")
    await ROADS[phase](Cell(row, phase, tmp_path, launcher))
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_what_touches_a_fork_is_in_the_matrix():
    assert {row.name for row in ROWS} >= OF_A_FORK


def test_every_fault_has_an_outcome_or_a_reason_in_every_phase():
    assert ROADS.keys() == {*PHASES, *CHANGING}
    for row in ROWS:
        assert row.cells.keys() == ROADS.keys(), row.name
        assert all(len(why.split()) > 4 for why in row.cells.values() if isinstance(why, str)), row.name


def test_every_fault_has_a_name_of_its_own():
    assert len({row.name for row in ROWS}) == len(ROWS)
