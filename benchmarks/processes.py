"""What Linux says of processes: who descends from whom, what they keep in memory, and how often they woke up."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

MB = 2**20


def descendants(pid: int) -> list[int]:
    """The processes that descend from this one and run, the oldest first."""
    children: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            state, parent = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:  # gone meanwhile
            continue
        if state not in "ZX":
            children.setdefault(int(parent), []).append(int(name))
    found = sorted(children.get(pid, []))
    for child in found:
        found += sorted(children.get(child, []))
    return found


@dataclass(frozen=True)
class Memory:
    """Of one process, in MB: what nobody shares with it, and its part of all, shared pages divided by those who map them."""

    private: float
    part: float

    @classmethod
    def of(cls, pid: int) -> Memory:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        kb = {name: int(value) for name, value in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)}
        return cls((kb["Private_Clean"] + kb["Private_Dirty"]) * 1024 / MB, kb["Pss"] * 1024 / MB)


def switches(pid: int) -> dict[int, int]:
    """How often each thread of this process has left the CPU so far, which it does once for each time that it wakes."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        text = (task / "status").read_text()
        found[int(task.name)] = sum(int(number) for number in re.findall(r"ctxt_switches:\s+(\d+)", text))
    return found


def wakings(before: dict[int, int], after: dict[int, int]) -> int:
    """How often the threads of `switches` have woken between; one that is gone has woken to end."""
    gone = len(before.keys() - after.keys())
    return gone + sum(times - before.get(thread, 0) for thread, times in after.items())


def others_cpu() -> float:
    """CPU seconds that the machine has used for others than this process and its ended children, since it was started."""
    numbers = [int(number) for number in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = numbers
    ours = os.times()
    every = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return every - sum(ours[:4])
