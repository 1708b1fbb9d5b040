"""Whether this is where a hub lives: its process, which a fork of it is not, and its thread."""

from __future__ import annotations

import mmap
import os
import sys
import threading

import pytest

from gibbs._parent import home
from gibbs._parent.home import Home


@pytest.fixture(params=["by a mark", "by number"])
def at_home(request, monkeypatch):
    if request.param == "by number":
        monkeypatch.setattr(home, "_wiped_mark", lambda: None)
    elif sys.platform != "linux":
        pytest.skip("no mark there")
    return Home()


def in_a_fork(question):
    """What it answers there, True or False."""
    child = os.fork()
    if not child:
        os._exit(42 if question() else 43)
    return {42: True, 43: False}[os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]


def test_it_is_here_and_no_fork(at_home):
    assert at_home.is_here
    assert not at_home.is_fork
    assert at_home.process == os.getpid()


def test_in_a_fork_it_is_not_here_and_here_it_still_is(at_home):
    assert not in_a_fork(lambda: at_home.is_here)
    assert in_a_fork(lambda: at_home.is_fork)
    assert at_home.is_here


def test_in_another_thread_it_is_not_here_which_is_no_fork(at_home):
    found = []
    thread = threading.Thread(target=lambda: found.extend([at_home.is_here, at_home.is_fork]))
    thread.start()
    thread.join()
    assert found == [False, False]


def test_where_the_kernel_leaves_nothing_out_the_number_is_compared(monkeypatch):
    class Refused(mmap.mmap):
        def madvise(self, *_):
            raise OSError(22, "Invalid argument")

    monkeypatch.setattr(home.mmap, "mmap", Refused)
    lives = Home()
    assert lives.is_here
    assert in_a_fork(lambda: lives.is_fork)
