"""What even a sabotaged copy must do, run as `python -m tests.sabotage.still_serves COPY LOOP`: open, answer, close.

It also looks where `gibbs` comes from, in this process and in the workers: another one than the copy's would prove nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path

import anyio

import gibbs

OPTIONS = {"asyncio": ("asyncio", {}), "uvloop": ("asyncio", {"use_uvloop": True}), "trio": ("trio", {})}


def whereabouts(number: int) -> tuple[int, str]:
    """The number again, and the worker's own `gibbs`."""
    import gibbs

    return number, gibbs.__file__


async def serve(home: Path) -> None:
    assert Path(gibbs.__file__).is_relative_to(home), gibbs.__file__
    with anyio.fail_after(30):
        async with gibbs.open_hub(gibbs.function(whereabouts), workers=2) as hub:
            for number in range(10):
                answer, file = await hub.request(number)
                assert answer == number
                assert Path(file).is_relative_to(home), file


if __name__ == "__main__":
    backend, options = OPTIONS[sys.argv[2]]
    anyio.run(serve, Path(sys.argv[1]), backend=backend, backend_options=options)
