"""The table of peers in docs/why.md: a parameter that a cell names is there, in the peer's own signature."""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

import pytest

from tests.faults.features import FEATURES

ASKED: dict[str, list[str]] = {
    "to_process": ["anyio.to_process.run_sync"],
    "trio_parallel": ["trio_parallel.run_sync", "trio_parallel.open_worker_context"],
    "executor": ["concurrent.futures.ProcessPoolExecutor"],
    "pebble": ["pebble.ProcessPool", "pebble.ProcessPool.schedule", "pebble.ProcessFuture.cancel"],
    "loky": ["loky.get_reusable_executor"],
    "gibbs": ["gibbs.open_hub", "gibbs.RestartPolicy", "gibbs.Hub.reload"],
}


def named(path: str) -> Any:
    """A function that a dotted path leads to; skips where its package is not installed."""
    parts = path.split(".")
    thing: Any = pytest.importorskip(parts[0])
    for part in parts[1:]:
        if not hasattr(thing, part):
            importlib.import_module(f"{thing.__name__}.{part}")
        thing = getattr(thing, part)
    return thing


@pytest.mark.parametrize(
    ("who", "parameter"),
    [
        (who, parameter)
        for feature in FEATURES
        for who in ASKED
        for parameter in re.findall(r"`(\w+)`", getattr(feature, who))
    ],
)
def test_a_parameter_that_the_table_names_is_there(who: str, parameter: str) -> None:
    things = [named(path) for path in ASKED[who]]
    assert any(parameter in inspect.signature(thing).parameters or thing.__name__ == parameter for thing in things)
