"""A socket that is listened to, and looked at by whoever stays awake."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import anyio
import pytest
from anyio.lowlevel import current_token

from gibbs._core.ticket import Ticket
from gibbs._parent.turns import SETTLED, Turns
from gibbs._parent.waiter import running_loop


class Ear:
    """One end of a pair of sockets, read byte by byte; a bad byte is an error."""

    def __init__(self, turns=None):
        self.here, self.there = socket.socketpair()
        self.here.setblocking(False)
        self.heard = []
        self.rest = b""
        self.at_once = 100
        self.turns = turns or Turns()
        self.ends = None  # what is called for each byte
        self.readable = self.turns.listen_to(self.here, self.act)

    def act(self, at_most):
        if not self.rest:
            try:
                self.rest = self.here.recv(100)
            except BlockingIOError:
                return 0, False
            if not self.rest:
                raise EOFError
        at_once = min(at_most, self.at_once)
        piece, self.rest = self.rest[:at_once], self.rest[at_once:]
        if b"!" in piece:
            raise ValueError(piece)
        self.heard += piece
        if self.ends is not None:
            for _ in piece:
                self.ends()
        return len(piece), bool(self.rest)

    async def hears(self, what):
        with anyio.fail_after(10):
            while bytes(self.heard) != what:
                await anyio.lowlevel.checkpoint()


@pytest.fixture
async def ear():
    ear = Ear()
    yield ear
    anyio.notify_closing(ear.here)
    ear.here.close()
    ear.there.close()


async def test_what_comes_is_heard_as_it_comes(ear):
    async with anyio.create_task_group() as tg:
        tg.start_soon(ear.readable.listen)
        for n in range(1, 4):
            ear.there.send(b"a")
            await ear.hears(b"a" * n)
        tg.cancel_scope.cancel()


async def test_whoever_looks_hears_at_once_and_nothing_is_heard_twice(ear):
    async with anyio.create_task_group() as tg:
        tg.start_soon(ear.readable.listen)
        await anyio.wait_all_tasks_blocked()
        ear.there.send(b"ab")
        ear.readable.look()
        assert bytes(ear.heard) == b"ab"
        ear.readable.look()
        ear.there.send(b"c")
        await ear.hears(b"abc")
        tg.cancel_scope.cancel()


async def test_of_much_that_came_at_once_nothing_stays_behind(ear):
    ear.at_once = 1
    async with anyio.create_task_group() as tg:
        tg.start_soon(ear.readable.listen)
        await anyio.wait_all_tasks_blocked()
        ear.there.send(b"abcdefgh")
        ear.readable.look()
        await ear.hears(b"abcdefgh")
        ear.there.send(b"ijk")
        await ear.hears(b"abcdefghijk")
        tg.cancel_scope.cancel()


async def test_other_tasks_have_their_turn_while_much_is_heard(ear):
    ear.at_once = 1
    ear.there.send(b"a" * 50)
    seen = []
    async with anyio.create_task_group() as tg:
        tg.start_soon(ear.readable.listen)
        with anyio.fail_after(10):
            while len(ear.heard) < 50:
                seen.append(len(ear.heard))
                await anyio.lowlevel.checkpoint()
        tg.cancel_scope.cancel()
    assert len({*seen}) > 10


async def test_other_tasks_have_their_turn_while_more_comes_than_can_be_heard(ear):
    ear.at_once = 1
    turns = []
    async with anyio.create_task_group() as tg:
        tg.start_soon(ear.readable.listen)
        for _ in range(100):
            before = len(ear.heard)
            ear.there.send(b"aaaaa")
            await anyio.lowlevel.checkpoint()
            turns.append(len(ear.heard) - before)
        tg.cancel_scope.cancel()
    assert max(turns) in (1, 2)


async def test_many_sockets_of_one_hub_leave_others_their_turn_and_each_other_theirs():
    """On Trio each is a task of its own, settles for itself, and can have its turn last in one pass and first in the next."""
    turns = Turns()
    ears = [Ear(turns) for _ in range(5)]
    most = SETTLED if hasattr(current_token().native_token, "create_future") else 2 * SETTLED * len(ears)
    settled, begun = [], []
    async with anyio.create_task_group() as tg:
        for ear in ears:
            tg.start_soon(ear.readable.listen)
            ear.there.send(b"a" * 90)
        with anyio.fail_after(10):
            while sum(settled) < 90 * len(ears):
                await anyio.lowlevel.checkpoint()
                settled.append(sum(len(ear.heard) for ear in ears) - sum(settled))
                begun.append(sum(bool(ear.heard) for ear in ears))
        tg.cancel_scope.cancel()
    for ear in ears:
        ear.here.close()
        ear.there.close()
    assert 0 < max(settled) <= most
    assert begun.index(len(ears)) <= len(ears) + 2, "somebody waited for the end of another"


async def test_callers_whose_answers_came_at_once_go_on_a_few_in_a_pass(ear):
    loop, turns = running_loop(), ear.turns
    went_on, by_pass = [], []

    async def caller():
        ticket = Ticket(b"")
        ticket.waiter = loop.new_waiter()
        waiting.append(ticket)
        await ticket.waiter
        went_on.append(len(ear.heard))

    waiting: list[Ticket] = []
    ear.ends = lambda: turns.wake(waiting.pop(0))
    async with anyio.create_task_group() as tg:
        for _ in range(SETTLED):
            tg.start_soon(caller)
        await anyio.wait_all_tasks_blocked()
        tg.start_soon(ear.readable.listen)
        ear.there.send(b"a" * SETTLED)
        with anyio.fail_after(10):
            while len(went_on) < SETTLED:
                before = len(went_on)
                await anyio.lowlevel.checkpoint()
                by_pass.append(len(went_on) - before)
        tg.cancel_scope.cancel()
    assert went_on == [SETTLED] * SETTLED, "all was settled before"
    assert max(by_pass) <= 2 * turns.most
    assert sum(count > 0 for count in by_pass) >= SETTLED / (2 * turns.most)


async def test_while_some_callers_have_not_gone_on_nothing_more_is_settled(ear):
    loop, turns = running_loop(), ear.turns
    ear.ends = lambda: turns.wake(SimpleNamespace(waiter=loop.new_waiter()))
    async with anyio.create_task_group() as tg:
        tg.start_soon(ear.readable.listen)
        await anyio.wait_all_tasks_blocked()
        ear.there.send(b"a" * SETTLED)
        await ear.hears(b"a" * SETTLED)
        ear.there.send(b"b")
        for _ in range(SETTLED // turns.most - 1):
            assert len(ear.heard) == SETTLED
            await anyio.lowlevel.checkpoint()
        await ear.hears(b"a" * SETTLED + b"b")
        tg.cancel_scope.cancel()


async def test_callers_who_wait_for_their_turn_go_on_when_nobody_listens_any_more(ear):
    loop, turns = running_loop(), ear.turns
    went_on = []

    async def caller():
        ticket = Ticket(b"")
        ticket.waiter = loop.new_waiter()
        waiting.append(ticket)
        await ticket.waiter
        went_on.append(ticket)

    waiting: list[Ticket] = []
    ear.ends = lambda: turns.wake(waiting.pop(0))
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tg:
            for _ in range(SETTLED):
                tg.start_soon(caller)
            await anyio.wait_all_tasks_blocked()
            async with anyio.create_task_group() as listening:
                listening.start_soon(ear.readable.listen)
                ear.there.send(b"a" * SETTLED)
                await ear.hears(b"a" * SETTLED)
                listening.cancel_scope.cancel()
    assert len(went_on) == SETTLED


async def test_outside_of_a_turn_every_caller_goes_on_at_once(ear):
    """A hub that closes, or loses a worker, has them all told."""
    loop = running_loop()
    waiters = [loop.new_waiter() for _ in range(SETTLED)]
    for waiter in waiters:
        ear.turns.wake(SimpleNamespace(waiter=waiter))
    with anyio.fail_after(10):
        for waiter in waiters:
            await waiter


@pytest.mark.parametrize("looked", [False, True], ids=["heard", "looked"])
async def test_what_cannot_be_borne_is_raised_where_somebody_listens(ear, looked):
    async def speak():
        await anyio.wait_all_tasks_blocked()
        ear.there.send(b"!")
        if looked:
            ear.readable.look()
            ear.readable.look()

    async with anyio.create_task_group() as tg:
        tg.start_soon(speak)
        with anyio.fail_after(10), pytest.raises(ValueError, match="!"):
            await ear.readable.listen()


@pytest.mark.parametrize("looked", [False, True], ids=["heard", "looked"])
async def test_the_end_of_the_stream_is_raised_where_somebody_listens(ear, looked):
    async def end():
        await anyio.wait_all_tasks_blocked()
        ear.there.close()
        if looked:
            ear.readable.look()

    async with anyio.create_task_group() as tg:
        tg.start_soon(end)
        with anyio.fail_after(10), pytest.raises(EOFError):
            await ear.readable.listen()


async def test_when_nobody_listens_any_more_a_look_hears_nothing(ear):
    async with anyio.create_task_group() as tg:
        tg.start_soon(ear.readable.listen)
        await anyio.wait_all_tasks_blocked()
        tg.cancel_scope.cancel()
    ear.there.send(b"a")
    ear.readable.look()
    await anyio.wait_all_tasks_blocked()
    assert ear.heard == []
