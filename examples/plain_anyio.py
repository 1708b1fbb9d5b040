"""The hub without a web server: ten calls side by side, in a plain script.

    python examples/plain_anyio.py

prints

    [0, 1, 4, 9, 16, 25, 36, 49, 64, 81]
    10 calls took 0.76 s

There is no `if __name__ == "__main__"` here: a worker never imports the program that
started it, and the model may be written down anywhere, this script included.
"""

import time

import anyio

import gibbs


class MyAwesomeModel:
    interruptible = True

    def __init__(self, wait_time: float = 0.25) -> None:
        self.wait_time = wait_time

    def __call__(self, x: int) -> int:
        time.sleep(self.wait_time)
        return x**2


async def main() -> None:
    async with gibbs.open_hub(MyAwesomeModel, workers=4) as hub:
        started = time.perf_counter()
        squares = await anyio.amap(hub.request, range(10))
        seconds = time.perf_counter() - started

    print(squares)
    print(f"10 calls took {seconds:.2f} s")


anyio.run(main)
