"""What tests of the hub over scripted workers share."""

from __future__ import annotations

import logging
import os
import re
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup, TaskStatus

from gibbs.testing import ScriptedWorker


class Asked:
    """A request in a task of its own. When `ask` returns, it has been submitted."""

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.done = anyio.Event()
        self.value: Any = None
        self.error: Exception | None = None

    async def run(self, f: Callable[..., Awaitable[Any]], *args: Any, task_status: TaskStatus[None]) -> None:
        try:
            with self.scope:
                task_status.started()
                self.value = await f(*args)
        except Exception as error:  # noqa: BLE001 - raised by outcome()
            self.error = error
        finally:
            self.done.set()

    def cancel(self) -> None:
        self.scope.cancel()

    @property
    def cancelled(self) -> bool:
        return self.scope.cancelled_caught

    async def outcome(self) -> Any:
        """What came of it: a value, an exception, or "cancelled"."""
        await self.done.wait()
        if self.error is not None:
            raise self.error
        return "cancelled" if self.cancelled else self.value


@pytest.fixture
def ask() -> Callable[..., Awaitable[Asked]]:
    async def ask(tg: TaskGroup, f: Callable[..., Awaitable[Any]], *args: Any) -> Asked:
        asked = Asked()
        await tg.start(asked.run, f, *args)
        return asked

    return ask


@pytest.fixture
def by_hand() -> Callable[[ScriptedWorker], Awaitable[None]]:
    """The script of a worker that a test drives: it is ready, and then does nothing by itself but leave."""

    async def by_hand(worker: ScriptedWorker) -> None:
        await worker.ready(interruptible=True, methods={"__call__": "plain"})
        await anyio.sleep_forever()

    return by_hand


@pytest.fixture
def begin() -> Callable[[ScriptedWorker], Awaitable[Any]]:
    """Let a worker driven by hand receive the next request and begin it."""

    async def begin(worker: ScriptedWorker) -> Any:
        call = await worker.receive()
        assert call.is_call
        assert worker.begin(call.link_id)
        return call

    return begin


# --------------------------------------------------------------------------------------------------- which sweeps are run


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "in_turn(share=1): one case in so many, on one loop; with GIBBS_LONG in the environment all, on all loops",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect, not skip: what is left out is shown by another case, or on another loop."""
    if "GIBBS_LONG" in os.environ:
        return
    loops: dict[Any, int] = {}
    turned: list[Any] = [item for item in items if item.get_closest_marker("in_turn")]
    for item in turned:
        loops[item.path] = max(loops.get(item.path, 0), 1 + loop_of(item))
    left = [item for item in turned if turn_of(item) % (loops[item.path] * share_of(item)) != loop_of(item)]
    items[:] = [item for item in items if item not in left]
    config.hook.pytest_deselected(items=left)


def turn_of(item: Any) -> int:
    """A number for each case, the same for all loops and in every run."""
    return zlib.crc32(re.sub(r"\b(asyncio|uvloop|trio)\b", "", item.name).encode())


def share_of(item: Any) -> int:
    return int(item.get_closest_marker("in_turn").kwargs.get("share", 1))


def loop_of(item: Any) -> int:
    return int(item.callspec.indices["anyio_backend"])


@pytest.fixture
def swept(anyio_backend: tuple[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """For hundreds of hubs and deaths: what a sweep of them would wait for, and shows nothing of it.

    No death is logged. Where modules lie is not looked up for each hub: workers in memory import nothing. On uvloop, whose clock does
    not jump, the times that a hub gives the dead are short.
    """
    monkeypatch.setattr(logging.getLogger("gibbs"), "disabled", True)
    monkeypatch.setattr("gibbs._wire.recipe._homeless_modules", lambda path: ({}, {}))
    if not anyio_backend[1].get("use_uvloop"):
        return
    monkeypatch.setattr("gibbs._parent.worker.EXIT_PATIENCE", 0.01)
    monkeypatch.setattr("gibbs._parent.link._SILENCE", 0.005)
    for wait in ("FIRST_CRASH_WAIT", "LONGEST_CRASH_WAIT", "FIRST_FAILURE_WAIT"):
        monkeypatch.setattr(f"gibbs._core.restarts.{wait}", 0.001)
