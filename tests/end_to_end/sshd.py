"""An sshd of this test's own: an unprivileged port of the loopback, keys that nobody else has. For tests that ask for `ssh`."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

import gibbs

_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
SSHD = shutil.which("sshd", path=_PATH)
needs_sshd = pytest.mark.skipif(not (SSHD and shutil.which("ssh")), reason="there is no sshd here, or no ssh")
WATCHDOG = 20.0


@dataclass(frozen=True)
class Sshd:
    """A running server: how to reach it, and its processes."""

    directory: Path
    port: int
    pid: int

    @property
    def options(self) -> tuple[str, ...]:
        """What a client must be told to reach it, and that nothing of this user's own configuration counts."""
        key, hosts = self.directory / "key", self.directory / "known_hosts"
        return (
            *("-F", "none", "-p", str(self.port), "-i", str(key)),
            *("-o", f"UserKnownHostsFile={hosts}", "-o", "GlobalKnownHostsFile=none", "-o", "IdentitiesOnly=yes"),
        )

    def launcher(self, *hosts: str, **options: Any) -> gibbs.SSHLauncher:
        """One that reaches it, with the code that is tested here, and with the mark by which an orphan is known."""
        env = {name: os.environ[name] for name in ("GIBBS_TEST_RUN", "PYTHONPATH") if name in os.environ}
        return gibbs.SSHLauncher(
            hosts or ("127.0.0.1",),
            **{"python": sys.executable, "env": env, "options": self.options, **options},
        )

    def between(self, worker: int) -> list[psutil.Process]:
        """Those by way of which this worker talks to its hub."""
        parents = psutil.Process(worker).parents()
        return [one for one in parents if one.name().startswith("sshd") and one.pid != self.pid]


@contextmanager
def running_sshd(directory: Path) -> Iterator[Sshd]:
    """Start one, and end it with all that it serves."""
    assert SSHD is not None
    directory.mkdir(exist_ok=True)
    for name in ("host_key", "key"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / name], check=True, timeout=WATCHDOG
        )
    (directory / "authorized_keys").write_text((directory / "key.pub").read_text())
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where a server that was started by root locks its children in
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    public = (directory / "host_key.pub").read_text()
    (directory / "known_hosts").write_text("".join(f"[{host}]:{port} {public}" for host in ("127.0.0.1", "127.0.0.2")))
    (directory / "config").write_text(
        "\n".join(
            [
                f"Port {port}",
                "ListenAddress 127.0.0.1",
                "ListenAddress 127.0.0.2",
                f"HostKey {directory / 'host_key'}",
                f"AuthorizedKeysFile {directory / 'authorized_keys'}",
                f"AllowUsers {getpass.getuser()}",
                "PidFile none",
                "StrictModes no",
                "UsePAM no",
                "PasswordAuthentication no",
                "KbdInteractiveAuthentication no",
                "PermitRootLogin prohibit-password",
            ]
        )
        + "\n"
    )
    with (directory / "log").open("w") as log:
        server = subprocess.Popen([SSHD, "-D", "-e", "-f", directory / "config"], stderr=log, stdin=subprocess.DEVNULL)
    try:
        until = time.monotonic() + WATCHDOG
        while not _answers(port):
            assert server.poll() is None, (directory / "log").read_text()
            assert time.monotonic() < until, "sshd does not answer"
            time.sleep(0.01)
        yield Sshd(directory, port, server.pid)
    finally:
        for session in psutil.Process(server.pid).children():
            with suppress(psutil.NoSuchProcess):  # its client has left
                session.kill()
        server.kill()
        server.wait(WATCHDOG)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
