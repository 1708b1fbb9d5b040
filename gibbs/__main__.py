"""`python -m gibbs doctor`: what this machine offers, and whether a hub works here. `replay`: what killed a worker. `top`: what hubs are doing.

Knows the platform and the public hub. The doctor ends with 1 if a hub does not answer on some event loop that is installed.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import platform
import sys
import time
from typing import Any

import anyio

import gibbs

from ._launch.kernel import has_claims, has_memfd, has_pidfd
from ._parent.usable_cpus import usable_cpus

PACKAGES = ["gibbs", "anyio", "cloudpickle", "trio", "uvloop", "starlette", "fastapi"]
LOOPS: dict[str, tuple[str, dict[str, Any]]] = {
    "asyncio": ("asyncio", {"use_uvloop": False}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m gibbs")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("doctor", help="what this machine offers, and whether a hub works here")
    again = commands.add_parser(
        "replay",
        help="run again what a worker was asked when it died",
        description="Run again, in this process and under the debugger, what a worker was asked when it died. "
        "The file is unpickled, which runs code that it names: it must come from somebody whom you trust.",
    )
    again.add_argument("file", help="a crash record, see record_crashes= of open_hub")
    again.add_argument("--no-debugger", action="store_true", help="only run it, and say what came of it")
    again.add_argument(
        "--isolate", type=int, default=0, metavar="N", help="run it in N fresh processes, one after the other"
    )
    top = commands.add_parser("top", help="what the hubs of a running program are doing")
    top.add_argument("where", help="its status page, http://127.0.0.1:8000/status, or the path of its socket")
    top.add_argument("--once", action="store_true", help="print it once, and end; so it is if this is no terminal")
    top.add_argument("--json", action="store_true", help="print it once, as JSON")
    top.add_argument(
        "--header", action="append", default=[], metavar="NAME:VALUE", help="for the page, such as of a login"
    )
    asked = parser.parse_args(arguments)
    if asked.command == "replay":
        from ._replay import replay

        return replay(asked.file, debugger=not asked.no_debugger, isolate=asked.isolate)
    if asked.command == "top":
        from .top._command import top as show

        return show(asked.where, once=asked.once, as_json=asked.json, headers=asked.header)
    return doctor()


def doctor() -> int:
    """Print what a bug report needs, and open a hub on each loop to prove it. The exit status."""
    print(f"{platform.python_implementation()} {platform.python_version()}, {platform.platform()}")
    print(", ".join(f"{name} {version_of(name)}" for name in PACKAGES))
    print()
    for what, is_there, meaning in offers():
        print(f"{what:10} {'yes' if is_there else 'no':4} {meaning}")
    print(
        f"{'CPUs':10} {usable_cpus():<4} usable by this process, its quota considered; the machine has {os.cpu_count()}"
    )
    print()
    works = True
    for loop, (backend, options) in LOOPS.items():
        if loop != "asyncio" and importlib.util.find_spec(loop) is None:
            print(f"{loop:10} not installed")
            continue
        try:
            print(f"{loop:10} {anyio.run(prove, backend=backend, backend_options=options)}")
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what the doctor is asked for
            works = False
            print(f"{loop:10} FAILED: {type(error).__name__}: {error}")
    return 0 if works else 1


def version_of(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "-"


def offers() -> list[tuple[str, bool, str]]:
    """What of the platform is used where it is there, and what its use is."""
    import fcntl

    return [
        ("pidfd", has_pidfd(), "a worker's end is seen at once; a signal reaches nobody else"),
        ("memfd", has_memfd(), "what has begun is known after a crash; large arrays are shared"),
        ("claims", has_claims(), "requests are sent ahead, and had back"),
        ("lifeline", hasattr(fcntl, "F_SETSIG"), "workers are gone at once when this program is killed"),
    ]


async def prove() -> str:
    """Open a hub, ask it, close it: in words."""
    start = time.perf_counter()
    async with gibbs.open_hub(gibbs.function(os.getpid), workers=1) as hub:
        opened = time.perf_counter()
        with anyio.fail_after(60):
            pid = await hub.request()
        if pid == os.getpid():
            raise AssertionError("the model ran in this process")
        answered = time.perf_counter()
    return f"a hub opened in {(opened - start) * 1e3:.0f} ms, and its worker answered in {(answered - opened) * 1e3:.1f} ms"


if __name__ == "__main__":
    sys.exit(main())
