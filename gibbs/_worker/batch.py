"""Run several requests in one call of a method that takes a list, and answer each by itself.

Knows what the method's decorator says: how much fits into one call, and what its exception means. Promises that each request has
exactly one answer, whatever the method returns or raises; that an argument which cannot be opened, or a result that cannot be
brought back, hurts its own request only; and that the call is interrupted when nobody waits for any of them.
"""

from __future__ import annotations

from functools import partial

from .._batched import BatchMismatch, Failed, batch_of
from .._model import Interrupted
from .._wire.letter import loads
from .._wire.messages import CALL, FAILURE, SKIPPED
from .traces import without_our_frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from .context import Around, Contexts
    from .ear import Ear
    from .inbox import DirectInbox, InBandInbox
    from .interrupt import Interrupter
    from .voice import Voice

    Answer = tuple[int, int, bytes]


class _Member:
    """One request of a batch. Its item is opened, or `error` says why it has none; what it has come to is a result, or an error."""

    __slots__ = ("brought", "error", "item", "link_id", "method", "result", "size", "stage")

    def __init__(self, link_id: int) -> None:
        self.link_id = link_id
        self.method = ""
        self.brought: list[dict[int, Any]] = []  # of its caller's context; one at most
        self.item: Any = None
        self.size = 1.0
        self.result: Any = None
        self.error: BaseException | None = None
        self.stage = "arguments"


class Batcher:
    """One worker's way of running what came together."""

    __slots__ = ("_around", "_contexts", "_ear", "_inbox", "_interrupter", "_model", "_repair", "_voice")

    def __init__(
        self,
        model: Any,
        contexts: Contexts,
        inbox: DirectInbox | InBandInbox,
        interrupter: Interrupter,
        ear: Ear,
        voice: Voice,
        repair: Callable[[], None],
    ) -> None:
        self._model = model
        self._contexts = contexts
        self._around: Around | None = None  # the call that runs, until it was left
        self._inbox = inbox
        self._interrupter = interrupter
        self._ear = ear
        self._voice = voice
        self._repair = repair  # the model, after an interrupt

    def answers(self, count: int) -> Iterator[Answer]:
        """Receive so many requests, run them, and give the message that answers each, as soon as the call is over that it was in."""
        members, letters = [], []
        for _ in range(count):
            kind, link_id, body = self._inbox.receive()
            if kind != CALL:
                raise RuntimeError(f"message {kind} makes no sense in a batch")
            if self._inbox.begin(link_id):
                members.append(_Member(link_id))
                letters.append(self._ear.open(link_id, body))
            else:
                self._ear.skip(link_id, body)
                yield SKIPPED, link_id, b""
        if not members:
            return
        letters.reverse()
        if not self._interruptibly(members, lambda: self._open(members, letters), members[-1].link_id):
            yield from ((SKIPPED, member.link_id, b"") for member in members)
            return
        shares = list(self._shares(members))
        for member in members:
            if member.error is not None:
                yield self._answer(member)
        last = members[-1].link_id
        wanted = True
        for share in shares:
            wanted = wanted and self._interruptibly(share, partial(self._run, share), last)
            for member in share:
                yield self._answer(member) if wanted else (SKIPPED, member.link_id, b"")

    def _interruptibly(self, members: list[_Member], work: Callable[[], None], last: int) -> bool:
        """Do it. False: it was interrupted, since nobody waits for any of those that are not answered yet, `last` among them."""
        interrupter = self._interrupter
        try:
            # As in `Service.answer`: the inner block ends the interruptible part, the outer one catches what comes before that.
            try:
                interrupter.begin(members[0].link_id, last)
                work()
            finally:
                interrupter.end()
        except Interrupted as exc:
            interrupter.end()
            if self._around is not None:
                self._around.leave(exc)  # the interrupt came when it was about to be
                self._around = None
            for member in members:  # the model's own doing, unless it was fired
                member.error = exc
        if interrupter.fired:
            self._repair()
        return not interrupter.fired

    def _open(self, members: list[_Member], letters: list[Any]) -> None:
        for member in members:
            try:
                member.method, args, kwargs, *member.brought = loads(letters.pop())
                member.stage = "call"
                _, batch = batch_of(self._model, member.method)
                if len(args) != 1 or kwargs:
                    raise TypeError(f"{member.method or '__call__'}() is batched: it takes one item, and nothing else")
                [member.item] = args
                if batch.size_of is not None:
                    member.size = float(batch.size_of(member.item))
            except Interrupted:
                raise
            except BaseException as exc:  # noqa: BLE001 - the user's code may raise anything
                member.error = exc

    def _shares(self, members: list[_Member]) -> Iterator[list[_Member]]:
        """Those whose argument could be opened, as many together as fit into one call."""
        ready = [member for member in members if member.error is None]
        while ready:
            _, batch = batch_of(self._model, ready[0].method)
            share, size = 1, ready[0].size
            while share < len(ready) and size + ready[share].size <= batch.max_size:
                size += ready[share].size
                share += 1
            yield ready[:share]
            del ready[:share]

    def _run(self, members: list[_Member]) -> None:
        """Call the method with their items."""
        f, batch = batch_of(self._model, members[0].method)
        try:
            results = self._call(f, members)
            if len(results) != len(members):
                raise BatchMismatch(batch.name, len(members), len(results))
        except Interrupted:
            raise
        except BaseException as exc:  # noqa: BLE001 - the model may raise anything, SystemExit too
            if batch.on_error == "split" and len(members) > 1 and not isinstance(exc, BatchMismatch):
                half = len(members) // 2
                for part in (members[:half], members[half:]):
                    self._interrupter.check()
                    self._run(part)
                return
            for member in members:
                member.error = exc
            return
        for member, result in zip(members, results, strict=True):
            if isinstance(result, Failed):
                member.error = result.error
            else:
                member.result = result

    def _call(self, f: Callable[[list[Any]], Any], members: list[_Member]) -> list[Any]:
        """The method's list. A call of many callers is in nobody's context, but propagators know what all of them brought."""
        items = [member.item for member in members]
        brought = [values for member in members for values in member.brought]
        if not brought:
            return list(f(items))
        around = self._around = self._contexts.around(members[0].method, brought, alone=False)
        try:
            around.enter(self._interrupter)
            results = around.context.run(lambda: list(f(items)))
        except BaseException as exc:
            self._interrupter.undisturbed(partial(around.leave, exc))
            self._around = None
            raise
        self._interrupter.undisturbed(partial(around.leave, None))
        self._around = None
        return results

    def _answer(self, member: _Member) -> Answer:
        """Outside of what may be interrupted: closing a result is no code of the call's."""
        error, member.error = member.error, None
        if error is None:
            return self._voice.result(member.link_id, member.result)
        if member.stage == "call":
            error = without_our_frames(error)
        return FAILURE, member.link_id, self._voice.failure(error, member.stage)
