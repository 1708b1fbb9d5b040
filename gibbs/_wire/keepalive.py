"""How soon the kernel notices that the other end of a connection says nothing any more: the same on both ends.

Knows socket options, and that some systems have not all of them. The kernel answers for a process that is busy, so nobody is slandered who
only holds the interpreter's lock.
"""

from __future__ import annotations

import socket
from math import ceil

PROBES = 2  # that stay unanswered, after a silence that is as long as the pause between two of them


def bound(keepalive: float) -> float:
    """Seconds in which a connection is given up whose other end is silent."""
    return (PROBES + 1.0) * ceil(keepalive)


def keep_alive(connection: socket.socket, keepalive: float) -> None:
    """Ask every so many seconds whether the other end is there, and give it up within `bound`."""
    seconds = ceil(keepalive)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # macOS calls the first one otherwise, and has not the last one.
    for name, value in (
        ("TCP_KEEPIDLE", seconds),
        ("TCP_KEEPALIVE", seconds),
        ("TCP_KEEPINTVL", seconds),
        ("TCP_KEEPCNT", PROBES),
        # Of what was sent and is not acknowledged. It also decides when probes have failed, and a tick too late would cost one pause more.
        ("TCP_USER_TIMEOUT", int((bound(keepalive) - 0.5 * seconds) * 1000)),
    ):
        option = getattr(socket, name, None)
        if option is not None:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
