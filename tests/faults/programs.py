"""Programs of a hub's user, each in a process of its own: how they are started, listened to, and looked after.

Knows processes, descriptors and terminals; must never know what a test is about. What a program says goes through a pipe of
its own, so it can be heard whatever has become of its descriptors 0 to 2. Promises that no wait is for ever, and that no
program outlives its test; that no process of it does is asked by the accusing fixtures of `tests/conftest.py`.

`tests/end_to_end/conftest.py` has the plain kind; here programs are started in odd ways and end in odder ones.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

WATCHDOG = 20.0

HEAD = """
import ctypes, errno, os, re, signal, socket, subprocess, sys, threading, time
import anyio, gibbs
from pathlib import Path

BACKEND, OPTIONS, SAY = {backend!r}, {options!r}, {say!r}
FOLDER = Path({folder!r})

def run(main, *args): return anyio.run(main, *args, backend=BACKEND, backend_options=OPTIONS)
def say(*what): os.write(SAY, (repr(what[0] if len(what) == 1 else what) + "\\n").encode())
def mark(*names):
    for name in names or (os.getpid(),): (FOLDER / str(name)).touch()
def marks(): return sorted(int(name) for name in os.listdir(FOLDER) if name.isdigit())
def links(pid):
    found = []
    for fd in os.listdir(f"/proc/{{pid}}/fd"):
        try: found.append(os.readlink(f"/proc/{{pid}}/fd/{{fd}}"))
        except OSError: pass  # that of the listing itself
    return found
async def marked(n):
    while len(found := marks()) < n: await anyio.sleep(0.002)
    return found
"""

# Takes descriptor 0 for its controlling terminal, as a login does, and becomes the program.
LOGIN = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"


def in_turn(rows: Iterable[Any]) -> list[Any]:
    """Rows of a test that run on one loop each, in turn, and with GIBBS_LONG on all (see `conftest.py`).

    Three loops whatever the Python: programs do not run on the fourth.
    """
    tuples = [row if isinstance(row, tuple) else (row,) for row in rows]
    return [pytest.param(*row, marks=pytest.mark.cell(number % 3)) for number, row in enumerate(tuples)]


def runs(pid: int) -> bool:
    """Whether the process is more than a zombie that somebody else has to reap."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_until(condition: Callable[[], Any]) -> Any:
    """The condition's value, once it is true."""
    deadline = time.monotonic() + WATCHDOG
    while not (value := condition()):
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.002)
    return value


def all_gone(pids: Iterable[int | None], within: float = 10.0) -> None:
    """Return when none of the processes runs; it is a watchdog, ten times what is promised."""
    left = {pid for pid in pids if pid is not None}
    assert left, "a test that asks after nobody proves nothing"
    deadline = time.monotonic() + within
    while left := {pid for pid in left if runs(pid)}:
        assert time.monotonic() < deadline, f"still running: {left}"
        time.sleep(0.002)


def lines_of(fd: int, *, what: str) -> Iterator[str]:
    """The lines that come from a descriptor; each has to come before the watchdog bites."""
    rest = b""
    while True:
        if not select.select([fd], [], [], WATCHDOG)[0]:
            pytest.fail(f"{what} has been silent for {WATCHDOG} s")
        data = os.read(fd, 1 << 16)
        if not data:
            return
        *lines, rest = (rest + data).split(b"\n")
        yield from (line.decode() for line in lines)


class Terminal:
    """A pseudo-terminal whose other end is a program's standard input, output and error."""

    def __init__(self) -> None:
        self.master, self.slave = os.openpty()
        self.shown = b""

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def hand_over(self) -> None:
        os.close(self.slave)
        self.slave = -1

    def show(self, timeout: float) -> bool:
        """Take what is on the screen; False when nobody has the terminal open any more."""
        if select.select([self.master], [], [], timeout)[0]:
            try:
                self.shown += os.read(self.master, 1 << 16)
            except OSError:
                return False
        return True

    def hang_up(self) -> None:
        for fd in (self.master, self.slave):
            if fd >= 0:
                os.close(fd)
        self.master = self.slave = -1


class Program:
    """A running program."""

    def __init__(self, command: list[str], heard: int, folder: Path, terminal: Terminal | None, **options: Any) -> None:
        self.folder = folder
        self.terminal = terminal
        self.heard = heard
        self.err = folder / "stderr"
        with open(self.err, "wb") as err:
            plain = {**os.environ, "PYTHON_COLORS": "0"}  # from Python 3.13 on a traceback on a terminal has colours
            self.process = subprocess.Popen(
                command, **{"stdin": subprocess.DEVNULL, "stdout": err, "stderr": err, "env": plain} | options
            )
        self.pid = self.process.pid
        self._lines = lines_of(heard, what="the program")

    def read(self) -> Any:
        """Wait for what it says next, a Python literal."""
        line = next(self._lines, None)
        if line is None:
            pytest.fail(f"the program ended with {self.end()}:\n{self.words}")
        return eval(line)

    def end(self) -> int:
        """Wait for its end. Returns its exit status, negative for a signal."""
        deadline = time.monotonic() + WATCHDOG
        if self.terminal is None:
            return self.process.wait(WATCHDOG)
        while self.process.poll() is None:  # one that writes on a terminal nobody reads would wait
            assert time.monotonic() < deadline, f"it does not end:\n{self.words}"
            self.terminal.show(0.01)
        while self.terminal.show(0.0) and select.select([self.terminal.master], [], [], 0.0)[0]:
            pass
        return self.process.returncode

    @property
    def words(self) -> str:
        """What it wrote on its descriptors 1 and 2."""
        if self.terminal is not None:
            return self.terminal.shown.decode(errors="replace").replace("\r\n", "\n")
        return self.err.read_text(errors="replace")

    def kill(self, signum: int = signal.SIGKILL) -> None:
        os.kill(self.pid, signum)

    def close(self) -> None:
        if self.process.poll() is None:
            print(f"the program was still running; its words:\n{self.words}")
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.process.wait(WATCHDOG)
        if self.terminal is not None:
            self.terminal.hang_up()
        os.close(self.heard)


@pytest.fixture
def start_program(tmp_path: Path, anyio_backend: tuple[str, dict[str, Any]]) -> Iterator[Callable[..., Program]]:
    """`start_program(source)`: the source runs as a script in which `run(main)` is this test's event loop."""
    backend, options = anyio_backend
    if "loop_factory" in options:
        pytest.skip("programs run on the three loops that have a name")
    programs: list[Program] = []

    def start(
        source: str,
        *,
        flags: Iterable[str] = (),
        wrapper: Iterable[str] = (),
        terminal: bool = False,
        keep: Iterable[int] = (),
        **options: Any,
    ) -> Program:
        folder = tmp_path / f"program {len(programs)}"
        folder.mkdir()
        heard, say = os.pipe()
        head = HEAD.format(backend=backend, options=anyio_backend[1], say=say, folder=str(folder))
        script = folder / "program.py"
        script.write_text(head + textwrap.dedent(source))
        command = [*wrapper, sys.executable, *flags, str(script)]
        screen = None
        if terminal:
            screen = Terminal()
            command = [sys.executable, "-S", "-E", "-c", LOGIN, *command]
            options |= dict.fromkeys(("stdin", "stdout", "stderr"), screen.slave) | {"start_new_session": True}
        try:
            programs.append(Program(command, heard, folder, screen, pass_fds=[say, *keep], **options))
        finally:
            os.close(say)
            if screen is not None:
                screen.hand_over()
        return programs[-1]

    yield start
    for program in programs:
        program.close()
