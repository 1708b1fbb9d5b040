"""The model that every example serves: it squares a number, and takes its time.

Try it:

    python examples/model.py
"""

import time


class MyAwesomeModel:
    """Stands for whatever is slow and blocks: a network, a renderer, a solver."""

    interruptible = True  # a cancelled call may be stopped, as by Ctrl-C; see the docs

    def __init__(self, wait_time: float = 0.25) -> None:
        self.wait_time = wait_time

    def __call__(self, x: int) -> int:
        time.sleep(self.wait_time)
        return x**2


if __name__ == "__main__":
    model = MyAwesomeModel()
    print(model(12))
