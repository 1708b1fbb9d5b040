"""What a hub said to a scripted worker, as a script reads it."""

from __future__ import annotations

from typing import Any, NamedTuple

from .._wire import payload
from .._wire.messages import BATCH, LEAVE, REQUESTS, STREAM


class Message(NamedTuple):
    """What the hub said: `kind` is one of `gibbs._wire.messages`; a request has a method ("": the model's call) and arguments."""

    kind: int
    link_id: int
    body: bytes

    @property
    def is_call(self) -> bool:
        """Whether it is a request, or a stream."""
        return self.kind in REQUESTS

    @property
    def is_stream(self) -> bool:
        """Whether it is a stream."""
        return self.kind == STREAM

    @property
    def is_batch(self) -> bool:
        """Whether requests follow that are one call: `batch_size` of them."""
        return self.kind == BATCH

    @property
    def batch_size(self) -> int:
        """How many requests follow that are one call."""
        return int.from_bytes(self.body, "little")

    @property
    def is_leave(self) -> bool:
        """Whether it asks the worker to go."""
        return self.kind == LEAVE

    @property
    def content(self) -> Any:
        """The opened body: `(method, args, kwargs)` of a request."""
        return payload.loads(self.body)
