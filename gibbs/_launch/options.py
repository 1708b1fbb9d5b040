"""What every launcher is told in the same words, refused at once when it makes no sense. Knows no process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def check_devices(devices: Any) -> tuple[str, ...]:
    """Names, as a tuple. Raises TypeError."""
    return check_words("devices", devices)


def check_words(name: str, words: Any) -> tuple[str, ...]:
    """A sequence of strings, as a tuple; one string is none. Raises TypeError."""
    if isinstance(words, str) or not isinstance(words, Sequence) or not all(isinstance(one, str) for one in words):
        raise TypeError(f"{name} must be a sequence of strings, not {words!r}")
    return tuple(words)


def check_env(env: Any) -> None:
    """Environment variables, or None. Raises TypeError or ValueError."""
    if env is None:
        return
    if not hasattr(env, "items"):
        raise TypeError(f"env must be a mapping of strings to strings, not {env!r}")
    items: list[tuple[Any, Any]] = list(env.items())
    for name, value in items:
        if not (isinstance(name, str) and isinstance(value, str)):
            raise TypeError(f"env must map strings to strings, not {name!r} to {value!r}")
        if not name or "=" in name or "\0" in name + value:
            raise ValueError(f"env must map names to values that a process can be given, not {name!r} to {value!r}")


def check_output(output: Any) -> None:
    """Where a worker's lines go. Raises ValueError."""
    if not callable(output) and output not in ("stderr", "log", "inherit", "discard"):
        raise ValueError(
            f'output must be "stderr", "log", "inherit", "discard" or a callable (line, seat), not {output!r}'
        )


def check_keepalive(seconds: Any, *, required: bool = False) -> None:
    """Seconds between two signs of life, or None where none is required. Raises TypeError or ValueError."""
    if seconds is None and not required:
        return
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"keepalive must be a number of seconds{'' if required else ' or None'}, not {seconds!r}")
    if not 0 < seconds < 1e6:
        raise ValueError(f"keepalive must be more than 0 seconds, and less than a million, not {seconds!r}")
