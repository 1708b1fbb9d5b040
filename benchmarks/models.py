"""What the workers run, whoever started them: small functions and models, in a module that can be imported by name.

Must stay light: a worker imports it, and its memory and its start are measured. numpy is imported by the functions that make arrays.
"""

from __future__ import annotations

import os
from time import perf_counter, sleep, thread_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

PAUSE = 0.001  # seconds between two looks at a file by a call that waits for it


def tiny(x: int) -> int:
    """The least work that can be told from none."""
    return x + 1


def needs_numpy(x: int) -> int:
    """The same, of a model whose imports take longer than the start of its worker."""
    import numpy

    return int(numpy.add(x, 1))


def items(count: int) -> Iterator[int]:
    """Numbers, each of which takes about a microsecond."""
    for number in range(count):
        x = number
        for _ in _SOME:
            x += 1
        yield x


_SOME = range(25)


def busy(seconds: float) -> float:
    """Keep a core busy. By the thread's own time: a call that had to share its core takes longer, and that is to be seen."""
    until = thread_time() + seconds
    while thread_time() < until:
        pass
    return seconds


def carry(way: str, thing: Any) -> Any:
    """A thing "there and back", only "there", or only "back": then it is a number, and that many numbers are given."""
    if way == "back":
        return give(thing)
    return thing if way == "there and back" else len(thing)


def give(count: int) -> Any:
    """Back only: the same `count` numbers each time, made by the first call."""
    if count not in _made:
        import numpy

        _made.clear()
        _made[count] = numpy.arange(count, dtype="float64")
    return _made[count]


_made: dict[int, Any] = {}


def hold(payload: Any, begun: str, until: str) -> int:
    """Look at each page of it, say in a file that the call has begun, and return when another file is there."""
    size = len(payload)
    sum(memoryview(payload).cast("B")[::4096])
    with open(begun, "w"):
        pass
    while not os.path.exists(until):
        sleep(PAUSE)
    return size


def recorded(number: int, seconds: float, folder: str) -> int:
    """Write down in this worker's own file that `number` runs, then be busy, or sleep if it is a long call."""
    file = _files.get(folder)
    if file is None:
        file = _files[folder] = os.open(f"{folder}/{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(file, number.to_bytes(8, "little"))
    if seconds >= 0.1:
        sleep(seconds)
    else:
        until = perf_counter() + seconds
        while perf_counter() < until:
            pass
    return number


_files: dict[str, int] = {}
