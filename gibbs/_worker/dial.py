"""A worker that dials its hub: it finds the hub, proves itself, makes the hub do so, and has a stream as every other worker has one.

Knows sockets and how a connection is encrypted. Must never know what is said once both ends are known. Promises that nothing which came
from the other end is unpickled before; that a hub which cannot be reached, or has no use for this worker, is an error in words after a few
seconds; and that one which falls silent is noticed by the kernel.
"""

from __future__ import annotations

import os
import socket
import ssl
import sys
from _thread import RLock, get_ident
from time import sleep

from .._wire import seal
from .._wire.greeting import NotAuthentic, OfWorker
from .._wire.hello import Hello
from .._wire.keepalive import keep_alive
from .._wire.seal import Seal
from .channel import Channel
from .lifeline import die_with_the_hub

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .._wire.greeting import Invitation
    from .channel import Message

_TRIES = 4  # a hub that many dial at once may hang up on some
_PAUSE = 0.2  # seconds before the second, twice as many before the third
_PATIENCE = 10.0  # seconds that a hub may take for anything
_PIECE = 1 << 16


def dial(invitation: Invitation, context: Callable[[], ssl.SSLContext] | None) -> Channel:
    """A stream to the hub that has sent this invitation. Raises OSError or ssl.SSLError if it cannot be had, or NotAuthentic."""
    lead_a_group()
    for attempt in range(_TRIES):
        try:
            return _dial_once(invitation, context)
        except (ssl.SSLCertVerificationError, NotAuthentic):
            raise  # it would be the same again
        except (OSError, EOFError) as error:
            failure: Exception = error
        if attempt < _TRIES - 1:
            sleep(_PAUSE * 2**attempt)
    place = f"{invitation.host}, port {invitation.port}"
    if isinstance(failure, EOFError):
        raise ConnectionRefusedError(f"the hub at {place} hung up: it does not expect this worker, or not any more")
    raise ConnectionError(f"the hub at {place} cannot be reached: {failure}") from failure


def lead_a_group() -> None:
    """Be alone in a process group, with what the model starts: it ends as a whole, and the one that this process was born in lives on."""
    try:
        os.setpgid(0, 0)
    except OSError:  # it leads a session, and so a group
        pass


def _dial_once(invitation: Invitation, context: Callable[[], ssl.SSLContext] | None) -> Channel:
    connection = socket.create_connection((invitation.host, invitation.port), timeout=_PATIENCE)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        keep_alive(connection, invitation.keepalive)
        sealed = _sealed(connection, invitation, context)
        bound_to = sealed.certificate() if sealed is not None and invitation.certificate else b""
        me = Hello.of_this_process(os.getpid())
        greeting = OfWorker(invitation.identity, invitation.token, me, bound_to=bound_to)
        _say(connection, sealed, greeting.first)
        while not greeting.done:
            _say(connection, sealed, greeting.feed(_hear(connection, sealed)))
        connection.setblocking(True)
    except BaseException:
        connection.close()
        raise
    fd = connection.detach()
    return Channel(fd) if sealed is None else SealedChannel(fd, sealed)


def _sealed(
    connection: socket.socket, invitation: Invitation, context: Callable[[], ssl.SSLContext] | None
) -> Seal | None:
    """The connection encrypted, as the invitation says; None if it is not to be."""
    if invitation.sealed == "not at all":
        return None
    if invitation.sealed == "by key":
        if not seal.HAS_KEYS:
            raise RuntimeError(
                f"the hub encrypts by a key, for which Python {sys.version.partition(' ')[0]} here is too old"
            )
        made = seal.context_of_key(invitation.identity, invitation.token)
    elif invitation.sealed == "by certificate":
        made = seal.context_for(invitation.certificate)
    elif context is None:
        raise RuntimeError("the hub encrypts by an SSLContext of its user's, and this worker was given none")
    else:
        made = context()
    sealed = Seal(made, server=False, host=invitation.host)
    data = b""
    while not sealed.done:
        try:
            said = sealed.feed(data)
        finally:  # also why it was refused
            connection.sendall(sealed.take())
        if said:
            raise NotAuthentic("the hub spoke before it was asked")
        if not sealed.done:
            data = connection.recv(_PIECE)
            if not data:
                raise EOFError
    return sealed


def _say(connection: socket.socket, sealed: Seal | None, data: bytes) -> None:
    if sealed is not None:
        sealed.put(data)
        data = sealed.take()
    connection.sendall(data)


def _hear(connection: socket.socket, sealed: Seal | None) -> bytes:
    """What comes next; not b""."""
    while True:
        data = connection.recv(_PIECE)
        if not data:
            raise EOFError
        if sealed is None:
            return data
        said = sealed.feed(data)
        if said:
            return said
        if sealed.over:
            raise EOFError


class SealedChannel(Channel):
    """The same under TLS, whose state two threads must not enter at once: the guard's, which reads, and one that writes.

    Nothing waits under `_entered`, neither for bytes nor for room. What is read goes on at once, so what epoll says of the descriptor is
    true: nothing lies here that was opened and not handed over.

    Invariant: `_reads` is the thread in which something is being opened. What a `__del__` says there goes `_aside`, for that thread must not
    wait for one that writes.
    """

    __slots__ = ("_entered", "_reads", "_seal")

    def __init__(self, fd: int, sealed: Seal) -> None:
        super().__init__(fd)
        self._seal = sealed
        self._entered = RLock()
        self._reads = 0

    def read_piece(self) -> list[Message]:
        """Wait for bytes; return the messages that they complete, maybe none. The end of the stream ends this process."""
        try:
            data = os.read(self.fd, self._piece)
        except OSError:
            data = b""
        if not data:
            die_with_the_hub()
        try:
            with self._entered:
                self._reads = get_ident()
                said = self._seal.feed(data)
                self._reads = 0
        except ssl.SSLError:
            die_with_the_hub()
        if self._aside:
            with self._writing:
                if not self._busy:
                    self._write_all()
        if self._seal.over and not said:
            die_with_the_hub()
        return self._reader.feed(said) if said else []

    def send(self, kind: int, link_id: int, body: bytes = b"") -> bool:
        """As in the clear."""
        if self._reads == get_ident():
            self._aside.append((kind, link_id, body))
            return True
        return super().send(kind, link_id, body)

    def _write(self, data: bytes) -> None:
        """A record that is sealed must leave, whole and in order. One that a signal handler of the model's cuts ends the stream, loudly."""
        view = memoryview(data)
        for start in range(0, len(view), _PIECE):
            try:
                with self._entered:
                    self._seal.put(view[start : start + _PIECE])
                    record = self._seal.take()
            except ssl.SSLError:
                die_with_the_hub()
            super()._write(record)
