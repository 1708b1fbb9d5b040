"""Models that block, and misbehave when they are interrupted, closed or killed. What a worker imports for them is little."""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import operator
import os
import signal
import sys
import threading
import time
import weakref
from pathlib import Path

import gibbs
from gibbs._model import interrupts

LONG = 600  # seconds that no test waits for
INTERRUPT = signal.SIGRTMIN + 5


def wait_for_file(path):
    while not path.exists():
        time.sleep(0.002)


class Worker:
    """What all models here offer: who they are and what they were asked."""

    def __init__(self):
        self.ran = []

    def pid(self):
        return os.getpid()

    def record(self):
        return self.ran


class Blocked(Worker):
    """Blocks for ever, in the way that it is told."""

    interruptible = True

    def __call__(self, how):
        print("begun")
        getattr(self, how)()

    def sleep(self):
        time.sleep(LONG)

    def lock(self):
        lock = threading.Lock()
        lock.acquire()
        lock.acquire()

    def event(self):
        threading.Event().wait()

    def queue(self):
        import queue

        queue.Queue().get()

    def simple_queue(self):
        import queue

        queue.SimpleQueue().get()

    def socket(self):
        import socket

        left, right = socket.socketpair()
        with left, right:
            left.recv(1)

    def select(self):
        import select

        read, write = os.pipe()
        try:
            select.select([read], [], [])
        finally:
            os.close(read)
            os.close(write)

    def subprocess(self):
        import subprocess

        child = subprocess.Popen([sys.executable, "-S", "-c", f"import time; time.sleep({LONG})"])
        try:
            child.wait()
        finally:
            child.kill()
            child.wait()

    def thread(self):
        never = threading.Event()
        thread = threading.Thread(target=never.wait, daemon=True)
        thread.start()
        try:
            thread.join()
        finally:
            never.set()

    def loop(self):
        while True:
            pass

    def regex(self):
        import re

        re.match(r"(a+)+b", "a" * 60)

    def own_loop(self):
        import asyncio

        asyncio.run(asyncio.sleep(LONG))


class Silent(Blocked):
    """A model that says nothing about interrupts."""

    interruptible = False


class Patient(Worker):
    """Blocks until a file is there; on an interrupt it says so and unwinds when another file is there."""

    interruptible = True

    def __call__(self, path, unwinding=None):
        self.ran.append(path.name)
        try:
            print("begun")
            wait_for_file(path)
        except gibbs.Interrupted:
            print("unwinding")
            if unwinding is not None:
                wait_for_file(unwinding)
            raise
        self.ran.append(f"end of {path.name}")
        return path.name


class OwnTimeout:
    def __call__(self):
        raise TimeoutError("the database is slow")


class Quick(Worker):
    interruptible = True

    def __call__(self, number, seconds):
        if seconds:
            time.sleep(seconds)
        return number


class Stubborn(Worker):
    """Cannot be interrupted, in the way that it is told. Each says that it has begun when nothing can reach it any more."""

    interruptible = True

    def __call__(self, how):
        getattr(self, how)()

    def c_code(self):
        # Between the write and the endless sum no bytecode is run.
        sum(itertools.chain(map(os.write, [1], [b"begun\n"]), range(10**15)))

    def swallows_everything(self):
        while True:
            with contextlib.suppress(BaseException):
                print("begun")
                time.sleep(LONG)

    def blocks_the_signal(self):
        signal.pthread_sigmask(signal.SIG_BLOCK, {INTERRUPT})
        # Another thread takes it then, and it is handled here before the next bytecode: there is none.
        say_begun, sleep = functools.partial(os.write, 1, b"begun\n"), functools.partial(time.sleep, LONG)
        list(map(operator.call, [say_begun, sleep]))

    def ignores_the_signal(self):
        signal.signal(INTERRUPT, signal.SIG_IGN)
        print("begun")
        time.sleep(LONG)

    def takes_the_signal_over(self):
        signal.signal(INTERRUPT, lambda number, frame: None)
        print("begun")
        while True:
            time.sleep(0.001)

    def loop_that_swallows(self):
        import asyncio

        async def blocks():
            print("begun")
            time.sleep(LONG)

        async def main():
            await asyncio.gather(blocks(), return_exceptions=True)
            await asyncio.sleep(LONG)

        asyncio.run(main())


class SwallowsOnce(Worker):
    interruptible = True

    def __call__(self):
        with contextlib.suppress(gibbs.Interrupted):
            print("begun")
            time.sleep(LONG)
        return "as if nothing had happened"


class CleansUp(Worker):
    interruptible = True

    def __call__(self):
        try:
            print("begun")
            time.sleep(LONG)
        finally:
            time.sleep(0.2)  # ten times as long as the pause between two strikes
            self.ran.append("cleaned up")


class Exits(Worker):
    interruptible = True

    def __call__(self):
        try:
            print("begun")
            time.sleep(LONG)
        except gibbs.Interrupted:
            os._exit(9)


class Repairs(Worker):
    interruptible = True

    def __init__(self, can_repair):
        super().__init__()
        self.can_repair = can_repair
        self.broken = False

    def __call__(self):
        self.broken = True
        print("begun")
        time.sleep(LONG)

    def after_interrupt(self):
        if not self.can_repair:
            raise RuntimeError("beyond repair")
        self.broken = False
        self.ran.append("repaired")

    def state(self):
        return self.broken, self.ran


class RepairsForEver(Worker):
    interruptible = True

    def __call__(self):
        print("begun")
        time.sleep(LONG)

    def after_interrupt(self):
        time.sleep(LONG)


class Shielded(Worker):
    interruptible = True

    def __init__(self):
        super().__init__()
        self.shield = gibbs.uninterruptible()

    def __call__(self, how):
        getattr(self, how)()

    def wait_for_an_interrupt(self):
        print("begun")
        while not interrupts.pending:
            time.sleep(0.001)

    def one(self):
        with gibbs.uninterruptible():
            self.wait_for_an_interrupt()
            self.ran.append("end of the block")
        self.ran.append("after the block")

    def nested(self):
        with gibbs.uninterruptible():
            with gibbs.uninterruptible():
                self.wait_for_an_interrupt()
                self.ran.append("end of the inner block")
            time.sleep(0.05)
            self.ran.append("end of the outer block")
        self.ran.append("after the blocks")

    def the_same_nested(self):
        with self.shield:
            with self.shield:
                self.wait_for_an_interrupt()
                self.ran.append("end of the inner block")
            time.sleep(0.05)
            self.ran.append("end of the outer block")
        self.ran.append("after the blocks")

    def raising(self):
        with gibbs.uninterruptible():
            self.wait_for_an_interrupt()
            raise ValueError

    def in_another_thread(self):
        entered, leave = threading.Event(), threading.Event()

        def shielded():
            with gibbs.uninterruptible():
                entered.set()
                leave.wait()

        thread = threading.Thread(target=shielded)
        thread.start()
        entered.wait()
        try:
            print("begun")
            time.sleep(LONG)
        finally:
            leave.set()
            thread.join()


class Imports(Worker):
    interruptible = True

    def __call__(self, folder, name):
        sys.path.insert(0, str(folder))
        __import__(name)
        time.sleep(LONG)

    def value(self, name, of):
        return getattr(__import__(name), of)


class ImportsNumpy(Worker):
    interruptible = True

    def __call__(self):
        print("begun")
        import numpy

        time.sleep(LONG)
        return numpy

    def add(self, number):
        import numpy

        return int(numpy.arange(number).sum())


class Swallowed(Worker):
    """Where it says that it has begun, the interpreter drops exceptions; it stays there for longer than a cancel takes."""

    interruptible = True

    def __call__(self, how):
        self.first = True
        getattr(self, how)()

    def take_time(self):
        if self.first:
            self.first = False
            print("begun")
            time.sleep(0.1)
        time.sleep(0.001)

    def finalizers(self):
        model = self

        class Thing:
            def __del__(self):
                model.take_time()

        while True:
            Thing()
            time.sleep(0.001)

    def weakref_callbacks(self):
        while True:
            thing = threading.Event()
            reference = weakref.ref(thing, lambda _: self.take_time())
            del thing
            time.sleep(0.001)
            assert reference() is None


class SlowToLoad:
    def __reduce__(self):
        return load_slowly, ()


def load_slowly():
    print("begun")
    time.sleep(LONG)


class SlowToSend(Worker):
    interruptible = True

    def __call__(self):
        return SlowToPack()


class SlowToPack:
    """Is not packed before a signal has come."""

    def __reduce__(self):
        read, write = os.pipe()
        os.set_blocking(write, False)
        before = signal.set_wakeup_fd(write)
        print("begun")
        os.read(read, 1)
        signal.set_wakeup_fd(before)
        os.close(read)
        os.close(write)
        print("packed")
        return int, (3,)


def plain(path: Path) -> str:
    print("begun")
    wait_for_file(path)
    return path.name


class Lingers(Stubborn):
    """Leaves something behind that is in the way of its worker's end, as it is told. Says in a folder when it exits."""

    def __init__(self, folder):
        super().__init__()
        atexit.register((folder / f"exited {os.getpid()}").touch)

    def __call__(self, how):
        return getattr(self, how)()

    def nothing(self):
        return []

    def non_daemon_thread(self):
        threading.Thread(target=time.sleep, args=(LONG,)).start()
        return []

    def forked_grandchild(self):
        pid = os.fork()
        if not pid:
            time.sleep(LONG)
            os._exit(0)
        return [pid]

    def subprocess_grandchild(self):
        import subprocess

        return [subprocess.Popen([sys.executable, "-S", "-c", f"import time; time.sleep({LONG})"]).pid]

    def every_signal_blocked(self):
        signal.pthread_sigmask(signal.SIG_BLOCK, set(range(1, signal.NSIG)))
        return []

    def atexit_handler_that_hangs(self):
        atexit.register(time.sleep, LONG)
        return []

    def stopped(self):
        os.kill(os.getpid(), signal.SIGSTOP)

    def sleep(self):
        print("begun")
        time.sleep(LONG)


class Careful(Patient):
    """As Patient, and not to be interrupted."""

    interruptible = False


class BuiltOnce:
    """Can be built as long as a file is there."""

    def __init__(self, path):
        if not path.exists():
            raise RuntimeError("the weights are gone")

    def __call__(self, x):
        return x
