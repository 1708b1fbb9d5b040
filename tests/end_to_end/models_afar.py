"""Models for workers behind a command. They are imported there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import gibbs

LONG = 600  # seconds that no test waits for


class Afar:
    """Does what it is told, in a process of its own."""

    interruptible = True

    def __init__(self):
        self.calls = 0

    def __call__(self, x=None):
        self.calls += 1
        return x

    def pid(self):
        return os.getpid()

    def place(self):
        return gibbs.current_worker().device, gibbs.current_worker().seat

    def variable(self, name):
        return os.environ.get(name)

    def where(self):
        return os.getcwd(), sys.path

    def reads_its_stdin(self):
        return sys.stdin.read(), os.read(0, 10)

    def prints(self, text):
        print(text)
        os.write(1, b"written\n")
        print("complaint", file=sys.stderr)

    def exits(self, status):
        os._exit(status)

    def dies(self, signum):
        os.kill(os.getpid(), signum)
        time.sleep(LONG)

    def sleeps(self):
        print("begun", flush=True)
        time.sleep(LONG)

    def naps(self):
        time.sleep(0.01)
        return "rested"

    def holds_the_lock_of_the_interpreter(self, seconds=LONG):
        """In C, so that no other thread of this process runs."""
        print("begun", flush=True)
        import ctypes

        ctypes.PyDLL(None).usleep(min(int(seconds * 1e6), 4_000_000_000))
        return os.getpid()

    def starts_a_process(self):
        return subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({LONG})"]).pid

    def dies_once(self, marker):
        if not Path(marker).exists():
            Path(marker).touch()
            time.sleep(LONG)
        return "answered"

    def array(self, values):
        return values[::-1]

    def ignores_sigterm(self):
        return signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
