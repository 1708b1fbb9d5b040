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
from .._core.group import Group
from .._core.orders import Grant, Interrupt, Order, Recall, Send
from .._core.restarts import Restarts
from .._core.seat import Seat, SeatState
from .._errors import GibbsError, HubClosed, RestartsExhausted, WorkerCrashed, WorkerStartFailed
from .._wire.lender import Lender
from ..abc import LaunchRefused
from .cleanups import Cleanups
from .logs import Records
from .own import own
from .supervisor import Supervisor
from .turns import Turns
from .waiter import Alarm, News, running_loop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyio.abc import TaskGroup

    from .._core.ticket import Ticket
    from .._errors import ClosedReason
    from .._options import HubOptions
    from .arena import Shelf
    from .fleet import Fleet

logger = logging.getLogger("gibbs")

_TICK = 0.002  # seconds; much longer than what is sent ahead should take
_SEATS_THAT_SERVE = (SeatState.SERVING, SeatState.INTERRUPTING)


class Crew:
    """The supervisors and what they share.

    Invariants: `closed` goes from None to "draining" at most, then to "closed" or "failed", and once it is set no request is
    accepted; `failure` is set once, before the hub's waiters are told; `news` is announced after every change that somebody
    may wait for.
    """

    def __init__(self, options: HubOptions, recipe: bytes, fleet: Fleet, *, cancel_body: Callable[[], None]) -> None:
        self.options = options
        self.recipe = recipe
        seats = [Seat(index, is_far=not post.traits.same_host) for index, post in enumerate(fleet.posts)]
        self.dispatcher = Dispatcher(seats)
        self.supervisors = [Supervisor(seat, post, self) for seat, post in zip(seats, fleet.posts, strict=True)]
        self.not_buried: list[Shelf] = []  # of workers that could not be reaped: what they were lent is never free
        self.cleanups = Cleanups()
        self.records = Records(options.name, wanted=options.logs)
        self.lender = None if fleet.arguments is None else Lender(fleet.arguments, options.max_message)
        self.news = News()
        self.loop = running_loop()
        self.turns = Turns()
        self.methods: dict[str, str] | None = None  # name → kind, as the first worker that is ready and trusted told
        self.groups: dict[str, Group] = {}  # those of the methods that run many requests in one call
        self.closed: ClosedReason | None = None
        self.failure: BaseException | None = None
        self._cancel_body = cancel_body
        self._restarts = Restarts(options.restarts)
        self._problems: deque[GibbsError] = deque(maxlen=16)  # the last failures, for RestartsExhausted
        self._opening = True
        self._failed_to_open: list[WorkerStartFailed] = []
        self._hooks_told = False
        self._running = 0  # tasks of the hub's own
        self._ticking = False
        self._sent_something = Alarm()
        self.waits = Alarm()  # rung when a request begins to wait until some time: for company, or to be taken

    # ---- opening

    def start(self, tg: TaskGroup) -> None:
        """Begin to fill the seats."""
        for supervisor in self.supervisors:
            name = f"gibbs {self.options.name} seat {supervisor.seat.index}"
            tg.start_soon(own(self._watched), supervisor.run, name=name)
        tg.start_soon(own(self._watched), self._tick, name=f"gibbs {self.options.name} ticks")
        tg.start_soon(own(self._watched), self._keep_time, name=f"gibbs {self.options.name} time")

    async def open(self) -> None:
        """Return when as many workers are ready as the options ask for. Raises WorkerStartFailed when they cannot be."""
        while self.serving < self.options.ready:
            if self.options.workers - len(self._failed_to_open) < self.options.ready:
                first, *others = self._failed_to_open
                for other in others:
                    first.add_note(f"also: {other}")
                raise first
            if self.failure is not None:
                raise self.failure
            await self.news.wait()
        self._opening = False
        self.news.announce()

    async def _until_open(self) -> None:
        """Return when the hub's body is entered, or never will be."""
        while self._opening and self.closed is None:
            await self.news.wait()

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

    async def _tick(self) -> None:
        """Take back what waits behind a long call, and let go of large payloads, until the hub closes. Sleeps if there are none."""
        with anyio.CancelScope(shield=True):
            while self.closed not in ("closed", "failed"):
                await self._sent_something.wait()
                while self.dispatcher.wants_ticks and not self.dispatcher.closed:
                    await anyio.sleep(_TICK)
                    for supervisor in self.supervisors:
                        if supervisor.worker is not None and (begun := supervisor.worker.link.begun()) is not None:
                            self.dispatcher.begun(supervisor.seat, begun)
                    self.carry_out(self.dispatcher.tick())
                self._ticking = False

    async def _keep_time(self) -> None:
        """Send what has waited for company for long enough, refuse what no worker took in time. Sleeps while nothing waits so."""
        dispatcher = self.dispatcher
        with anyio.CancelScope(shield=True):
            while self.closed not in ("closed", "failed"):
                with anyio.CancelScope(deadline=min(dispatcher.ripe_at, dispatcher.expires_at)):
                    await self.waits.wait()
                now = anyio.current_time()
                self.carry_out(dispatcher.ripen(now) + dispatcher.expire(now))

    # ---- what supervisors report

    def became_ready(self, seat: Seat, about: dict[str, Any]) -> None:
        """A worker serves from now on."""
        if self.methods is None and self.options.results is None:  # one that is not trusted speaks for itself only
            self.methods = about["methods"]
            self.meet_batched(about.get("batched", {}))
        hooks = about.get("hooks", ())
        if hooks and not self._hooks_told:
            self._hooks_told = True
            logger.info("the model of the hub %r has the hooks %s", self.options.name, ", ".join(hooks))
        self._restarts.ready(seat.index)
        self.carry_out(self.dispatcher.ready(seat, on_cancel="interrupt" if about["interruptible"] else "kill"))
        self.news.announce()

    def meet_batched(self, batched: dict[str, tuple[int, float]]) -> None:
        """Requests for these methods run together: so many at most, the first of which waits for others for so many seconds."""
        for name, told in batched.items():
            self.groups.setdefault("" if name == "__call__" else name, Group(*told))  # in a known one some may wait
        self.dispatcher.groups = tuple(group for group in self.groups.values() if group.patience)

    async def start_failed(self, seat: Seat, problem: WorkerStartFailed) -> float:
        """A worker did not become ready. Returns the seconds until the next attempt; while the hub opens there is none."""
        if self._opening:
            self._failed_to_open.append(problem)
            self.news.announce()
            await self._until_open()
        if self.closed in ("closed", "failed"):  # a hub that drains goes on: it owes answers
            return math.inf
        logger.warning("%s", problem)
        if isinstance(problem.__cause__, LaunchRefused):
            self.fail(problem)
            return math.inf
        pause = self._restarts.failed_start(seat.index, anyio.current_time(), random.random())
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
        pause = self._restarts.crashed(seat.index, anyio.current_time(), ready_at, random.random())
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
            worker = self.supervisors[order.seat.index].worker
            if worker is None:
                raise AssertionError(f"{order} is for a seat without a worker")
            if isinstance(order, Send):
                worker.send(order)
                if not self._ticking and (len(order.seat.held) > 1 or len(order.tickets[0].payload) > LARGE):
                    self._ticking = True
                    self._sent_something.ring()
            elif isinstance(order, Grant):
                worker.grant(order)
            elif isinstance(order, Interrupt):
                worker.clean_up(order)
            else:
                assert isinstance(order, Recall)
                orders += self.dispatcher.given_back(order.seat, worker.recall())
                self.waits.ring()

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
            self.carry_out(self.dispatcher.drain())
            self.news.announce()

    def fail(self, error: BaseException) -> None:
        """Supervision gives up: the body is cancelled, then everybody who waits is told why. The first reason stands."""
        if self.failure is None:
            self.failure = error
            if self.closed != "closed":
                self.closed = "failed"
                self._cancel_body()  # before the waiters wake: one that is the body itself gets the cancellation
        self.close(self.options.close_timeout)

    def close(self, patience: float) -> None:
        """Take no more requests and let all workers go, within so many seconds. Synchronous; may be repeated to hurry."""
        if self.closed in (None, "draining"):
            self.closed = "closed"
        if not self.dispatcher.closed:
            self.carry_out(self.dispatcher.close())
        deadline = anyio.current_time() + patience
        for supervisor in self.supervisors:
            supervisor.close(deadline)
        self._sent_something.ring()
        self.waits.ring()
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
    def serving(self) -> int:
        """How many seats have a worker that is ready."""
        return sum(seat.state in _SEATS_THAT_SERVE for seat in self.dispatcher.seats)
