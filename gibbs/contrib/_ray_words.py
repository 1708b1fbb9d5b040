"""What Ray says, and how it is asked: in words, and without waiting for it in the loop.

Knows Ray's calls and exceptions. Must never decide what follows from them.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
from anyio.lowlevel import current_token

from ..abc import LaunchFailed, LaunchRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_LONGEST = 600  # characters
_WHY = "The actor is dead because"  # before it are names that nobody gave
_GUESSES = " Some common causes include"


class Word:
    """What Ray says of one call, once. It says so in a thread of its own, which never waits for the loop."""

    def __init__(self, hear: Callable[[], None]) -> None:
        native: Any = current_token().native_token
        self._soon = native.call_soon_threadsafe if hasattr(native, "create_future") else native.run_sync_soon
        self._hear = hear
        self.said = anyio.Event()
        self.result: Any = None
        self.error: BaseException | None = None

    def follow(self, reference: Any) -> None:
        """Of this one; in any thread."""
        reference.future().add_done_callback(self._settled)

    def _settled(self, future: Any) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self._soon(self._take, future)

    def _take(self, future: Any) -> None:
        if future.cancelled():
            self.error = LaunchFailed("the call was given up")
        else:
            self.error = future.exception()
            self.result = future.result() if self.error is None else None
        self.said.set()
        self._hear()


def kill(actor: Any) -> None:
    """Ask Ray to end it. May wait."""
    import ray

    if ray.is_initialized():
        ray.kill(actor, no_restart=True)


def nodes_alive() -> set[str] | None:
    """The ids of the nodes that Ray takes to be alive; None if it cannot be asked. May wait."""
    import ray

    return {node["NodeID"] for node in ray.nodes() if node["Alive"]} if ray.is_initialized() else None


def is_dead(error: BaseException | None) -> bool:
    """Whether Ray says that the actor is dead; it may also be unavailable for a while, or have raised something."""
    from ray.exceptions import ActorDiedError

    return isinstance(error, ActorDiedError)


def failed(error: BaseException | None) -> LaunchFailed:
    """Why no worker came of an actor."""
    words = in_words(error)
    if "No module named 'gibbs" in words:
        return LaunchRefused("gibbs is not installed for the Python that Ray has run there")
    return LaunchFailed(f"no worker came of a Ray actor: {words}")


def in_words(error: BaseException | None) -> str:
    """Ray's own, in one line."""
    if error is None:
        return "its call has returned"
    cause = getattr(error, "cause", None)
    shown = cause if isinstance(cause, Exception) else error
    text = " ".join(f"{type(shown).__name__}: {shown}".split())
    if _WHY in text:
        text = _WHY + text.partition(_WHY)[2].partition(_GUESSES)[0]
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def elsewhere(options: Mapping[str, Any], avoided: list[str]) -> dict[str, Any]:
    """The same wish, but not on these nodes, if another one could grant it at all. May wait.

    Who names a place by an object, a placement group, has decided already.
    """
    import ray

    asked = dict(options)
    if not avoided or not isinstance(asked.get("scheduling_strategy", ""), str):
        return asked
    needs = {"CPU": asked.get("num_cpus"), "GPU": asked.get("num_gpus"), "memory": asked.get("memory")}
    needs |= asked.get("resources") or {}
    for node in ray.nodes():
        has = node["Resources"]
        fits = all(not amount or has.get(name, 0) >= amount for name, amount in needs.items())
        if node["Alive"] and node["NodeID"] not in avoided and fits:
            asked["label_selector"] = {"ray.io/node-id": f"!in({','.join(avoided)})"}
            break
    return asked
