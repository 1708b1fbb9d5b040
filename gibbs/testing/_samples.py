"""What strategies draw from beside plain data: an enum, a dataclass and others that a worker imports from here, so this module is light."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn


class Colour(enum.Enum):
    """An enum."""

    RED = "red"
    BLUE = "blue"


class Flags(enum.Flag):
    """Flags, of which there are members without a name."""

    A = 1
    B = 2
    C = 4


class Pair(NamedTuple):
    """A named tuple."""

    first: Any
    second: Any


@dataclass(frozen=True)
class Frozen:
    """A dataclass whose instances can be keys, if their values can."""

    value: Any


@dataclass
class Record:
    """A dataclass."""

    name: str
    value: Any


def _local() -> type[Any]:
    @dataclass
    class Local:
        value: Any

    return Local


Local = _local()  # no worker can import it: it travels by value


class Refuses:
    """Its own code says that it does not travel."""

    def __init__(self, error: type[Exception]) -> None:
        self.error = error

    def __reduce__(self) -> NoReturn:
        raise self.error("this does not travel")
