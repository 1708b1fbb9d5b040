"""What hubs are doing, in one piece that JSON can carry: their histories, and what only a hub knows."""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Any

import anyio

from ..history import History, as_data

if TYPE_CHECKING:
    import gibbs


def snapshot(*hubs: gibbs.Hub[Any]) -> dict[str, Any]:
    """What these hubs do now, for `json.dumps`: what the live page and `python -m gibbs top` show.

    It has `time` (seconds since 1970), `pid` and `host` of this program, and `hubs`: for each one its `name`, `ready` and `reasons` of its health, and
    `history`, a `gibbs.history.HubStatus` as data. Of a hub that no `gibbs.history.History` observes, that is None, and `missing` says what to do.

    Raises:
        RuntimeError: called from another thread, or in a fork of the hub's process.
    """
    return {
        "time": time.time(),
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "hubs": [_of(hub) for hub in hubs],
    }


def _of(hub: gibbs.Hub[Any]) -> dict[str, Any]:
    health = hub.health()
    about: dict[str, Any] = {
        "name": hub.name,
        "ready": health.ready,
        "reasons": health.reasons,
        "history": None,
        "missing": f"Nobody remembers what the hub {hub.name!r} does: open it with observers=[gibbs.history.History()].",
    }
    history = next((one for one in hub.observers if isinstance(one, History)), None)
    if history is not None and hub.name in history.hubs:
        about["history"] = as_data(history.of(hub.name, anyio.current_time()))
        about["missing"] = None
    return about


snapshot.__module__ = "gibbs.top"
