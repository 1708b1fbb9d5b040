"""Which tests of the contract run over threads too, why some of them cannot, and what their models find there in the place of a process.

In these files a test that takes `launcher` or `either_launcher` runs over processes and over `gibbs.testing.InlineLauncher`. A test that
takes neither opens hubs in a way of its own, mostly since it looks at processes.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from contextlib import asynccontextmanager

from anyio.lowlevel import current_token

import gibbs
from gibbs.testing import InlineLauncher
from gibbs.testing._thread_interrupter import Killed
from tests.end_to_end import models_that_batch, models_that_block, models_that_yield

FILES = {
    "test_batching.py",
    "test_call_options.py",
    "test_mapping.py",
    "test_model_side.py",
    "test_streaming.py",
}

# Test, or one case of it → what it needs that a thread has not.
NOT_INLINE: dict[str, str] = {
    "test_a_fork_of_the_model_does_not_ask_in_its_place": "forks the worker, which here is the whole program",
    "test_a_thread_of_the_models_sees_that_its_caller_has_left": "a thread that a model starts is in no worker here",
    "test_what_a_generator_raises_when_it_is_closed_is_told_on_its_output_and_hurts_nobody[stubborn]": (
        "what the interpreter says when it throws the generator away is said in the program, where pytest takes it for its own"
    ),
}


def needs_a_process(item):
    """Whether this is a case over threads that they cannot stand."""
    name, cases = item.originalname, getattr(item, "callspec", None)
    if cases is None or "inline" not in cases.params.values():
        return False
    return any(key in NOT_INLINE for key in (name, *(f"{name}[{case}]" for case in cases.params.values())))


class Stage(InlineLauncher):
    """Threads, whose models say to a test what in a process they write on descriptor 1, and may die, sleep and be somebody as there."""

    def __init__(self, heard):
        self._heard = heard
        self._call_soon = None
        self._processes = {}

    @asynccontextmanager
    async def session(self):
        native = current_token().native_token
        self._call_soon = getattr(native, "call_soon_threadsafe", None) or native.run_sync_soon
        async with super().session() as session:
            launch = session.launch

            async def launch_and_know(spec):
                process = await launch(spec)
                self._processes[process.worker.thread] = process
                return process

            session.launch = launch_and_know
            yield session

    @property
    def _process(self):
        """Of the worker whose thread this is; None in another."""
        return self._processes.get(threading.current_thread())

    def say(self, *words, **_):
        self._call_soon(self._heard, " ".join(map(str, words)), 0)

    def say_what_nobody_caught(self, _kind, error, _traceback):
        for line in "".join(traceback.format_exception(error)).splitlines():
            self.say(line)

    def getpid(self):
        return os.getpid() if self._process is None else self._process.origin.pid

    def kill(self, pid, number):
        if self._process is None or pid != self._process.origin.pid:
            os.kill(pid, number)
            return
        self._process.worker.die(gibbs.Ending(how="signalled", code=number))
        raise Killed

    def _exit(self, status):
        if self._process is None:
            os._exit(status)
        self._process.worker.exit(status)

    def sleep(self, seconds):
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 0.002))  # an interrupt comes between two of them


class Instead:
    """A module, some of whose functions are others."""

    def __init__(self, module, stage, *names):
        self._module = module
        for name in names:
            setattr(self, name, getattr(stage, name))

    def __getattr__(self, name):
        return getattr(self._module, name)


def set_stage(heard, monkeypatch, module):
    """The launcher, for the models of this test module and of those that are shared."""
    stage = Stage(heard)
    for each in (models_that_batch, models_that_block, models_that_yield, module):
        for name, instead in (
            ("os", Instead(os, stage, "getpid", "kill", "_exit")),
            ("time", Instead(time, stage, "sleep")),
        ):
            if hasattr(each, name):
                monkeypatch.setattr(each, name, instead)
    for each in (models_that_batch, models_that_yield):
        monkeypatch.setattr(each, "say", stage.say)
    monkeypatch.setattr(models_that_block, "print", stage.say, raising=False)
    monkeypatch.setattr(sys, "excepthook", stage.say_what_nobody_caught)
    return stage
