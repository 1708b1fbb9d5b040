"""How late an innocent task wakes up while the hub works in the same loop.

    python -m benchmarks.lag [--rounds N] [--backend trio] [--json PATH]

Two innocents note how late they are, with the hub idle, while 256 requests are in flight, while results of 128 MB arrive one after the
other. One sleeps 1 ms again and again. The other waits for a socket, as a server's tasks do, into which another process writes the time
each millisecond. Under 256 requests the one that sleeps counts. While 128 MB arrive the other does: a loop that is woken by something else,
whatever it is, waits whole milliseconds for its next timer (`epoll_wait` takes no less), so the one that sleeps is up to 1 ms late by the
loop's own doing. The best round's p99 of each counts.
"""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import anyio

from benchmarks.measuring import percentile, program, rounds_of
from benchmarks.models import give, tiny
from benchmarks.peers import GIBBS, TO_PROCESS
from benchmarks.processes import MB
from benchmarks.record import Check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.measuring import Plan
    from benchmarks.peers import Call, Peer
    from benchmarks.record import Record

WORKERS = 2
SLEEP = 1e-3
IN_FLIGHT = 256
MEGABYTES = 128
SECONDS = 1.0
MUST = 4.0

STAMP = struct.Struct("d")
TICKER = """
import os, struct, time
while True:
    time.sleep({period})
    os.write({fd}, struct.pack("d", time.perf_counter()))
"""


async def lags(peer: Peer, function: Callable[[int], Any], x: int, callers: int, seconds: float) -> list[float]:
    """p99 in ms, of each innocent: idle, and while so many callers ask for `function(x)`; and the worst of those."""
    stop = False

    async def ask_again(call: Call) -> None:
        while not stop:
            await call(x)

    async with peer.opened(function, WORKERS) as call:
        for _ in range(WORKERS):
            await call(x)
        idle = [await innocent(seconds) for innocent in INNOCENTS.values()]
        async with anyio.create_task_group() as tg:
            for _ in range(callers):
                tg.start_soon(ask_again, call)
            await anyio.sleep(seconds / 4)
            loaded = [await innocent(seconds) for innocent in INNOCENTS.values()]
            stop = True
    return [percentile(late, 99) for late in idle + loaded] + [late[-1] for late in loaded]


async def sleeps(seconds: float) -> list[float]:
    """How much later than asked for a task woke, each time, in ms; sorted."""
    late = []
    until = time.perf_counter() + seconds
    while (start := time.perf_counter()) < until:
        await anyio.sleep(SLEEP)
        late.append((time.perf_counter() - start - SLEEP) * 1e3)
    return sorted(late)


async def waits_for_a_socket(seconds: float) -> list[float]:
    """How much later than it was written a task had what it waited for, each time, in ms; sorted."""
    late = []
    with ticking() as ticks:
        await anyio.wait_readable(ticks)  # the first comes when the other process has started
        ticks.recv(1 << 16)
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            await anyio.wait_readable(ticks)
            now = time.perf_counter()
            late += [(now - stamp) * 1e3 for (stamp,) in STAMP.iter_unpack(ticks.recv(1 << 16))]
    return sorted(late)


@contextmanager
def ticking() -> Iterator[socket.socket]:
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        program = TICKER.format(period=SLEEP, fd=there.fileno())
        with subprocess.Popen([sys.executable, "-S", "-c", program], pass_fds=[there.fileno()]) as ticker:
            try:
                yield here
            finally:
                ticker.kill()


INNOCENTS = {"sleeps": sleeps, "waits for a socket": waits_for_a_socket}


def measure(loop: str, plan: Plan, record: Record) -> None:
    megabytes, seconds = plan.pick((MEGABYTES, SECONDS), quick=(1, 0.05))
    loads: dict[str, tuple[str, Callable[[int], Any], int, int]] = {
        f"{IN_FLIGHT} requests in flight": ("sleeps", tiny, 1, IN_FLIGHT),
        f"{megabytes} MB results arrive": ("waits for a socket", give, megabytes * MB // 8, 1),
    }
    for load, (counts, *asked) in loads.items():
        rounds = rounds_of(loop, plan, record, [TO_PROCESS], lags, *asked, seconds)
        for name, found in rounds.items():
            best = [min(values) for values in zip(*found, strict=True)]
            for innocent, idle, loaded, worst in zip(INNOCENTS, best[:2], best[2:4], best[4:], strict=True):
                record.figure(loop, name, f"{innocent}: p99 idle, before {load}", idle, "ms")
                record.figure(loop, name, f"{innocent}: p99 while {load}", loaded, "ms")
                record.figure(loop, name, f"{innocent}: worst while {load}", worst, "ms")
                if name == GIBBS.name and innocent == counts:
                    record.checks.append(Check(loop, f"p99 while {load} ÷ idle", loaded / idle, "<=", MUST))


def main() -> int:
    return program(
        "lag", "a task that sleeps 1 ms, and one that waits for a socket, beside a hub of 2 workers", measure, rounds=5
    )


if __name__ == "__main__":
    sys.exit(main())
