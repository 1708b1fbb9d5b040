"""Thousands of small worlds, each from one seed: nothing is lost, nothing runs twice, everybody hears the truth.

A failing seed is printed with its whole history and the line that replays it. `GIBBS_SEEDS=start:stop` chooses others:

    GIBBS_SEEDS=0:100000 pytest -n auto tests/simulation
"""

from __future__ import annotations

import os

import pytest

from tests.simulation.history import judge
from tests.simulation.world import CALL_FAULTS, KILLERS, START_FAULTS, run

ASKED_FOR = os.environ.get("GIBBS_SEEDS", "")
CHUNK = 100  # seeds in one test: seconds, so that a stalled world is met by the test's own timeout


def chunks(stop: int) -> list[tuple[int, int]]:
    """Ranges of seeds, up to `stop` or as the environment says."""
    first, last = map(int, ASKED_FOR.split(":")) if ASKED_FOR else (0, stop)
    return [(start, min(start + CHUNK, last)) for start in range(first, last, CHUNK)]


def accuse(start: int, stop: int, backend: str) -> None:
    for seed in range(start, stop):
        history = run(seed, backend)
        if problems := judge(history):
            lines = "\n".join(problems)
            pytest.fail(
                f"seed {seed} on {backend}:\n{lines}\n\n{history}\n\n{lines}\n"
                f"replay: GIBBS_SEEDS={seed}:{seed + 1} pytest tests/simulation -k 'world and {backend}'",
                pytrace=False,
            )


@pytest.mark.slow
@pytest.mark.parametrize(("start", "stop"), chunks(800))
def test_a_world_on_trio(start, stop):
    accuse(start, stop, "trio")


@pytest.mark.slow
@pytest.mark.parametrize(("start", "stop"), chunks(400))
def test_a_world_on_asyncio(start, stop):
    accuse(start, stop, "asyncio")


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_a_seed_replays_exactly(backend):
    for seed in range(25):
        first, second = run(seed, backend), run(seed, backend)
        assert first.facts == second.facts
        assert first.events == second.events


def test_the_worlds_are_worth_living_in():
    """What must be met in some worlds, or their silence proves nothing."""
    seen: dict[str, int] = {}
    for seed in range(200):
        for event in run(seed, "trio").events:
            kind = (
                f"{event.what}: {event.detail}"
                if event.what in {"fault", "hub raised", "refused", "ordered"}
                else event.what
            )
            seen[kind] = seen.get(kind, 0) + 1
            if event.what == "crashed":
                kind = f"crashed, may_have_run={event.detail['may_have_run']}"
                seen[kind] = seen.get(kind, 0) + 1
    wanted = {f"fault: {fault}" for fault in [*CALL_FAULTS, *START_FAULTS]} - {"fault: no process"}
    wanted |= {f"fault: killer: {how}" for how in KILLERS}
    wanted |= {
        "recalled",
        "answer",
        "model error",
        "cancelled",
        "refused: closed",
        "refused: draining",
        "overloaded",
        "drained",
    }
    wanted |= {"crashed, may_have_run=True", "crashed, may_have_run=False", "refused: failed"}
    wanted |= {"hub raised: WorkerStartFailed", "hub raised: RestartsExhausted", "ordered: interrupt", "ordered: kill"}
    assert wanted <= seen.keys(), sorted(wanted - seen.keys())
