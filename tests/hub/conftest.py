"""What tests of the hub over scripted workers share."""

from __future__ import annotations

import logging
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
