"""Break gibbs on purpose, one promise at a time, and see that the tests notice: `python -m tests.sabotage`.

Each sabotage is applied to a copy of the checkout in a temporary directory, never to the checkout itself; the copy must still open, answer
and close; then each of the sabotage's tests must fail there, by an assertion, an accusing fixture or a timeout and not because it could
not be run. Before, the same tests must pass in a copy that nobody touched. Loops by rotation. Promises that no process and no
file is left. Linux.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.sabotage.arenas import OF_ARENAS
from tests.sabotage.more import MORE
from tests.sabotage.parts import Sabotage
from tests.sabotage.sabotages import TWENTY

ROOT = Path(__file__).parents[2]
LOOPS = ("asyncio", "uvloop", "trio")
COPIED = ("gibbs", "tests", "pyproject.toml")
MARK = f"GIBBS_SABOTAGE={uuid.uuid4().hex}"  # as in tests/conftest.py: whoever bears it is ours, whoever adopted it
COULD_NOT_RUN = re.compile(r"SyntaxError|IndentationError|ImportError|ModuleNotFoundError|NameError|fixture '")
CRASHES = (signal.SIGABRT, signal.SIGBUS, signal.SIGSEGV)  # libuv, for one, aborts a program
say = functools.partial(print, flush=True)
PATIENCE = 60  # seconds more than the test's own timeout, which should have been enough


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    status: int | None  # None if it hung
    output: str


@contextlib.contextmanager
def copy_of_the_checkout(sabotage: Sabotage | None = None) -> Iterator[Path]:
    """A copy of its own each time: compiled modules of another one would not be seen to be old."""
    with tempfile.TemporaryDirectory(prefix="gibbs-sabotage-") as name:
        home = Path(name).resolve()
        for part in COPIED:
            if (ROOT / part).is_dir():
                shutil.copytree(ROOT / part, home / part, ignore=shutil.ignore_patterns("__pycache__", ".hypothesis"))
            else:
                shutil.copy(ROOT / part, home)
        for edit in sabotage.edits if sabotage else ():
            file = home / edit.file
            text = file.read_text()
            if text.count(edit.old) != 1:
                raise LookupError(f"out of date: {edit.file} does not have this once: {edit.old!r}")
            file.write_text(text.replace(edit.old, edit.new))
        yield home


def run(home: Path, *arguments: str, patience: float) -> Ran:
    """Run Python with this copy's modules first on the path, and end all that it leaves."""
    environment = {name: it for name, it in os.environ.items() if not name.startswith(("PYTEST", "COV", "GIBBS_"))}
    environment |= {"PYTHONPATH": str(home), "HYPOTHESIS_PROFILE": "ci", "COLUMNS": "500", **dict([MARK.split("=")])}
    with tempfile.TemporaryFile() as said:  # no pipe, which an orphan could hold open
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=home,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status: int | None = process.wait(patience)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            end_all_of_ours()
        said.seek(0)
        return Ran(status, said.read().decode(errors="replace"))


def end_all_of_ours() -> None:
    """SIGKILL to every process that bears the mark, until there is none."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        ours = 0
        for name in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if (
                    MARK.encode() in Path(f"/proc/{name}/environ").read_bytes().split(b"\0")
                    and int(name) != os.getpid()
                ):
                    os.kill(int(name), signal.SIGKILL)
                    ours += 1
        if not ours:
            return
        time.sleep(0.01)
    print(f"processes that cannot be ended are left; they bear {MARK}", file=sys.stderr)


def pytest(home: Path, loop: str, tests: list[str], *, timeout: int, patience: float) -> Ran:
    others = " and ".join(f"not {other}" for other in (*LOOPS, "eager") if other != loop)
    options = ("-q", "-x", "-rfE", "--tb=short", "-p", "no:cacheprovider", f"--timeout={timeout}", "-k", others)
    return run(home, "-m", "pytest", *options, *tests, patience=patience)


def verdict(ran: Ran) -> tuple[bool, str]:
    """Whether the test noticed, and by what."""
    if ran.status is None or "+++ Timeout +++" in ran.output:
        return True, "a timeout"
    if ran.status == 0:
        return False, "it passed"
    if -ran.status in CRASHES:
        return True, f"the crash of the test's own process by {signal.Signals(-ran.status).name}"
    said = re.findall(r"^(?:FAILED|ERROR) (tests/.*)$", ran.output, re.MULTILINE)
    why = said[0].partition(" - ")[2] or said[0] if said else ran.output[-300:]
    if ran.status != 1 or not said or "ERROR collecting" in ran.output or COULD_NOT_RUN.search(why):
        return False, f"it could not be run ({ran.status}): {why}"
    return True, why


def findings_of(sabotage: Sabotage, loop: str) -> Iterator[tuple[str, bool, str]]:
    """Apply it and run its tests: each test, whether it noticed, and by what."""
    try:
        with copy_of_the_checkout(sabotage) as home:
            alive = run(home, "-m", "tests.sabotage.still_serves", str(home), loop, patience=PATIENCE)
            if alive.status != 0:
                yield "anything", False, f"nothing works any more, which proves nothing: {alive.output[-300:]}"
                return
            for test in sabotage.tests:
                ran = pytest(home, loop, [test], timeout=sabotage.timeout, patience=sabotage.timeout + PATIENCE)
                yield test, *verdict(ran)
    except LookupError as stale:
        yield "anything", False, str(stale)


def commit(sabotage: Sabotage, loop: str, *, talkative: bool) -> bool:
    """Say what came of it, in one line or more."""
    began = time.monotonic()
    findings = [*findings_of(sabotage, loop)]
    noticed = all(found for _, found, _ in findings)
    say(f"{'noticed' if noticed else 'NOT NOTICED':12} {sabotage.name} [{loop}, {time.monotonic() - began:.1f} s]")
    for test, found, why in findings:
        if talkative or not found:
            say(f"    {'' if found else 'NOT '}by {test}: {why.strip()[:300]}")
    return noticed


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sabotage", description=__doc__)
    parser.add_argument("names", nargs="*", help="those with one of these in their names; if none, all the twenty")
    parser.add_argument("--more", action="store_true", help="the second list instead of the twenty")
    parser.add_argument("--loop", choices=LOOPS, help="this one for all, instead of one after the other")
    parser.add_argument("--verbose", "-v", action="store_true", help="say which test noticed, and by what")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # and clean up, as after Ctrl-C
    listed = (*MORE, *OF_ARENAS) if asked.more else TWENTY
    if asked.names and not asked.more:
        listed = (*TWENTY, *MORE, *OF_ARENAS)
    plan = [
        (sabotage, asked.loop or LOOPS[number % len(LOOPS)])
        for number, sabotage in enumerate(listed)
        if not asked.names or any(name in sabotage.name for name in asked.names)
    ]
    if not plan:
        parser.error(f"no sabotage is called so; there are: {', '.join(one.name for one in listed)}")
    with copy_of_the_checkout() as home:
        for loop in sorted({loop for _, loop in plan}):
            tests = sorted({test for one, its in plan if its == loop for test in one.tests})
            alive = run(home, "-m", "tests.sabotage.still_serves", str(home), loop, patience=PATIENCE)
            ran = pytest(home, loop, tests, timeout=60, patience=600)
            if alive.status != 0 or ran.status != 0:
                say(f"without any sabotage, on {loop}, they must pass:\n{alive.output}{ran.output}")
                return 1
            say(f"{'passed':12} {len(tests)} of them on {loop} without any sabotage: {ran.output.splitlines()[-1]}")
    noticed = sum([commit(sabotage, loop, talkative=asked.verbose) for sabotage, loop in plan])
    say(f"{noticed} of {len(plan)} noticed")
    return noticed != len(plan)


if __name__ == "__main__":
    sys.exit(main())
