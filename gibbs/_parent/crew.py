"""All seats of one hub together: opens them, carries out what the dispatcher orders, decides by the policy when to give up.

Knows the hub's options and every supervisor. Must never read a payload, nor wait for a request. Promises that the crew
fails once, with the first reason; that whoever waits learns of it; and that after `close` every supervisor comes to its end.
"""

from __future__ import annotations

import logging
import math
import random
from collections import deque
from typing import TYPE_CHECKING, Any

import anyio

from .._core.dispatch import LARGE, Dispatcher
from .._core.orders import Dismiss, Grant, Interrupt, Order, Recall, Send
from .._core.restarts import Restarts
from .._core.seat import Seat
from .._errors import GibbsError, HubClosed, RestartsExhausted, WorkerCrashed, WorkerStartFailed
from .._wire.lender import Lender
from ..abc import LaunchRefused
from .cleanups import Cleanups
from .clock import Clock
from .logs import Records
from .opening import Opening
from .own import own
from .recycler import Recycler
from .repertoire import Repertoire
from .scaler import Scaler
from .staffing import Staffing
from .supervisor import Supervisor
from .turns import Turns
from .waiter import News, running_loop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyio.abc import TaskGroup

    from .._core.ticket import Ticket
    from .._errors import ClosedReason
    from .._options import HubOptions
    from .arena import Shelf
    from .crash_records import CrashRecords
    from .fleet import Fleet
    from .observers import Observers

logger = logging.getLogger("gibbs")


class Crew:
    """The supervisors and what they share.

    Invariants: `closed` goes from None to "draining" at most, then to "closed" or "failed", and once it is set no request is
    accepted; `failure` is set once, before the hub's waiters are told; `news` is announced after every change that somebody
    may wait for.
    """

    def __init__(self, options: HubOptions, recipe: bytes, fleet: Fleet, *, cancel_body: Callable[[], None]) -> None:
        self.options = options
        self.recipe = recipe
        posts = fleet.posts[: options.least + options.spares]
        seats = [Seat(index, is_far=not post.traits.same_host) for index, post in enumerate(posts)]
        self.loop = running_loop()
        self.observers: Observers | None = None  # nobody: nothing is written down
        self.dispatcher = self._dispatcher(seats)
        self.supervisors = [
            Supervisor(seat, post, self, recipe, place=seat.index) for seat, post in zip(seats, posts, strict=True)
        ]
        self.not_buried: list[Shelf] = []  # of workers that could not be reaped: what they were lent is never free
        self.cleanups = Cleanups(self.observers)
        self.crash_records: CrashRecords | None = None  # written by who opens the hub
        self.records = Records(options.name, wanted=options.logs)
        self.lender = None if fleet.arguments is None else Lender(fleet.arguments, options.max_message)
        self.news = News()
        self.turns = Turns()
        self.repertoire = Repertoire(options, self.dispatcher)
        self.closed: ClosedReason | None = None
        self.failure: BaseException | None = None
        self._tg: TaskGroup | None = None  # of the seats' tasks
        self._cancel_body = cancel_body
        self._restarts = Restarts(options.restarts)
        self._problems: deque[GibbsError] = deque(maxlen=16)  # the last failures, for RestartsExhausted
        self.opening = Opening(self)
        self._running = 0  # tasks of the hub's own
        self.restarts = 0  # workers started in the place of one that had died, or had not become ready
        self.staffing = Staffing(self, fleet.posts)
        self.closing = anyio.Event()  # set when the hub takes no more requests
        self.clock = Clock(self)
        self.scaler = None if options.elastic is None else Scaler(self, options.elastic)

    def _dispatcher(self, seats: list[Seat]) -> Dispatcher:
        options = self.options
        if not options.observers:
            return Dispatcher(seats, quota=options.least, urgent=options.order == "deadline")
        from .observers import Observers, WatchedDispatcher  # which take some milliseconds

        watched = WatchedDispatcher(seats, quota=options.least, urgent=options.order == "deadline")
        self.observers = Observers(options, watched, self.loop.now)
        return watched

    # ---- opening

    def start(self, tg: TaskGroup) -> None:
        """Begin to fill the seats."""
        self._tg = tg
        for supervisor in self.supervisors:
            self.fill(supervisor)
        self.clock.start()
        if (recycle := self.options.restarts.recycle) is not None:
            Recycler(self, recycle).start()
        if self.scaler is not None:
            self.spawn(self.scaler.run, "scaling")

    def fill(self, supervisor: Supervisor) -> None:
        """Begin to fill one seat; not where the hub has closed meanwhile."""
        if self.is_over:
            supervisor.close(self.loop.now())
        self.spawn(supervisor.run, f"seat {supervisor.seat.index}")

    def spawn(self, run: Callable[[], Awaitable[None]], name: str) -> None:
        """Run it in a task of the hub's own, whose failure is the hub's."""
        assert self._tg is not None
        self._tg.start_soon(own(self._watched), run, name=f"gibbs {self.options.name} {name}")

    async def _watched(self, run: Callable[[], Awaitable[None]]) -> None:
        self._running += 1  # here: a task that is cancelled before it begins must not be waited for
        try:
            await run()
        except anyio.get_cancelled_exc_class():  # a native cancellation; its end is the hub's, not this task group's
            self.fail(RuntimeError(f"a task of the hub {self.options.name!r} was cancelled by other code"))
        except BaseException as error:  # noqa: BLE001 - the others are shielded and must be told to stop
            while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:  # made by a worker's task group
                error = error.exceptions[0]
            self.fail(error)
            if not isinstance(error, Exception):  # on asyncio a second Ctrl-C is raised where it comes: nobody waits
                self.close(0.0)
        finally:
            self._running -= 1
            self.news.announce()

    # ---- what supervisors report

    def became_ready(self, seat: Seat, about: dict[str, Any]) -> None:
        """A worker serves from now on."""
        if self.repertoire.methods is None:
            self.repertoire.learn(about)
        self._restarts.ready(seat.index)
        self.carry_out(self.dispatcher.ready(seat, on_cancel="interrupt" if about["interruptible"] else "kill"))
        self.news.announce()

    async def start_failed(self, seat: Seat, problem: WorkerStartFailed) -> float:
        """A worker did not become ready. Returns the seconds until the next attempt; while the hub opens there is none."""
        if not self.opening.is_over:
            await self.opening.failed(problem)
        if self.is_over:  # a hub that drains goes on: it owes answers
            return math.inf
        logger.warning("%s", problem)
        if isinstance(problem.__cause__, LaunchRefused):
            self.fail(problem)
            return math.inf
        pause = self._restarts.failed_start(seat.index, self.loop.now(), random.random())
        return self._go_on_or_give_up(problem, pause)

    def crashed(self, seat: Seat, ready_at: float, problem: WorkerCrashed) -> float:
        """A worker that had been ready died unplanned. Returns the seconds until its seat is filled again."""
        logger.warning(
            "worker %d of the hub %r (pid %s, incarnation %d) died: %s",
            seat.index,
            self.options.name,
            problem.pid,
            problem.incarnation,
            problem.how,
        )
        pause = self._restarts.crashed(seat.index, self.loop.now(), ready_at, random.random())
        return self._go_on_or_give_up(problem, pause)

    def _go_on_or_give_up(self, problem: GibbsError, pause: float | None) -> float:
        self._problems.append(problem)
        if pause is None:
            error = RestartsExhausted(self.options.name, tuple(self._problems))
            error.__cause__ = problem
            self.fail(error)
            return math.inf
        self.news.announce()
        return pause

    # ---- orders

    def carry_out(self, orders: list[Order]) -> None:
        """Do what the dispatcher decided: nothing here waits."""
        for order in orders:  # a recall adds to them
            if isinstance(order, Dismiss):
                self.supervisors[order.seat.index].dismiss()
                continue
            worker = self.supervisors[order.seat.index].worker
            if worker is None:
                raise AssertionError(f"{order} is for a seat without a worker")
            if isinstance(order, Send):
                worker.send(order)
                if not self.clock.is_ticking and (len(order.seat.held) > 1 or len(order.tickets[0].payload) > LARGE):
                    self.clock.tick_on()
                for rounds in self.clock.rounds:
                    if rounds.sleeps:
                        rounds.wake()
            elif isinstance(order, Grant):
                worker.grant(order)
            elif isinstance(order, Interrupt):
                worker.clean_up(order)
            else:
                assert isinstance(order, Recall)
                given_back = worker.recall()
                if given_back is not None:
                    orders += self.dispatcher.given_back(order.seat, given_back)
                self.clock.waits.ring()
        if self.observers is not None:
            self.observers.tell()

    def ask(self, ticket: Ticket, question: Callable[[float], None]) -> None:
        """A worker asks how many seconds the caller of a request will wait: nobody but that caller's own task can tell."""
        if ticket.ended:
            question(-math.inf)
        elif ticket.deadline is not None:
            question(ticket.deadline - self.loop.now())
        else:
            ticket.question = question
            if ticket.waiter is not None:
                self.loop.wake(ticket.waiter)

    def look_at(self, seat: Seat) -> None:
        """Settle what the seat's worker has said, without waiting until the loop has noticed."""
        worker = self.supervisors[seat.index].worker
        if worker is not None:
            worker.link.look()

    # ---- the end

    def drain(self) -> None:
        """Take no new requests; those that were accepted go on."""
        if self.closed is None:
            self.closed = "draining"
            self.closing.set()
            self.carry_out(self.dispatcher.drain())
            if self.observers is not None:
                self.observers.changed("draining")
            self.news.announce()

    def fail(self, error: BaseException) -> None:
        """Supervision gives up: the body is cancelled, then everybody who waits is told why. The first reason stands."""
        if self.failure is None:
            self.failure = error
            if self.closed != "closed":
                self.closed = "failed"
                if self.observers is not None:
                    self.observers.changed("failed", error)
                self._cancel_body()  # before the waiters wake: one that is the body itself gets the cancellation
        self.close(self.options.close_timeout)

    def close(self, patience: float) -> None:
        """Take no more requests and let all workers go, within so many seconds. Synchronous; may be repeated to hurry."""
        if self.closed in (None, "draining"):
            self.closed = "closed"
            if self.observers is not None:
                self.observers.changed("closed")
        if not self.dispatcher.closed:
            self.carry_out(self.dispatcher.close())
        deadline = self.loop.now() + patience
        for supervisor in self.supervisors:
            supervisor.close(deadline)
        self.closing.set()
        self.clock.close()
        if self.scaler is not None:
            self.scaler.something_waits.ring()
        self.news.announce()

    async def gone(self) -> None:
        """Return when every supervisor has ended: each worker is reaped, or reported."""
        while self._running:
            await self.news.wait()

    def refusal(self) -> HubClosed:
        """Why a request is not taken, or was not answered."""
        error = HubClosed(self.options.name, self.closed or "closed")
        if self.closed == "failed":
            error.__cause__ = self.failure
        return error

    # ---- what can be seen

    @property
    def is_over(self) -> bool:
        """Whether nobody is served any more; a hub that drains still owes answers."""
        return self.closed in ("closed", "failed")

    @property
    def serving(self) -> int:
        """How many workers take requests: spares do not."""
        return self.dispatcher.in_service
