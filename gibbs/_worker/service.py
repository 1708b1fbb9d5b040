"""The road of a request in the worker: mark begun, open the arguments, call the model, close the result.

It is `Service.answer`. Must never know about seats, queues or hubs, nor what the worker lives in. Promises that every request is
answered by exactly one ANSWER, FAILURE, TOO_LARGE or SKIPPED, unless this process dies; and that nothing but the model's own call may be
interrupted.
"""

from __future__ import annotations

import math
import os
from time import monotonic, perf_counter_ns

from .._model import Interrupted, here
from .._wire.letter import loads
from .._wire.messages import (
    ANSWER,
    ASKS,
    BATCH,
    CALL_OF_MANY,
    DEADLINE,
    FAILURE,
    FREED_RESULT,
    LEAVE,
    REQUESTS,
    SECONDS,
    SKIPPED,
    STREAM,
    TO_STREAM,
    TRACK,
)
from .._wire.verbs import GENERATOR, PLAIN, refusal
from .batch import Batcher
from .context import GeneratorIn
from .health import Process, replace, wait_well
from .report import Reporter
from .stream import Streamer
from .traces import without_our_frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .channel import Channel
    from .context import Around, Contexts
    from .ear import Ear
    from .hooks import Hooks
    from .inbox import DirectInbox, InBandInbox
    from .interrupt import Interrupter
    from .pace import Pace
    from .voice import Voice

_DEADLINES = frozenset({DEADLINE})


class Service:
    """A model and the channel that it answers on.

    Invariant: `_body` is what came with the request that is being answered, until it is opened; nobody else keeps it.
    """

    def __init__(
        self,
        hooks: Hooks,
        methods: dict[str, str],
        contexts: Contexts,
        channel: Channel,
        inbox: DirectInbox | InBandInbox,
        interrupter: Interrupter,
        ear: Ear,
        voice: Voice,
        pace: Pace,
        process: Process,
    ) -> None:
        self._hooks = hooks
        self._model = model = hooks.model
        self._contexts = contexts
        self._deadline = (0, 0.0)  # a request, and when its caller's time is over
        # Refused in the caller too, but for requests that came before the first worker was ready.
        self._odd = {name: kind for name, kind in methods.items() if kind != PLAIN}
        self._streamer = Streamer(channel, inbox, interrupter, voice)
        self._reporter = Reporter(channel, interrupter, voice.word)
        self._batcher = Batcher(model, contexts, inbox, interrupter, ear, voice, self._after_interrupt)
        self._channel = channel
        self._inbox = inbox
        self._interrupter = interrupter
        self._ear = ear
        self._voice = voice
        self._pace = pace
        self._body = b""
        self._process = process
        self._pid = os.getpid()
        here.ask = self._ask

    def run(self) -> None:
        """Answer requests until the hub says LEAVE."""
        while True:
            if self._hooks.healthy is not None:
                wait_well(self._inbox, self._hooks.healthy, self._hooks.interval, self._process)
            kind, link_id, self._body = self._inbox.receive()
            if kind not in REQUESTS:
                self._channel.flush()
                if kind == LEAVE:
                    return
                if kind == FREED_RESULT:
                    self._voice.freed(link_id)
                elif kind == DEADLINE:
                    (left,) = SECONDS.unpack(self._body)
                    self._deadline = link_id, monotonic() + left
                elif kind == BATCH:
                    self._run_batch(int.from_bytes(self._body, "little"))
                elif kind not in TO_STREAM:  # that stream is over
                    raise RuntimeError(f"message {kind} makes no sense between two requests")
                continue
            began = self._pace.begin()
            answer = self.answer(kind, link_id)
            if answer[0] != SKIPPED:
                self._pace.took(perf_counter_ns() - began)
            self._send(answer, together=kind == CALL_OF_MANY)

    def _run_batch(self, count: int) -> None:
        here.deadline = math.inf  # each of them has its own
        began = self._pace.begin()
        answers = self._batcher.answers(count)
        for answer in GeneratorIn(self._contexts.of_nobody(), answers) if self._contexts else answers:
            self._send(answer)
        self._pace.took(perf_counter_ns() - began)

    def _send(self, answer: tuple[int, int, bytes], *, together: bool = False) -> None:
        """Answer a request, and tell before that which arguments nobody looks at any more."""
        if self._ear.news:
            for one in self._ear.freed():
                self._channel.send(*one)
        if together:
            self._channel.send_together(*answer)
        else:
            self._channel.send(*answer)

    def answer(self, verb: int, link_id: int) -> tuple[int, int, bytes]:
        """Run one request and return the message that answers it, of a stream the one that ends it."""
        if not self._inbox.begin(link_id):
            self._ear.skip(link_id, self._body)
            return SKIPPED, link_id, b""
        letter = self._ear.open(link_id, self._body)  # before it may be interrupted: what is borrowed must be known
        self._body = b""
        told, deadline = self._deadline
        if told == link_id:
            here.deadline = deadline
        else:
            here.deadline = math.inf if verb == STREAM else None
        interrupter = self._interrupter
        if verb == TRACK:
            self._reporter.begin(link_id)
        stage = "arguments"
        value: Any = None
        ending: tuple[int, int, bytes] | None = None  # of a stream, if it is not the generator's
        error: BaseException | None = None
        around: Around | None = None  # what came with the arguments
        try:
            # The inner block ends the interruptible part on every road out of it; an interrupt that comes before it has
            # done so is caught by the outer one.
            try:
                interrupter.begin(link_id)
                method, args, kwargs, *values = loads(letter)
                del letter  # or the arguments would be there twice while the call runs
                stage = "call"
                if verb == STREAM or self._odd:
                    self._check(method or "__call__", GENERATOR if verb == STREAM else PLAIN)
                call = getattr(self._model, method) if method else self._model
                if not values:
                    value = call(*args, **kwargs)
                else:
                    around = self._contexts.around(method, values)
                    around.enter(interrupter)
                    value = around.context.run(call, *args, **kwargs)
                if verb == STREAM:
                    if around is not None:
                        value = GeneratorIn(around.context, value)
                    del args, kwargs  # the generator keeps what it needs
                    ending = self._streamer.run(link_id, value)
                interrupter.end()
            except Interrupted:
                raise
            except BaseException as exc:  # noqa: BLE001 - the model may raise anything, SystemExit too
                interrupter.end()
                error = exc if stage == "arguments" else without_our_frames(exc)
        except Interrupted as exc:
            interrupter.end()
            error = exc  # the model's own doing, unless it was fired
        if around is not None:
            around.leave(error)
        here.deadline = math.inf
        if verb == TRACK:
            self._reporter.end()
        if interrupter.fired:
            error = None  # for the reason below
            self._after_interrupt()
            return SKIPPED, link_id, b""  # whatever the model made of it: nobody waits for this request
        if verb == STREAM and error is None:
            return ending or (ANSWER, link_id, b"")
        if error is not None:
            body = self._voice.failure(error, stage)
            # Its traceback knows this frame: together they would keep the arguments, and what is lent of them.
            error = None
            return FAILURE, link_id, body
        return self._voice.result(link_id, value)

    def _ask(self) -> float:
        """When the time of the running call's caller is over. The model has asked: nothing here may be interrupted."""
        if os.getpid() != self._pid:
            return math.inf  # a fork of the model's, which must not read what is the worker's
        return self._interrupter.undisturbed(self._ask_hub)

    def _ask_hub(self) -> float:
        link_id = self._interrupter.armed
        self._channel.send(ASKS, link_id)
        (left,) = SECONDS.unpack(self._inbox.receive_about(link_id, _DEADLINES)[1])
        return monotonic() + float(left)

    def _check(self, method: str, needed: str) -> None:
        kind = self._odd.get(method, PLAIN)
        if kind != needed:
            raise TypeError(f"{method!r} is {refusal(needed, kind)}")

    def _after_interrupt(self) -> None:
        """Let the model repair itself; one that cannot says so by raising, and is replaced."""
        self._channel.flush()
        repair = getattr(self._model, "after_interrupt", None)
        if repair is None:
            return
        try:
            repair()
        except BaseException as exc:  # noqa: BLE001 - whatever it is, the model asked to be replaced
            replace(self._process, exc)
