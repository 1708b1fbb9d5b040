"""A link by itself, over a real socket whose other end is in the test."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import anyio
import pytest
from anyio.abc import UNIXSocketStream

from gibbs._parent.link import Link
from gibbs._parent.turns import SETTLED, Turns
from gibbs._wire.frames import HEADER_SIZE, encode
from gibbs._wire.messages import ANSWER, CALL


@pytest.fixture
async def ends():
    """The link, and the worker's end of its socket."""
    here, there = socket.socketpair()
    there.setblocking(False)
    async with await UNIXSocketStream.from_socket(here) as stream:
        yield Link(SimpleNamespace(stream=stream, side=None), Turns(), max_message=1 << 30), there
    there.close()


def arrived(there):
    """How many messages without a body have come."""
    try:
        return len(there.recv(1 << 16)) // HEADER_SIZE
    except BlockingIOError:
        return 0


async def test_what_is_sent_while_a_piece_is_told_leaves_when_all_of_it_is_told(ends):
    """To a worker that would wake for the first of it, work it off and sleep again, again and again."""
    link, there = ends
    count = 3 * SETTLED
    told, left = [], []

    def hear(messages):
        left.append(arrived(there))
        told.extend(messages)
        link.send_all([(CALL, link_id, b"") for _, link_id, _ in messages], later=True)

    async with anyio.create_task_group() as tg:
        tg.start_soon(link.listen, hear)
        there.send(b"".join(encode(ANSWER, link_id) for link_id in range(1, count + 1)))
        with anyio.fail_after(10):
            while len(told) < count:
                await anyio.lowlevel.checkpoint()
        tg.cancel_scope.cancel()
    assert left == [0, 0, 0], "it left in pieces"
    assert arrived(there) == count
