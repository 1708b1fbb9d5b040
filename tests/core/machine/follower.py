"""Carries out what the dispatcher orders, on plain lists: checks that each order was allowed, and at last that none is missing.

Knows who may be sent a request, when one must be cleaned up or recalled, and no verb but the one that answers a recall: that
follows at once, as in the crew.
"""

from gibbs._core.affinity import liking
from gibbs._core.dispatch import Dispatcher
from gibbs._core.orders import Dismiss, Grant, Interrupt, Order, Recall, Send
from gibbs._core.pace import SHORT
from tests.core.machine.model import Place, PlainLease, Request


class Follower:
    places: list[Place]
    queue: list[Request]  # in the order of their turns
    dispatcher: Dispatcher
    enough: int
    leases: list[PlainLease]
    aside: list[Request]
    may_lease: int
    quota: int
    shrinks: bool
    _aside: dict[int, Request]

    @property
    def ahead(self) -> int:
        return sum(place.ahead for place in self.places)

    def _give_back(self, place, link_ids):
        for link_id in link_ids:
            request = self._let_go(place, link_id)
            place.recalled.add(link_id)
            if request.live:
                self._back_to_the_queue(request)
        return self.dispatcher.given_back(place.seat, link_ids)

    def _follow(self, orders, *, ticks=False):
        """Check each order and do it; then nothing must be left that should have been ordered.

        Recalls are answered when all else of their list is done, one after the other, and what that leads to comes last: in
        which order the crew writes to its workers nobody sees, but this is the order in which the dispatcher decides.
        """
        self._see_who_serves()
        recalls = self._done(orders, ticks=ticks)
        for place in recalls:  # they grow
            orders = self._give_back(place, place.can_be_had_back)
            self._see_who_serves()
            recalls += self._done(orders)
        # Of one call the last is aimed at; if it is had back another is the last, and what waits behind the first is asked for anew.
        alone = [place for place in recalls if not place.together]
        assert len({place.seat for place in alone}) == len(alone), "recalled twice"
        for place in self.places:
            assert place.state != "serving" or place.to_clean_up is None, "nobody cleans up"
            goes = place.dismissed and place.state not in ("serving", "interrupting")
            assert place.let_go == goes, "it was let go too soon, or not at all"
            if place.lease is not None and place.lease.line:
                idle = place.state == "serving" and not place.held and not place.recalled
                assert not idle, "the next that was asked on the lease was not sent"
        if self.queue:
            could = [place for place in self.places if place.could_take(self.queue[0])]
            awake = [place for place in could if place.held and place.service_time < SHORT]
            assert not could or (self.ahead >= self.enough and awake), "room was not used"
            assert self.queue[0].terms.affinity is None or could == awake, (
                "who likes one seat takes another that is free"
            )

    def _see_who_serves(self):
        """Which spare takes whose place is not foreseen here; that it was allowed, and that none is left that should have, is."""
        for place in self.places:
            seat = place.seat
            if place.state == "spare" and seat.state == "serving":
                assert seat.in_service, "it was called, and does not serve"
                place.state = "serving"
            elif seat.state == "spare" and place.state in ("serving", "interrupting"):
                busy = place.held or place.recalled or place.lease
                assert not busy, "it has something to do"
                place.state = "spare"
            if seat.in_service and not place.in_service:
                assert place.state in ("serving", "interrupting")
            if place.in_service and not seat.in_service:
                doomed = seat.state == "interrupting" and place.cleaning_of(place.held[seat.target]) == "kill"
                away = doomed or place.dismissed or self.shrinks or place.state not in ("serving", "interrupting")
                assert away, "it was sent away, and could serve"
            place.in_service = seat.in_service
        serving = sum(place.in_service for place in self.places)
        assert serving == self.dispatcher.in_service <= self.quota
        spare = any(place.state == "spare" and not place.dismissed for place in self.places)
        assert not spare or serving == self.quota or self.dispatcher.closed, "a spare stands by, and one is missing"
        for place in self.places:
            if place.state == "serving" and not place.in_service:
                assert serving == self.quota or place.dismissed
                assert place.held or place.recalled or place.lease, "it could stand by"

    def _done(self, orders, *, ticks=False):
        """All of one list, but for its recalls: whose they are."""
        recalls = []
        for place in self.places:
            if place.state == "interrupting" and place.to_clean_up != place.target:
                place.state = "serving"
        before: Order | None = None
        for order in orders:
            place = self.places[order.seat.index]
            assert place.seat is order.seat
            if isinstance(before, Interrupt) and self.places[before.seat.index].others:
                assert order == Recall(before.seat), "what waits behind an interrupted call is recalled at once"
            if isinstance(order, Send):
                if order.tickets[0].lease is not None:
                    self._sent_on_lease(place, order)
                else:
                    self._see_who_was_given_a_lease()
                    self._sent(place, order)
            elif isinstance(order, Dismiss):
                assert place.dismissed
                assert place.state == "dying" or not (place.held or place.recalled or place.lease), (
                    "it has something to do"
                )
                place.let_go = True
            elif isinstance(order, Grant):
                request = place.held[order.link_id]
                assert request.live, "nobody reads it"
                assert 2 * order.items >= request.window, "not worth telling"
                assert order.items == request.taken
            elif isinstance(order, Interrupt):
                assert place.state == "serving"
                assert order.link_id == place.to_clean_up
                assert order.how == place.cleaning_of(place.held[order.link_id])
                assert order.how in (
                    ("interrupt", "close", "finish") if place.held[order.link_id].window else ("interrupt", "kill")
                )
                place.state = "interrupting"
                place.target = order.link_id
            else:
                assert isinstance(order, Recall)
                assert place.held, "recalled for nothing"
                if place.state == "interrupting":
                    assert isinstance(before, Interrupt), "recalled anew, though nothing was sent since"
                    assert before.seat is place.seat
                    assert place.others, "its only request is being cleaned up already"
                else:
                    assert place.state == "serving"
                    assert ticks or not all(request.live for request in place.held.values()), "nobody has left"
                recalls.append(place)
            before = order
        assert not (isinstance(before, Interrupt) and self.places[before.seat.index].others), "not recalled"
        self._see_who_was_given_a_lease()
        return recalls

    def _see_who_was_given_a_lease(self):
        """Nothing is ordered for them: who has come to the head of the queue was given one, or waits for a seat, or steps aside."""
        while self.queue and self.queue[0].asks:
            request = self.queue[0]
            if self.may_lease <= 0:
                request.stood_aside = True
                self.aside = sorted([*self.aside, self.queue.pop(0)], key=lambda request: request.turn)
            elif request.ticket.state == "leased":
                lease = request.lease
                place = self.places[lease.lease.seat.index]
                assert place.could_take(request), "it was not idle, or another lease has it"
                if request.terms.affinity is not None:
                    idle = [other for other in self.places if other.could_take(request)]
                    assert place is max(idle, key=lambda other: liking(request.terms.affinity, other.seat.index))
                self.queue.pop(0)
                lease.state, lease.place, lease.incarnation = "held", place, place.incarnation
                place.lease = lease
                self.leases.append(lease)
                self._end(request, "leased", None, "leased")
            else:
                return

    def _sent_on_lease(self, place, order):
        """One, in the order asked, and only to the worker that the lease has."""
        assert place.lease is not None
        request = place.lease.line.pop(0)
        assert order.tickets == [request.ticket], "not the next that was asked on the lease"
        assert order.together == (request.company is not None)
        assert request.ticket.payload == request.payload, "its payload is gone"
        assert not request.begun
        assert place.state == "serving"
        assert not place.held
        assert not place.recalled
        assert order.link_id > max(place.ids, default=0)
        place.ids.append(order.link_id)
        place.held[order.link_id] = request
        place.together = order.together
        request.state = "sent"
        request.sent += 1

    def _sent(self, place, order):
        """One order is as good as one for each of its tickets, unless they are one call."""
        assert order.tickets
        first = self.queue[0]
        assert order.together == (first.company is not None)
        if order.together:
            alike = [one for one in self.queue if one.company is first.company and not one.came_back]
            together = [first] if first.came_back else alike[: first.company.most]
            assert order.tickets == [request.ticket for request in together], "not all that could run together"
            assert not place.held
            self.queue = together + [one for one in self.queue if one not in together]
            for link_id, request in enumerate(together, order.link_id):
                self._one_sent(place, link_id, request.ticket, comes_along=request is not first)
                place.together = False  # for the next one of them
                for held in list(place.held):  # which finds an empty seat
                    self._aside.setdefault(held, place.held.pop(held))
            place.held = dict(sorted(self._aside.items()))
            self._aside.clear()
            place.together = True
            return
        assert not any(ticket.group for ticket in order.tickets), "it could have run together with others"
        likings = [ticket.terms.affinity for ticket in order.tickets]
        assert len(likings) == 1 or likings == [None] * len(likings), (
            "sent where another went, and it likes a seat of its own"
        )
        for link_id, ticket in enumerate(order.tickets, order.link_id):
            self._one_sent(place, link_id, ticket)

    def _one_sent(self, place, link_id, ticket, *, comes_along=False):
        """One that comes along with the first of its batch goes where that one goes, whatever it likes itself."""
        request = self.queue.pop(0)
        assert ticket is request.ticket, "not the first of the queue"
        assert ticket.payload == request.payload, "its payload is gone"
        assert not request.begun, "sent again after it had begun"
        assert place.could_take(request)
        busy = [other for other in self.places if other.held and other.could_take(request)]
        idle = [other for other in self.places if not other.held and other.could_take(request)]
        if place.held and place.service_time >= SHORT:
            assert not idle, "it would have been run at once elsewhere"
        if comes_along:
            pass
        elif request.terms.affinity is not None:
            others = [other for other in busy if other.service_time < SHORT and self.ahead < self.enough] + idle
            others = others or [other for other in busy if other.service_time >= SHORT]
            assert place is max(others, key=lambda other: liking(request.terms.affinity, other.seat.index))
        elif not place.held:
            assert not busy or any(other.service_time >= SHORT for other in busy), "one was awake"
            assert not place.seat.is_far or all(other.seat.is_far for other in idle), "one was nearer"
        if self.ahead >= self.enough and request.terms.affinity is None:
            assert not busy or any(other.service_time >= SHORT for other in busy), "enough was sent ahead"
        assert link_id > max(place.ids, default=0)
        place.ids.append(link_id)
        place.held[link_id] = request
        request.state = "sent"
        request.sent += 1

    def _let_go(self, place, link_id):
        request = place.held.pop(link_id)
        place.together = place.together and bool(place.held)
        request.releases_due += request.cleanable
        return request

    def _back_to_the_queue(self, request):
        request.state = "queued"
        if request.lease is not None:
            request.lease.line.insert(0, request)
        else:
            self._wait_in_line(request)

    def _wait_in_line(self, *requests):
        self.queue = sorted([*self.queue, *requests], key=lambda request: request.turn)
