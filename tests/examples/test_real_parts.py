"""Examples with real parts: Pillow behind FastAPI, scikit-learn, Starlette on Trio."""

from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from typing import Any

import pytest

from tests.examples.serving import EXAMPLES, served_example

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


# ------------------------------------------------------------------------------------------------------------ tokens


@pytest.mark.parametrize("backend", ["asyncio", "uvloop", "trio"])
def test_a_story_comes_word_by_word_and_ends_with_its_reader(backend):
    with served_example("tokens:app", backend) as server:
        with urllib.request.urlopen(f"{server.url}/tell?prompt=A", timeout=WATCHDOG) as story:
            assert story.headers["Content-Type"] == "text/plain; charset=utf-8"
            told = b""
            while told.count(b" ") < 5:
                told += story.read1()
            assert json.loads(ask(f"{server.url}/statistics")[1])["running"] == 1
        give_up = time.monotonic() + WATCHDOG
        while json.loads(ask(f"{server.url}/statistics")[1])["running"]:
            assert time.monotonic() < give_up
            time.sleep(0.01)
        assert json.loads(ask(f"{server.url}/statistics")[1]) == {"running": 0, "left": 1, "killed": 0, "restarts": 0}


# ------------------------------------------------------------------------------------------------------------ progress


@pytest.mark.parametrize("backend", ["asyncio", "uvloop", "trio"])
def test_primes_are_counted_under_the_eyes_of_who_asked_and_for_nobody_else(backend):
    with served_example("progress:app", backend) as server:
        assert b"<progress" in ask(server.url)[1]
        status, events = ask(f"{server.url}/count?below=1000")
        assert status == 200
        *words, result, nothing = events.decode().split("\n\n")
        assert (result, nothing) == ("event: result\ndata: 168", "")
        shares = [float(word.removeprefix("data: ")) for word in words]
        assert shares == sorted(shares)
        assert shares[-1] == 1.0
        assert ask(f"{server.url}/count?below=1")[0] == 422
        with urllib.request.urlopen(f"{server.url}/count?below=100000000", timeout=WATCHDOG) as counting:
            assert counting.headers["Content-Type"].startswith("text/event-stream")
            assert counting.readline().startswith(b"data: 0.0")
        give_up = time.monotonic() + WATCHDOG
        while (now := json.loads(ask(f"{server.url}/statistics")[1]))["running"]:
            assert time.monotonic() < give_up
            time.sleep(0.01)
        assert now == {"running": 0, "left": 1, "killed": 0, "restarts": 0}


# ------------------------------------------------------------------------------------------------------------ tenants


@pytest.mark.parametrize("backend", ["asyncio", "uvloop", "trio"])
def test_each_tenant_is_greeted_in_his_own_way_and_found_again(backend):
    with served_example("tenants:app", backend) as server:
        for paid in ("yes", "no"):
            for who in ("ann", "eve", "ann"):
                status, body = ask(f"{server.url}/greet?name=Bob", **{"X-Tenant": who, "X-Paid": paid})
                assert (status, json.loads(body)) == (200, {"greeting": f"{who} greets Bob"})
        assert ask(f"{server.url}/greet")[0] == 422


# ------------------------------------------------------------------------------------------------------------ hashes


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_each_line_is_hashed_as_it_comes_and_in_order(backend):
    pytest.importorskip(backend)

    def expected(line):
        return hashlib.scrypt(line.encode(), salt=b"an example", n=1 << 14, r=8, p=1, dklen=16).hex()

    with subprocess.Popen(
        [sys.executable, EXAMPLES / "hashes.py", "--backend", backend],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        print("the first", file=program.stdin, flush=True)
        assert program.stdout.readline().strip() == expected("the first"), "before there is another line"
        lines = [f"line {number}" for number in range(20)]
        out, _ = program.communicate("\n".join(lines), timeout=WATCHDOG)
    assert out.split() == [expected(line) for line in lines]
    assert program.returncode == 0


# ------------------------------------------------------------------------------------------------------------ anytime


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_trip_is_planned_in_the_time_that_there_is(backend):
    """Far fewer towns than would take so long: it is the deadline that ends the search, and the answer is in time."""
    pytest.importorskip(backend)
    done = subprocess.run(
        [sys.executable, EXAMPLES / "anytime.py", *"--seconds 4 --spare 3 --towns 12 --backend".split(), backend],
        capture_output=True,
        text=True,
        timeout=WATCHDOG,
        check=True,
    )
    assert re.fullmatch(r"12 towns, \d+\.\d s: a trip of \d\.\d{3}\n", done.stdout)


# ---------------------------------------------------------------------------------------------------------- notebook


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_names_of_a_notebook_live_from_cell_to_cell_and_one_that_kills_its_worker_harms_no_other(backend, tmp_path):
    pytest.importorskip(backend)
    cells = {
        "sums": ["x = 20", "x + 1", "def twice(x): return 2 * x\ntwice(x)"],
        "dies": ["x = 1", "import os; os._exit(1)", "x"],
        "fails": ["x"],
        "slow": ["import time; time.sleep(600)", "1"],
    }
    for name, texts in cells.items():
        (tmp_path / name).write_text("\n\n".join(texts) + "\n")
    done = subprocess.run(
        [sys.executable, EXAMPLES / "notebook.py", "--seconds", "4", "--backend", backend, *cells],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=WATCHDOG,
        check=True,
    )
    assert sorted(done.stdout.splitlines()) == [
        "dies[1] ",
        "dies[2] has lost its worker, and all names",
        "fails[1] NameError: name 'x' is not defined",
        "slow[1] takes longer than 4 s",
        "sums[1] ",
        "sums[2] 21",
        "sums[3] 40",
    ]
