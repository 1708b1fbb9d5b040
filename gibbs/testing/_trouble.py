"""What befalls workers, done to one of them on purpose: `crash` and `hang`.

Knows the seats of a hub. It is the worker in the seat that is hit, by the hub's own handle of it, so never a process that has its
number by now. Promises that there is nothing to wait for afterwards: what was to happen has happened when the call is over.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
from anyio.lowlevel import checkpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gibbs import Hub

_LOOK_EVERY = 0.001  # seconds


async def crash(hub: Hub[Any], seat: int = 0) -> None:
    """The worker in this seat dies now, as if it was killed. Returns when the hub has buried it.

    By then its requests have ended with WorkerCrashed, or gone back to the queue, as the hub's rules say. Another worker takes its
    place: `await hub.wait_ready()` returns when it is there. It works with every launcher: on a process it is SIGKILL.

    Args:
        hub: an open one, as `open_hub` or `open_inline_hub` gives it.
        seat: from 0 to `workers` - 1.

    Raises:
        LookupError: there is no worker in the seat just now: the last one is dying or gone, or the hub has closed.
        ValueError, TypeError: there is no such seat.
        RuntimeError: called from another thread, or in a fork of the hub's process.

    Cancellation:
        Always a checkpoint. Cancelled there, nothing has happened; later, the worker dies all the same.

    Example:
        ```python
        await crash(hub)
        assert await hub.request(3) == 9  # by another worker
        ```
    """
    supervisor = _supervisor(hub, seat)
    await checkpoint()
    worker = _worker(hub, supervisor)
    worker.process.kill()
    while supervisor.worker is worker:  # noqa: ASYNC110 - nobody announces a burial
        await anyio.sleep(_LOOK_EVERY)


@asynccontextmanager
async def hang(hub: Hub[Any], seat: int = 0) -> AsyncIterator[None]:
    """Within the block the worker in this seat takes nothing and says nothing, as one that is stuck in C; afterwards it goes on.

    It is dead to all but a kill: what it was sent waits, and an interrupt does not reach it. If the hub's own rules end it, when a
    caller was cancelled and `cancel_grace` is over or the hub closes, that is all; the worker which takes its place does not hang. A
    process is stopped by SIGSTOP, its subprocesses are not.

    Args:
        hub: an open one, as `open_hub` or `open_inline_hub` gives it.
        seat: from 0 to `workers` - 1.

    Raises:
        LookupError: on entering: there is no worker in the seat just now.
        ValueError, TypeError: on entering: there is no such seat, or the hub's launcher does not know how to let one hang.
        RuntimeError: on entering: called from another thread, or in a fork of the hub's process.

    Cancellation:
        Entering is a checkpoint. However the block is left, the worker goes on, if it is still there.

    Example:
        ```python
        async with hang(hub):
            with pytest.raises(TimeoutError), anyio.fail_after(0.1):
                await hub.request(3)
        ```
    """
    supervisor = _supervisor(hub, seat)
    await checkpoint()
    worker = _worker(hub, supervisor)
    process: Any = worker.process
    if not hasattr(process, "hang"):
        raise TypeError(f"the launcher of the hub {hub.name!r} cannot let a worker hang: its process has no hang()")
    process.hang()
    try:
        while not getattr(process, "hangs", True) and supervisor.worker is worker:  # noqa: ASYNC110 - the kernel tells nobody
            await anyio.sleep(_LOOK_EVERY)
        yield
    finally:
        process.go_on()


def _supervisor(hub: Hub[Any], seat: int) -> Any:
    desk: Any = hub._desk  # noqa: SLF001 - there is no public way to hurt a worker
    desk.check_place()
    if isinstance(seat, bool) or not isinstance(seat, int):
        raise TypeError(f"seat must be the number of a seat, not {seat!r}")
    supervisors = desk.crew.supervisors
    if not 0 <= seat < len(supervisors):
        raise ValueError(f"seat must be between 0 and {len(supervisors) - 1}, not {seat!r}")
    return supervisors[seat]


def _worker(hub: Hub[Any], supervisor: Any) -> Any:
    worker = supervisor.worker
    if worker is None:
        raise LookupError(
            f"seat {supervisor.seat.index} of the hub {hub.name!r} has no worker now: it is {supervisor.seat.state.value}"
        )
    return worker


for _public in (crash, hang):
    _public.__module__ = "gibbs.testing"
