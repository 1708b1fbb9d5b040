"""The model, signing what it does: the walk-through's witness.

Each call appends two lines to the file that the environment variable STAMPS names, in the
worker that runs it. So what is said about the workers is said by the workers.

    STAMPS=/dev/stdout python examples/stamped_model.py
"""

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from model import MyAwesomeModel


class StampedModel(MyAwesomeModel):
    def __call__(self, x: int) -> int:
        outcome = "stopped"
        try:
            stamp("began", x)
            answer = super().__call__(x)
            outcome = "answered"
        finally:
            stamp(outcome, x)
        return answer


class Stamp(NamedTuple):
    pid: int
    event: str  # "began", then "answered" or "stopped"; a killed worker cannot sign the end
    x: int
    time: float  # of a clock that all processes share


def stamp(event: str, x: int) -> None:
    line = f"{os.getpid()} {event} {x} {time.monotonic():.6f}\n"
    file = os.open(os.environ["STAMPS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


def read_stamps(path: Path) -> list[Stamp]:
    """The stamps so far, in the order of time."""
    lines = path.read_text().splitlines() if path.exists() else []
    fields = [line.split() for line in lines]
    stamps = [Stamp(int(pid), event, int(x), float(at)) for pid, event, x, at in fields]
    return sorted(stamps, key=lambda stamp: stamp.time)


def most_at_once(stamps: Iterable[Stamp]) -> int:
    """How many calls ran at the same time, at most."""
    running = most = 0
    for stamp in stamps:
        running += 1 if stamp.event == "began" else -1
        most = max(most, running)
    return most


if __name__ == "__main__":
    StampedModel()(12)
