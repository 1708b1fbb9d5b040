"""A program that has workers and nothing to do, for `benchmarks.idle`: `python -m benchmarks.sitting PEER LOOP`.

Asks some tiny requests, so that whatever polls has a reason to, says so, and sits in its loop until it is ended.
"""

from __future__ import annotations

import sys

import anyio

from benchmarks.measuring import hide_main, run
from benchmarks.models import tiny
from benchmarks.peers import GIBBS, PEERS, Peer

WORKERS = 2
REQUESTS = 500


async def sit(peer: Peer) -> None:
    async with peer.opened(tiny, WORKERS) as call:
        async with anyio.create_task_group() as tg:
            for _ in range(WORKERS):
                tg.start_soon(ask, call)
        print("sitting", flush=True)
        await anyio.sleep_forever()


async def ask(call: object) -> None:
    for x in range(REQUESTS):
        await call(x)  # type: ignore[operator]


if __name__ == "__main__":
    hide_main()
    [peer] = [peer for peer in [GIBBS, *PEERS] if peer.name == sys.argv[1]]
    run(sys.argv[2], sit, peer)
