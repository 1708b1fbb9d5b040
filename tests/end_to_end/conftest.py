"""What tests with real processes need: to wait for what is true soon, and to run whole programs of their own.

A watchdog is ten times what is promised, or more: the machine may be busy, and speed is measured elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import gibbs
from gibbs.testing import InBand
from tests.end_to_end.callers import Call, Heard
from tests.end_to_end.inline import FILES, needs_a_process, set_stage

WATCHDOG = 20.0


@pytest.fixture
def until() -> Callable[[Callable[[], Any]], Awaitable[Any]]:
    """`await until(condition)`: returns its value once that is true. The loop goes on meanwhile."""

    async def until(condition: Callable[[], Any]) -> Any:
        with anyio.fail_after(WATCHDOG):
            while not (value := condition()):
                await anyio.sleep(0.002)
        return value

    return until


def runs(pid: int) -> bool:
    """Whether the process is more than a zombie that somebody else has to reap."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.fixture
def running() -> Callable[[Iterable[int]], list[int]]:
    """`running(pids)`: those that still run."""
    return lambda pids: [pid for pid in pids if runs(pid)]


@pytest.fixture
def wait_for() -> Callable[[Callable[[], Any]], Any]:
    """`wait_for(condition)`: `until` for tests without a loop."""

    def wait_for(condition: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + WATCHDOG
        while not (value := condition()):
            assert time.monotonic() < deadline, "in vain"
            time.sleep(0.002)
        return value

    return wait_for


@pytest.fixture
def all_gone(running: Callable[[Iterable[int]], list[int]], wait_for: Callable[..., Any]) -> Callable[..., None]:
    """`all_gone(pids)`: returns when none of them runs any more."""
    return lambda pids: wait_for(lambda: not running(pids))


class Program:
    """A program in a process of its own, that says on its standard output what it has come to."""

    def __init__(self, script: Path, command: list[str], **options: Any) -> None:
        self.script = script
        self.process = subprocess.Popen(command, **options)
        self.pid = self.process.pid

    def read(self) -> Any:
        """Wait for its next line, a Python literal."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            assert self.process.stderr is not None
            pytest.fail(f"the program ended: {self.process.wait(WATCHDOG)}\n{self.process.stderr.read().decode()}")
        return eval(line)

    def end(self) -> tuple[str, str]:
        """Wait for its end; what it had not yet said on descriptors 1 and 2."""
        out, err = self.process.communicate(timeout=WATCHDOG)
        return out.decode(), err.decode()

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self.process.returncode is None:
                os.kill(self.pid, signal.SIGKILL)
        self.process.communicate(timeout=WATCHDOG)


@pytest.fixture
def start_program(tmp_path: Path, anyio_backend: tuple[str, dict[str, Any]]) -> Iterator[Callable[..., Program]]:
    """`start_program(source)`: the source runs as a script of its own, in which `run(main)` is this test's event loop."""
    backend, options = anyio_backend
    if "loop_factory" in options:
        pytest.skip("programs run on the three loops that have a name")
    programs: list[Program] = []
    lines = [
        "import ctypes, errno, os, re, signal, socket, subprocess, sys, threading, time",
        "import anyio, gibbs",
        "from pathlib import Path",
        "def run(main): return anyio.run(main, backend=BACKEND, backend_options=OPTIONS)",
        "def say(*what): print(repr(what[0] if len(what) == 1 else what), flush=True)",
    ]
    head = "\n".join(lines).replace("BACKEND", repr(backend)).replace("OPTIONS", repr(options))

    def start(source: str, *, wrapper: Iterable[str] = (), **options: Any) -> Program:
        script = tmp_path / f"program{len(programs)}.py"
        script.write_text(f"{head}\n{textwrap.dedent(source)}")
        program = Program(
            script,
            [*wrapper, sys.executable, str(script)],
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL} | options,
        )
        programs.append(program)
        return program

    yield start
    for program in programs:
        program.close()


@pytest.fixture
def heard() -> Heard:
    """What the workers of `launcher` write."""
    return Heard()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What states the contract runs over threads too, but for what is listed with a reason."""
    either = "either_launcher" in metafunc.fixturenames
    kinds = ["direct", "in band"] if either else ["processes"]
    if metafunc.definition.path.name in FILES:
        kinds.append("inline")
    if either:
        metafunc.parametrize("either_launcher", kinds, indirect=True)
    elif "launcher" in metafunc.fixturenames and len(kinds) > 1:
        metafunc.parametrize("launcher", kinds, indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left = [item for item in items if item.path.name in FILES and needs_a_process(item)]
    items[:] = [item for item in items if item not in left]
    config.hook.pytest_deselected(items=left)


@pytest.fixture
def launcher(request: pytest.FixtureRequest, heard: Heard, monkeypatch: pytest.MonkeyPatch) -> Any:
    if getattr(request, "param", "processes") == "inline":
        return set_stage(heard, monkeypatch, request.module)
    return gibbs.LocalLauncher(output=heard)


@pytest.fixture
def either_launcher(
    request: pytest.FixtureRequest, heard: Heard, launcher: Any, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """`launcher`, with its side channel and without: what holds for one must hold for the other."""
    if request.param == "inline":
        return set_stage(heard, monkeypatch, request.module)
    return launcher if request.param == "direct" else InBand(launcher)


@pytest.fixture
async def start() -> AsyncIterator[Callable[..., Call]]:
    """`call = start(hub, x)` makes a request in a task of its own."""
    async with anyio.create_task_group() as tg:

        def start(calls: Any, *args: Any) -> Call:
            call = Call(calls, *args)
            tg.start_soon(call.run)
            return call

        yield start
        tg.cancel_scope.cancel()
