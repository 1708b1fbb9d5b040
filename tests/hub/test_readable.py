"""A socket that is listened to, and looked at by whoever stays awake."""

from __future__ import annotations

import socket

import anyio
import pytest
from anyio.lowlevel import current_token

from gibbs._parent.readable import Turns


class Ear:
    """One end of a pair of sockets, read byte by byte; a bad byte is an error."""

    def __init__(self, turns=None):
        self.here, self.there = socket.socketpair()
        self.here.setblocking(False)
        self.heard = []
        self.rest = b""
        self.at_once = 100
        self.turns = turns or Turns()
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
    most = turns.most if hasattr(current_token().native_token, "create_future") else 2 * turns.most * len(ears)
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
