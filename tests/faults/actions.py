"""What a model does that it should not, to itself: it dies, hangs, leaves things behind, changes its process.

One function for each fault, run in the worker at the moment that a phase chooses; it must never know which one that is. Each takes the
folder of its cell; what it starts it enters there, so that the test can look for it when the hub has closed.
"""

from __future__ import annotations

import operator
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from functools import partial

LONG = 600  # seconds that no test waits for
INTERRUPT = signal.SIGRTMIN + 5


def enter(folder, pid):
    """Leave the pid where the test finds it, whatever becomes of this process."""
    fd = os.open(folder / "started", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{pid}\n".encode())
    os.close(fd)


# ------------------------------------------------------------------------------------------------------------------ death


def self_sigkill(folder):
    os.kill(os.getpid(), signal.SIGKILL)


def os_exit(folder):
    os._exit(4)


def os_exit_0(folder):
    os._exit(0)


def segv(folder):
    import ctypes  # here, as each import that a worker can do without: hundreds of workers start

    ctypes.string_at(0)


def abort(folder):
    os.abort()


def default_signal(folder):
    os.kill(os.getpid(), signal.SIGUSR1)
    time.sleep(LONG)


def fork_then_die(folder):
    _fork_a_sleeper(folder)
    os._exit(3)


def fork_out_of_the_group_then_die(folder):
    _fork_a_sleeper(folder, own_session=True)
    os._exit(3)


def _fork_a_sleeper(folder, *, own_session=False):
    """A child that holds every descriptor of the worker's."""
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        if own_session:
            os.setsid()
        os.write(told, b"!")
        while True:
            time.sleep(LONG)
    os.read(ready, 1)
    os.close(ready)
    os.close(told)
    enter(folder, child)


def becomes_true(folder):
    os.execv(sys.executable, [sys.executable, "-S", "-c", ""])


def becomes_a_sleeper(folder):
    os.execv(sys.executable, [sys.executable, "-S", "-c", f"import time; time.sleep({LONG})"])


# --------------------------------------------------------------------------------------------------------------- hanging


def sleeps(folder):
    time.sleep(LONG)


def holds_the_gil(folder):
    sum(range(10**15))


def sigstop_self(folder):
    os.kill(os.getpid(), signal.SIGSTOP)


def catch_all(folder):
    while True:
        with suppress(BaseException):
            (folder / "at it").touch()
            time.sleep(LONG)


def blocks_every_signal(folder):
    signal.pthread_sigmask(signal.SIG_BLOCK, set(range(1, signal.NSIG)))


def blocks_every_signal_and_sleeps(folder):
    blocks_every_signal(folder)
    # Another thread takes the signal then, and it is handled here before the next bytecode: there is none.
    list(map(operator.call, [partial(os.open, folder / "at it", os.O_CREAT), partial(time.sleep, LONG)]))


def waits_for_the_test(folder):
    while not (folder / "go on").exists():
        time.sleep(0.001)


# ------------------------------------------------------------------------------------------------- what is left behind


def leftover_thread(folder):
    threading.Thread(target=time.sleep, args=(LONG,), daemon=False).start()


def thread_that_prints(folder):
    def print_for_ever():
        while True:
            print("x" * 1000)

    threading.Thread(target=print_for_ever, daemon=True).start()


def leftover_subprocess(folder):
    import subprocess

    child = subprocess.Popen([sys.executable, "-S", "-c", f"import time; time.sleep({LONG})"])
    enter(folder, child.pid)


def forked_grandchild(folder):
    _fork_a_sleeper(folder)


def uses_multiprocessing(folder):
    import multiprocessing

    process = multiprocessing.get_context("fork").Process(target=os.getpid)
    process.start()
    process.join()
    assert process.exitcode == 0


def opens_a_hub(folder):
    import operator

    import anyio

    import gibbs

    async def main():
        async with gibbs.open_hub(gibbs.function(operator.call), workers=1) as hub:
            enter(folder, await hub.request(os.getpid))

    anyio.run(main)


# ------------------------------------------------------------------------------------------------- a process that changes


def changes_its_process(folder):
    os.chdir("/")
    os.umask(0)
    os.environ.clear()
    os.nice(1)
    sys.argv[:] = []
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def clears_sys_path(folder):
    sys.path.clear()
    sys.meta_path.clear()


def loses_its_outputs(folder):
    sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = None


def low_recursion_limit(folder):
    depth = 0
    frame = sys._getframe()
    while frame is not None:
        depth, frame = depth + 1, frame.f_back
    sys.setrecursionlimit(depth + 20)


def stray_interrupt(folder):
    for _ in range(3):
        os.kill(os.getpid(), INTERRUPT)


def sigterm_self(folder):
    os.kill(os.getpid(), signal.SIGTERM)


def interrupt_main(folder):
    import _thread

    _thread.interrupt_main()


def raises_in_the_main_thread(folder):
    import ctypes

    main = ctypes.c_ulong(threading.main_thread().ident)
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc(main, ctypes.py_object(ZeroDivisionError)) == 1
