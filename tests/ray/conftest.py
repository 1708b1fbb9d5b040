"""One cluster for all tests of this folder, which are skipped where Ray is not: `nox -s ray` brings it."""

from __future__ import annotations

import importlib.util
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.ray.cluster import WATCHDOG, Cluster, Node, running_cluster

HAS_RAY = importlib.util.find_spec("ray") is not None
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.ray)
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.timeout(240))
            item.add_marker(pytest.mark.filterwarnings("ignore"))  # Ray's own
            item.add_marker(
                pytest.mark.leaves("thread", "descriptor", "orphan", reason="Ray's driver lives on in this process")
            )
            if not HAS_RAY:
                item.add_marker(pytest.mark.skip(reason="Ray is not installed: nox -s ray"))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def two_nodes(cluster: Cluster) -> tuple[Node, Node]:
    """That live as long as the cluster does."""
    return cluster.add(steady=8), cluster.add(steady=8)


@pytest.fixture
def until() -> Callable[[Callable[[], Any]], Awaitable[Any]]:
    """`await until(condition)`: returns its value once that is true. The loop goes on meanwhile."""

    async def until(condition: Callable[[], Any]) -> Any:
        with anyio.fail_after(WATCHDOG):
            while not (value := condition()):
                await anyio.sleep(0.01)
        return value

    return until
