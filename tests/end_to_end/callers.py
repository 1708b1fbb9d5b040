"""What tests say to hubs, and how they wait: each wait has a watchdog, ten times what is promised or more."""

from __future__ import annotations

import os

import anyio

WATCHDOG = 30.0


class Heard:
    """The lines that workers write: how a model says, without anybody polling, how far it has come."""

    def __init__(self):
        self.lines = []
        self._news = anyio.Event()

    def __call__(self, line, seat):
        self.lines.append(line)
        news, self._news = self._news, anyio.Event()
        news.set()

    async def line(self, wanted, times=1):
        """Return when the line has come so many times."""
        with anyio.fail_after(WATCHDOG):
            while self.lines.count(wanted) < times:
                await self._news.wait()


class Call:
    """A request in a task of its own, and how it ended."""

    def __init__(self, calls, *args):
        self.scope = anyio.CancelScope()
        self.over = anyio.Event()
        self.result = self.error = None
        self.cancelled = False
        self._request = lambda: calls.request(*args)

    async def run(self):
        try:
            with self.scope:
                self.result = await self._request()
        except Exception as error:  # noqa: BLE001 - whatever it is, a test looks at it
            self.error = error
        finally:
            self.cancelled = self.scope.cancelled_caught
            self.over.set()

    async def end(self):
        """Return when it has ended, in whatever way."""
        with anyio.fail_after(WATCHDOG):
            await self.over.wait()

    async def cancel(self):
        """Cancel it, and return when its caller has the cancellation."""
        self.scope.cancel()
        await self.end()
        assert self.cancelled


async def answer(calls, *args, **kwargs):
    """The answer to a request that is answered soon."""
    with anyio.fail_after(WATCHDOG):
        return await calls.request(*args, **kwargs)


async def read(block, at_most=None):
    """What a stream, or a map, gives in its block, or the first of it."""
    found = []
    with anyio.fail_after(WATCHDOG):
        async with block as each:
            if at_most == 0:
                return found
            async for one in each:
                found.append(one)
                if len(found) == at_most:
                    break
    return found


async def until(condition):
    """Wait for what nobody announces."""
    with anyio.fail_after(WATCHDOG):
        while not condition():
            await anyio.sleep(0.002)


def alive(pid):
    """Whether there is such a process, a zombie included."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def is_settled(hub):
    """Whether no seat has to do with a cancelled call, or a start, any more."""
    seats = hub.statistics().seats
    return seats["serving"] + seats["spare"] + seats["retired"] == len(hub.statistics().pids)
