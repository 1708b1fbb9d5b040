"""What the rows share: options, loops, and rounds in which gibbs and its peers take turns.

Must not know what a row measures. Promises that a program ends with 0 only if each of its checks is kept on each loop that was asked for,
and that an error on one loop leaves the figures of the others.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import math
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from benchmarks.peers import GIBBS
from benchmarks.processes import others_cpu
from benchmarks.record import Record, machine

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from benchmarks.peers import Call, Peer

T = TypeVar("T")

QUIET = 0.15  # cores: with others at work a hub that waits awake competes with its worker, and p50 is three times what it is

LOOPS: dict[str, tuple[str, dict[str, Any]]] = {
    "asyncio": ("asyncio", {"use_uvloop": False}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}


# -------------------------------------------------------------------------------------------------------- the program


@dataclass(frozen=True)
class Plan:
    """What was asked for on the command line."""

    loops: list[str]
    rounds: int
    quick: bool

    def pick(self, usual: T, *, quick: T) -> T:
        return quick if self.quick else usual


def program(
    name: str,
    about: str,
    measure: Callable[[str, Plan, Record], None],
    *,
    rounds: int,
    arguments: list[str] | None = None,
) -> int:
    """Measure on each loop, print, write; the exit status."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=about)
    parser.add_argument("--backend", choices=LOOPS, action="append", help="default: all that are installed")
    parser.add_argument("--rounds", type=int, help=f"the best of which counts (default: {rounds}, with --quick 1)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the record there")
    parser.add_argument(
        "--quick", action="store_true", help="tiny counts, to see that it runs; the figures mean nothing"
    )
    options = parser.parse_args(arguments)
    loops = options.backend or [loop for loop in LOOPS if loop == "asyncio" or importlib.util.find_spec(loop)]
    plan = Plan(loops, options.rounds or (1 if options.quick else rounds), options.quick)
    hide_main()

    record = Record(name, about)
    start, others = time.monotonic(), others_cpu()
    print(about)
    for loop in plan.loops:
        try:
            measure(loop, plan, record)
        except Exception as error:  # noqa: BLE001 - the other loops have figures of their own
            traceback.print_exc()
            record.errors.append(f"{loop}: ERROR {type(error).__name__}: {str(error).partition(chr(10))[0]}")
        print(record.table(loop), flush=True)
    seconds = time.monotonic() - start
    busy = (others_cpu() - others) / seconds
    if busy > QUIET:
        record.note(f"the machine was not ours alone: others used {busy:.2f} of its cores meanwhile")
    print()
    for line in [*(check.line() for check in record.checks), *record.notes, *record.errors]:
        print(line)
    if options.json:
        facts = {"machine": machine(), "rounds": plan.rounds, "quick": plan.quick, "seconds": seconds, "others": busy}
        options.json.write_text(json.dumps(record.as_json() | facts, indent=1) + "\n")
    return 0 if record.kept else 1


def hide_main() -> None:
    """Most peers let each worker import the program's main module; spared that, they start as quickly as they can."""
    main = sys.modules["__main__"]
    main.__dict__.pop("__file__", None)
    main.__spec__ = None


def run(loop: str, function: Callable[..., Awaitable[T]], *args: Any) -> T:
    """On a loop of its own, so that nothing is left of whoever was measured before."""
    backend, options = LOOPS[loop]
    gc.collect()
    return anyio.run(function, *args, backend=backend, backend_options=options)


def rounds_of(
    loop: str, plan: Plan, record: Record, peers: Iterable[Peer], function: Callable[..., Awaitable[T]], *args: Any
) -> dict[str, list[T]]:
    """`function(peer, *args)` for each, in turn, round after round: what the machine does meanwhile, it does to all.

    An error of gibbs is ours; one of a peer is a note, and it is out.
    """
    found: dict[str, list[T]] = {}
    out: set[str] = set()
    everyone = [GIBBS, *peers]
    for _ in range(plan.rounds):
        for peer in everyone:
            if peer.name in out:
                continue
            if not peer.installed:
                record.note(f"{peer.name} is not installed: not measured")
                out.add(peer.name)
                continue
            try:
                found.setdefault(peer.name, []).append(run(loop, function, peer, *args))
            except Exception as error:
                if peer is GIBBS:
                    raise
                record.note(f"{peer.name} failed on {loop}: {error!r}")
                out.add(peer.name)
    return {name: results for name, results in found.items() if results}


# ------------------------------------------------------------------------------------------------------ what is counted


def percentile(values: list[float], percent: float) -> float:
    """Of sorted values: the smallest that at least so many are not above."""
    return values[max(0, math.ceil(len(values) * percent / 100) - 1)]


async def rate(call: Call, in_flight: int, seconds: float) -> float:
    """Answers per second, of `in_flight` tasks that live long and ask again and again; as long again before it counts."""
    answered = 0
    stop = False

    async def ask_again(x: int) -> None:
        nonlocal answered
        while not stop:
            if await call(x) != x + 1:
                raise AssertionError("a wrong answer")
            answered += 1

    async with anyio.create_task_group() as tg:
        for x in range(in_flight):
            tg.start_soon(ask_again, x)
        while answered < in_flight:
            await anyio.sleep(0.01)
        await anyio.sleep(seconds / 2)
        start, before = time.perf_counter(), answered
        await anyio.sleep(seconds)
        end, after = time.perf_counter(), answered
        stop = True
    return (after - before) / (end - start)
