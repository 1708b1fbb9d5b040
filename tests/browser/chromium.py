"""A real browser, headless: Debian's Chromium. Tests that need it are skipped where it is not."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
needs_chromium = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="there is no chromium here, or no chromedriver")

# It must run as root in a container, and ask nobody outside.
ARGUMENTS = """
--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --disable-quic
--disable-background-networking --disable-component-update --disable-sync
"""


@contextmanager
def browsing(folder: Path, width: int = 1280, height: int = 900) -> Iterator[Any]:
    """A selenium driver with a profile of its own in this folder."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in [*ARGUMENTS.split(), f"--user-data-dir={folder / 'profile'}", f"--window-size={width},{height}"]:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, Service(DRIVER))
    try:
        # A window has a least width; the page shall have the one that was asked for.
        driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        yield driver
    finally:
        driver.quit()


def complaints(driver: Any) -> list[str]:
    """What the console says of errors, but for the icon that no page has."""
    return [
        entry["message"]
        for entry in driver.get_log("browser")
        if entry["level"] == "SEVERE" and "favicon" not in entry["message"]
    ]
