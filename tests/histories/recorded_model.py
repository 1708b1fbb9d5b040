"""A model that writes its half of a history; apart from the tests, since a worker need not import pytest."""

import os
import signal
import time

from tests.histories.history import f
from tests.histories.worker_half import WorkerHalf


class Model:
    interruptible = True

    def __init__(self, path):
        self.half = WorkerHalf(path)

    def __call__(self, n, what="", seconds=0.0):
        return self.half.execution(n, lambda: self.work(n, what, seconds))

    def work(self, n, what, seconds):
        time.sleep(seconds)
        if what == "raise":
            raise FloatingPointError(n)
        if what == "die":
            self.half.write("fault", n)
            os.kill(os.getpid(), signal.SIGKILL)
        return f(n)
