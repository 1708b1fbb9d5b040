"""The examples are what people copy: each of them runs as its text says."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.examples.serving import EXAMPLES, Served, need, served_example

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
BACKENDS = ["asyncio", "uvloop", "trio"]
SQUARES = [x**2 for x in range(10)]
WATCHDOG = 150

pytestmark = [pytest.mark.slow, pytest.mark.timeout(WATCHDOG + 30)]


def run(program: str, *options: str, **environment: str) -> str:
    """Run a program of the repository as a reader would, and return what it printed."""
    done = subprocess.run(
        [sys.executable, ROOT / program, *options],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=WATCHDOG,
        check=False,
    )
    assert done.returncode == 0, f"{program} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture
def wait_time() -> str:
    """What the stamped model takes for a call; tests in which something happens in mid-call ask for more."""
    return "0.25"


@pytest.fixture(params=BACKENDS)
def served(request: pytest.FixtureRequest, app: str, wait_time: str) -> Iterator[Served]:
    with served_example(app, request.param, WAIT_TIME=wait_time) as server:
        yield server


def test_the_model_squares_a_number() -> None:
    assert run("examples/model.py") == "144\n"


def test_the_stamped_model_signs_the_beginning_and_the_end_of_a_call(tmp_path: Path) -> None:
    stamps = tmp_path / "stamps"
    run("examples/stamped_model.py", STAMPS=str(stamps))
    assert re.fullmatch(r"(\d+) began 12 \d+\.\d+\n\1 answered 12 \d+\.\d+\n", stamps.read_text())


@pytest.mark.parametrize("app", ["plain_app:app", "gibbs_app:app"])
def test_the_load_script_has_ten_answers_from_each_app(served: Served) -> None:
    printed = run("examples/load.py", "--url", f"{served.url}/request")
    assert re.fullmatch(r"10 requests took \d+\.\d{3} s\n", printed)


@pytest.mark.parametrize("app", ["gibbs_app:app"])
def test_the_cancellable_route_answers_clients_that_stay(served: Served) -> None:
    printed = run("examples/load.py", "--url", f"{served.url}/cancellable", "--clients", "20")
    assert re.fullmatch(r"20 requests took \d+\.\d{3} s\n", printed)


def ask(url: str) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(url, timeout=WATCHDOG) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


@pytest.mark.parametrize(("app", "wait_time"), [("stamped_app:app", "60")])
def test_the_cancellable_route_says_why_when_its_worker_died(served: Served) -> None:
    with ThreadPoolExecutor(1) as client:
        answer = client.submit(ask, f"{served.url}/cancellable?x=1")
        killed: set[int] = set()
        # A request that its worker had not begun goes to another one, once: then that one is killed too.
        while not answer.done():
            statistics = ask(f"{served.url}/statistics")[1]
            if statistics["running"] == 1 and statistics["seats"]["serving"] == 4:
                for pid in {*statistics["pids"]} - killed:
                    os.kill(pid, signal.SIGKILL)
                    killed.add(pid)
        status, body = answer.result()
    assert status == 500
    assert "SIGKILL" in body["error"]
    assert body["worker"] in killed


@pytest.mark.parametrize("app", ["plain_app:app"])
def test_the_load_script_fails_where_an_answer_is_not_right(served: Served) -> None:
    with pytest.raises(AssertionError, match=r"(?s)ended with 1.*x=9: 404"):
        run("examples/load.py", "--url", f"{served.url}/nowhere")


def test_the_plain_script_squares_ten_numbers_without_a_main_guard() -> None:
    program = (EXAMPLES / "plain_anyio.py").read_text()
    assert '\nif __name__ == "__main__"' not in program

    squares, took = run("examples/plain_anyio.py").splitlines()
    assert json.loads(squares) == SQUARES
    assert re.fullmatch(r"10 calls took \d+\.\d\d s", took)


def test_the_trio_program_squares_ten_numbers_and_gives_the_eleventh_up() -> None:
    need("trio")
    squares, took, given_up = run("examples/trio_program.py").splitlines()
    assert squares == " ".join(map(str, SQUARES))
    assert re.fullmatch(r"10 calls took \d+\.\d\d s", took)
    assert re.fullmatch(r"the eleventh was given up after \d+\.\d\d s, and its worker is free again: 144", given_up)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_walk_through_keeps_every_promise(backend: str) -> None:
    need(backend)
    *told, last = run("examples/walkthrough.py", "--backend", backend, "--json").splitlines()
    record = json.loads(last)
    assert record.keys() == {"plain_s", "gibbs_s", "ideal_s", "failures", "backend"}
    assert record["failures"] == 0
    assert record["backend"] == backend
    assert record["ideal_s"] == 0.75
    assert record["ideal_s"] <= record["gibbs_s"]
    assert record["plain_s"] >= 2.5

    plain, scaled, *rest = told
    assert re.fullmatch(r"plain FastAPI {15}10 requests of 0\.25 s took \d+\.\d\d s", plain)
    assert re.fullmatch(
        r"FastAPI \+ gibbs, 4 workers  10 requests of 0\.25 s took \d+\.\d\d s   \(ideal 0\.75 s\)", scaled
    )
    for beginning in ["by the workers' own stamps", "SIGKILL of worker", "a client left", "SIGTERM"]:
        assert any(line.startswith(beginning) for line in rest), beginning


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(signal.SIGINT, marks=pytest.mark.skipif("GIBBS_LONG" not in os.environ, reason="as the other")),
        signal.SIGTERM,
    ],
)
def test_the_walk_through_leaves_nobody_behind_when_it_is_interrupted(how: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, EXAMPLES / "walkthrough.py"],
        env=os.environ | {"A_WALK_THROUGH": f"{os.getpid()}-{how}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as program:
        assert program.stdout is not None
        try:
            program.stdout.readline()  # the plain app has been told about: the next server is being started
            program.send_signal(how)
            program.stdout.read()
            assert program.wait(WATCHDOG) != 0
        finally:
            program.kill()
    assert not wearing(f"A_WALK_THROUGH={os.getpid()}-{how}")


def wearing(badge: str) -> list[int]:
    """The processes that have this in their environment, zombies left out, since they have none."""
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if badge.encode() in environ.read_bytes():
                found.append(int(environ.parent.name))
        except OSError:
            continue
    return found


def test_the_benchmark_of_the_first_burst_writes_its_record(tmp_path: Path) -> None:
    run("benchmarks/first_burst.py", "--starts", "1", "--backend", "asyncio", "--json", str(tmp_path / "record"))
    record = json.loads((tmp_path / "record").read_text())
    [loop] = record["loops"]
    assert loop["failures"] == 0
    assert loop["left"] == 0
    assert loop["at_once"] == 4
