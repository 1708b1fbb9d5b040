"""Hash every line that comes in, slowly, on all cores, and print the hashes in the order of the lines.

    printf 'one\ntwo\nthree\n' | python examples/hashes.py

A hash that is meant to be slow keeps a core busy for a while. The lines may come for ever: no more are read than are being worked on.
"""

import argparse
import hashlib
import sys
from collections.abc import AsyncIterator

import anyio

import gibbs


def slow_hash(line: str) -> str:
    return hashlib.scrypt(line.encode(), salt=b"an example", n=1 << 14, r=8, p=1, dklen=16).hex()


async def lines() -> AsyncIterator[str]:
    async for line in anyio.wrap_file(sys.stdin):
        yield line.rstrip("\n")


async def main(workers: int) -> None:
    async with gibbs.open_hub(gibbs.function(slow_hash), workers=workers) as hub:
        async with hub.map(lines(), limit=4 * workers) as hashes:
            async for one in hashes:
                print(one, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio")
    options = parser.parse_args()
    anyio.run(main, options.workers, backend=options.backend)
