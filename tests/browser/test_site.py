"""The site is built strictly and without a network, and a browser shows it as it should be, wide and narrow."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.browser.chromium import browsing, complaints, needs_chromium

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(page.stem for page in (ROOT / "docs").glob("*.md") if page.stem != "index")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("material")
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "site.py", out], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    handler = functools.partial(Silent, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_every_page_is_in_the_site_and_asks_nobody_else_for_anything(site: Path) -> None:
    for page in PAGES:
        assert (site / page / "index.html").exists(), page
    for file in site.rglob("*.html"):
        asked = re.findall(r"<(?:script|img|iframe|link)\b[^>]*?(?:src|href)=\"?(https?:[^\s\">]+)", file.read_text())
        assert not asked, f"{file.name}: {asked}"


@needs_chromium
@pytest.mark.parametrize("width", [1280, 390])
def test_no_page_is_wider_than_the_window_or_complains(site: Path, tmp_path: Path, width: int) -> None:
    with served(site) as url, browsing(tmp_path, width) as driver:
        for page in ["", *(f"{page}/" for page in PAGES)]:
            driver.get(f"{url}/{page}")
            assert driver.execute_script("return document.querySelector('h1') !== null"), page
            wide = driver.execute_script("return document.documentElement.scrollWidth")
            assert wide <= width, f"{page or 'index'} is {wide} pixels wide"
            assert not complaints(driver), page


@needs_chromium
def test_the_search_finds_a_public_name(site: Path, tmp_path: Path) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.wait import WebDriverWait

    with served(site) as url, browsing(tmp_path) as driver:
        driver.get(url)
        driver.find_element(By.CSS_SELECTOR, "[data-md-component=search-query]").send_keys("cancel_on_disconnect")
        found = WebDriverWait(driver, 30).until(
            lambda driver: driver.find_elements(By.CSS_SELECTOR, ".md-search-result__link")
        )
        assert any("web/" in str(link.get_attribute("href")) for link in found)
