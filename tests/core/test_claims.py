"""Claims: whoever asks, from this process or another, at once or one after the other, each is given once."""

import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

import gibbs
from gibbs._wire.claims import Claims, create_claims

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="eventfds are Linux's")

MANY = 20_000
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(gibbs.__file__).parents[1])}
# Says that it is there; takes claims, and looks again when there are none, until its input ends; says how many it got.
TAKER = """
import os, sys
from gibbs._wire.claims import Claims
claims, taken = Claims(int(sys.argv[1])), 0
os.set_blocking(0, False)
print("here", flush=True)
while True:
    try:
        over = not os.read(0, 1)
    except BlockingIOError:
        over = False
    while claims.take():
        taken += 1
    if over:
        break
print(taken)
"""


@contextmanager
def two_ends():
    """The hub's end, and one with a descriptor of its own as the worker has."""
    hub = create_claims()
    worker = Claims(os.dup(hub.fd))
    try:
        yield hub, worker
    finally:
        hub.close()
        worker.close()


@contextmanager
def taker_in_another_process(claims):
    command = [sys.executable, "-c", TAKER, str(claims.fd)]
    with subprocess.Popen(
        command, pass_fds=[claims.fd], env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        try:
            assert child.stdout.readline() == b"here\n"
            yield child
        finally:
            child.kill()


def said_at_its_end(child):
    child.stdin.close()
    return int(child.stdout.read())


def test_at_first_there_is_none():
    with two_ends() as (hub, worker):
        assert not worker.take()
        assert hub.take_back(5) == 0


def test_as_many_as_were_offered_can_be_taken():
    with two_ends() as (hub, worker):
        hub.offer(2)
        hub.offer(1)
        assert [worker.take() for _ in range(5)] == [True, True, True, False, False]


def test_what_the_worker_has_taken_cannot_be_had_back_nor_the_other_way_round():
    with two_ends() as (hub, worker):
        hub.offer(5)
        assert worker.take()
        assert worker.take()
        assert hub.take_back(5) == 3
        assert not worker.take()
        assert hub.take_back(5) == 0


@pytest.mark.parametrize(("at_most", "taken", "left"), [(0, 0, 3), (2, 2, 1), (3, 3, 0), (4, 3, 0)])
def test_no_more_are_had_back_than_are_asked_for(at_most, taken, left):
    with two_ends() as (hub, worker):
        hub.offer(3)
        assert hub.take_back(at_most) == taken
        assert [worker.take() for _ in range(4)] == [True] * left + [False] * (4 - left)


def test_what_was_had_back_can_be_offered_again():
    with two_ends() as (hub, worker):
        hub.offer(1)
        assert hub.take_back(1) == 1
        hub.offer(1)
        assert worker.take()


def test_to_ask_does_not_wait():
    """Both ends: a worker that waited here would not be interruptible, and a hub would stand still."""
    with two_ends() as (hub, worker):
        assert not os.get_blocking(hub.fd)
        assert not os.get_blocking(worker.fd)


def test_the_descriptor_is_not_inherited_by_accident():
    with two_ends() as (hub, _):
        assert not os.get_inheritable(hub.fd)


def test_a_closed_end_is_free_and_has_no_descriptor_any_more():
    claims = create_claims()
    fd = claims.fd
    claims.close()
    with pytest.raises(OSError):
        os.fstat(fd)
    assert claims.fd == -1


@pytest.mark.parametrize("fd", [0, 1, 99])
def test_an_end_is_closed_once_whatever_its_number(fd, monkeypatch):
    """Also 0, which a program without standard input may get; a second time the number may be somebody else's."""
    closed = []
    monkeypatch.setattr(os, "close", closed.append)
    claims = Claims(fd)
    claims.close()
    claims.close()
    assert closed == [fd]


@pytest.fixture
def closed_side():
    """A worker's side channel as it is after the worker's burial."""
    from gibbs._launch.watch_linux import Side, open_shared

    shared = open_shared()
    os.close(shared.page_fd)
    os.close(shared.inquiry_fd)
    shared.claims.offer(1)
    shared.close()
    return Side(shared, None)


def test_an_offer_to_a_worker_that_was_buried_is_made_to_nobody(closed_side):
    closed_side.offer(1)


def test_from_a_worker_that_was_buried_nothing_can_be_had_back(closed_side):
    assert closed_side.take_back(1) == 0


def test_an_end_outlives_the_other():
    with two_ends() as (hub, worker):
        hub.offer(1)
        hub.close()
        assert worker.take()
        assert not worker.take()


def test_nothing_to_have_back_from_nobody_is_no_call_to_the_kernel():
    claims = create_claims()
    claims.close()
    assert claims.take_back(0) == 0


@pytest.mark.slow
def test_another_process_and_this_one_never_get_the_same_claim():
    with two_ends() as (hub, worker), taker_in_another_process(worker) as child:
        had_back = 0
        for _ in range(MANY // 20):
            hub.offer(20)
            had_back += hub.take_back(10)
        assert said_at_its_end(child) + had_back == MANY


@pytest.mark.slow
def test_a_worker_that_is_killed_takes_no_claim_with_it_that_it_had_not_taken():
    with two_ends() as (hub, worker), taker_in_another_process(worker) as child:
        child.kill()
        child.wait()
        hub.offer(3)
        assert hub.take_back(5) == 3


def test_threads_that_race_never_get_the_same_claim():
    with two_ends() as (hub, worker):
        takers = [hub, worker, hub, worker]
        got = [0] * len(takers)
        over = threading.Event()
        start = threading.Barrier(len(takers) + 1)

        def take(number):
            start.wait()
            while True:
                last = over.is_set()
                while takers[number].take():
                    got[number] += 1
                if last:
                    return

        threads = [threading.Thread(target=take, args=[number]) for number in range(len(takers))]
        for thread in threads:
            thread.start()
        start.wait()
        for _ in range(MANY // 100):
            hub.offer(10)
        over.set()
        for thread in threads:
            thread.join()
        assert sum(got) == MANY // 10
