"""Puts every small fault into the core, one by one, and asks the tests. `python -m tests.mutation [module …] [--list]`

Works on copies of the checkout, two at a time, at the lowest priority. Ends with 1 if a mutant survives that `survivors.py`
does not explain, or if that explains one that is killed, or is none.
"""

from __future__ import annotations

import os
import queue
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tests.mutation.mutants import Mutant, mutants
from tests.mutation.survivors import EXPLAINED

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 10  # times as long as the tests take without a mutant
MEMORY = 4 << 30
LEASES = "tests/core/test_leases.py"
MACHINE = "tests/core/test_dispatch_machine.py"
# What each module is held by, the quick ones first.
TARGETS = {
    "_core/restarts.py": ["tests/core/test_restarts.py", MACHINE],
    "_core/pace.py": ["tests/core/test_pace.py"],
    "_core/orders.py": ["tests/core/test_dispatch.py"],
    "_core/roster.py": ["tests/core/test_roster.py", "tests/core/test_dispatch.py", MACHINE],
    "_core/ticket.py": ["tests/core/test_tables.py", "tests/core/test_dispatch.py", LEASES, MACHINE],
    "_core/seat.py": ["tests/core/test_tables.py", "tests/core/test_dispatch.py", LEASES, MACHINE],
    "_core/lease.py": [LEASES, "tests/core/test_tables.py", MACHINE],
    "_wire/claims.py": ["tests/core/test_claims.py"],
    "_worker/pace.py": ["tests/core/test_worker_pace.py"],
    "_wire/frames.py": ["tests/core/test_frames.py", MACHINE],
    "_core/queue.py": ["tests/core/test_dispatch.py", LEASES, MACHINE],
    "_core/placement.py": ["tests/core/test_dispatch.py", LEASES, MACHINE],
    "_core/dispatch.py": ["tests/core/test_dispatch.py", LEASES, MACHINE],
}
PYTEST = f"{sys.executable} -m pytest -q -x --tb=line -p tests.mutation.quick -p no:cacheprovider".split()
# No bytecode: a mutant may be as long, and by the clock as old, as the one before it.
ENVIRONMENT = {**os.environ, "HYPOTHESIS_PROFILE": "mutants", "PYTHONDONTWRITEBYTECODE": "1"}


class Checkout(NamedTuple):
    """A copy in which one mutant at a time lives."""

    folder: Path

    @classmethod
    def copied_to(cls, folder: Path) -> Checkout:
        for name in ("gibbs", "tests"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        return cls(folder)

    def ask(self, target: str, source: str, *, seconds: float) -> str:
        """ "survived", "killed" or "timeout": what the target's tests say to it with this text."""
        module = self.folder / "gibbs" / target
        unchanged = module.read_text()
        module.write_text(source)
        try:
            done = subprocess.run(
                [*PYTEST, f"--timeout={seconds}", *TARGETS[target]],
                cwd=self.folder,
                env={**ENVIRONMENT, "PYTHONPATH": str(self.folder)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=2 * seconds,
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)),
            )
        except subprocess.TimeoutExpired:
            return "timeout"
        finally:
            module.write_text(unchanged)
        if b"+ Timeout +" in done.stdout:
            return "timeout"
        return "killed" if done.returncode else "survived"


def examine(target: str, free: queue.Queue[Checkout]) -> bool:
    """Ask about every mutant of a module. Returns whether each is killed or explained."""
    source = (ROOT / "gibbs" / target).read_text()
    every, explained = mutants(source), EXPLAINED.get(target, {})
    started = time.monotonic()
    checkout = free.get()
    unharmed = checkout.ask(target, source, seconds=600)
    assert unharmed == "survived", f"the tests of {target} without a mutant: {unharmed}"
    free.put(checkout)
    seconds = max(30, PATIENCE * (time.monotonic() - started))

    def ask(mutant: Mutant) -> str:
        checkout = free.get()
        try:
            return checkout.ask(target, mutant.source, seconds=seconds)
        finally:
            free.put(checkout)

    with ThreadPoolExecutor(free.qsize()) as pool:
        verdicts = dict(zip([mutant.name for mutant in every], pool.map(ask, every), strict=True))
    survivors = {name for name, verdict in verdicts.items() if verdict == "survived"}
    count = Counter(verdicts.values())
    print(
        f"{target}: {len(every)} mutants, {count['killed']} killed, {count['timeout']} timeouts, "
        f"{len(survivors)} survivors of which {len(survivors & explained.keys())} are explained "
        f"({time.monotonic() - started:.0f} s)"
    )
    for name in sorted(name for name, verdict in verdicts.items() if verdict == "timeout"):
        print(f"  takes for ever, which is noticed: {name}")
    for name in sorted(survivors - explained.keys()):
        print(f"  survives: {name}")
    for name in sorted(explained.keys() - survivors):
        print(f"  explained, but {verdicts.get(name, 'there is no such mutant')}: {name}")
    sys.stdout.flush()
    return survivors == explained.keys()


def main(arguments: list[str]) -> int:
    chosen = [name for name in TARGETS if not arguments or any(word in name for word in arguments)]
    if "--list" in arguments:
        for target in TARGETS:
            for mutant in mutants((ROOT / "gibbs" / target).read_text()):
                print(f"{target} {mutant.name}")
        return 0
    os.nice(19)
    with tempfile.TemporaryDirectory(prefix="gibbs-mutants-") as folder:
        free: queue.Queue[Checkout] = queue.Queue()
        for number in range(2):
            free.put(Checkout.copied_to(Path(folder, str(number))))
        clean = [examine(target, free) for target in chosen]
        return 0 if all(clean) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
