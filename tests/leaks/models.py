"""The model of the leak tests, apart from them: a worker that must import pytest takes three times as long to start."""

import os
import signal
import time


class Model:
    interruptible = True

    def __call__(self, what):
        if what == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "sleep":
            time.sleep(3600)
        return what
