"""Who may start at once: a place among the workers that do, given back when the worker is ready, or its attempt over."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import anyio


class StartSlot:
    """One such place. Idempotent where it is given back."""

    def __init__(self, slots: anyio.Semaphore | None) -> None:
        self._slots = slots
        self._held = False

    async def acquire(self) -> None:
        """Wait until one is free."""
        if self._slots is not None:
            await self._slots.acquire()
            self._held = True

    def release(self) -> None:
        """The worker is ready, or will not be."""
        if self._slots is not None and self._held:
            self._held = False
            self._slots.release()
