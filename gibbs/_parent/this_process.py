"""Which process this is: `pid`, without asking the kernel for each request, which cost a fifth of all that the hub does.

Written at import, and anew in every fork of this process, by the interpreter.
"""

from __future__ import annotations

import os

pid = os.getpid()


def _look() -> None:
    global pid
    pid = os.getpid()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_look)
