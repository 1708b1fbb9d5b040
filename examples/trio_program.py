"""The hub in a Trio program: a nursery, a deadline, and nothing new to learn.

    python examples/trio_program.py

prints

    0 1 4 9 16 25 36 49 64 81
    10 calls took 0.76 s
    the eleventh was given up after 0.10 s, and its worker is free again: 144
"""

import time

import trio
from model import MyAwesomeModel

import gibbs


async def main() -> None:
    squares: dict[int, int] = {}

    async with gibbs.open_hub(MyAwesomeModel, workers=4) as hub:

        async def square(x: int) -> None:
            squares[x] = await hub.request(x)

        started = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for x in range(10):
                nursery.start_soon(square, x)
        seconds = time.perf_counter() - started

        print(*(squares[x] for x in range(10)))
        print(f"10 calls took {seconds:.2f} s")

        started = time.perf_counter()
        with trio.move_on_after(0.1) as scope:
            await hub.request(11)
        seconds = time.perf_counter() - started

        assert scope.cancelled_caught
        print(
            f"the eleventh was given up after {seconds:.2f} s,",
            f"and its worker is free again: {await hub.request(12)}",
        )


trio.run(main)
