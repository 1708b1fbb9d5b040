"""Examples with real parts: Pillow behind FastAPI, scikit-learn, Starlette on Trio."""

from __future__ import annotations

import io
import json
import threading
import urllib.error
import urllib.request
from typing import Any

import pytest

from tests.examples.serving import served_example

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

WATCHDOG = 60


def ask(url: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=WATCHDOG) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


# ------------------------------------------------------------------------------------------------------- thumbnails


def picture(format: str, mode: str = "RGB") -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.new(mode, (1200, 800), "red").save(out, format)
    return out.getvalue()


def test_a_picture_comes_back_small_and_what_is_none_is_told_so():
    Image = pytest.importorskip("PIL.Image")
    with served_example("thumbnails:app") as server:
        for body in (picture("PNG"), picture("JPEG"), picture("PNG", "RGBA"), picture("GIF", "P")):
            status, small = ask(f"{server.url}/thumbnail?width=120", body)
            assert status == 200
            with Image.open(io.BytesIO(small)) as image:
                assert (image.format, image.size) == ("JPEG", (120, 80))
        status, why = ask(f"{server.url}/thumbnail", b"no picture")
        assert (status, json.loads(why)) == (415, {"detail": "this is no picture that can be made small"})
        assert ask(f"{server.url}/thumbnail", picture("PNG")[:200])[0] == 415
        assert ask(f"{server.url}/thumbnail", bytes(21 << 20))[0] == 413
        assert ask(f"{server.url}/thumbnail?width=3", picture("PNG"))[0] == 422
        assert ask(f"{server.url}/readyz")[0] == 200


# ------------------------------------------------------------------------------------------------------------ digits


def classify(url: str, pixels: list[float]) -> Any:
    status, body = ask(
        f"{url}/classify", json.dumps({"pixels": pixels}).encode(), **{"Content-Type": "application/json"}
    )
    return status, json.loads(body)


def test_digits_are_recognized_and_what_is_no_drawing_is_refused():
    datasets = pytest.importorskip("sklearn.datasets")
    pictures, labels = datasets.load_digits(return_X_y=True)
    with served_example("digits:app") as server:
        answers = [classify(server.url, picture.tolist()) for picture in pictures[:20]]
        assert {status for status, _ in answers} == {200}
        assert sum(body["digit"] == label for (_, body), label in zip(answers, labels, strict=False)) >= 18
        assert classify(server.url, [0.0] * 63)[0] == 422
        assert classify(server.url, [17.0] * 64)[0] == 422
        status, page = ask(server.url)
        assert status == 200
        assert b"Which digit is it?" in page


# -------------------------------------------------------------------------------------------------- Starlette on Trio


def test_starlette_on_trio_answers_and_after_its_patience_gives_up():
    with served_example("starlette_trio:app", "trio") as server:
        assert ask(f"{server.url}/factors?n=600851475143") == (200, b'{"factors":[71,839,1471,6857]}')
        assert ask(f"{server.url}/factors?n=x")[0] == 400
        hard = f"{server.url}/factors?n={1000000007 * 1000000009}"
        answers: list[int] = []
        asking = [threading.Thread(target=lambda: answers.append(ask(hard)[0])) for _ in range(2)]
        for one in asking:
            one.start()
        for one in asking:
            one.join(WATCHDOG)
        assert answers == [504, 504]
        assert ask(f"{server.url}/factors?n=12") == (200, b'{"factors":[2,2,3]}')
