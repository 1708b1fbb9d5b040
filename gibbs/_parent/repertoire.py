"""What the model of a hub offers, as far as its workers have told: methods by kind, and those that run many requests in one call.

Knows words. Must never ask a worker. Promises that a worker which is not trusted speaks for itself only: of one it believes nothing.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from .._core.group import Group

if TYPE_CHECKING:
    from .._core.dispatch import Dispatcher
    from .._options import HubOptions

logger = logging.getLogger("gibbs")


class Repertoire:
    """That of one hub."""

    def __init__(self, options: HubOptions, dispatcher: Dispatcher) -> None:
        self.methods: dict[str, str] | None = None  # name → kind, as the first worker that is ready and trusted told
        self.groups: dict[str, Group] = {}  # those of the methods that run many requests in one call
        self._options = options
        self._dispatcher = dispatcher
        self._hooks_told = False

    def learn(self, about: dict[str, Any]) -> None:
        """A worker is ready, and says so of its model."""
        hooks = about.get("hooks", ())
        if hooks and not self._hooks_told:
            self._hooks_told = True
            logger.info("the model of the hub %r has the hooks %s", self._options.name, ", ".join(hooks))
        if self._options.results is None:
            self.methods = about["methods"]
            self.meet_batched(about.get("batched", {}))

    def misfit(self, about: dict[str, Any]) -> str | None:
        """Why requests cannot be served by such a model and by those before it at a time, in words; None: they can."""
        batched = _by_name(about.get("batched", {}))
        before = {name: (group.most, group.patience) for name, group in self.groups.items()}
        if batched == before:
            return None
        return (
            f"the model's methods that run many requests in one call are {sorted(batched) or 'none'}, with other sizes or waits than those "
            f"of the model before, {sorted(before) or 'none'}: while both serve a request could go to either"
        )

    def meet_batched(self, batched: dict[str, tuple[int, float]]) -> None:
        """Requests for these methods run together: so many at most, the first of which waits for others for so many seconds."""
        for name, told in _by_name(batched).items():
            self.groups.setdefault(name, Group(*told))  # in a known one some may wait
        self._dispatcher.groups = tuple(group for group in self.groups.values() if group.patience)


def _by_name(batched: dict[str, Any]) -> dict[str, tuple[int, float]]:
    """What a worker tells of such methods, by the names that requests have."""
    return {"" if name == "__call__" else name: tuple(told) for name, told in batched.items()}
