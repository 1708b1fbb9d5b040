"""Web servers as subprocesses on loopback, and whether anything is left of them afterwards.

A support of the walk-through and the benchmark. Linux is read from /proc, the rest of Unix
from ps.

Serve an app until Enter is pressed; it prints the address and the process ids:

    python examples/servers.py plain_app:app trio
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Self, TypeVar

from load import it_answers

EXAMPLES = Path(__file__).resolve().parent
COMMANDS = {
    "asyncio": ["uvicorn", "--loop", "asyncio", "--host", "127.0.0.1", "--port", "0"],
    "uvloop": ["uvicorn", "--loop", "uvloop", "--host", "127.0.0.1", "--port", "0"],
    "trio": ["hypercorn", "-k", "trio", "-b", "127.0.0.1:0"],
}
T = TypeVar("T")


class Server:
    """A real server on a free port. In the body of the `with` it answers."""

    url: str
    stamps: Path  # where the stamped model signs

    def __init__(self, app: str, backend: str = "asyncio", **environment: str) -> None:
        self._command = [sys.executable, "-m", *COMMANDS[backend], app]
        self._badge = f"SERVER_BADGE={uuid.uuid4()}"  # its whole family wears it
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._family: set[Process] = set()

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory()
        self._log = Path(self._folder.name, "log")
        self.stamps = Path(self._folder.name, "stamps")
        atexit.register(self._kill)  # a Ctrl-C may come between any two lines of this class
        try:
            self._start()
            self.url = until(self._address, "the server names its address")
            until(self._answers, "the server answers")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
        self._folder.cleanup()
        atexit.unregister(self._kill)

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def _start(self) -> None:
        badge, value = self._badge.split("=")
        environment = {"STAMPS": str(self.stamps), badge: value, **self._environment}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=EXAMPLES,
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is the walk-through's business
            )

    def _address(self) -> str | None:
        self._check_that_it_runs()
        found = re.search(r"running on (http://[\d.]+:\d+)", self.log, re.IGNORECASE)
        return found and found[1]

    def _answers(self) -> bool:
        self._check_that_it_runs()
        return it_answers(self.url)

    def _check_that_it_runs(self) -> None:
        if self._process and self._process.poll() is not None:
            raise RuntimeError(f"the server has ended: {self._process.returncode}\n{self.log}")

    def family(self) -> set[Process]:
        """The server, what it has started, and so on: the workers too."""
        alive = processes()
        own = self._process.pid if self._process else None
        family = {one for one in alive if one.pid == own or self._badge in environment_of(one)}
        while more := children_of(family, alive) - family:
            family |= more
        return family

    def left(self) -> set[Process]:
        """Who of the family is still there. A zombie is gone: its parent has to bury it."""
        return (self._family & processes().keys()) | self.family()

    def stop(self, timeout: float = 20) -> set[Process]:
        """End it by SIGTERM, and return who did not end: nobody, one hopes."""
        try:
            self._family |= self.family()
            if self._process:
                self._process.terminate()
                self._process.wait(timeout)
            until(lambda: not self.left(), "nobody is left", timeout)
        except (subprocess.TimeoutExpired, TimeoutError):
            return self.left()
        finally:
            self._kill()
        return set()

    def _kill(self) -> None:
        until(lambda: not self._killed(), "SIGKILL has ended everybody")
        if self._process:
            self._process.wait()

    def _killed(self) -> set[Process]:
        left = self.left()
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        return left


class Process(NamedTuple):
    pid: int
    started: str  # a process id may be given again; with its start it is one process


def processes() -> dict[Process, int]:
    """Who lives on this machine, zombies left out, each with its parent's process id."""
    rows = _from_proc() or _from_ps()
    return {
        Process(int(pid), started): int(parent) for pid, parent, state, started in rows if not state.startswith("Z")
    }


def children_of(parents: set[Process], alive: dict[Process, int]) -> set[Process]:
    pids = {parent.pid for parent in parents}
    return {one for one, parent in alive.items() if parent in pids}


def environment_of(process: Process) -> str:
    try:
        return Path(f"/proc/{process.pid}/environ").read_text(errors="replace")
    except OSError:
        return ""  # it has ended, or is none of ours, or this is no Linux


def _from_proc() -> list[tuple[str, str, str, str]]:
    rows = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        rows.append((stat.parent.name, fields[1], fields[0], fields[19]))
    return rows


def _from_ps() -> list[tuple[str, str, str, str]]:
    command = ["ps", "-axo", "pid=,ppid=,stat=,lstart="]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 3) for line in lines.splitlines()]
    return [(pid, parent, state, started) for pid, parent, state, started in rows]


def until(condition: Callable[[], T | None], what: str, timeout: float = 30) -> T:
    """Wait for a condition, and return what made it true."""
    give_up = time.monotonic() + timeout
    while not (found := condition()):
        if time.monotonic() > give_up:
            raise TimeoutError(f"waited {timeout:g} s in vain until {what}")
        time.sleep(0.002)
    return found


if __name__ == "__main__":
    with Server(*sys.argv[1:]) as server:
        print(server.url, *sorted(process.pid for process in server.family()), flush=True)
        sys.stdin.readline()
        print("left:", server.stop() or "nobody")
