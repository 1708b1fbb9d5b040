"""`python -m gibbs replay FILE`: run again, in this process, what a worker was asked when it died.

Knows crash records, and how a worker builds its model and opens a request. Unpickles both, so a record is to be trusted like a program.
"""

from __future__ import annotations

import faulthandler
import pdb
import subprocess
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._batched import batch_of
from ._wire.crash import NoRecord, read_record
from ._wire.letter import loads
from ._wire.recipe import Recipe
from ._worker.context import Contexts

if TYPE_CHECKING:
    from collections.abc import Callable


def replay(file: str, *, debugger: bool, isolate: int) -> int:
    """Say what is in the record and run it: under the debugger, or not, or so many times in processes of their own. The exit status."""
    try:
        facts, recipe, request = read_record(Path(file).read_bytes())
    except (OSError, NoRecord) as error:
        print(f"{file} cannot be replayed: {error}", file=sys.stderr)
        return 2
    if isolate:
        return _in_processes(file, isolate)
    print(in_words(facts))
    faulthandler.enable()
    call = prepare(facts, recipe, request)
    if debugger:
        print("The debugger stops at the first line of the model: `c` runs it, `q` leaves.")
        return _debug(call)
    try:
        print(f"It returned {call()!r}")
    except BaseException:  # noqa: BLE001 - the model may raise anything
        traceback.print_exc()
        return 1
    return 0


def in_words(facts: dict[str, Any]) -> str:
    """What the record says of the death, for a person."""
    where = f" on {facts['host']}" if facts["host"] else ""
    who = f"worker {facts['seat']}.{facts['incarnation']} of {facts['name']!r} (pid {facts['pid']}{where})"
    lines = [
        f"{facts['written']}: {who} died in {facts['method']}: {facts['how']}",
        f"Recorded by gibbs {facts['gibbs']} on Python {facts['python']}; this is Python {sys.version.split()[0]}.",
    ]
    if facts["stack"]:
        lines += ["It was at, the innermost call last:", facts["stack"]]
    if facts["stderr_tail"].strip():
        lines += ["It wrote:", facts["stderr_tail"].rstrip()]
    return "\n".join(lines)


def prepare(facts: dict[str, Any], recipe: bytes, request: bytes) -> Callable[[], Any]:
    """Build the model as a worker does, open the arguments, and return the call that is left to be made. Raises what the user's code does."""
    read = Recipe(recipe)
    read.install()
    factory, built_from, propagated = read.load()
    model = factory(*built_from)
    method, args, kwargs, *values = loads(request)
    call = getattr(model, method) if method else model
    if facts["batched"]:
        call, _ = batch_of(model, method)
        args = ([*args],)

    def run() -> Any:
        result = call(*args, **kwargs)
        return list(result) if hasattr(result, "__next__") else result

    if not values:
        return run
    context = Contexts(propagated).of(*values)  # the call is in nobody's trace
    return lambda: context.run(run)


def _debug(call: Callable[[], Any]) -> int:
    debugger = pdb.Pdb(skip=["gibbs._replay"])  # it stops at the first line of the model
    try:
        print(f"It returned {debugger.runcall(call)!r}")
    except Exception:  # noqa: BLE001 - the model's
        traceback.print_exc()
        pdb.post_mortem()
        return 1
    return 0


def _in_processes(file: str, times: int) -> int:
    """The same, without the debugger, in fresh processes: how many of them survived."""
    command = [sys.executable, "-m", "gibbs", "replay", "--no-debugger", file]
    ended = [subprocess.run(command, check=False).returncode for _ in range(times)]
    for number, status in enumerate(ended, 1):
        print(f"{number} of {times}: {'returned' if not status else f'ended with {status}'}")
    return int(any(ended))
