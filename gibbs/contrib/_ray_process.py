"""One Ray actor as a worker's process: how it comes, what proves that it is gone, and what Ray is asked when it should be.

Knows Ray's words. Must never know what is said on the stream. Promises that whatever may wait for Ray does so in a thread, and not for ever;
that of a launch which raises or is cancelled no actor is left; and that an end is called certain only if nobody but the process can have made
it: Ray calls an actor dead as soon as it was asked to kill it, and a host that is frozen knows nothing of that.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from gibbs import Ending, Origin

from ..abc import LaunchFailed, LaunchRefused
from ._ray_actor import GibbsWorker
from ._ray_words import Word, elsewhere, failed, in_words, is_dead, kill, nodes_alive

if TYPE_CHECKING:
    from .._launch.reception import Arrival, Guest
    from .._parent.socket_stream import SocketStream
    from ._ray_session import RaySession

_LEAVE_PATIENCE = 1.2  # seconds for a worker whose stream has ended to be gone, before Ray is asked to kill it
_SOON = 0.3  # seconds for Ray to say so where the stream ended first
RAY_PATIENCE = (
    1.0  # seconds for Ray to do what it was asked, or to answer; all of this is less than a hub waits for a burial
)
_CLOSED_PATIENCE = 0.5  # seconds between Ray's word that it has killed a process and the end of its stream


class RayProcess:
    """An actor, from the wish for one until it is gone.

    Invariants: `_ending` is set once it is known, or declared, to be gone; `_killed` before Ray is asked to kill it, and from then on what
    Ray says of its death proves nothing.
    """

    side = None  # its stream is all there is
    device = None  # Ray tells the model itself

    def __init__(self, session: RaySession, guest: Guest) -> None:
        self.silence = session.silence
        self._session = session
        self._guest = guest
        self._where = Word(self._hear_where)
        self._over = Word(self._hear_over)
        self._told = anyio.Event()  # whether it is gone: Ray has said so, or will not any more
        self._arrival: Arrival | None = None
        self._actor: Any = None
        self._given_up = False
        self._asked_to_go = False
        self._killed = False
        self._closed = False
        self._ending: Ending | None = None

    # ---- how it comes

    def make(self, avoided: list[str]) -> None:
        """Ask Ray for the actor. In a thread: Ray may have to be waited for."""
        import ray

        if not ray.is_initialized():  # else Ray would start a cluster of its own
            raise LaunchRefused("the Ray of this program was shut down")
        try:
            options = elsewhere(self._session.options, avoided)
            actor: Any = ray.remote(GibbsWorker).options(**options).remote()
        except (TypeError, ValueError) as error:
            raise LaunchRefused(f"Ray does not take what it is asked for: {error}") from error
        except Exception as error:
            raise LaunchFailed(f"Ray made no actor: {in_words(error)}") from error
        self._actor = actor
        self._where.follow(actor.where.remote())
        self._over.follow(actor.serve.remote(self._guest.invitation.text(), self._session.context))
        if self._given_up:  # meanwhile; or whoever gives up sees the actor
            kill(actor)

    async def begin(self) -> None:
        """Return when it has dialled back. Raises LaunchFailed, or LaunchRefused."""
        self._arrival = await self._guest.arrived()
        await self._where.said.wait()
        if self._where.error is not None:
            raise failed(self._where.error)

    def _hear_where(self) -> None:
        if self._where.error is not None:
            self._guest.fail(failed(self._where.error))

    def _hear_over(self) -> None:
        self._guest.fail(failed(self._over.error))
        self._told.set()

    def give_up(self) -> None:
        """It is not wanted any more: whatever comes of it is a stranger."""
        self._given_up = True
        self._guest.revoke()

    async def bury(self) -> None:
        """End an actor that has not become a worker."""
        if self._actor is not None and self._ending is None:
            self._asked_to_go = True
            await self._kill_by_ray()
            await self.ended()
        self._closed = True

    # ---- while it is there

    @property
    def stream(self) -> SocketStream:
        assert self._arrival is not None
        return self._arrival.stream

    @property
    def origin(self) -> Origin:
        hello = None if self._arrival is None else self._arrival.hello
        host = "" if hello is None or hello.host == os.uname().nodename else hello.host
        return Origin(launcher="ray", host=host, pid=None if hello is None else hello.pid)

    # ---- how it goes

    def kill(self) -> None:
        """End its stream, with which the worker ends; Ray is asked if that does not help."""
        if self._ending is not None or self._asked_to_go:
            return
        self._asked_to_go = True
        wait = 0.0
        if self._arrival is not None:
            wait = _LEAVE_PATIENCE if self._arrival.connection.closed_there is None else _SOON
            with suppress(OSError):
                self._arrival.connection.shutdown(socket.SHUT_WR)
        self._session.later(wait, self._kill_by_ray)

    async def _kill_by_ray(self) -> None:
        if self._ending is not None or (self._over.said.is_set() and is_dead(self._over.error)):
            return
        self._killed = True
        await self._session.ask(partial(kill, self._actor), None)
        with anyio.move_on_after(RAY_PATIENCE):
            await self._over.said.wait()
        self._told.set()

    async def ended(self) -> Ending:
        while self._ending is None:
            await self._told.wait()
            if not self._killed and not is_dead(self._over.error):  # the call is over, and its actor is still there
                await self._kill_by_ray()
            ending = await self._judge()
            if self._ending is None:
                self._ending = ending
                self._actor = None
        return self._ending

    async def _judge(self) -> Ending:
        """What is known of it, now that Ray has said something or should have."""
        ending = await self._look()
        if not ending.certain and self._where.result is not None:
            self._session.avoid(self._where.result[0])
        return ending

    async def _look(self) -> Ending:
        error = self._over.error
        if not self._over.said.is_set():
            patience = _LEAVE_PATIENCE + RAY_PATIENCE
            return _lost(f"Ray did not say within {patience:g} seconds that its actor is gone")
        words = in_words(error)
        if self._where.result is not None:
            node = self._where.result[0]
            nodes = await self._session.ask(nodes_alive, None)
            if nodes is None:
                return _lost(f"Ray does not answer; it had said: {words}")
            if node not in nodes:
                return _lost(f"its node is dead, says Ray: {words}")
        if not is_dead(error) or (self._killed and not await self._is_closed_there()):
            return _lost(f"nothing proves that its process is gone: {words}")
        return Ending(how="unknown", detail=f"its actor is dead, says Ray: {words}")

    async def _is_closed_there(self) -> bool:
        """Whether the other end of its connection is closed, or will be in a moment: its kernel says so when the process ends."""
        if self._arrival is None:
            return True  # it has never had a model
        connection = self._arrival.connection
        with anyio.move_on_after(_CLOSED_PATIENCE):
            while connection.closed_there is None and not self._closed:
                with suppress(OSError):
                    connection.recv(1, socket.MSG_PEEK)
                await anyio.sleep(0.005)  # the link may be waiting for the same socket, and only one may
        return connection.closed_there is True

    async def aclose(self) -> None:
        self.kill()
        self._closed = True
        self._guest.revoke()
        if self._arrival is not None:
            await self._arrival.stream.aclose()

    @property
    def finished(self) -> bool:
        """Whether nothing is left of it."""
        return self._closed and (self._ending is not None or self._actor is None)


def _lost(detail: str) -> Ending:
    return Ending(how="lost", certain=False, detail=detail)
