"""The model of the matrix: it reaches each phase of a worker's life and does there what a row says.

Each call is entered into a file, with its serial number and the pid, before it does anything, so that what began is known also of a
worker that was killed. No phase is found by waiting for a time: the thread of a model looks where the main thread waits in the kernel.
"""

from __future__ import annotations

import atexit
import os
import threading
import time

import gibbs
from tests.faults import actions, lying, raising

# Both are more than all buffers between two processes hold; the second is to be carried twice.
LARGE = 50_000_000
LARGISH = 5_000_000


ACTIONS = {
    name: f for faults in (actions, lying, raising) for name, f in vars(faults).items() if not name.startswith("_")
}


def acts(folder, action):
    """Do it, and say before and after that it is done."""
    tell(folder, "begins")
    try:
        value = ACTIONS[action](folder)
    finally:
        tell(folder, "ends")
    return "acted" if value is None else value


def tell(folder, what):
    fd = os.open(folder / "acts", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{what} {os.getpid()} {time.monotonic()}\n".encode())
    os.close(fd)


class Unpickled:
    """Acts where it is unpickled: as an argument in the worker."""

    def __init__(self, folder, action):
        self.acts = folder, action

    def __reduce__(self):
        return acts, self.acts


class Freed:
    """Acts where it is freed: as an argument in the worker, when its call is over. Here it is but the order to make one there."""

    def __init__(self, folder, action):
        self.acts = folder, action

    def __reduce__(self):
        return FreedThere, self.acts


class FreedThere:
    def __init__(self, folder, action):
        self.acts = folder, action

    def __del__(self):
        acts(*self.acts)


class Pickled:
    """Acts where it is pickled: as a result in the worker. Arrives as what the action came to."""

    def __init__(self, folder, action):
        self.acts = folder, action

    def __reduce__(self):
        return str, (acts(*self.acts),)


class Acts:
    """The check of a reload."""

    def __init__(self, folder, action):
        self.acts = folder, action

    def __call__(self, model):
        acts(*self.acts)


class Model:
    """A square, and a way into each phase."""

    interruptible = True

    def __init__(self, folder, starting=None):
        while (folder / "not yet").exists():
            time.sleep(0.001)
        self.folder = folder
        self.exited = folder / f"exited {os.getpid()}"
        atexit.register(self.exited.touch)  # the first to be registered is the last to be run
        if starting is not None and self.is_first():
            acts(folder, starting)
        if (folder / "spare").exists():
            self.start_thread((folder / "spare").read_text(), reads_the_stream, when=f"now {os.getpid()}")

    def is_first(self):
        """Of all that were built for this cell: a fault happens once."""
        try:
            os.close(os.open(self.folder / "first", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True

    def began(self, serial):
        fd = os.open(self.folder / "began", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, f"{serial} {os.getpid()}\n".encode())
        os.close(fd)

    # ---- what is right

    def __call__(self, serial, x):
        self.began(serial)
        return x * x

    def fails(self, serial, text):
        self.began(serial)
        raise ValueError(text)

    def length(self, serial, body):
        self.began(serial)
        return len(body)

    # ---- the phases

    def holds(self, serial):
        """Leased: what is asked on the lease waits behind this."""
        self.began(serial)
        while not (self.folder / "now").exists():
            time.sleep(0.001)

    def takes(self, serial, argument):
        """Receiving: the fault was in opening the argument."""
        self.began(serial)
        return argument

    def forgets(self, serial, argument):
        """Freeing: the fault comes with the end of the argument."""
        self.began(serial)
        return "acted"

    def busy(self, serial, action):
        self.began(serial)
        return acts(self.folder, action)

    def busy_when_told(self, serial, action):
        """Reloaded, recycled and dismissed: when the hub has begun to change."""
        self.began(serial)
        while not (self.folder / "now").exists():
            time.sleep(0.001)
        return acts(self.folder, action)

    def tells(self, serial, action):
        self.began(serial)
        gibbs.report("before")
        return acts(self.folder, action)

    @gibbs.batched(max_size=4)
    def in_a_batch(self, asked):
        return [self.busy(*one) for one in asked]

    def yields(self, serial, action):
        self.began(serial)
        yield "before"
        yield acts(self.folder, action)

    def replies(self, serial, action):
        self.began(serial)
        return Pickled(self.folder, action)

    def waits_for_a_cancel(self, serial, action):
        try:
            self.began(serial)
            time.sleep(actions.LONG)
        except gibbs.Interrupted:
            acts(self.folder, action)
            raise

    def acts_at_exit(self, serial, action):
        self.began(serial)
        atexit.register(acts, self.folder, action)

    def arms(self, serial, action):
        """Idle, and half a message received: a thread acts when it is told and the main thread reads the stream."""
        self.began(serial)
        lying.last_link_id = lying.link_id()
        self.start_thread(action, reads_the_stream)

    def replies_at_length(self, serial, action):
        """Half a reply: a thread acts when it is told and the main thread is stuck in writing."""
        self.began(serial)
        self.start_thread(action, lambda fd, call: call[:1] == [fd] and call[2] > 100_000 and stuck(call))
        while not (self.folder / "now").exists():
            time.sleep(0.001)
        return bytes(LARGE)

    def start_thread(self, action, there, when="now"):
        fd = lying.stream()

        def run():
            while not (self.folder / when).exists():
                time.sleep(0.001)
            while not there(fd, kernel_call()):
                time.sleep(0.001)
            acts(self.folder, action)

        threading.Thread(target=run, daemon=True).start()


def kernel_call():
    """The arguments of the call in which the main thread waits in the kernel, or nothing."""
    with open(f"/proc/self/task/{threading.main_thread().native_id}/syscall") as file:
        _, *words = file.read().split()
    return [int(word, 16) for word in words]


def reads_the_stream(fd, call):
    """Whether the main thread does."""
    return call[:1] == [fd] and len(call) > 2


def stuck(call):
    """Whether the main thread is still in that very call a little later, since nobody takes what it writes."""
    for _ in range(3):
        time.sleep(0.002)
        if kernel_call() != call:
            return False
    return True
