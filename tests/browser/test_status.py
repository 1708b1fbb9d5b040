"""The live page in a browser: it moves, shows who died, takes what workers say for text, can be used by keyboard, and survives its server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.browser.chromium import browsing, complaints, needs_chromium
from tests.browser.status_app import MARKUP
from tests.web.servers.real import reserved_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180), needs_chromium]

ROOT = Path(__file__).resolve().parents[2]
WATCHDOG = 60


class Served:
    """The app under uvicorn, on one port however often it is started."""

    def __init__(self, port: int, **environment: str) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{self.port}/status"
        self._environment = environment

    def __enter__(self) -> Served:
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "uvicorn", "--no-access-log", "--log-level", "warning"),
                *("--port", str(self.port), "tests.browser.status_app:app"),
            ],
            cwd=ROOT,
            env=os.environ | self._environment,
        )
        return self

    def __exit__(self, *_: object) -> None:
        """A page that is open does not hold it up."""
        self._process.terminate()
        try:
            self._process.wait(WATCHDOG)
        finally:
            self._process.kill()
            self._process.wait()

    def seats(self) -> Any:
        with urllib.request.urlopen(f"{self.url}.json", timeout=WATCHDOG) as response:
            return json.load(response)["hubs"][0]["history"]["seats"]

    def ask(self, path: str) -> None:
        with urllib.request.urlopen(f"{self.url.removesuffix('/status')}/ask/{path}", timeout=WATCHDOG):
            pass


def soon(driver: Any, script: str, *arguments: Any) -> Any:
    """What a script returns, as soon as that is something."""
    from selenium.webdriver.support.wait import WebDriverWait

    return WebDriverWait(driver, WATCHDOG, poll_frequency=0.05).until(
        lambda driver: driver.execute_script(f"return {script}", *arguments), script
    )


def look(driver: Any, width: int, theme: str) -> None:
    """The page as it is on such a screen, in such a theme."""
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    )


def open_page(driver: Any, server: Served) -> None:
    """When the server is up; then its page reconnects by itself."""
    from selenium.common.exceptions import WebDriverException
    from selenium.webdriver.support.wait import WebDriverWait

    WebDriverWait(driver, WATCHDOG, ignored_exceptions=[WebDriverException]).until(
        lambda driver: driver.get(server.url) is None
    )
    soon(driver, "document.querySelectorAll('.seats tbody tr').length === 4")


def test_a_death_is_seen_whatever_is_said_is_text_and_a_restart_of_the_server_is_survived(tmp_path: Path) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    with reserved_port() as port, browsing(tmp_path) as driver:
        server = Served(port, HOSTILE="1")
        with server:
            open_page(driver, server)
            os.kill(server.seats()[0]["pid"], signal.SIGKILL)
            soon(driver, "document.querySelector('.died')?.textContent.includes('SIGKILL')")
            server.ask("parse")
            server.ask("rank")
            soon(driver, "document.title.startsWith('(2)')")  # poison, and deaths
            soon(
                driver,
                "[...document.querySelectorAll('pre')].some((one) => one.textContent.includes(arguments[0]))",
                MARKUP,
            )
            soon(driver, "document.querySelector('.methods').textContent.includes(arguments[0].slice(0, 50))", MARKUP)
            assert driver.execute_script("return document.querySelector('h2').textContent") == MARKUP
            assert driver.execute_script("return [typeof canary, document.images.length, document.scripts.length]") == [
                "undefined",
                0,
                1,
            ]

            for width in (1280, 390):
                papers = set()
                for theme in ("light", "dark"):
                    look(driver, width, theme)
                    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
                    papers.add(driver.execute_script("return getComputedStyle(document.body).backgroundColor"))
                assert len(papers) == 2

            reached = []
            for _ in range(5):
                ActionChains(driver).send_keys(Keys.TAB).perform()
                reached.append(
                    driver.execute_script(
                        "const one = document.activeElement; return one.id || one.ariaLabel || one.textContent.slice(0, 6)"
                    )
                )
            assert reached == ["pause", "Seats", "The sa", "Methods", "✕ died"]
            ActionChains(driver).send_keys(Keys.ENTER).perform()
            before = driver.execute_script("return document.activeElement.textContent")
            soon(driver, "document.activeElement.textContent !== arguments[0]", before)  # it goes on, and
            assert driver.execute_script("return document.activeElement.parentElement.open"), "what is open stays so"

            asked = driver.execute_script("return performance.getEntriesByType('resource').map((one) => one.name)")
            assert set(asked) == {server.url}
            assert not complaints(driver)
        first = driver.execute_script("return document.getElementById('process').textContent")
        soon(driver, "document.getElementById('connection').textContent.startsWith('connection lost')")
        with server:
            soon(driver, "document.getElementById('connection').textContent === 'live'")
            soon(driver, "document.getElementById('process').textContent !== arguments[0]", first)
            driver.execute_script("document.getElementById('pause').focus()")
            ActionChains(driver).send_keys(Keys.SPACE).perform()
            assert driver.execute_script("return document.getElementById('connection').textContent") == "paused"
