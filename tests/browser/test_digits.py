"""The page of examples/digits.py: what is drawn on it, the model recognizes."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tests.browser.chromium import browsing, complaints, needs_chromium
from tests.examples.serving import served_example

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180), needs_chromium]

STROKES = {
    "0": [[(4 + 2 * math.sin(math.tau * step / 16), 4 - 3 * math.cos(math.tau * step / 16)) for step in range(17)]],
    "1": [[(4.2, 0.6), (4.2, 7.4)]],
    "7": [[(2, 0.8), (6, 0.8), (3.5, 7.4)]],
}


def draw(driver: object, strokes: list[list[tuple[float, float]]]) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By

    canvas = driver.find_element(By.TAG_NAME, "canvas")  # type: ignore[attr-defined]
    pixel = canvas.size["width"] / 8

    def offset(x: float, y: float) -> tuple[int, int]:
        return round((x - 4) * pixel), round((y - 4) * pixel)

    for first, *others in strokes:
        hand = ActionChains(driver, duration=50).move_to_element_with_offset(canvas, *offset(*first)).click_and_hold()
        for point in others:
            hand = hand.move_to_element_with_offset(canvas, *offset(*point))
        hand.release().perform()


def test_what_is_drawn_is_recognized_wide_and_narrow(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.wait import WebDriverWait

    with served_example("digits:app") as server:
        for width, digits in ((1280, "017"), (390, "7")):
            with browsing(tmp_path / str(width), width) as driver:
                driver.get(server.url)
                assert driver.execute_script("return document.documentElement.scrollWidth") <= width
                for digit in digits:
                    draw(driver, STROKES[digit])
                    WebDriverWait(driver, 30).until(
                        lambda driver, digit=digit: driver.find_element(By.TAG_NAME, "output").text == digit
                    )
                    driver.find_element(By.TAG_NAME, "button").click()
                assert not complaints(driver)
