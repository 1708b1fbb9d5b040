"""A fixture for pytest: `no_orphans`, which accuses a test that leaves a process behind.

Say `pytest_plugins = ["gibbs.testing.fixtures"]` in the top `conftest.py`, and name it where it is wanted; for every test, in pytest's
configuration: `usefixtures = ["no_orphans"]`. Knows /proc, and pytest, which it alone needs. It looks and kills nobody: whose process it
is must end it.
"""

from __future__ import annotations

import os
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["no_orphans"]

_MARK = "GIBBS_TEST"  # an environment variable: children inherit it, and theirs, whoever adopts them
_KERNEL = "2"  # the parent of its threads
_PATIENCE = 2.0  # seconds for a process that was told to end


@pytest.fixture
def no_orphans() -> Iterator[None]:
    """The test fails if a process is left that was not there before: a child of this process, or what one of those has started.

    A child that has ended and that nobody has waited for is one too. What ends within two seconds is not. Hubs leave none, so what it
    finds is usually a hub that was never closed, or a subprocess of a model. The failure names each process and its command line.
    It is set up before, and looks after, the async fixtures of the test. A hub that lives longer than the test may replace a worker in
    it, and would be accused of that: give such tests no `no_orphans`.

    Linux; elsewhere the test is skipped, since nobody could look.

    Example:
        ```python
        import pytest

        pytestmark = pytest.mark.usefixtures("no_orphans")
        ```
    """
    if not sys.platform.startswith("linux"):
        pytest.skip("no_orphans looks into /proc, which only Linux has")
    before, mark = _processes(), uuid.uuid4().hex
    outer = os.environ.get(_MARK)
    os.environ[_MARK] = mark
    try:
        yield
    finally:
        if outer is None:
            del os.environ[_MARK]
        else:
            os.environ[_MARK] = outer
    until = time.monotonic() + _PATIENCE
    while (left := _left(before, mark)) and time.monotonic() < until:
        time.sleep(0.01)
    if left:
        pytest.fail("\n".join(["the test left processes behind:", *left]), pytrace=False)


def _processes() -> set[int]:
    return {int(name) for name in os.listdir("/proc") if name.isdigit()}


def _left(before: set[int], mark: str) -> list[str]:
    """In words: those that came since, and are ours."""
    found = []
    for pid in sorted(_processes() - before):
        with suppress(OSError):  # it is gone, or not ours to look into
            state, parent = _stat(pid)
            if int(parent) == os.getpid():
                found.append(f"{pid}, {'ended and not waited for' if state in 'ZX' else 'running'}: {_command(pid)}")
            elif state not in "ZX" and parent != _KERNEL and _bears(pid, mark):
                found.append(f"{pid}, running, child of {parent}: {_command(pid)}")
    return found


def _stat(pid: int) -> list[str]:
    """Its state, and its parent."""
    return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[:2]


def _bears(pid: int, mark: str) -> bool:
    environ = b""
    until = time.monotonic() + _PATIENCE / 2
    while not environ and time.monotonic() < until:
        environ = Path(f"/proc/{pid}/environ").read_bytes()
        if not environ:
            time.sleep(0.01)  # it has none, or is just becoming another program: then it has none yet
    return f"{_MARK}={mark}".encode() in environ.split(b"\0")


def _command(pid: int) -> str:
    """Its command line; of one that has ended its name."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return words or Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
