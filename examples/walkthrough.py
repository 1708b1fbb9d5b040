"""The whole story, with real servers: ten requests to one model, then to four workers.

    python examples/walkthrough.py [--backend asyncio|uvloop|trio] [--json]

prints what it measured,

    plain FastAPI               10 requests of 0.25 s took 2.53 s
    FastAPI + gibbs, 4 workers  10 requests of 0.25 s took 0.77 s   (ideal 0.75 s)

and then shows a worker that is killed in mid-call, a client that leaves, and that no process
is left. The servers are uvicorn and, for Trio, Hypercorn. It exits with 1 if an answer was
wrong or missing, or if anything else was not as promised.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import socket
import sys
from typing import Any
from urllib.parse import urlsplit

from load import Burst, Clients, get
from servers import COMMANDS, Server, until
from stamped_model import Stamp, most_at_once, read_stamps

CLIENTS = 10
WORKERS = 4
WAIT_TIME = 0.25
IDEAL = math.ceil(CLIENTS / WORKERS) * WAIT_TIME
LONG = 1.0  # the model's time where something has to happen in mid-call


class Story:
    """Tells what is seen, and counts what is not as promised."""

    def __init__(self, backend: str) -> None:
        self.backend = backend
        self.failures = 0

    def tell(self, text: str) -> None:
        print(text, flush=True)

    def check(self, promise: bool, otherwise: str) -> None:
        if not promise:
            self.failures += 1
            self.tell(f"FAILED: {otherwise}")

    def plain(self, clients: Clients) -> float:
        """The initial app: each client waits for all who came before."""
        with Server("plain_app:app", self.backend) as server:
            burst = clients.burst(f"{server.url}/request")
            self.check_answers(burst)
            self.check_that_nobody_is_left(server)
        self.tell(f"{'plain FastAPI':27} {measured(burst)}")
        return burst.seconds

    def scaled(self, clients: Clients) -> float:
        """The scaled app: the first burst of a fresh server."""
        with Server("stamped_app:app", self.backend) as server:
            burst = clients.burst(f"{server.url}/request")
            at_once = most_at_once(read_stamps(server.stamps))
            self.check_answers(burst)
            self.check_that_nobody_is_left(server)
        title = f"FastAPI + gibbs, {WORKERS} workers"
        self.tell(f"{title:27} {measured(burst)}   (ideal {IDEAL:.2f} s)")
        self.check(at_once <= WORKERS, f"{at_once} calls ran at once on {WORKERS} workers")
        self.tell(f"by the workers' own stamps, never more than {at_once} calls ran at once")
        return burst.seconds

    def troubled(self, clients: Clients) -> None:
        """What the plain app cannot do; one server lives through all of it."""
        with Server("stamped_app:app", self.backend, WAIT_TIME=str(LONG)) as server:
            for trouble in self.a_worker_is_killed, self.a_client_leaves:
                try:
                    trouble(server, clients)
                except TimeoutError as waited_in_vain:
                    self.check(False, str(waited_in_vain))
            members = len(server.family())
            self.check_that_nobody_is_left(server)
        self.tell(f"SIGTERM: of {members} processes, server and workers, none is left")

    def a_worker_is_killed(self, server: Server, clients: Clients) -> None:
        clients.ask(f"{server.url}/request", range(6))
        running = until(lambda: began(server, range(6), WORKERS), "four workers are at work")
        victim = running[-1]
        os.kill(victim.pid, signal.SIGKILL)
        answers = clients.answers()

        theirs = answers.pop(victim.x)
        why = theirs.body["error"] if isinstance(theirs.body, dict) else str(theirs.body)
        self.check(theirs.status == 500, f"the killed worker's request was answered {theirs}")
        self.check("SIGKILL" in why, f"the killed worker's request does not say why: {why}")
        for answer in answers:
            self.check(answer.right, f"another request than the killed one got {answer}")
        until(lambda: self.all_are_back(server), "the killed worker is back")

        clients.ask(f"{server.url}/request", range(10, 10 + WORKERS))
        for answer in clients.answers():
            self.check(answer.right, f"after the killed worker came back, got {answer}")
        now = {stamp.pid for stamp in began(server, range(10, 10 + WORKERS), WORKERS)}
        new = now - {stamp.pid for stamp in running}
        self.check(len(now) == WORKERS, f"{len(now)} workers answered four requests")
        self.check(len(new) == 1 and victim.pid not in now, f"{new} are new, {victim} died")
        self.tell(
            f"SIGKILL of worker {victim.pid} in mid-call: its request was answered"
            f" {theirs.status}, the {len(answers)} others were answered,"
            f" worker {', '.join(map(str, new))} took its place\n    {why}"
        )

    def a_client_leaves(self, server: Server, clients: Clients) -> None:
        address = urlsplit(server.url)
        with socket.create_connection((address.hostname, address.port)) as client:
            client.sendall(b"GET /cancellable?x=20 HTTP/1.1\r\nHost: walkthrough\r\n\r\n")
            [start] = until(lambda: began(server, [20], 1), "the leaving client's call began")
        end = until(lambda: ended(server, start), "the leaving client's call ended")
        self.check(end.event == "stopped", f"the model worked on for nobody: {end}")

        clients.ask(f"{server.url}/request", range(30, 30 + WORKERS))
        for answer in clients.answers():
            self.check(answer.right, f"after a client had left, got {answer}")
        now = {stamp.pid for stamp in began(server, range(30, 30 + WORKERS), WORKERS)}
        self.check(start.pid in now, f"worker {start.pid} was not among {now}")
        self.tell(
            f"a client left: the model's work of {LONG:g} s stopped after"
            f" {end.time - start.time:.3f} s, and the same worker, {start.pid},"
            " answered the next request"
        )

    def all_are_back(self, server: Server) -> bool:
        statistics = get(f"{server.url}/statistics", 0).body
        return bool(statistics["restarts"] == 1 and statistics["seats"]["serving"] == WORKERS)

    def check_answers(self, burst: Burst) -> None:
        for answer in burst.failures:
            self.check(False, f"a wrong answer, or none: {answer}")

    def check_that_nobody_is_left(self, server: Server) -> None:
        left = server.stop()
        self.check(not left, f"left after SIGTERM: {left}")


def measured(burst: Burst) -> str:
    return f"{CLIENTS} requests of {WAIT_TIME:g} s took {burst.seconds:.2f} s"


def began(server: Server, xs: Any, number: int) -> list[Stamp]:
    """The stamps of these calls' beginnings, once there are so many."""
    stamps = [s for s in read_stamps(server.stamps) if s.event == "began" and s.x in xs]
    return stamps if len(stamps) >= number else []


def ended(server: Server, start: Stamp) -> Stamp | None:
    """The stamp of this call's end, once there is one."""
    for stamp in read_stamps(server.stamps):
        if stamp.x == start.x and stamp.event != "began":
            return stamp
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description="the walk-through, with real servers")
    parser.add_argument("--backend", choices=COMMANDS, default="asyncio")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, as Ctrl-C does

    story = Story(options.backend)
    with Clients(CLIENTS) as clients:  # ready before any server is started
        plain = story.plain(clients)
        scaled = story.scaled(clients)
        story.troubled(clients)

    if options.json:
        record = {
            "plain_s": round(plain, 3),
            "gibbs_s": round(scaled, 3),
            "ideal_s": IDEAL,
            "failures": story.failures,
            "backend": options.backend,
        }
        print(json.dumps(record))
    return 1 if story.failures else 0


if __name__ == "__main__":
    sys.exit(main())
