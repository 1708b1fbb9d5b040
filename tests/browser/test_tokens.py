"""The page of examples/tokens.py: words come one after the other, and a closed tab, or a click, ends them and keeps the worker."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest

from tests.browser.chromium import browsing, complaints, needs_chromium
from tests.examples.serving import served_example

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180), needs_chromium]

WATCHDOG = 60


@pytest.mark.parametrize("backend", ["asyncio", "uvloop", "trio"])
def test_a_story_goes_on_until_its_tab_is_closed(backend: str, tmp_path: Path) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.wait import WebDriverWait

    def ask() -> dict[str, int]:
        with urllib.request.urlopen(f"{server.url}/statistics", timeout=WATCHDOG) as response:
            answer: dict[str, int] = json.load(response)
            return answer

    with served_example("tokens:app", backend) as server, browsing(tmp_path, 390) as driver:
        soon = WebDriverWait(driver, WATCHDOG, poll_frequency=0.02)

        def told() -> int:
            return len(driver.find_element(By.TAG_NAME, "output").text.split())

        def begin() -> None:
            driver.find_element(By.CSS_SELECTOR, "button[type=submit]").click()
            soon.until(lambda _: told() > 4)
            assert ask()["running"] == 1

        driver.get(server.url)
        assert driver.execute_script("return document.documentElement.scrollWidth") <= 390
        begin()
        driver.find_element(By.CSS_SELECTOR, "button[type=button]").click()
        soon.until(lambda _: ask()["running"] == 0)
        assert ask()["left"] == 1

        first = driver.current_window_handle
        driver.switch_to.new_window("tab")
        driver.get(server.url)
        begin()
        assert not complaints(driver)
        driver.close()
        driver.switch_to.window(first)
        soon.until(lambda _: ask()["running"] == 0)
        assert ask() == {"running": 0, "left": 2, "killed": 0, "restarts": 0}
