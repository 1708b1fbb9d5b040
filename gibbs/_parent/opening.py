"""A hub that opens: until as many workers are ready as its body needs, or cannot be.

Knows who has failed to start meanwhile. Promises that whoever has failed is not started again before the body is entered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .._errors import WorkerStartFailed
    from .crew import Crew


class Opening:
    """That of one hub. Invariant: `is_over` once the body is entered, and never else."""

    def __init__(self, crew: Crew) -> None:
        self.is_over = False
        self._crew = crew
        self._failed: list[WorkerStartFailed] = []

    async def wait(self) -> None:
        """Return when as many workers are ready as the options ask for. Raises WorkerStartFailed when they cannot be."""
        crew = self._crew
        while crew.serving < crew.options.ready:
            if len(crew.supervisors) - len(self._failed) < crew.options.ready:
                first, *others = self._failed
                for other in others:
                    first.add_note(f"also: {other}")
                raise first
            if crew.failure is not None:
                raise crew.failure
            await crew.news.wait()
        self.is_over = True
        crew.news.announce()
        if crew.observers is not None:
            crew.observers.changed("open")

    async def failed(self, problem: WorkerStartFailed) -> None:
        """One has failed. Returns when the hub's body is entered, or never will be."""
        self._failed.append(problem)
        self._crew.news.announce()
        while not self.is_over and self._crew.closed is None:
            await self._crew.news.wait()
