"""What the measured service time of a worker is good for: how far to send ahead, whom to prefer, when to wait awake.

Knows seconds and counts, and no worker. `DUE_SOON` is no matter of taste: a caller who stays awake for an answer that
takes longer steals the CPU from the worker that computes it (in an experiment, calls of 300 µs became half as slow again). A
worker who is sent more than `AHEAD` seconds of work holds up what others could have done. `ENOUGH` calls in `AHEAD` seconds would
be 256,000 a second, more than a hub settles: a further worker would find nothing to do, and cost what it takes to wake it.
"""

from __future__ import annotations

UNKNOWN = float("inf")  # the service time of a worker that has answered nothing yet

WINDOW = 64  # requests that a seat may hold at most
AHEAD = 0.0005  # seconds of work that a seat may be sent ahead
SHORT = 50e-6  # seconds; below, it is cheaper to keep one worker busy than to wake another
ENOUGH = 128  # requests that may be sent ahead altogether before one more worker is woken for short calls
DUE_SOON = 60e-6  # seconds; below, an answer is worth waiting for without going to sleep


def window_for(service_time: float) -> int:
    """How many requests a worker may hold that takes so many seconds for each."""
    if service_time <= 0.0:
        return WINDOW
    return max(1, int(min(AHEAD / service_time, WINDOW)))
