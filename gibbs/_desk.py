"""The road of a request: from its caller to the dispatcher, and its end back into the caller's task.

Where to look for what happens to a request: it is *queued* in `Dispatcher.submit`, *sent* in `Dispatcher._send`, *answered*
in `Dispatcher.answered_all`, *cancelled* in `Dispatcher.withdraw`, *refused* for its `max_wait` in `Dispatcher.expire`, *turned away* before in `Desk.turn_away`, and
*lost to a crash*, or tried again, in `Dispatcher.lost`, all in `_core/dispatch.py`. Here it is pickled before, waited for
between, and opened after. Exceptions about requests are made here, where the caller waits; a body that cannot be opened
hurts that caller alone.
"""

from __future__ import annotations

import math
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, NoReturn

from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from ._context import Propagation
from ._core.ticket import NOTHING, Answer, Lost, Ticket, TicketState
from ._errors import HubOverloaded, MessageTooLarge
from ._opener import Opener
from ._parent.death import crash_of
from ._parent.home import Home
from ._parent.insist import insist
from ._parent.own import whole
from ._wire import payload
from ._wire.verbs import PLAIN, refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._core.flow import Flow
    from ._core.lease import Lease
    from ._core.progress import Progress
    from ._options import CallOptions
    from ._parent.crew import Crew
    from ._wire.lender import Parcel


_MOMENT = 100e-6  # seconds that a caller stays awake for an answer that is due; 50 and 300 µs gave the same


class Desk:
    """Where requests are handed in: the road from a caller to the dispatcher and back, shared by a hub's views.

    Invariant: a ticket that was submitted is withdrawn, or has ended, when `request` returns or raises.
    """

    lease: Lease | None = None  # on which all is asked that is handed in here

    def __init__(self, crew: Crew) -> None:
        self.crew = crew
        self._is_bounded = crew.options.max_pending != math.inf
        self._longest = crew.options.max_message
        self._sheds = crew.options.shed
        self._knows_deadlines = self._sheds or crew.options.order == "deadline"
        self.propagation = Propagation(crew.options.name, crew.options.propagate)
        self.opener = Opener(crew.options.name, crew.options.results, crew.options.max_message)
        self._dumps: Callable[[object], bytes | Parcel] = crew.lender.pack if crew.lender else payload.dumps
        self.loop = crew.loop
        self.wake = crew.turns.wake
        self.submit = whole(self.submit)  # type: ignore[method-assign]  # once for each hub
        self.submit_all = whole(self.submit_all)  # type: ignore[method-assign]
        self.grant = whole(self.grant)  # type: ignore[method-assign]
        self._withdraw = whole(self._withdraw)  # type: ignore[method-assign]
        self.turn_away = whole(self.turn_away)  # type: ignore[method-assign]
        self._home = Home()

    def __reduce__(self) -> str | tuple[Any, ...]:  # whatever view of the hub it is that somebody pickles
        raise TypeError(
            f"the hub {self.crew.options.name!r} cannot be pickled: it belongs to the program that opened it"
        )

    async def request(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], options: CallOptions) -> Any:
        crew, loop = self.crew, self.loop
        try:
            self.check(PLAIN, method)
            ticket = self.ticket(method, args, kwargs, options)
        except BaseException:
            await checkpoint()
            raise
        # One that could be sent at once must not be, if its caller is cancelled; one that must wait learns it there.
        if not crew.dispatcher.must_wait(ticket):
            await loop.checkpoint_if_cancelled()  # which does not wait, so the hub is as open as it was
        self.submit(ticket)
        try:
            if ticket.seat is not None and ticket.seat.is_due:
                await self._stay_awake(ticket)
            while not ticket.ended:
                if ticket.question is not None:
                    self._reply(ticket, loop.deadline() - loop.now())
                ticket.waiter = loop.new_waiter()
                ticket.wake = self.wake
                await ticket.waiter
            if ticket.state is TicketState.REFUSED:
                await checkpoint_if_cancelled()  # a failed hub cancels its body, which then gets just that
        except BaseException:
            await self.leave(options, ticket)
            raise
        finally:
            self.settle(ticket)
        return self.open(ticket)

    def ticket(
        self,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: CallOptions,
        flow: Flow | None = None,
        deadline: float | None = None,
        progress: Progress | None = None,
    ) -> Ticket:
        """What is asked, pickled, and not handed in yet: `check` comes before. Raises the pickler's own error, or MessageTooLarge."""
        # Nobody but the ticket keeps the body, and it lets go of it when its call has begun. What is in an arena is then the model's
        # own, which may change it: what may be sent again must not be there.
        dumps = payload.dumps if options.terms.keeps else self._dumps
        asked = (method, args, kwargs)
        body, brought = self.propagation.pack(dumps, asked) if self.propagation else (dumps(asked), NOTHING)
        if len(body) > self._longest:
            raise MessageTooLarge(self.crew.options.name, "request", len(body), self._longest)
        groups = self.crew.repertoire.groups
        group = groups.get(method) if groups else None
        if deadline is None and self._knows_deadlines:
            deadline = self.loop.deadline()
        ticket = Ticket(body, options.terms, flow, group, self.loop.now(), deadline, progress, lease=self.lease)
        ticket.method = method or "__call__"
        ticket.propagated = brought
        if self._sheds:
            self._shed(ticket)
        return ticket

    def _shed(self, ticket: Ticket) -> None:
        """Refuse it as soon as its caller's time cannot be enough any more. How long a stream takes nobody knows."""
        if ticket.flow is None and ticket.deadline is not None and ticket.deadline < math.inf:
            needed = self.crew.dispatcher.quickest
            ticket.give_up_at = min(ticket.give_up_at, ticket.deadline - needed)
            if needed and ticket.give_up_at <= ticket.created:
                raise self.turn_away(ticket.method, self.waiting, needed)

    @property
    def waiting(self) -> int:
        """How many requests wait that were handed in here."""
        return self.crew.dispatcher.waiting

    @property
    def has_room(self) -> bool:
        """Whether one more request would be taken."""
        crew = self.crew
        return not self._is_bounded or crew.dispatcher.has_room(crew.options.max_pending)

    @property
    def room(self) -> float:
        """How many more requests would be taken, or one if it is more."""
        return max(self.crew.options.max_pending - self.waiting, int(self.has_room))

    async def leave(self, options: CallOptions, *tickets: Ticket) -> None:
        """Nobody waits for their ends any more. Returns at once, or when no worker has to do with them."""
        for ticket in tickets:
            self._withdraw(ticket)
        for ticket in tickets:
            if not options.abandon_on_cancel and ticket.seat is not None:
                await self._released(ticket)

    def settle(self, ticket: Ticket) -> None:
        """It has ended, and is never sent again; whoever keeps the exception keeps the frame that knows it."""
        ticket.payload = b""
        if ticket.question is not None:
            self._reply(ticket, -math.inf)
        if self.crew.closed is not None and not self.crew.dispatcher.live:
            self.crew.news.announce()

    def has_ended(self, _ticket: Ticket | None = None) -> None:
        """It has, and nobody need be waiting for it but `drain`."""
        if self.crew.closed is not None:
            self.crew.news.announce()

    def _reply(self, ticket: Ticket, seconds: float) -> None:
        """Tell the worker how long the caller will wait, since it has asked."""
        question, ticket.question = ticket.question, None
        assert question is not None
        question(seconds)

    async def _stay_awake(self, ticket: Ticket) -> None:
        """Let others run, and look for the answer, for a moment: to be woken takes longer than the call."""
        give_up = perf_counter() + _MOMENT
        while not ticket.ended and perf_counter() < give_up:
            await checkpoint()
            if ticket.seat is not None:
                self.crew.look_at(ticket.seat)

    def submit(self, ticket: Ticket) -> None:
        """Hand it in. From here to its end it must be waited for, or left."""
        dispatcher = self.crew.dispatcher
        must_not_wait = self._is_bounded and dispatcher.waiting >= self.crew.options.max_pending
        orders = dispatcher.submit(ticket, alone=must_not_wait)
        if orders or self.crew.observers is not None:
            self.crew.carry_out(orders)
        if ticket.seat is None:
            self._tell_who_waits(ticket)

    def submit_all(self, tickets: list[Ticket]) -> None:
        """Hand in several, as one by one."""
        if self._is_bounded or any(ticket.group is not None for ticket in tickets):
            for ticket in tickets:
                self.submit(ticket)
        else:
            self.crew.carry_out(self.crew.dispatcher.submit_all(tickets))
            if tickets and tickets[-1].seat is None:
                self._tell_who_waits(tickets[-1])

    def _tell_who_waits(self, ticket: Ticket) -> None:
        """Somebody may have to look when it has waited for some time."""
        group, crew = ticket.group, self.crew
        if ticket.give_up_at < math.inf or (group is not None and group.patience):
            crew.clock.waits.ring()
        if crew.scaler is not None:
            crew.scaler.something_waits.ring()

    def grant(self, ticket: Ticket) -> None:
        """The reader of a stream has taken so much that its worker should know."""
        self.crew.carry_out(self.crew.dispatcher.granted(ticket))

    def _withdraw(self, ticket: Ticket) -> None:
        self.crew.carry_out(self.crew.dispatcher.withdraw(ticket))

    def open(self, ticket: Ticket) -> Any:
        """The end of a ticket as a result or an exception, in the task of its caller."""
        outcome, ticket.outcome = ticket.outcome, None  # whoever keeps the ticket does not keep what came
        if isinstance(outcome, Answer):
            return self.opener.answer(outcome)
        if isinstance(outcome, Lost):
            raise crash_of(outcome)
        if ticket.state is TicketState.EXPIRED:
            if ticket.give_up_at < ticket.created + ticket.terms.max_wait:
                raise HubOverloaded(self.crew.options.name, self.waiting, needed=self.crew.dispatcher.quickest)
            raise HubOverloaded(self.crew.options.name, self.waiting, ticket.terms.max_wait)
        assert ticket.state is TicketState.REFUSED
        raise self.crew.refusal()

    async def _released(self, ticket: Ticket) -> None:
        """Wait until no worker has to do with a cancelled request any more, however often its caller is cancelled."""

        async def wait() -> None:
            if ticket.seat is not None:
                waiter = self.loop.new_waiter()  # anew each time: a native cancellation leaves a dead one
                ticket.released = partial(self.loop.wake, waiter)
                await waiter

        await insist(wait)

    async def drain(self) -> None:
        self.check_place()
        crew = self.crew
        crew.drain()
        await checkpoint()
        while crew.dispatcher.live:
            await crew.news.wait()
        if crew.closed != "draining":
            raise crew.refusal()

    def check_place(self) -> None:
        """Refuse a caller in another process or thread."""
        if not self._home.is_here:
            raise self._home.elsewhere(self.crew.options.name)

    def check(self, needed: str, method: str) -> None:
        """Refuse what cannot be asked, or cannot be asked here, or now."""
        if not self._home.is_here:
            raise self._home.elsewhere(self.crew.options.name)
        crew = self.crew
        if crew.closed is not None:
            raise crew.refusal()
        # Until a worker was ready nobody knows; what comes is refused by the worker.
        methods = crew.repertoire.methods
        if methods is not None and (kind := methods.get(method or "__call__")) != needed:
            self._refuse_method(needed, method, kind)
        if self._is_bounded and not self.has_room:
            raise self.turn_away(method or "__call__", self.waiting)

    def turn_away(self, method: str, pending: int, needed: float | None = None) -> HubOverloaded:
        """There is no room for somebody, or no time left: this is written down, and what he is told."""
        self.crew.carry_out(self.crew.dispatcher.turn_away(method, pending, needed))
        return HubOverloaded(self.crew.options.name, pending, needed=needed)

    def _refuse_method(self, needed: str, name: str, kind: str | None) -> NoReturn:
        if kind is None and not name:
            raise TypeError(f"the model of the hub {self.crew.options.name!r} cannot be called: use hub.method(...)")
        if kind is None:
            raise AttributeError(f"the model of the hub {self.crew.options.name!r} has no method {name!r}")
        raise TypeError(f"{name or '__call__'!r} of the hub {self.crew.options.name!r} is {refusal(needed, kind)}")
