"""A launcher for tests: a subprocess of this program that dials back, as what the engine of a cluster has started does."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from gibbs import Origin
from gibbs._launch import child
from gibbs._launch.reception import open_reception
from gibbs._parent.own import own
from gibbs.abc import LaunchFailed, Traits

ROOT = Path(__file__).parents[2]
CERTIFICATE = "GIBBS_TEST_CERTIFICATE"
SCRIPT = """
import sys
from gibbs.worker import connect
from tests.end_to_end.dialling import context
invitation, pair = sys.stdin.read().splitlines()
connect(invitation, context=context if pair == "pair" else None)
"""


def context() -> ssl.SSLContext:
    """A worker's, as a user would make it."""
    made = ssl.create_default_context(cafile=os.environ[CERTIFICATE])
    made.check_hostname = False
    return made


@dataclass(frozen=True)
class DialLauncher:
    """Starts them one by one, on this machine."""

    encrypt: Any = True
    keepalive: float = 5.0

    traits = Traits(same_host=False, kill_is_certain=True, listens=True)

    @asynccontextmanager
    async def session(self):
        async with (
            anyio.create_task_group() as tg,
            open_reception("127.0.0.1", (0,), encrypt=self.encrypt, keepalive=self.keepalive) as reception,
        ):
            session = Session(self, reception, tg)
            try:
                yield session
            finally:
                with anyio.CancelScope(shield=True):
                    for process in session.started:
                        process.kill()
                        await process.ended()
                        await process.aclose()
                tg.cancel_scope.cancel()


class Session:
    def __init__(self, launcher, reception, tg):
        self.launcher = launcher
        self.reception = reception
        self.started = []
        self._tg = tg

    async def launch(self, _spec):
        await anyio.lowlevel.checkpoint_if_cancelled()
        process = Dialled(self.launcher, self.reception.expect())
        self.started.append(process)
        self._tg.start_soon(own(process.watch))
        try:
            process.arrival = await process.guest.arrived()
        except BaseException:
            process.kill()
            with anyio.CancelScope(shield=True):
                await process.ended()
                await process.aclose()
            raise
        return process


class Dialled:
    """A subprocess that dials."""

    side = None
    device = None

    def __init__(self, launcher, guest):
        self.guest = guest
        self.silence = 3 * launcher.keepalive
        self.arrival = None
        self.ending = None
        self._popen = subprocess.Popen(
            [sys.executable, "-c", SCRIPT], stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
        )
        pair = "pair" if isinstance(launcher.encrypt, tuple) else "-"
        self._popen.stdin.write(f"{guest.invitation.text()}\n{pair}\n".encode())
        self._popen.stdin.close()
        self._watch = child.platform.Watch(self._popen.pid)
        self._over = anyio.Event()

    async def watch(self):
        while self.ending is None:
            await self._watch.wait()
            ending = self._watch.look()
            if ending is not None:
                self._popen.wait()
                said = self._popen.stderr.read().decode().strip()
                self._popen.stderr.close()
                self._watch.close()
                self.ending = ending
                self.guest.fail(LaunchFailed(f"it {ending}: {said}"))
                self._over.set()

    @property
    def stream(self):
        return self.arrival.stream

    @property
    def origin(self):
        return Origin(launcher="dialling", pid=self._popen.pid)

    async def ended(self):
        await self._over.wait()
        return self.ending

    def kill(self):
        if self.ending is None:
            self._watch.kill()
            with suppress(OSError):
                self._popen.kill()

    async def aclose(self):
        self.kill()
        self.guest.revoke()
        await anyio.lowlevel.checkpoint()
