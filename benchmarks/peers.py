"""Who is measured: gibbs, and others who run a function in warm processes for an async program.

Knows how each is opened and called, at its best as far as its documentation tells. Must not know what is measured. Promises that each
is asked in the same way: `async with peer.opened(function, workers) as call: result = await call(x)`.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_process

import gibbs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Call = Callable[..., Awaitable[Any]]
    Opened = Callable[[Callable[..., Any], int], AbstractAsyncContextManager[Call]]

ASYNCIO = ("asyncio", "uvloop")
EVERY = (*ASYNCIO, "trio")


@asynccontextmanager
async def open_gibbs(function: Callable[..., Any], workers: int) -> AsyncIterator[Call]:
    async with gibbs.open_hub(gibbs.function(function), workers=workers) as hub:
        yield hub.request


@asynccontextmanager
async def open_to_process(function: Callable[..., Any], workers: int) -> AsyncIterator[Call]:
    """Its workers belong to the loop and start when they are needed, the last at the latest when all are busy at once."""
    yield partial(anyio.to_process.run_sync, function, limiter=anyio.CapacityLimiter(workers))


@asynccontextmanager
async def open_trio_parallel(function: Callable[..., Any], workers: int) -> AsyncIterator[Call]:
    import trio
    import trio_parallel

    async with trio_parallel.open_worker_context() as context:
        yield partial(context.run_sync, function, limiter=trio.CapacityLimiter(workers))


@asynccontextmanager
async def open_pebble(function: Callable[..., Any], workers: int) -> AsyncIterator[Call]:
    import pebble

    pool = pebble.ProcessPool(max_workers=workers)
    try:
        yield lambda *args: asyncio.wrap_future(pool.schedule(function, args))
    finally:
        pool.stop()
        pool.join()


@asynccontextmanager
async def open_loky(function: Callable[..., Any], workers: int) -> AsyncIterator[Call]:
    import loky

    pool = loky.ProcessPoolExecutor(max_workers=workers)
    try:
        yield lambda *args: asyncio.wrap_future(pool.submit(function, *args))
    finally:
        pool.shutdown(wait=True, kill_workers=True)


@dataclass(frozen=True)
class Peer:
    """One of them."""

    name: str
    package: str  # as it is installed
    module: str
    loops: tuple[str, ...]
    opened: Opened

    @property
    def installed(self) -> bool:
        return importlib.util.find_spec(self.module) is not None

    @property
    def version(self) -> str:
        return importlib.metadata.version(self.package)


GIBBS = Peer("gibbs", "gibbs", "gibbs", EVERY, open_gibbs)
TO_PROCESS = Peer("anyio.to_process", "anyio", "anyio", EVERY, open_to_process)
PEERS = [
    TO_PROCESS,
    Peer("pebble", "pebble", "pebble", ASYNCIO, open_pebble),
    Peer("loky", "loky", "loky", ASYNCIO, open_loky),
    Peer("trio-parallel", "trio-parallel", "trio_parallel", ("trio",), open_trio_parallel),
]


def peers_on(loop: str) -> list[Peer]:
    """All but gibbs that run on this loop; the caller sees to those that are not installed."""
    return [peer for peer in PEERS if loop in peer.loops]
