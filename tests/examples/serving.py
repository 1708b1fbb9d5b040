"""An app of examples/, served by `examples/servers.py`: a line from it names the address, a line to it ends it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


class Served(subprocess.Popen[str]):
    url = ""


def need(backend: str) -> None:
    for module in {"asyncio": ["uvicorn"], "uvloop": ["uvicorn", "uvloop"], "trio": ["hypercorn", "trio"]}[backend]:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")


@contextmanager
def served_example(app: str, backend: str = "asyncio", **environment: str) -> Iterator[Served]:
    """In the body it answers; afterwards nobody may be left."""
    need(backend)
    with Served(
        [sys.executable, EXAMPLES / "servers.py", app, backend],
        env=os.environ | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        server.url = server.stdout.readline().split()[0]
        try:
            yield server
        finally:
            print("that is all", file=server.stdin, flush=True)
            left = server.stdout.read()
        assert "left: nobody" in left
