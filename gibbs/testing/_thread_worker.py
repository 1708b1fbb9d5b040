"""A worker that is a thread of this process: the real worker's own code, over memory in the place of descriptors.

Knows the parts of `_worker`, and stands in for what is a process's: the stream, the claims, the signal, the end. Must never know of
the event loop: it calls `tell` when there is something to look at. Promises that after its end it says nothing and begins nothing, as
a process would; and that nobody else's code is interrupted.

A thread cannot be killed. So its end is what the hub sees at once, and the thread follows: it finds out when it speaks or listens next,
and what it runs is cut between two lines. Code that waits in C goes on until that returns.
"""

from __future__ import annotations

import sys
import threading
from _thread import get_ident
from collections import deque
from typing import TYPE_CHECKING, NoReturn

from gibbs import CurrentWorker, Ending

from .._model import here
from .._wire import payload, plain
from .._wire.messages import SETUP, UNFIT
from .._wire.page import private_page
from .._wire.recipe import Recipe
from .._worker.ear import Ear
from .._worker.pace import Pace
from .._worker.serve import live
from .._worker.stacks import stack_of
from .._worker.voice import Voice
from ._own_thread import become_a_worker
from ._probe import in_thread
from ._thread_interrupter import Killed, ThreadInterrupter
from ._thread_parts import ThreadChannel, ThreadClaims, ThreadInbox, ThreadLife

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType


class ThreadWorker:
    """One worker and its thread.

    Invariants, under `_changed`: `ending` is set once, and after that nothing is added to `heard` and nothing is begun; `idle` is true
    only while the thread waits for the hub, and nothing that it may take is there.
    """

    def __init__(self, name: str, tell: Callable[[], None]) -> None:
        self.heard: deque[bytes] = deque()  # what it has said, and the hub has not taken
        self.ending: Ending | None = None
        self.hung = False
        self.idle = False
        self.page = private_page()
        self.claims = ThreadClaims()
        self.interrupter = ThreadInterrupter(self.page)
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._tell = tell
        self._is_told = False  # of its end
        self._said: deque[bytes] = deque()  # what the hub has said, and it has not taken
        self._changed = threading.Condition()

    @property
    def works(self) -> bool:
        """Whether it is at something, of which the hub will hear."""
        return not self.idle and not self._is_told

    # ---- what the hub does to it

    def hear(self, data: bytes) -> bool:
        """The hub says something; False if it is gone."""
        with self._changed:
            if self.ending is not None:
                return False
            self._said.append(data)
            self.idle = self.idle and self.hung
            self._changed.notify_all()
        return True

    def hang(self) -> None:
        """From now on it takes nothing and says nothing, whatever its model does."""
        with self._changed:
            self.hung = True

    def go_on(self) -> None:
        """It hangs no more."""
        with self._changed:
            self.hung = self.idle = False
            self._changed.notify_all()

    def strike(self) -> None:
        """Interrupt the call that the page names, if it runs. Of one that hangs the hub asks again."""
        if not self.hung:
            self.interrupter.strike()

    def where(self) -> str:
        """Its stack, now; "" of one that hangs, or has not begun."""
        if self.hung or self.thread.ident is None:
            return ""
        return stack_of(None if self.idle else _outside(sys._current_frames().get(self.thread.ident)))  # noqa: SLF001

    def die(self, ending: Ending) -> None:
        """It ends, now; from any thread. Nothing happens the second time."""
        with self._changed:
            if self.ending is not None:
                return
            self.ending = ending
            self._changed.notify_all()
        if get_ident() != self.thread.ident:
            self.interrupter.kill()
        self._tell()
        self._is_told = True

    # ---- what the thread does; each raises Killed if its worker has ended

    def take(self) -> bytes:
        """Wait for what the hub says."""
        with self._changed:
            self._wait_while(lambda: self.hung or not self._said)
            data = b"".join(self._said)
            self._said.clear()
        return data

    def gate(self) -> None:
        """Wait while it hangs."""
        with self._changed:
            self._wait_while(lambda: self.hung)

    def comes(self, seconds: float) -> bool:
        """Whether the hub says something within so many seconds."""
        with self._changed:
            return self._wait_while(lambda: self.hung or not self._said, seconds)

    def say(self, data: bytes) -> None:
        """Say it to the hub."""
        with self._changed:
            self._wait_while(lambda: self.hung)
            self.heard.append(data)
        self._tell()

    def begin(self, mark: Callable[[], bool]) -> bool:
        """Begin a request, if it is still there: both in one, so that the hub sees after an end what has begun, and nothing else does."""
        with self._changed:
            self._wait_while(lambda: False)
            return mark()

    def _wait_while(self, held_up: Callable[[], bool], seconds: float | None = None) -> bool:
        def may_go_on() -> bool:
            self.idle = self.ending is None and held_up()  # each time that it is woken
            return not self.idle

        self._changed.wait_for(may_go_on, seconds)
        self.idle = False
        if self.ending is not None:
            raise Killed
        return not held_up()

    def exit(self, status: int) -> NoReturn:
        """End with this status."""
        self.die(Ending(how="exited", code=status))
        raise Killed

    # ---- its life

    def _run(self) -> None:
        status = 1
        try:
            try:
                self._live()
                status = 0
            finally:
                self.interrupter.retire()
        except Killed:
            pass
        except BaseException as exc:  # noqa: BLE001 - as the interpreter tells of it at the end of a process
            sys.excepthook(type(exc), exc, exc.__traceback__)
        self.die(Ending(how="exited", code=status))

    def _live(self) -> None:
        """As `_worker.serve`, in a thread."""
        self.interrupter.own = become_a_worker()
        in_thread.set(self.exit)
        channel = ThreadChannel(self)
        kind, _, body = channel.receive()
        if kind != SETUP:
            raise RuntimeError(f"the first message must be SETUP, not {kind}")
        setup = payload.loads(body)
        here.worker = CurrentWorker(setup["name"], setup["seat"], setup["incarnation"], setup["device"])
        self.interrupter.install()
        voice = Voice(setup)
        if setup["in_band"]:
            refusal = TypeError("a worker in a thread has no other way to be interrupted than its side channel")
            channel.send(UNFIT, 0, plain.dumps(("refused", voice.failure(refusal, "call"))))
            return
        inbox = ThreadInbox(self, channel)
        process = ThreadLife(self)
        ear, pace = Ear(setup, -1), Pace(self.page)
        live(Recipe(setup["recipe"]), channel, inbox, self.interrupter, ear, voice, pace, process)


_AT_THE_HUB = {
    method.__code__
    for method in (ThreadWorker.take, ThreadWorker.gate, ThreadWorker.comes, ThreadWorker.say, ThreadWorker.begin)
}


def _outside(frame: FrameType | None) -> FrameType | None:
    """This frame, or that in which it turns to the hub: what locks and the event loop do about it is no code of the model's."""
    outer = frame
    while outer is not None and outer.f_code not in _AT_THE_HUB:
        outer = outer.f_back
    return outer or frame
