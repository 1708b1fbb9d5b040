"""What the tutorial promises whoever follows it: a served model that survives a closed tab and `kill -9` of a worker."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.browser.chromium import browsing, needs_chromium
from tests.examples.serving import served_example

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180), needs_chromium]

WATCHDOG = 60.0


def ask(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=WATCHDOG) as response:
        return json.load(response)


def until(condition: Callable[[], bool], what: str) -> None:
    give_up = time.monotonic() + WATCHDOG
    while not condition():
        assert time.monotonic() < give_up, f"waited in vain until {what}"
        time.sleep(0.01)


def stamps_of(worker: int) -> Path:
    """Where the calls of its server sign that they begin: a request that was only sent would not be interrupted."""
    environ = Path(f"/proc/{worker}/environ").read_text().split("\0")
    [stamps] = [one.removeprefix("STAMPS=") for one in environ if one.startswith("STAMPS=")]
    return Path(stamps)


@pytest.mark.parametrize("backend", ["asyncio", "uvloop", "trio"])
def test_a_closed_tab_stops_the_work_and_a_killed_worker_is_replaced(backend: str, tmp_path: Path) -> None:
    with served_example("stamped_app:app", backend, WAIT_TIME="600") as server, browsing(tmp_path) as driver:
        before = ask(f"{server.url}/statistics")
        stamps = stamps_of(before["pids"][0])

        driver.execute_script("window.tab = open(arguments[0])", f"{server.url}/cancellable?x=3")
        until(lambda: stamps.exists() and "began" in stamps.read_text(), "the model works for the tab")
        driver.execute_script("window.tab.close()")
        until(lambda: ask(f"{server.url}/statistics")["interrupted"] == 1, "the work has stopped")
        after = ask(f"{server.url}/statistics")
        assert (after["pids"], after["killed"], after["running"]) == (before["pids"], 0, 0)

        os.kill(after["pids"][0], signal.SIGKILL)
        until(lambda: ask(f"{server.url}/statistics")["restarts"] == 1, "the killed worker is replaced")
        until(lambda: ask(f"{server.url}/statistics")["seats"]["serving"] == 4, "all four serve")
