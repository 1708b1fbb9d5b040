"""A launcher over Dask: the engine places, gibbs speaks. `python examples/dask_launcher.py`

A task of Dask runs in a thread of its worker, and cannot be interrupted there; so it starts a process, which dials back and serves. Dask runs
the task of a lost worker again by itself: an invitation is good once, so the second process is a stranger and ends.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio.lowlevel import checkpoint_if_cancelled, current_token

import gibbs
from gibbs.abc import Launcher, LaunchFailed, Traits
from gibbs.dial import open_reception


def work(invitation: str) -> int:
    """The task: what a worker of Dask runs, for as long as the hub wants it."""
    program = "import sys; from gibbs.worker import connect; connect(sys.stdin.read())"
    return subprocess.run([sys.executable, "-c", program], input=invitation, text=True, check=False).returncode


class DaskLauncher(Launcher):
    """Workers as tasks of a cluster that the program has a `distributed.Client` of."""

    def __init__(self, client: Any, *, host: str = "127.0.0.1", resources: dict[str, float] | None = None) -> None:
        self._client, self._host, self._resources = client, host, resources

    @property
    def traits(self) -> Traits:
        return Traits(same_host=False, kill_is_certain=False, exit_status="none", silent_loss_within=15.0, listens=True)

    @asynccontextmanager
    async def session(self):
        async with open_reception(self._host, (0,), encrypt=True, keepalive=5.0) as reception:
            session = Session(self._client, reception, self._resources)
            try:
                yield session
            finally:
                for process in session.started:
                    process.kill()
                with anyio.CancelScope(shield=True), anyio.move_on_after(5):
                    for process in session.started:
                        await process.ended()


class Session:
    def __init__(self, client, reception, resources):
        self.client, self.reception, self.resources = client, reception, resources
        self.started: list[Process] = []

    async def launch(self, spec) -> Process:
        await checkpoint_if_cancelled()
        process = Process(self)
        self.started.append(process)
        try:
            process.arrival = await process.guest.arrived()
        except BaseException:
            process.kill()
            raise
        return process


class Process:
    side = None  # its stream is all there is
    silence = 15.0

    def __init__(self, session: Session) -> None:
        self.guest = session.reception.expect()
        self.arrival: Any = None
        self._over, self._token = anyio.Event(), current_token()
        self._future = session.client.submit(
            work, self.guest.invitation.text(), pure=False, retries=0, resources=session.resources
        )
        self._future.add_done_callback(self._tell)  # in a thread of Dask's

    def _tell(self, future) -> None:
        def over() -> None:
            self.guest.fail(LaunchFailed(f"Dask's task has ended ({future.status}) before a worker came of it"))
            self._over.set()

        try:
            anyio.from_thread.run_sync(over, token=self._token)
        except (RuntimeError, anyio.RunFinishedError):  # the program's loop has ended
            pass

    @property
    def stream(self):
        return self.arrival.stream

    @property
    def origin(self) -> gibbs.Origin:
        hello = self.arrival.hello
        return gibbs.Origin(launcher="dask", host=hello.host, pid=hello.pid)

    async def ended(self) -> gibbs.Ending:
        await self._over.wait()
        return gibbs.Ending(how="lost", certain=False, detail=f"Dask says that its task is {self._future.status}")

    def kill(self) -> None:
        self.guest.revoke()  # its stream is closed, and a worker ends with its stream
        self._future.cancel()

    async def aclose(self) -> None:
        self.kill()
        await checkpoint_if_cancelled()


class MyAwesomeModel:
    def __call__(self, x):
        return x * x


async def main(client: Any) -> None:
    async with gibbs.open_hub(MyAwesomeModel, workers=2, launcher=DaskLauncher(client)) as hub:
        print([await hub.request(n) for n in range(5)])


if __name__ == "__main__":
    from distributed import Client

    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
        anyio.run(main, client)
