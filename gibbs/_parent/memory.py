"""What the kernel says of memory: how much a process uses, and how often it has ended one for want of it. Linux; elsewhere nothing."""

from __future__ import annotations

import os
from pathlib import Path

# The counter of a control group: of version 2, of version 1.
_COUNTERS = (("", "sys/fs/cgroup/{path}/memory.events"), ("memory", "sys/fs/cgroup/memory/{path}/memory.oom_control"))


def resident_bytes(pid: int) -> int:
    """Memory in use by a process, what it shares with others included; 0 where nobody can tell."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0


def oom_kills(root: Path = Path("/")) -> int | None:
    """How many processes of this program's control group the kernel has ended for want of memory; None where nobody counts."""
    try:
        groups = [line.split(":", 2) for line in (root / "proc/self/cgroup").read_text().splitlines()]
        for kind, counter in _COUNTERS:
            for _, controllers, path in groups:
                if kind in controllers.split(",") and (file := root / counter.format(path=path.strip("/"))).exists():
                    lines = dict(line.split()[:2] for line in file.read_text().splitlines())
                    return int(lines["oom_kill"])
    except (OSError, ValueError, KeyError):
        pass
    return None
