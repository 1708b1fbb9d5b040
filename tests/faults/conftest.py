"""Which cells run: in an ordinary run each on one loop, in turn; with GIBBS_LONG in the environment each on all."""

from __future__ import annotations

import os

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "cell(number): runs on one loop, in turn by its number, argument or parameter; with GIBBS_LONG on all",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect, not skip: what another loop shows is not left out."""
    if "GIBBS_LONG" in os.environ:
        return
    kept, left = [], []
    loops = 1 + max((loop_of(item) for item in items if item.get_closest_marker("cell")), default=0)
    for item in items:
        cell = item.get_closest_marker("cell")
        mine = cell is None or number_of(item, *cell.args) % loops == loop_of(item)
        (kept if mine else left).append(item)
    items[:] = kept
    config.hook.pytest_deselected(items=left)


def number_of(item: pytest.Item, *number: int) -> int:
    return number[0] if number else item.callspec.params["number"]


def loop_of(item: pytest.Item) -> int:
    return item.callspec.indices["anyio_backend"]
