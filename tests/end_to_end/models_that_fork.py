"""What workers of tests about forking do. Light, since each of them imports it."""

from __future__ import annotations

import os
import signal
import sys

import gibbs


def facts():
    import random
    import threading

    import numpy

    return {
        "parent": os.getppid(),
        "imported": "heavy" in sys.modules,
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "random": (random.random(), float(numpy.random.random())),
        "thread": threading.main_thread().native_id == os.getpid(),
        "group": os.getpgid(0) == os.getsid(0) == os.getpid(),
        "descriptors": {target for fd in os.listdir("/proc/self/fd") if (target := link(fd))},
    }


def link(fd):
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return ""


def device():
    return gibbs.current_worker().device


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def speak_and_exit(status):
    print("my last words", flush=True)
    os._exit(status)


def leave_a_subprocess_and_exit():
    import subprocess

    child = subprocess.Popen(["sleep", "600"])
    os.write(1, f"{child.pid}\n".encode())
    os._exit(1)


def use_numpy():
    import numpy

    return float(numpy.ones(3).sum())
