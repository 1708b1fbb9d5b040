"""The hub's end of one worker, spoken by hand: what `check_launcher` says and hears.

Knows the wire, with and without a side channel. Decides nothing: a check says what must be.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any

import anyio
from anyio.lowlevel import checkpoint

from .._wire import payload, plain
from .._wire.failure import load_failure
from .._wire.frames import FrameReader, encode
from .._wire.messages import ANSWER, CALL, CANCEL, FAILURE, INTERRUPT, PACED, READY, SETUP, SKIPPED, TO_HUB, UNFIT
from .._wire.recipe import write_recipe

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..abc import WorkerProcess

GONE = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)
_AGAIN = 0.02  # seconds between two interrupts: the first may have come where a call must not be cut


class HubEnd:
    """A conversation with one process. `about` is what its READY said, `last_id` the last request's id."""

    def __init__(self, process: WorkerProcess, *, elsewhere: bool = True, silence: float | None = None) -> None:
        self.process = process
        self._elsewhere = elsewhere
        self._silence = silence
        self.about: dict[str, Any] = {}
        self.last_id = 0
        self._reader = FrameReader(TO_HUB)
        self._inbox: deque[tuple[int, int, bytes]] = deque()
        self._writing = anyio.Lock()

    async def say(self, kind: int, link_id: int = 0, body: bytes = b"") -> None:
        """Write one message."""
        async with self._writing:
            await self.process.stream.send(encode(kind, link_id, body))

    async def hear(self) -> tuple[int, int, bytes]:
        """The next message, but for those of how long requests take."""
        while not self._inbox:
            await self._read()
        return self._inbox.popleft()

    async def _read(self) -> None:
        messages = self._reader.feed(await self.process.stream.receive())
        self._inbox += [message for message in messages if message[0] != PACED]

    async def hear_the_end(self) -> None:
        """Return when the stream has ended, whatever comes before."""
        try:
            while True:
                await self.hear()
        except GONE:
            return

    async def shake_hands(self, factory: Callable[..., object], *args: object) -> int:
        """SETUP, and what answers it: READY or UNFIT."""
        recipe = write_recipe(factory, args)
        setup = {
            "name": "check",
            "seat": 0,
            "incarnation": 1,
            "device": None,
            "max_message": math.inf,
            "safe": False,
            "recipe": recipe,
            "in_band": self.process.side is None,
            "elsewhere": self._elsewhere,
            "silence": self._silence,
            "awake_below": 0.0,
            "logs": None,
        }
        await self.say(SETUP, 0, payload.dumps(setup))
        kind, _, body = await self.hear()
        if kind not in (READY, UNFIT):
            raise AssertionError(f"a worker must answer SETUP by READY or UNFIT, not by message {kind}")
        if kind == READY:
            self.about = plain.loads(body)
        return kind

    async def call(self, method: str, *args: object) -> int:
        """Send a request; return its id."""
        self.last_id += 1
        if self.process.side is not None:
            self.process.side.offer(1)
        await self.say(CALL, self.last_id, payload.dumps((method, args, {})))
        return self.last_id

    async def ask(self, method: str, *args: object) -> Any:
        """Send a request; return its result, or raise its exception."""
        link_id = await self.call(method, *args)
        kind, answered, body = await self.hear()
        if answered != link_id or kind not in (ANSWER, FAILURE):
            raise AssertionError(f"request {link_id} must be answered, not by message {kind} about {answered}")
        if kind == FAILURE:
            error = load_failure(body)
            if not isinstance(error, BaseException):
                raise AssertionError(f"the exception must travel as itself: {error!r}")
            raise error
        return payload.loads(body)

    async def is_skipped(self, link_id: int) -> bool:
        """Whether SKIPPED, for this request, is what comes next."""
        kind, answered, _ = await self.hear()
        return (kind, answered) == (SKIPPED, link_id)

    async def call_and_withdraw_behind(self, running: int, method: str) -> tuple[int, bool]:
        """Send a request behind one that runs, have it back, and interrupt the other.

        Returns how many could be had back, and whether the worker then says that it skipped it.
        """
        side = self.process.side
        async with anyio.create_task_group() as tg:
            tg.start_soon(self.call, method)  # a worker that is busy need not read it
            while self.last_id == running:
                await checkpoint()
            if side is None:
                taken = 1
                await self.say(CANCEL, running + 1)
            else:
                await self._begun(running)
                taken = side.take_back(2)
            await self.interrupt(running)
            skipped = await self.is_skipped(running + 1)
        return taken, skipped

    async def _begun(self, link_id: int) -> None:
        side = self.process.side
        while side is not None and side.begun() != link_id:  # noqa: ASYNC110 - a word in shared memory wakes nobody
            await anyio.sleep(0.001)

    async def interrupt(self, link_id: int) -> bool:
        """Interrupt a running request until something comes; whether that is its SKIPPED."""
        side = self.process.side
        if side is not None:
            await self._begun(link_id)
            side.aim(link_id)
        while not self._inbox:
            if side is None:
                await self.say(CANCEL, link_id, INTERRUPT)
            else:
                side.strike()
            with anyio.move_on_after(_AGAIN):
                await self._read()
        return await self.is_skipped(link_id)
