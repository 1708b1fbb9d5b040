"""What a caller asks of the way in which a request is run. Shared by all requests of one view of a hub."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Immutable; told the dispatcher with the ticket."""

    on_cancel: str | None = None  # None: as the model of the seat that holds it says
    priority: int = 0  # the higher the sooner
    retries: int = 0  # how often it may be sent again after a worker died that may have begun it
    keeps: bool = False  # its payload may be needed to its end, also when a worker has begun it
    retry_uncertain: bool = False  # also when nobody can say that it does not run there any more
    affinity: int | None = None  # of its key, which likes some seats better than others; see `affinity`
    max_wait: float = math.inf  # seconds within which a worker must take it


PLAIN = Terms()
