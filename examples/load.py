"""The load: ten requests, at once, from ten client processes.

    python examples/load.py                         # against http://127.0.0.1:8000/request
    python examples/load.py --url http://127.0.0.1:8000/cancellable --clients 20

It may be started before the server: the clients are ready by then, and fire as soon as the
server answers at all. It prints `10 requests took 2.532 s`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPException
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit


class Answer(NamedTuple):
    """What a client was told."""

    x: int
    status: int  # 0: nothing
    body: Any  # decoded when it is JSON; what went wrong when there was no answer

    @property
    def right(self) -> bool:
        return self.status == 200 and self.body == {"result": self.x**2}


class Burst(NamedTuple):
    """What all of them were told, and when the last one was."""

    seconds: float
    answers: list[Answer]

    @property
    def failures(self) -> list[Answer]:
        return [answer for answer in self.answers if not answer.right]


def get(url: str, x: int) -> Answer:
    """Ask once, over a connection of its own."""
    address = urlsplit(url)
    connection = HTTPConnection(address.netloc, timeout=60)
    try:
        connection.request("GET", f"{address.path}?x={x}")
        response = connection.getresponse()
        text = response.read().decode()
    except (OSError, HTTPException) as error:
        return Answer(x, 0, repr(error))
    finally:
        connection.close()
    try:
        return Answer(x, response.status, json.loads(text))
    except ValueError:
        return Answer(x, response.status, text)


def client(parent: Connection) -> None:
    """The life of a client process: says that it is ready, then does as it is told."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    try:
        parent.send("ready")
        while True:
            parent.send(get(*parent.recv()))
    except (EOFError, OSError):
        pass  # the parent has gone


class Clients:
    """Client processes; in the body of the `with` all of them are waiting for orders."""

    def __init__(self, number: int = 10) -> None:
        self._number = number
        self._pipes: list[Connection] = []
        self._asked: list[Connection] = []
        self._closing = ExitStack()

    def __enter__(self) -> Self:
        spawn = multiprocessing.get_context("spawn")
        with ExitStack() as undo:
            for _ in range(self._number):
                ours, theirs = spawn.Pipe()
                process = spawn.Process(target=client, args=(theirs,), daemon=True)
                process.start()
                theirs.close()
                undo.callback(process.join)
                undo.callback(process.terminate)
                undo.callback(ours.close)
                self._pipes.append(ours)
            for pipe in self._pipes:
                pipe.recv()
            self._closing = undo.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.close()

    def ask(self, url: str, xs: Iterable[int]) -> None:
        """Let each client send one of `xs`, now."""
        xs = list(xs)
        if len(xs) > len(self._pipes):
            raise ValueError(f"{len(xs)} requests for {len(self._pipes)} clients")
        self._asked = self._pipes[: len(xs)]
        for pipe, x in zip(self._asked, xs, strict=True):
            pipe.send((url, x))

    def answers(self) -> list[Answer]:
        """Wait for what the clients were told."""
        return [pipe.recv() for pipe in self._asked]

    def burst(self, url: str) -> Burst:
        """Let all of them ask at once, and take the time."""
        started = time.perf_counter()
        self.ask(url, range(self._number))
        answers = self.answers()
        return Burst(time.perf_counter() - started, answers)


def it_answers(url: str) -> bool:
    """Whether the server answers anything at all."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=60)
    try:
        connection.request("GET", "/")
        connection.getresponse()
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description="ten requests from ten client processes")
    parser.add_argument("--url", default="http://127.0.0.1:8000/request")
    parser.add_argument("--clients", type=int, default=10)
    options = parser.parse_args()

    with Clients(options.clients) as clients:
        while not it_answers(options.url):
            time.sleep(0.002)
        burst = clients.burst(options.url)

    for answer in burst.failures:
        print(f"x={answer.x}: {answer.status} {answer.body}", file=sys.stderr)
    print(f"{options.clients} requests took {burst.seconds:.3f} s")
    return 1 if burst.failures else 0


if __name__ == "__main__":
    sys.exit(main())
