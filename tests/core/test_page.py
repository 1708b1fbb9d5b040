"""The shared page: four words, each written whole, over memory that a worker cannot take away."""

import ctypes
import fcntl
import mmap
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gibbs
from gibbs._wire.page import Page, create_page, map_page, private_page

linux = pytest.mark.skipif(sys.platform != "linux", reason="memfds are Linux's")
words = st.integers(0, (1 << 64) - 1)


@contextmanager
def shared_page():
    """A page as the hub makes it, and the descriptor that the worker is given. No fixture: pytest would hold the memory."""
    page, fd = create_page()
    try:
        yield page, fd
    finally:
        os.close(fd)


def test_a_new_page_names_no_request():
    page = private_page()
    assert (page.begun, page.target) == (0, 0)


def test_a_page_says_how_long_the_last_request_runs():
    page = private_page()
    assert page.running_for == 0.0
    page.since = time.perf_counter_ns() - 5 * 10**9
    assert 5 <= page.running_for < 600


def test_a_new_page_knows_no_pace():
    assert private_page().pace == 0


@given(begun=words, target=words, pace=words)
def test_the_words_do_not_touch_each_other(begun, target, pace):
    page = private_page()
    page.begun = begun
    page.target = target
    page.pace = pace
    assert (page.begun, page.target, page.pace) == (begun, target, pace)
    page.target = 0
    assert (page.begun, page.pace) == (begun, pace)


@given(begun=words, target=words, pace=words)
def test_a_word_is_eight_aligned_bytes_of_this_machine(begun, target, pace):
    buffer = bytearray(24)
    page = Page(buffer)
    page.begun = begun
    page.target = target
    page.pace = pace
    assert buffer == b"".join(word.to_bytes(8, sys.byteorder) for word in (begun, target, pace))


@pytest.mark.parametrize("word", ["begun", "target", "pace"])
@pytest.mark.parametrize("value", [-1, 1 << 64])
def test_what_is_no_word_is_refused_and_the_old_one_stays(word, value):
    page = private_page()
    setattr(page, word, 7)
    with pytest.raises(ValueError):
        setattr(page, word, value)
    assert getattr(page, word) == 7


@linux
def test_both_sides_see_what_the_other_writes():
    with shared_page() as (mine, fd):
        theirs = map_page(fd)
        mine.target = 5
        theirs.begun = 6
        theirs.pace = 7
        assert (theirs.target, mine.begun, mine.pace) == (5, 6, 7)


@linux
def test_the_page_outlives_its_descriptor():
    mine, fd = create_page()
    theirs = map_page(fd)
    os.close(fd)
    theirs.begun = 9
    assert mine.begun == 9


@linux
def test_what_a_page_said_last_can_be_read_when_it_is_closed():
    with shared_page() as (page, fd):
        theirs = map_page(fd)
        theirs.begun, page.target, theirs.pace = 1, 2, 3
        for _ in range(2):
            page.close()
            assert (page.begun, page.target, page.pace) == (1, 2, 3)
        theirs.begun = 9
        assert page.begun == 1
        theirs.close()


@linux
def test_a_child_writes_and_the_word_is_there_after_its_death():
    with shared_page() as (page, fd):
        code = f"import os; from gibbs._wire.page import map_page; map_page({fd}).begun = 123; os.kill(os.getpid(), 9)"
        environment = {**os.environ, "PYTHONPATH": str(Path(gibbs.__file__).parents[1])}
        child = subprocess.run([sys.executable, "-c", code], pass_fds=[fd], env=environment, timeout=30)
        assert (child.returncode, page.begun) == (-9, 123)


@linux
@pytest.mark.parametrize("size", [0, 1, 8192])
def test_nobody_can_take_the_memory_away_under_the_hub(size):
    with shared_page() as (_, fd):
        with pytest.raises(PermissionError):
            os.ftruncate(fd, size)


@linux
def test_nobody_can_break_the_seals():
    with shared_page() as (_, fd):
        assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) == fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
        with pytest.raises(PermissionError):
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)


@linux
def test_the_descriptor_is_not_inherited_by_accident():
    with shared_page() as (_, fd):
        assert not os.get_inheritable(fd)


@linux
def test_the_words_are_at_the_start_of_an_aligned_mapping():
    with shared_page() as (page, fd):
        page.begun, page.target, page.pace = 1, 2, 3
        with mmap.mmap(fd, 24) as raw:
            assert raw[:24] == b"".join(word.to_bytes(8, sys.byteorder) for word in (1, 2, 3))
        assert ctypes.addressof(ctypes.c_char.from_buffer(page._words)) % 8 == 0


@linux
@pytest.mark.parametrize("step", ["ftruncate", "fcntl", "mmap"])
def test_a_page_that_cannot_be_made_leaves_no_descriptor(step, monkeypatch):
    def fails(*_):
        raise OSError(12, "no memory")

    monkeypatch.setattr({"ftruncate": os, "fcntl": fcntl, "mmap": mmap}[step], step, fails)
    with pytest.raises(OSError, match="no memory"):
        create_page()  # the inventory of every test looks for the descriptor
