"""Where workers that were started elsewhere dial in: one port of this machine, open as long as its session.

Knows who is expected, and strangers. Must never know what started a worker, nor what is said on its stream. Promises that an invitation is
good for one worker, once, and not any more when it was revoked; that nothing a stranger says is unpickled, nor kept beyond a few kilobytes
and seconds; that strangers in any number turn away nobody who is expected; and that whoever dials, and is not who it should be, learns nothing
but that.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import socket
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakSet

import anyio
from anyio.lowlevel import checkpoint

from .._parent.own import own
from .._parent.socket_stream import SocketStream
from .._wire.greeting import TOKEN_SIZE, Invitation, NotAuthentic, OfHub
from .._wire.keepalive import keep_alive
from ..abc import LaunchFailed, LaunchRefused
from .encryption import Encryption
from .sealed_socket import SealedSocket, TellingSocket

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from anyio.abc import TaskGroup

    from .._wire.hello import Hello
    from .._wire.seal import Seal
    from .encryption import Encrypt

logger = logging.getLogger("gibbs")

MOST_STRANGERS = 128  # at a time; the next one takes the place of whoever has been one for longest
PATIENCE = 10.0  # seconds to say who one is
_MOST = 1 << 16  # bytes that a stranger may send, TLS and all
_BACKLOG = 128  # connections that the kernel takes before they are looked at
_BREATH = 0.1  # seconds before the next try where no connection can be had: there are too many open files
_PIECE = 1 << 12


class Arrival(NamedTuple):
    """A worker that was expected: its connection, the stream over that, and what it said of itself."""

    connection: TellingSocket
    stream: SocketStream
    hello: Hello


class Guest:
    """A worker that is expected. `invitation` is what it must be told."""

    def __init__(self, reception: Reception, invitation: Invitation) -> None:
        self.invitation = invitation
        self._reception = reception
        self._arrival: Arrival | None = None
        self._failure: LaunchFailed | None = None
        self._event = anyio.Event()

    async def arrived(self) -> Arrival:
        """Return when it is there, and has proven that it is the one. Raises LaunchRefused if it does not fit, or why it will not come."""
        await self._event.wait()
        if self._arrival is None:
            assert self._failure is not None
            raise self._failure
        misfit = self._arrival.hello.misfit()
        if misfit is not None:
            raise LaunchRefused(f"the worker on {self._arrival.hello.host} does not fit: {misfit}")
        return self._arrival

    def revoke(self) -> None:
        """From now on it is a stranger. If it is there, its stream is closed. Idempotent."""
        self._reception.strike_off(self)
        if self._arrival is not None:
            self._arrival.stream.close()

    def fail(self, failure: LaunchFailed) -> None:
        """It will not come. Of no effect if it is there."""
        if self._failure is None:
            self._failure = failure
        self._event.set()

    def receive(self, arrival: Arrival) -> None:
        """It is there."""
        self._arrival = arrival
        self._event.set()


class Reception:
    """Greets whoever dials. Invariant: in `_guests` is who is expected and has not come."""

    def __init__(self, listener: socket.socket, host: str, how: Encryption, keepalive: float) -> None:
        self._listener = listener
        self._host = host
        self._port: int = listener.getsockname()[1]
        self._how = how
        self._keepalive = keepalive
        self._guests: dict[str, Guest] = {}
        self._strangers: dict[anyio.CancelScope, None] = {}  # who has been one for longest comes first
        _of_this_program.add(listener)
        how.tell(self._key_of)

    @property
    def port(self) -> int:
        """On which it listens."""
        return self._port

    def expect(self) -> Guest:
        """Invite one worker."""
        invitation = Invitation(
            self._host,
            self._port,
            secrets.token_hex(16),
            secrets.token_bytes(TOKEN_SIZE),
            sealed=self._how.sealed,
            certificate=self._how.certificate,
            keepalive=self._keepalive,
        )
        guest = self._guests[invitation.identity] = Guest(self, invitation)
        return guest

    def strike_off(self, guest: Guest) -> None:
        """It is not expected any more."""
        self._guests.pop(guest.invitation.identity, None)

    def _key_of(self, identity: str) -> bytes:
        return self._token_of(identity) or b""

    def _token_of(self, identity: str) -> bytes | None:
        guest = self._guests.get(identity)
        return None if guest is None else guest.invitation.token

    # ---- its tasks

    async def accept(self, tg: TaskGroup) -> None:
        """Take connections until cancelled, whatever may be wrong with them."""
        while True:
            try:
                accepted, _ = self._listener.accept()
            except BlockingIOError:
                await anyio.wait_readable(self._listener)
                continue
            except OSError as error:
                if error.errno not in (errno.ECONNABORTED, errno.EINTR):
                    logger.warning("no worker can dial in for the moment: %s", error)
                    await anyio.sleep(_BREATH)
                continue
            connection = TellingSocket(fileno=accepted.detach())
            _of_this_program.add(connection)
            connection.setblocking(False)
            scope = anyio.CancelScope()
            self._strangers[scope] = None
            if len(self._strangers) > MOST_STRANGERS:
                longest = next(iter(self._strangers))
                del self._strangers[longest]
                longest.cancel()
            tg.start_soon(own(self._greet), connection, scope)
            await checkpoint()  # whoever dials without end does not keep the loop for itself

    async def _greet(self, connection: TellingSocket, scope: anyio.CancelScope) -> None:
        """Find out who it is; close the connection if it is nobody."""
        is_guest = False
        try:
            with scope, anyio.move_on_after(PATIENCE):
                with suppress(OSError):
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                keep_alive(connection, self._keepalive)
                is_guest = await self._meet(connection)
        except (
            OSError,
            NotAuthentic,
            anyio.EndOfStream,
            anyio.BrokenResourceError,
        ) as error:  # an SSLError is an OSError
            logger.info("somebody who dialled in was turned away: %s", str(error) or type(error).__name__)
        finally:
            self._strangers.pop(scope, None)
            if not is_guest:
                connection.close()

    async def _meet(self, connection: TellingSocket) -> bool:
        """Whether it is a guest, who has it all then. Raises what says why not."""
        admitted: list[Guest] = []

        def admit(identity: str) -> bool:
            guest = self._guests.pop(identity, None)
            if guest is not None:
                admitted.append(guest)
            return guest is not None

        raw = SocketStream(connection)
        sealed = self._how.seal()
        greeting = OfHub(self._token_of, admit, bound_to=self._how.bound_to)
        count = 0
        while greeting.hello is None:
            said = await raw.receive(_PIECE)
            count += len(said)
            if count > _MOST:
                raise NotAuthentic(f"it said more than {_MOST} bytes before it was known")
            if sealed is not None:
                said = await _open(sealed, raw, said)
                if sealed.over:
                    raise NotAuthentic("it hung up")
            if answer := greeting.feed(said) if said else b"":
                if sealed is not None:
                    sealed.put(answer)
                    answer = sealed.take()
                await raw.send(answer)
        stream = raw if sealed is None else SocketStream(SealedSocket(connection, sealed))
        admitted[0].receive(Arrival(connection, stream, greeting.hello))
        return True


async def _open(sealed: Seal, raw: SocketStream, data: bytes) -> bytes:
    """What it says under TLS; what that asks for is sent, also why it is refused."""
    try:
        return sealed.feed(data)
    finally:
        if answer := sealed.take():
            await raw.send(answer)


@asynccontextmanager
async def open_reception(
    host: str, ports: Sequence[int], *, encrypt: Encrypt, keepalive: float
) -> AsyncIterator[Reception]:
    """Listen on the first of these ports that is free, 0 for any, until the block is left. Raises LaunchRefused."""
    how = await Encryption.find(encrypt)
    listener = await _listen(host, ports)
    try:
        async with anyio.create_task_group() as tg:
            reception = Reception(listener, host, how, keepalive)
            tg.start_soon(own(reception.accept), tg, name="gibbs reception")
            try:
                yield reception
            finally:
                tg.cancel_scope.cancel()
    finally:
        anyio.notify_closing(listener)
        listener.close()


async def _listen(host: str, ports: Sequence[int]) -> socket.socket:
    failure: OSError | None = None
    try:
        found: Any = await anyio.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        family, address = found[0][0], found[0][4][0]
        for port in ports:
            listener = socket.socket(family, socket.SOCK_STREAM)
            try:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.setblocking(False)
                listener.bind((address, port))
                listener.listen(_BACKLOG)
                return listener
            except OSError as error:
                listener.close()
                failure = error
    except OSError as error:
        failure = error
    ways = f"on one of the ports {', '.join(map(str, ports))}" if len(ports) > 1 else f"on port {ports[0]}"
    raise LaunchRefused(f"workers cannot dial in at {host} {ways}: {failure}") from failure


# What a fork must let go of: with a copy of a connection it would keep workers from learning that the program is gone.
_of_this_program: WeakSet[socket.socket] = WeakSet()


def _disown_all() -> None:
    for sock in [*_of_this_program]:
        with suppress(OSError):
            sock.close()
    _of_this_program.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown_all)
