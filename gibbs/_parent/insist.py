"""Wait to the end, also under a cancellation that AnyIO's shield does not stop.

On asyncio a native `task.cancel()` (uvicorn's, and `asyncio.run`'s on Ctrl-C) pierces `CancelScope(shield=True)`. It comes
once, so the wait is taken up again and the cancellation raised afterwards. Whoever uses this has done what is synchronous,
kill and close, before it waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


async def insist(wait: Callable[[], Awaitable[T]], *, on_cut: Callable[[], None] | None = None) -> T:
    """Return what `wait()` returns, taking it up again each time that it is cut. It must lose nothing when it is.

    `on_cut` is called at each native cancellation, to hurry what is waited for.
    """
    cut: BaseException | None = None
    while True:
        try:
            with anyio.CancelScope(shield=True):
                result = await wait()
            break
        except anyio.get_cancelled_exc_class() as native:
            cut = native
            if on_cut is not None:
                on_cut()
    if cut is not None:
        raise cut
    return result
