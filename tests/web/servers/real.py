"""Real web servers, each started as its users start it, on a free port of loopback; and its whole family of processes.

Knows servers and /proc. Must not know what is tested. Promises that nobody of the family outlives the `with` block.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, Self, TypeVar

import pytest

T = TypeVar("T")

APP = Path(__file__).with_name("app.py")
WATCHDOG = 40.0


@dataclass(frozen=True)
class Kind:
    """One way of serving an app."""

    arguments: str
    needs: tuple[str, ...]
    lifespans: int = 1  # how many processes have the app, and a hub
    says_it_is_up: str = ""  # in its log, for each of them
    says_it_ends: str = ""  # in its log, when it was told to
    all_may_be_told: bool = True  # to end, as systemd does; its children die of it otherwise
    stops_with_its_hub: bool = False  # when the lifespan ends with an error


UVICORN = partial(Kind, needs=("uvicorn",), says_it_is_up="Application startup complete", says_it_ends="Shutting down")
HYPERCORN = partial(Kind, needs=("hypercorn",), all_may_be_told=False)  # it does not say that it ends
KINDS = {
    "uvicorn": UVICORN("uvicorn --loop asyncio --port 0 app:app"),
    "uvicorn-uvloop": UVICORN("uvicorn --loop uvloop --port 0 app:app", needs=("uvicorn", "uvloop")),
    "uvicorn-reload": UVICORN("uvicorn --reload --port 0 app:app"),
    "uvicorn-workers": UVICORN("uvicorn --workers 2 --port 0 app:app", lifespans=2),
    "hypercorn": HYPERCORN("hypercorn --graceful-timeout 40 -b 127.0.0.1:0 app:app"),
    "hypercorn-trio": HYPERCORN(
        "hypercorn --graceful-timeout 40 -k trio -b 127.0.0.1:0 app:app",
        needs=("hypercorn", "trio"),
        stops_with_its_hub=True,
    ),
    "granian": Kind(  # port 0 is not for it
        "granian --interface asgi --port {port} app:app", needs=("granian",), says_it_ends="Stopping worker"
    ),
}

each_server = pytest.mark.parametrize(
    "kind",
    [
        pytest.param(
            kind,
            marks=[pytest.mark.skip(reason=f"{module} is not installed") for module in about.needs if not importlib.util.find_spec(module)],
        )
        for kind, about in KINDS.items()
    ],
)  # fmt: skip


class Server:
    """In the body of the `with` it answers, and all its hubs are open."""

    def __init__(self, kind: str, folder: Path, **environment: str) -> None:
        self.kind = KINDS[kind]
        self.folder = folder
        self._badge = f"SERVER_BADGE={uuid.uuid4()}"
        self._environment = environment
        self._reserved = contextlib.ExitStack()

    def __enter__(self) -> Self:
        shutil.copy(APP, self.folder / "app.py")
        self._log = self.folder / "log"
        self.port = 0
        if "{port}" in self.kind.arguments:
            self.port = self._reserved.enter_context(reserved_port())
        module, *arguments = self.kind.arguments.format(port=self.port).split()
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                cwd=self.folder,
                env=os.environ | dict([self._badge.split("=")]) | self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a group that can be sent what Ctrl-C sends
            )
        try:
            self.port = self.port or int(until(self._says_where, "it says where", self)[1])
            until(self._is_up, "it answers, and all hubs are open", self)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        while left := self.family():
            self.send(signal.SIGKILL, *left)
            self.process.poll()
            time.sleep(0.002)
        self.process.wait()
        self._reserved.close()

    @property
    def log(self) -> str:
        """Without the lines of requests that went well."""
        lines = self._log.read_text(errors="replace").splitlines(keepends=True)
        return "".join(line for line in lines if "200 OK" not in line)

    def marks(self, pattern: str) -> list[str]:
        return [name for name in os.listdir(self.folder) if re.fullmatch(pattern, name)]

    def lets_go(self) -> None:
        """Every model that holds goes on."""
        (self.folder / "go").touch()

    def family(self) -> set[int]:
        """All that live of what was started here; a zombie lives no more."""
        return {int(name) for name in os.listdir("/proc") if name.isdigit() and self._is_ours(name)}

    def workers(self) -> set[int]:
        """The workers of its hubs."""
        return {pid for pid in self.family() if is_a_worker(pid)}

    def _is_ours(self, pid: str) -> bool:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                return False
            return self._badge.encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return False

    def _says_where(self) -> re.Match[str] | None:
        self._check_that_it_runs()
        return re.search(r"http://127\.0\.0\.1:(\d+)", self.log)

    def _is_up(self) -> bool:
        self._check_that_it_runs()
        with contextlib.suppress(OSError, HTTPException):
            all_opened = self.log.count(self.kind.says_it_is_up) >= self.kind.lifespans
            return all_opened and self.ask("/readyz")[0] == 200
        return False

    def _check_that_it_runs(self) -> None:
        assert self.process.poll() is None, f"the server has ended: {self.process.returncode}\n{self.log}"

    # ---- signals

    def send(self, number: int, *pids: int) -> None:
        """To each of these that is still there."""
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def says_that_it_ends(self) -> bool:
        """By its log; and a server that does not say so, by answering nobody who comes now."""
        if self.kind.says_it_ends:
            return self.kind.says_it_ends in self.log
        with contextlib.closing(self.connect(timeout=0.5)) as connection:
            try:
                connection.request("GET", "/healthz")
                connection.getresponse()
            except OSError:
                return True
        return False

    # ---- clients

    def connect(self, timeout: float = WATCHDOG) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def ask(self, path: str, method: str = "GET", body: bytes | None = None) -> tuple[int, Any]:
        """The status and what the JSON says, over a connection of its own."""
        with contextlib.closing(self.connect()) as connection:
            connection.request(method, path, body)
            return read(connection.getresponse())


def read(response: HTTPResponse) -> tuple[int, Any]:
    text = response.read().decode()
    try:
        return response.status, json.loads(text)
    except ValueError:
        return response.status, text


def is_a_worker(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return b"gibbs.worker.main()" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


@contextlib.contextmanager
def reserved_port() -> Iterator[int]:
    """A port of loopback that the kernel gives to nobody who asks for any: only to servers that ask for this one."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do, and so they may share it
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


def until(condition: Callable[[], T | None], what: str, server: Server, timeout: float = WATCHDOG) -> T:
    """Wait for a condition, and return what made it true."""
    give_up = time.monotonic() + timeout
    while not (found := condition()):
        if time.monotonic() > give_up:
            pytest.fail(f"waited in vain until {what}\n{server.log}")
        time.sleep(0.01)
    return found
