"""The pictures of docs/status.md, taken anew: `python -m tests.browser.pictures`. A night with traffic, a call that hangs and one that kills."""

from __future__ import annotations

import base64
import io
import tempfile
import threading
import time
from pathlib import Path

from PIL import Image

from tests.browser.chromium import browsing
from tests.browser.test_status import ROOT, Served, look, open_page, soon
from tests.web.servers.real import reserved_port

WIDTH, HEIGHT = 1000, 1400
A_WHILE = 150  # seconds, until there is something to be drawn


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        browsing(Path(folder), WIDTH) as driver,
        reserved_port() as port,
        Served(port, TRAFFIC="1") as server,
    ):
        open_page(driver, server)
        time.sleep(A_WHILE)
        server.ask("parse")
        threading.Thread(target=server.ask, args=["render?x=20"]).start()
        soon(driver, "document.querySelectorAll('.remarks .bad').length === 3")
        time.sleep(10)
        for theme in ("light", "dark"):
            look(driver, WIDTH, theme)
            time.sleep(1)
            driver.execute_script(
                "source.close(); latest = JSON.parse(JSON.stringify(latest).replaceAll(arguments[0], '/srv/app')); show()",
                f"{ROOT}/tests/browser",
            )
            clip = {"x": 0, "y": 0, "width": WIDTH, "height": HEIGHT, "scale": 1}
            shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
            picture = Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")
            picture.quantize(96, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
                ROOT / "docs" / f"status-{theme}.png", optimize=True
            )


if __name__ == "__main__":
    main()
