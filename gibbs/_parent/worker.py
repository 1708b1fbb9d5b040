"""One worker from its launch to its grave: handshake, requests, cleaning up an abandoned call, burial.

This is the only place that owns time for a worker: how long it may start, unwind, leave and die. It must never decide who
gets which request: it tells the dispatcher what happened and passes on what that orders. Promises that a worker once launched
is killed and reaped on every way out, also when this task is cancelled natively.
"""

from __future__ import annotations

import logging
import math
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import anyio

from .._core.dispatch import Violation
from .._core.ticket import Answer, answer_of
from .._records import Ending
from .._wire import payload
from .._wire.frames import FrameError
from .._wire.letter import ASIDE
from .._wire.messages import (
    ASKS,
    CLOSE,
    CREDIT,
    DEADLINE,
    FAILURE,
    FREED_ARGUMENTS,
    GIVEN_BACK,
    ITEMS,
    LEAVE,
    LOG,
    OUTCOMES,
    PACED,
    PING,
    READY,
    RECALL,
    REPORT,
    SECONDS,
    SETUP,
    SIZE,
    SKIPPED,
    STACKS,
    UNFIT,
)
from .arena import Shelf
from .hearsay import in_words, open_items, open_number, open_welcome
from .insist import insist
from .link import GONE
from .own import own
from .patience import PatientAlarm
from .stacks import LastLook, Whereabouts, place_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._core.dispatch import Dispatcher
    from .._core.orders import Grant, Interrupt, Order, Send
    from .._core.seat import Seat
    from .._core.ticket import Ticket
    from ..abc import WorkerProcess
    from .cleanups import Cleanups
    from .link import Link, Message
    from .stacks import Threads

logger = logging.getLogger("gibbs")

Over: TypeAlias = Literal[
    "stream",  # its end came, or it broke
    "exited",  # the process ended, whatever the stream says
    "violation",  # it said what makes no sense
    "timeout",  # its model was not built in time
    "closing",  # the hub closes and it is not ready yet
    "deadline",  # the hub closes and it has not left in time
    "cancel",  # a call that was abandoned did not unwind, or must not be interrupted
    "executed",  # somebody has decided that it must go, and says why in `violation`
    "cut",  # a task of its own was cancelled by other code, or its model could not be built
]

STRIKE_EVERY = 0.02  # seconds between two interrupts of one call: the first may have come inside an import
# Seconds that a worker which must be killed has to say what it gives back; one in C code says nothing.
ASK_PATIENCE = 0.25
# Seconds before the grace is over in which a worker is asked where it is, since it may have to be killed.
LAST_LOOK = 0.25
EXIT_PATIENCE = 0.2  # seconds between the end of the stream and a kill, so that the exit status is the worker's own
SIGNS = 3  # that a worker which ends itself in the silence of its hub may miss
REAP_PATIENCE = 5.0  # seconds for a killed process to be gone; one in an uninterruptible wait is reported and left


class Worker:
    """A launched process in its seat.

    Invariants: `over` is set once, with the first reason why this worker must go; `_unwanted` is the order of the seat's
    current INTERRUPTING, or None; `left` means that LEAVE was said and nothing is sent afterwards. `_asked_back` is how often a
    worker without a side channel was asked what it gives back, and has not said it; it was asked about all up to `_recalled`.
    """

    def __init__(
        self,
        process: WorkerProcess,
        link: Link,
        seat: Seat,
        dispatcher: Dispatcher,
        carry_out: Callable[[list[Order]], None],
        ask: Callable[[Ticket, Callable[[float], None]], None],
        log: Callable[[Seat, int, bytes], None],
        now: Callable[[], float],
        *,
        cancel_grace: float,
        max_message: float,
        trusted: bool,
        has_last_words: bool,
        lends: bool,
        cleanups: Cleanups,
    ) -> None:
        self.process = process
        self.link = link
        self.shelf = Shelf(process if trusted else None, max_message, lends=lends)
        self._trusted = trusted
        self._has_last_words = has_last_words
        self._heard_out = False  # whether all that it has ever said was heard
        self.welcome: tuple[int, Any] | None = None  # READY or UNFIT, with what it says
        self.over: Over | None = None
        self.ending = Ending(how="unknown", certain=False)  # until it is known
        self.violation: str | None = None  # what it did that made the hub kill it
        self.lost_to_a_cancel = False  # it died, or had to die, over an abandoned call
        self.left = False
        self.whereabouts = Whereabouts(seat, process, link)
        self.threads: Threads = ()  # where it was when it had to die over an abandoned call, if it said so
        self.deadline = math.inf  # of the hub's closing; finite once it closes
        self._seat = seat
        seat.has_page = not self.link.in_band
        self._dispatcher = dispatcher
        self._carry_out = carry_out
        self._ask = ask
        self._log = log
        self._now = now  # AnyIO does not know the time where no task runs, as where an answer is settled
        self._cancel_grace = cancel_grace
        self._cleanups = cleanups
        self._unwanted: Interrupt | None = None
        self._asked_back = 0
        self._recalled = seat.last_link_id
        self._alarm = PatientAlarm()

    # ---- what others tell it, synchronously

    def send(self, order: Send) -> None:
        """Write requests: at once to a worker that has nothing, else with others."""
        seat, link_id, tickets, together = order
        messages = self.shelf.messages(link_id, tickets, together=together, now=self._now)
        self.link.send_all(messages, later=len(seat.held) > len(tickets))

    def grant(self, order: Grant) -> None:
        """Let it send so many more items of a stream."""
        self.link.send(CREDIT, order.link_id, order.items.to_bytes(SIZE, "little"))

    def recall(self) -> list[int] | None:
        """Have back what the worker has not begun, whatever it says of its claims. Returns the link ids; None: it is asked, and will say."""
        if self.link.in_band:
            if self._recalled < self._seat.last_link_id:  # else it has said it, or is about to
                self._recalled = self._seat.last_link_id
                self._asked_back += 1
                self.link.send(RECALL)
            return None
        begun = max(self._seat.begun, self.link.begun() or 0)
        waiting = [link_id for link_id in self._seat.held if link_id > begun]
        return waiting[len(waiting) - self.link.take_back(len(waiting)) :]

    def clean_up(self, order: Interrupt) -> None:
        """The running call has been abandoned: get the seat back, or end the worker."""
        self._unwanted = order
        self._alarm.ring()

    def execute(self, why: str) -> None:
        """It must go at once, whatever it is doing."""
        if self.over is None:
            self.violation = why
            self._end("executed")

    def close(self, deadline: float) -> None:
        """The hub closes: leave when idle, and at the deadline be killed."""
        self.deadline = min(self.deadline, deadline)
        self._alarm.ring()

    # ---- its life

    async def live(self, setup: dict[str, Any], serve: Callable[[], None], *, start_deadline: float) -> None:
        """Build the model, call `serve` when that is done, answer requests until something ends it. Does not bury."""
        async with anyio.create_task_group() as tg:
            try:
                for task in (self._pump, self._write, self._watch):
                    tg.start_soon(own(task))
                if (silence := setup["silence"]) is not None:
                    tg.start_soon(own(self._give_signs), silence / SIGNS)
                setup["in_band"] = self.link.in_band
                self.link.send(SETUP, 0, payload.dumps(setup))
                in_time = True
                while in_time and self.welcome is None and self.over is None and self.deadline == math.inf:
                    start_deadline += await self._alarm.wait_until(start_deadline, deadline=start_deadline)
                    in_time = self._now() < start_deadline
                if self.welcome is None:
                    self._end("closing" if in_time else "timeout")
                elif self.welcome[0] == READY and self.over is None:
                    serve()
                    await self._attend()
            finally:
                # What is synchronous comes first: a native cancel may cut every await from here on.
                if self.over not in ("stream", "exited"):
                    self.process.kill()
                tg.cancel_scope.cancel()

    async def _attend(self) -> None:
        """Do what takes time, as it comes up, until the worker is over."""
        while self.over is None:
            if self._unwanted is not None:
                await self._unwind(self._unwanted)
            elif self.deadline < math.inf and not self._seat.held and not self.left:
                self.left = True
                self.link.send(LEAVE)
            elif self._now() >= self.deadline:
                self._end("deadline")
            else:
                with anyio.CancelScope(deadline=self.deadline):
                    await self._alarm.wait()

    async def _unwind(self, order: Interrupt) -> None:
        """Get the seat back from an abandoned call, or end the worker.

        Grace counts from the moment that the worker can begin the call: nothing is before it, and its message has left. One
        that stopped taking its message has no longer.
        """
        link_id, how = order.link_id, order.how
        for one in [*self._seat.held] if self._seat.together else [link_id]:  # in band each is told by itself
            self.link.aim(one, interrupt=how == "interrupt")
        ticket = self._seat.held.get(link_id)
        if ticket is not None and ticket.flow is not None:
            self.link.send(CLOSE, link_id)
        grace = math.inf if how == "finish" else self._cancel_grace
        asking_ends = self._now() + ASK_PATIENCE
        taken, has_left, grace_ends = -1, False, math.inf
        self._alarm.renew()
        pause, last_look = 0.001, LastLook(self.whereabouts)
        while self.over is None and self._unwanted is order and link_id in self._seat.held:
            now = self._now()
            if not has_left and taken != self.link.pieces_taken:
                taken = self.link.pieces_taken
                grace_ends = now + grace
                has_left = self.link.flushed  # what leaves from now on is interrupts, where they go in band
            begun = self.link.begun()
            is_asked = self._asked_back > 0 and now < asking_ends  # what waits behind would go with it
            may_kill = not is_asked and (begun is None or begun >= link_id)
            if now >= grace_ends - min(LAST_LOOK, grace / 2):
                last_look.take()
            if (how == "kill" and may_kill) or now >= min(grace_ends, self.deadline):
                self.threads = last_look.threads
                self._end("cancel")
                break
            if how == "interrupt" and (has_left or not self.link.in_band):
                self.link.strike(link_id)
                pause = STRIKE_EVERY
            ends = asking_ends if is_asked and how == "kill" else grace_ends
            more = await self._alarm.wait_until(min(now + pause, grace_ends, self.deadline), deadline=ends)
            asking_ends, grace_ends = asking_ends + more, grace_ends + more
            pause = min(2 * pause, STRIKE_EVERY)
        if self.over is not None and link_id in self._seat.held:
            self.lost_to_a_cancel = True
            self._count(self._seat.held[link_id], kept=False)
            if last := place_of(self.threads):
                logger.warning(
                    "worker %d (pid %s) is killed, since a cancelled call has not unwound in %.3g seconds: it was at %s",
                    self._seat.index,
                    self.process.origin.pid,
                    self._cancel_grace,
                    last,
                )
        if self._unwanted is order:
            self._unwanted = None

    def _count(self, ticket: Ticket, *, kept: bool) -> None:
        self._cleanups.count(self._seat, ticket, kept=kept, closing=self.deadline < math.inf)

    def begun(self) -> int | None:
        """Once it is buried: the last request that it may have begun; None: nobody knows."""
        if not self.ending.certain:  # it may still run, and begin what it holds
            return None
        if not self.link.in_band:
            return self.link.begun()
        if not (self._has_last_words and self._heard_out):
            return None
        held = self._seat.held  # it answers each before it begins the next, and all that it has said was heard
        return next(reversed(held) if self._seat.together else iter(held), 0)

    async def bury(self) -> None:
        """Kill what is left, reap it, hear its last words; `ending` then says how it ended."""
        self._carry_out(self._dispatcher.condemn(self._seat))
        if self.over not in ("stream", "exited"):
            self.process.kill()
        await insist(self._bury)

    async def _bury(self) -> None:
        ending: Ending | None = None
        if self.over == "stream":
            with anyio.move_on_after(EXIT_PATIENCE):
                ending = await self.process.ended()
        if ending is None:
            self.process.kill()
            with anyio.move_on_after(REAP_PATIENCE):
                ending = await self.process.ended()
            if self.over == "stream" and ending is not None and ending.signal == "SIGKILL":
                self.violation = (
                    self.violation or f"its stream had ended and its process had not, {EXIT_PATIENCE} seconds later"
                )
        if ending is not None:
            self.ending = ending
        else:
            logger.error("worker %d (pid %s) was killed but is not gone", self._seat.index, self.process.origin.pid)
        # What follows a lie is not believed, whether it came in one piece with the lie or in the next.
        if self.over != "violation":
            try:
                self._heard_out = await self.link.drain(self._take)
            except (FrameError, Violation) as error:
                self.violation = self.violation or in_words(error)
        await self.process.aclose()

    # ---- its tasks

    async def _pump(self) -> None:
        """Receive what is there and settle it."""
        try:
            await self.link.listen(self._hear)
        except GONE:
            self._end("stream")
        except (FrameError, Violation) as error:
            self.violation = in_words(error)
            self._end("violation")
        finally:
            self._end("cut")  # this task alone was cancelled: nobody would read any more

    async def _write(self) -> None:
        try:
            await self.link.write_outbox()
            self._end("stream")
        finally:
            self._end("cut")

    async def _watch(self) -> None:
        """The process's end, which its stream need not show: a forked grandchild can hold it open."""
        try:
            await self.process.ended()
            self._end("exited")
        finally:
            self._end("cut")

    async def _give_signs(self, interval: float) -> None:
        """Let a worker that is somewhere else know that its hub lives."""
        try:
            while True:
                await anyio.sleep(interval)
                if not self.left:
                    self.link.send(PING)
        finally:
            self._end("cut")

    def _hear(self, messages: list[Message]) -> None:
        """What came in one piece."""
        answers: list[tuple[int, Answer]] = []
        try:
            for kind, link_id, body in messages:
                if kind in OUTCOMES and self.welcome and self._unwanted is None and self.deadline == math.inf:
                    body = self.shelf.open(kind, link_id, body) if body and body[0] == ASIDE else body
                    answers.append((link_id, answer_of((kind == FAILURE, body, False))))
                else:
                    self._take(kind, link_id, body)
        finally:  # also when what came behind them is a lie
            if answers:
                if (service_time := self.link.service_time) != self._seat.service_time:
                    self._carry_out(self._dispatcher.paced(self._seat, service_time))
                self._carry_out(self._dispatcher.answered_all(self._seat, answers))

    def _take(self, kind: int, link_id: int, body: bytes) -> None:
        """One message of the worker."""
        if kind == LOG:
            self._log(self._seat, link_id, body)
            return
        if kind == STACKS:
            self.whereabouts.hear(body)
            return
        if (self.welcome is None) != (kind in (READY, UNFIT)):
            raise Violation(f"message {kind} makes no sense from a worker that is {self._seat.state}")
        if self.welcome is None:
            self.welcome = kind, self.shelf.meet(kind, open_welcome(kind, body, trusted=self._trusted))
            self._alarm.ring()
            return
        if kind == FREED_ARGUMENTS:
            self.shelf.given_back(link_id)
            return
        if kind == ITEMS:
            self._dispatcher.arrived(self._seat, link_id, open_items(body))
            return
        if kind == REPORT:
            self._dispatcher.reported(self._seat, link_id, body)
            return
        if kind == PACED:
            self.link.told_pace = link_id * 1e-9
            return
        if kind == GIVEN_BACK:
            self._give_back(open_number(body), link_id)
            return
        ticket = self._seat.held.get(link_id)
        if kind == ASKS:
            if ticket is None:
                raise Violation(f"it asks about request {link_id}, which it does not hold")
            self._ask(ticket, partial(self._tell, link_id))
            return
        if kind == SKIPPED:
            orders = self._dispatcher.skipped(self._seat, link_id)
        else:
            orders = self._dispatcher.answered(self._seat, link_id, self.shelf.outcome(kind, link_id, body))
        if self._unwanted is not None and self._unwanted.link_id == link_id:
            self._unwanted = None  # that call is over
            self._alarm.ring()
            if ticket is not None:
                self._count(ticket, kept=self.over is None)
        self._carry_out(orders)
        if self.deadline < math.inf:
            self._alarm.ring()

    def _give_back(self, begun: int, last: int) -> None:
        if not self._asked_back:
            raise Violation("it gave back what it was not asked for")
        self._asked_back -= 1
        given_back = [one for one in self._seat.held if begun < one <= last]
        self._carry_out(self._dispatcher.given_back(self._seat, given_back))
        self._alarm.ring()

    def _tell(self, link_id: int, seconds: float) -> None:
        self.link.send(DEADLINE, link_id, SECONDS.pack(seconds))

    def _end(self, reason: Over) -> None:
        if self.over is None:
            self.over = reason
            self._carry_out(self._dispatcher.condemn(self._seat))
            self._alarm.ring()
