"""How a worker ended that had requests, and the exceptions in which their callers are told. The core keeps it, unread, as an outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from .._errors import PoisonRequest, WorkerCrashed

if TYPE_CHECKING:
    from .._core.ticket import Lost


class Death:
    """What is known of one."""

    __slots__ = ("_facts",)

    def __init__(self, **facts: Any) -> None:
        self._facts = facts

    def error(self, *, may_have_run: bool = True) -> WorkerCrashed:
        """A fresh exception for each request."""
        return WorkerCrashed(**self._facts, may_have_run=may_have_run)

    def poisoning(self, crashes: tuple[WorkerCrashed, ...]) -> PoisonRequest:
        """The same of a request that had killed others before."""
        error = PoisonRequest(**self._facts)
        error.crashes = crashes
        return error


def crash_of(outcome: Lost) -> WorkerCrashed:
    """The last crash, or that it was one too many; behind it those after which the request was tried again."""
    before: list[WorkerCrashed] = []
    for death in cast("tuple[Death, ...]", outcome.earlier):
        crash = death.error()
        crash.__cause__ = before[-1] if before else None
        before.append(crash)
    last = cast("Death", outcome.death)
    error = last.poisoning(tuple(before)) if outcome.poison else last.error(may_have_run=outcome.may_have_run)
    error.__cause__ = before[-1] if before else None
    return error
