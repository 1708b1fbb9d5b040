"""What a hub and the template of its workers say to each other, each message whole, with the descriptors that belong to it.

The plan, and orders, are pickled by the hub. What comes back is read as text and numbers, and nothing of it is unpickled.
"""

from __future__ import annotations

from _socket import MSG_CMSG_CLOEXEC, SCM_RIGHTS, SOL_SOCKET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Sequence

# On the socket of the template.
IMPORTING = b"i"  # and the name of a module
READY = b"r"
FAILED = b"f"  # and why
# On a socket for each worker.
ORDER = b"o"  # to the template, on its own: names of descriptors; the first of them is the socket for the worker
BORN = b"b"  # and the pid, with a pidfd
NOT_NOW = b"n"  # and an errno: there is no process to be had
ENDED = b"e"  # and its wait status
# On either.
REFUSED = b"x"  # and why there is no use in trying again

_LONGEST = 1 << 15  # bytes; each must be taken as a whole
_MOST = 16  # descriptors


def say(sock: socket, kind: bytes, body: str | bytes | int = b"", descriptors: Sequence[int] = ()) -> None:
    """Raises OSError."""
    if isinstance(body, str):
        body = body.encode(errors="backslashreplace")[:_LONGEST]
    if isinstance(body, int):
        body = body.to_bytes(8, "little", signed=True)
    rights = [(SOL_SOCKET, SCM_RIGHTS, b"".join(fd.to_bytes(4, "little") for fd in descriptors))]
    sock.sendmsg([kind + body], rights if descriptors else [])


def hear(sock: socket) -> tuple[bytes, bytes, list[int]]:
    """The next message: its kind, its body, its descriptors. The kind is b"" at the end. Raises OSError."""
    data, rights, _, _ = sock.recvmsg(2 * _LONGEST, 28 + 4 * _MOST, MSG_CMSG_CLOEXEC)
    descriptors = []
    for level, kind, words in rights:
        if (level, kind) == (SOL_SOCKET, SCM_RIGHTS):
            descriptors += memoryview(words[: len(words) // 4 * 4]).cast("i").tolist()
    return data[:1], data[1:], descriptors


def number(body: bytes) -> int:
    return int.from_bytes(body, "little", signed=True)


def text(body: bytes) -> str:
    return body.decode(errors="replace")
