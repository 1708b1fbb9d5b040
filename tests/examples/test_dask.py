"""The recipe for Dask, on a cluster of two workers of this machine. Skipped where Dask is not: `nox -s ray` brings it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
WATCHDOG = 150

pytest.importorskip("distributed", reason="Dask is not installed: nox -s ray")


def run(source: str, backend: str) -> str:
    program = f"""
        import os, sys
        sys.path.insert(0, {str(EXAMPLES)!r})
        import anyio, gibbs
        from distributed import Client
        from dask_launcher import DaskLauncher, MyAwesomeModel, main

        class Model:
            interruptible = True
            def __call__(self, x): return x * x
            def pid(self): return os.getpid()
            def dies(self): os._exit(1)
            def sleeps(self):
                import time
                time.sleep(600)

        {textwrap.indent(textwrap.dedent(source), " " * 8).strip()}

        if __name__ == "__main__":
            with Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
                anyio.run(main, client, backend={backend!r})
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=WATCHDOG,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_walk_throughs_model_runs_there(backend):
    assert run("", backend) == "[0, 1, 4, 9, 16]\n"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_call_is_interrupted_there_and_a_worker_that_dies_is_replaced(backend):
    said = run(
        """
        async def main(client):
            async with gibbs.open_hub(Model, workers=1, launcher=DaskLauncher(client)) as hub:
                pid = await hub.method("pid").request()
                with anyio.move_on_after(0.3):
                    await hub.method("sleeps").request()
                print(await hub.method("pid").request() == pid)
                try:
                    await hub.method("dies").request()
                except gibbs.WorkerCrashed as error:
                    print(error.may_still_run)
                print(await hub.request(3))
        """,
        backend,
    )
    assert said.split() == ["True", "True", "9"]
