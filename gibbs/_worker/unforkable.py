"""What this process has that no fork of it would have, though it would believe so: threads, and a GPU's state. Told in words. Linux."""

from __future__ import annotations

import os
import sys
from time import sleep

_PATIENCE = 20  # looks, 10 ms apart: a thread that was joined is there for a moment longer
_DRIVERS = ("/dev/nvidia", "/dev/kfd")


def unforkable() -> dict[object, str]:
    """Each by something that it is known by again. What passes within a moment is not among them."""
    for _ in range(_PATIENCE):
        if not (found := _threads() | _gpu()):
            break
        sleep(0.01)
    return found


def _threads() -> dict[object, str]:
    found: dict[object, str] = {}
    for thread in map(int, os.listdir("/proc/self/task")):
        if thread == os.getpid():
            continue
        try:
            with open(f"/proc/self/task/{thread}/comm") as comm:
                found[thread] = f"a thread of native code ({comm.read().strip()})"
        except OSError:  # it has ended
            pass
    threading = sys.modules.get("threading")
    if found and threading is not None:
        for one in threading.enumerate():
            if one.native_id in found:
                found[one.native_id] = f"the thread {one.name!r}"
    return found


def _gpu() -> dict[object, str]:
    found: dict[object, str] = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:  # that of the list itself
            continue
        if target.startswith(_DRIVERS):
            found[target] = f"the GPU's {target}, open"
    for module, attribute in (("torch.cuda", "is_initialized"), ("jax._src.xla_bridge", "backends_are_initialized")):
        is_initialized = getattr(sys.modules.get(module), attribute, None)
        if is_initialized is not None and is_initialized():
            found[module] = f"the GPU's state of {module}"
    return found
