"""What a row found: figures, checks, and what was left out; how it is printed, written and judged.

Must not know how anything was measured. Promises that a check is kept only by a value that is a number and meets its target.
"""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

PACKAGES = [
    "gibbs",
    "anyio",
    "trio",
    "uvloop",
    "pebble",
    "loky",
    "trio-parallel",
    "numpy",
    "pandas",
    "pyarrow",
    "torch",
    "fastapi",
    "uvicorn",
    "hypercorn",
    "litserve",
    "mosec",
]


@dataclass(frozen=True)
class Check:
    """What must be reached, and what was."""

    loop: str
    what: str
    value: float
    sense: Literal["<=", ">="]
    target: float
    aim: float | None = None  # better than must be

    @property
    def kept(self) -> bool:
        return self.value <= self.target if self.sense == "<=" else self.value >= self.target

    def line(self) -> str:
        aim = f" (aim {self.aim:g})" if self.aim is not None else ""
        verdict = "kept" if self.kept else "MISSED"
        return f"{self.loop:8} {self.what:56} {short(self.value):>9}  {self.sense} {self.target:g}{aim}  {verdict}"


@dataclass(frozen=True)
class Figure:
    """What was measured of somebody."""

    loop: str
    who: str
    what: str
    value: float
    unit: str


@dataclass
class Record:
    """All that one program found."""

    benchmark: str
    about: str
    figures: list[Figure] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what was left out, and why
    errors: list[str] = field(default_factory=list)

    @property
    def kept(self) -> bool:
        return not self.errors and all(check.kept for check in self.checks)

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def figure(self, loop: str, who: str, what: str, value: float, unit: str) -> None:
        self.figures.append(Figure(loop, who, what, value, unit))

    def table(self, loop: str) -> str:
        """The figures of a loop: a line for each thing that was measured, a column for each who was."""
        mine = [figure for figure in self.figures if figure.loop == loop]
        columns = list(dict.fromkeys(figure.who for figure in mine))
        cells = {(figure.what, figure.who): short(figure.value) for figure in mine}
        units = {figure.what: figure.unit for figure in mine}
        lines = [f"{loop:48}" + "".join(f"{who:>18}" for who in columns)]
        for what, unit in units.items():
            lines.append(f"  {f'{what}, {unit}':46}" + "".join(f"{cells.get((what, who), ''):>18}" for who in columns))
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"checks": [asdict(check) | {"kept": check.kept} for check in self.checks]}


def short(value: float) -> str:
    """Three digits, or all that stand before the point."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = 2 - math.floor(math.log10(float(f"{abs(value):.3g}")))  # of 9.999 as of the 10.0 that it is rounded to
    return f"{value:,.{max(0, digits)}f}"


def machine() -> dict[str, Any]:
    """Where it was measured, and with what."""
    models = [line.partition(":")[2].strip() for line in read("/proc/cpuinfo").splitlines() if "model name" in line]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "versions": {name: version for name in PACKAGES if (version := version_of(name))},
        "load": os.getloadavg()[0],
    }


def version_of(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
