"""`no_orphans` accuses the test that leaves a process, with its number and its command line, and touches nobody."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc"),
    pytest.mark.slow,
]

HEAD = """
    import os, subprocess, sys
    import pytest

    pytest_plugins = ["gibbs.testing.fixtures"]
    SLEEP = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
"""


@pytest.fixture
def accused(pytester, monkeypatch):
    """Runs tests in a pytest of their own; what it printed. What they leave is ended."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__import__("gibbs").__file__).parents[1]))
    said = []

    def run(tests, *options, **counts):
        pytester.makepyfile(HEAD + tests)
        result = pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider", *options)
        result.assert_outcomes(**counts)
        said.append(result.stdout.str())
        return said[-1]

    yield run
    for pid in {int(pid) for text in said for pid in re.findall(r"^E? *(\d+), (?:running|ended)", text, re.MULTILINE)}:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_a_child_that_is_left_is_named_by_its_number_and_its_command(accused):
    said = accused(
        """
    def test_leaves_one(no_orphans):
        subprocess.Popen(SLEEP)
    """,
        passed=1,
        errors=1,
    )
    assert "the test left processes behind:" in said
    assert re.search(r"\d+, running: \S*python\S* -S -c import time; time.sleep\(600\)", said)


def test_one_that_has_ended_and_was_not_waited_for_is_named_too(accused):
    said = accused(
        """
    def test_leaves_a_zombie(no_orphans):
        if not os.fork():
            os._exit(0)
    """,
        passed=1,
        errors=1,
    )
    assert "ended and not waited for" in said


def test_what_a_child_has_started_is_found_when_that_is_gone(accused):
    said = accused(
        """
    def test_leaves_an_orphan(no_orphans):
        source = "import subprocess, sys; subprocess.Popen([sys.executable, *sys.argv[1:]], stdout=subprocess.DEVNULL)"
        subprocess.run([sys.executable, "-c", source, *SLEEP[1:]], check=True)
    """,
        passed=1,
        errors=1,
    )
    assert re.search(r"\d+, running, child of \d+: .*sleep\(600\)", said)


def test_who_leaves_nothing_is_not_accused(accused):
    accused(
        """
    @pytest.fixture(autouse=True)
    def all_of_them(no_orphans):
        pass

    def test_ends_what_it_starts():
        child = subprocess.Popen(SLEEP)
        child.kill()
        child.wait()

    def test_opens_a_hub():
        import anyio, gibbs

        async def main():
            async with gibbs.open_hub(gibbs.function(abs), workers=2) as hub:
                assert await hub.request(-1) == 1

        anyio.run(main)

    def test_starts_nothing():
        assert "GIBBS_TEST" in os.environ
    """,
        passed=3,
    )


def test_what_was_there_before_is_nobodys_fault_and_lives_on(accused):
    accused(
        """
    @pytest.fixture(scope="module")
    def child():
        with subprocess.Popen(SLEEP) as child:
            yield child
            child.kill()

    def test_uses_it(child, no_orphans):
        pass

    def test_it_lives(child):
        assert child.poll() is None
        assert "GIBBS_TEST" not in os.environ
    """,
        passed=2,
    )


def test_where_nobody_could_look_the_test_is_skipped_in_words(accused):
    said = accused(
        """
    @pytest.fixture
    def elsewhere(monkeypatch):
        monkeypatch.setattr(sys, "platform", "darwin")

    def test_runs(elsewhere, no_orphans):
        raise AssertionError
    """,
        "-rs",
        skipped=1,
    )
    assert "no_orphans looks into /proc, which only Linux has" in said


def test_one_that_ends_in_a_moment_is_waited_for(accused):
    accused(
        """
    import gibbs.testing.fixtures
    gibbs.testing.fixtures._PATIENCE = 20.0  # a moment may be long

    def test_lets_it_end(no_orphans):
        source = "import subprocess, sys; subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(0.3)'])"
        subprocess.run([sys.executable, "-c", source], check=True)
    """,
        passed=1,
    )


def test_it_is_no_name_of_the_package_which_needs_no_pytest():
    program = (
        "import sys, gibbs.testing; gibbs.testing.open_inline_hub; print({'pytest', 'hypothesis'} & {*sys.modules})"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__import__("gibbs").__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
