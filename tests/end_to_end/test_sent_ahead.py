"""Quick calls on real processes: sent ahead, taken back, killed. What ran is read from a file to which the models append."""

from __future__ import annotations

import ctypes
import math
import os
import signal
import threading
import time
from collections import Counter
from functools import partial

import anyio
import pytest

import gibbs
from gibbs._core.dispatch import Dispatcher
from gibbs._parent.link import Link
from gibbs._wire.claims import create_claims
from gibbs.testing import InBand
from tests.end_to_end.callers import WATCHDOG, answer, until

QUICK = 5e-6


class Recorded:
    """Writes down, before all else, what it is asked and by which process."""

    interruptible = True

    def __init__(self, folder):
        self.gate = folder / "gate"
        self.fd = os.open(folder / "ran", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def __call__(self, n, what="square", *args):
        os.write(self.fd, b"%d %d\n" % (n, os.getpid()))
        return getattr(self, what)(n, *args)

    def square(self, n):
        return n * n

    def waits(self, n):
        """Takes as long as nobody opens the gate."""
        os.close(os.open(self.gate, os.O_RDONLY))
        return n * n

    def waits_in_c(self, n):
        """The same, and no other thread of this process runs meanwhile."""
        os.close(ctypes.PyDLL(None).open(os.fsencode(self.gate), os.O_RDONLY))
        return n * n

    def naps(self, n, seconds):
        time.sleep(seconds)
        return n * n

    def dies(self, n):
        os.kill(os.getpid(), signal.SIGKILL)

    def size(self, n, data):
        return len(data)


class Ran:
    """What ran where, and the gate."""

    def __init__(self, folder):
        self._ran = folder / "ran"
        self._ran.touch()
        self._gate = folder / "gate"
        os.mkfifo(self._gate)

    def where(self, n):
        """The processes that ran it, in order."""
        return [int(pid) for one, pid in map(str.split, self._ran.read_text().splitlines()) if int(one) == n]

    def times(self):
        return Counter(int(line.split()[0]) for line in self._ran.read_text().splitlines())

    async def begins(self, n):
        """Wait until it has begun; return where."""
        with anyio.fail_after(WATCHDOG):
            while not (where := self.where(n)):
                await anyio.sleep(0.001)
        return where[0]

    async def let_go(self):
        """Open the gate to the call that waits there."""
        with anyio.fail_after(WATCHDOG):
            while True:
                try:
                    os.close(os.open(self._gate, os.O_WRONLY | os.O_NONBLOCK))
                except OSError:  # nobody is there yet
                    await anyio.sleep(0.001)
                else:
                    return


@pytest.fixture
def ran(tmp_path):
    return Ran(tmp_path)


@pytest.fixture
def said_to_be_quick(monkeypatch):
    """Each worker is sent ahead from its first answer on, however slow this machine is."""
    monkeypatch.setattr(Link, "service_time", property(lambda _: QUICK))


@pytest.fixture
def nobody_ticks(monkeypatch):
    """What was sent ahead stays there, however long the call before it takes."""
    monkeypatch.setattr(Dispatcher, "tick", lambda _: [])


quickly = pytest.mark.usefixtures("said_to_be_quick")


@pytest.fixture
def opened(tmp_path):
    return partial(gibbs.open_hub, Recorded, tmp_path, name="recorded")


@pytest.fixture
def either_opened(opened, either_launcher):
    return partial(opened, launcher=either_launcher)


async def outcomes(hub, requests):
    """The result or the exception of each request, all made in the same tick."""
    found = {}

    async def ask(request):
        try:
            found[request[0]] = await answer(hub, *request)
        except gibbs.GibbsError as error:
            found[request[0]] = error

    async with anyio.create_task_group() as tg:
        for request in requests:
            tg.start_soon(ask, request)
    return found


async def behind(hub, start):
    """Eight requests, sent ahead in the order of their numbers behind the one that runs."""
    calls = {}
    for n in range(1, 9):
        calls[n] = start(hub, n)
        await until(lambda: held(hub) == [len(calls) + 1])
    return calls


def held(hub):
    return [len(seat.held) for seat in hub._desk.crew.dispatcher.seats]


@pytest.fixture
def slow_to_go_on(monkeypatch):
    """After each write the hub's process stands still for as long as a worker needs to read what was written."""
    write_some = Link._write_some

    def write_and_wait(link, sock):
        written = write_some(link, sock)
        time.sleep(0.01)
        return written

    monkeypatch.setattr(Link, "_write_some", write_and_wait)


# ------------------------------------------------------------------------------------------------------------- many calls


@pytest.mark.slow
async def test_thousands_of_tiny_calls_of_a_hundred_callers_are_answered_each_with_its_own(either_opened, ran):
    async with either_opened(workers=2) as hub:

        async def caller(first):
            for n in range(first, first + 30):
                assert await answer(hub, n) == n * n

        async with anyio.create_task_group() as tg:
            for one in range(100):
                tg.start_soon(caller, 30 * one)
        assert hub.statistics().done == 3000
    assert ran.times() == Counter(range(3000))


@quickly
@pytest.mark.slow
async def test_where_a_few_of_many_tiny_calls_take_long_none_is_lost_and_none_runs_twice(either_opened, ran):
    async with either_opened(workers=2) as hub:

        async def caller(first):
            for n in range(first, first + 20):
                slow = ("naps", 0.01) if n % 41 == 0 else ()
                assert await answer(hub, n, *slow) == n * n

        async with anyio.create_task_group() as tg:
            for one in range(64):
                tg.start_soon(caller, 20 * one)
        seen = hub.statistics()
        assert (seen.done, seen.restarts, seen.queued, seen.running) == (1280, 0, 0, 0)
    assert ran.times() == Counter(range(1280))


@pytest.mark.slow
@pytest.mark.usefixtures("said_to_be_quick", "slow_to_go_on")
@pytest.mark.parametrize("size", [10, 50_000, 300_000])
async def test_what_a_worker_reads_it_may_begin_whoever_wrote_it_and_whatever_was_sent_meanwhile(opened, ran, size):
    """Large requests the socket does not take at once: another task writes the rest, and what was sent behind them."""
    async with opened(workers=1) as hub:
        await answer(hub, 1000)
        sizes = {n: 10 if n % 3 else size for n in range(30)}
        found = await outcomes(hub, [(n, "size", bytes(size)) for n, size in sizes.items()])
        assert found == sizes
        assert hub.statistics().restarts == 0
    assert set(ran.times().values()) == {1}


# ------------------------------------------------------------------------------------------------------------- slow calls


@quickly
@pytest.mark.parametrize("how", ["waits", "waits_in_c"])
async def test_no_tiny_call_waits_for_the_end_of_a_slow_one(opened, ran, start, how):
    await no_tiny_call_waits(opened, ran, start, how)


@quickly
async def test_where_the_stream_is_all_there_is_none_waits_either(opened, ran, start):
    """Unless C code holds the interpreter, which then cannot be asked for anything."""
    await no_tiny_call_waits(partial(opened, launcher=InBand(gibbs.LocalLauncher())), ran, start, "waits")


async def no_tiny_call_waits(opened, ran, start, how):
    async with opened(workers=2) as hub:
        await outcomes(hub, [(n,) for n in range(1000, 1010)])  # the workers are known to be quick
        slow = start(hub, 0, how)
        async with anyio.create_task_group() as tg:

            async def caller(first):
                for n in range(first, first + 5):
                    assert await answer(hub, n) == n * n

            for one in range(63):
                tg.start_soon(caller, 1 + 5 * one)
        assert not slow.over.is_set()  # all are answered, and it has not ended
        await ran.let_go()
        await slow.end()
        assert slow.result == 0
        assert hub.statistics().restarts == 0
    assert set(ran.times().values()) == {1}


@quickly
@pytest.mark.parametrize("how", ["waits", "waits_in_c"])
async def test_a_slow_call_whose_worker_dies_is_the_only_one_that_is_lost(either_opened, ran, start, how):
    async with either_opened(workers=2) as hub:
        await outcomes(hub, [(n,) for n in range(1000, 1010)])
        slow = start(hub, 0, how)
        pid = await ran.begins(0)
        calls = [start(hub, n) for n in range(1, 50)]
        os.kill(pid, signal.SIGKILL)
        await slow.end()
        assert isinstance(slow.error, gibbs.WorkerCrashed)
        assert (slow.error.pid, slow.error.may_have_run) == (pid, True)
        for n, call in enumerate(calls, 1):
            await call.end()
            assert call.result == n * n
        assert hub.statistics().crashed == 1
    assert set(ran.times().values()) == {1}


# ------------------------------------------------------------------------------------------------------------- who leaves


@pytest.mark.usefixtures("said_to_be_quick", "nobody_ticks")
@pytest.mark.parametrize("on_cancel", ["interrupt", "kill", "finish"])
@pytest.mark.parametrize("how", ["waits", "waits_in_c"])
async def test_a_request_that_is_cancelled_while_it_is_sent_ahead_never_runs(opened, ran, start, how, on_cancel):
    async with opened(workers=1, on_cancel=on_cancel) as hub:
        await answer(hub, 1000)
        slow = start(hub, 0, how)
        pid = await ran.begins(0)
        calls = await behind(hub, start)
        for n in (2, 5, 8):
            await calls.pop(n).cancel()
        await ran.let_go()
        for n, call in calls.items():
            await call.end()
            assert call.result == n * n
        await slow.end()
        assert slow.result == 0
        assert hub.statistics().pids == (pid,)
    assert [*ran.times()] == [1000, 0, 1, 3, 4, 6, 7]


@pytest.mark.usefixtures("said_to_be_quick", "nobody_ticks")
async def test_when_the_running_call_is_interrupted_those_sent_ahead_run_once_in_their_order(either_opened, ran, start):
    async with either_opened(workers=1, cancel_grace=WATCHDOG) as hub:
        await answer(hub, 1000)
        slow = start(hub, 0, "naps", 600)
        await ran.begins(0)
        calls = await behind(hub, start)
        await slow.cancel()
        for n, call in calls.items():
            await call.end()
            assert call.result == n * n
        assert hub.statistics().interrupted == 1
    assert [*ran.times()] == [1000, *range(9)]


@pytest.mark.usefixtures("said_to_be_quick", "nobody_ticks")
async def test_when_the_hub_closes_what_was_sent_ahead_never_runs(either_opened, ran, start):
    async with either_opened(workers=1) as hub:
        await answer(hub, 1000)
        slow = start(hub, 0, "naps", 600)
        await ran.begins(0)
        calls = await behind(hub, start)
    for call in (slow, *calls.values()):
        await call.end()
        assert isinstance(call.error, gibbs.HubClosed)
    assert [*ran.times()] == [1000, 0]


# ---------------------------------------------------------------------------------------------------------------- crashes


def judge(found, ran, *, killers=()):
    """Every killer is told so; every other is answered, or told that it may have run; nothing ran twice."""
    times = ran.times()
    assert set(times.values()) <= {1}
    for n, outcome in found.items():
        if isinstance(outcome, gibbs.WorkerCrashed):
            assert outcome.may_have_run, f"{n} had a second chance to begin"
            assert ran.where(n) in ([outcome.pid], [])  # a kill from outside may hit before the model's first line
        else:
            assert n not in killers
            assert outcome == n * n
            assert times[n] == 1


@quickly
@pytest.mark.slow
@pytest.mark.in_turn
async def test_calls_that_kill_their_worker_under_load_cost_themselves_only(either_opened, ran):
    killers = {*range(7, 400, 20)}
    async with either_opened(workers=3) as hub:
        await outcomes(hub, [(n,) for n in range(1000, 1010)])
        found = await outcomes(hub, [(n, "dies") if n in killers else (n,) for n in range(400)])
        judge(found, ran, killers=killers)
        assert all(ran.times()[n] == 1 for n in killers)
        assert {n for n in found if isinstance(found[n], gibbs.WorkerCrashed)} == killers
        assert hub.statistics().crashed == len(killers)


@quickly
@pytest.mark.slow
@pytest.mark.in_turn
async def test_a_worker_that_is_killed_under_load_costs_at_most_what_it_had_begun(either_opened, ran):
    """One death at a time: of two, the second may hit who was given back by the first."""
    policy = gibbs.RestartPolicy(max_failures=math.inf)
    async with either_opened(workers=2, restarts=policy) as hub:
        for round_ in range(10):
            await hub.wait_ready()
            first, last = 1000 * round_, 1000 * round_ + 300
            await outcomes(hub, [(n,) for n in range(last, last + 4)])
            found = {}

            async def load(first=first, last=last, found=found):
                found |= await outcomes(hub, [(n,) for n in range(first, last)])

            async with anyio.create_task_group() as tg:
                tg.start_soon(load)
                pid = await ran.begins(first + 30 * round_)
                os.kill(pid, signal.SIGKILL)
            await until(lambda deaths=round_ + 1: hub.statistics().restarts == deaths)
            judge(found, ran)
            assert sum(isinstance(outcome, gibbs.WorkerCrashed) for outcome in found.values()) <= 1


# ---------------------------------------------------------------------------------------------- a worker that does its worst


def without_blocking(f, *args, release):
    """What `f` returns, in a thread: it is released, and this fails, if it does not return."""
    found = []
    thread = threading.Thread(target=lambda: found.append(f(*args)))
    thread.start()
    thread.join(WATCHDOG / 2)
    blocked = thread.is_alive()
    while thread.is_alive():
        release()
        thread.join(0.1)
    assert not blocked, "the hub stands still"
    return found[0]


def test_a_worker_that_makes_the_shared_counter_block_does_not_stop_the_hub():
    """What is open twice is one thing: a flag that the worker takes away is gone for the hub too."""
    claims = create_claims()
    try:
        claims.offer(2)
        os.set_blocking(claims.fd, True)
        assert without_blocking(claims.take_back, 3, release=partial(os.eventfd_write, claims.fd, 1)) == 2
        assert without_blocking(claims.take, release=partial(os.eventfd_write, claims.fd, 1)) is False
    finally:
        claims.close()


def test_a_worker_that_fills_the_shared_counter_does_not_stop_the_hub():
    claims = create_claims()
    try:
        os.set_blocking(claims.fd, True)
        os.eventfd_write(claims.fd, 2**64 - 2)

        def offer():
            try:
                claims.offer(1)
            except OSError:
                pass

        without_blocking(offer, release=partial(os.eventfd_read, claims.fd))
    finally:
        claims.close()
