"""Requests per second over HTTP: a tiny model behind FastAPI, with gibbs and with its peers, and what the server does with none.

    python -m benchmarks.over_http [--rounds N] [--backend trio] [--json PATH]

A server of each kind is started, asked by 64 connections that are kept open and ask again when they are answered, and ended; round after
round in turn, of which the best counts. The client is one process that does nothing else. On asyncio and uvloop the app is served by uvicorn, on
Trio by Hypercorn. LitServe has its own server, which is uvicorn on uvloop; it and mosec are asked by POST, with a JSON body, since they know nothing
else. The bare route of gibbs counts, as the bare ones of its peers; one with all that docs/web.md advises stands beside it. mosec's front end is written in Rust: it is reported, and no peer.
"""

from __future__ import annotations

import importlib.util
import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from benchmarks.measuring import program
from benchmarks.record import Check

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.measuring import Plan
    from benchmarks.record import Record

CONNECTIONS = 64
SECONDS = 2.0
MUST = 1.3
MUST_SHARE = (
    0.9  # on Trio, where Hypercorn is the limit: without any model it is less than 1.3 times as quick as with a peer
)
PATIENCE = 60.0  # seconds for a server to answer, or to end

GET = b"GET /?x=1 HTTP/1.1\r\nHost: here\r\n\r\n"
POST = b"POST %s HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\n" + b'{"x": 1}'
ASYNCIO = ("asyncio", "uvloop")
EVERY = (*ASYNCIO, "trio")
ALONE, GUARDED = "FastAPI alone", "gibbs, guarded"

# who: what asks it, on which loops, which program serves it, and which package that needs
ASKED = {
    ALONE: (GET, EVERY, "served", "fastapi"),
    "gibbs": (GET, EVERY, "served", "fastapi"),
    GUARDED: (GET, EVERY, "served", "fastapi"),
    "anyio.to_process": (GET, EVERY, "served", "fastapi"),
    "ProcessPoolExecutor": (GET, ASYNCIO, "served", "fastapi"),
    "trio-parallel": (GET, ("trio",), "served", "trio_parallel"),
    "LitServe": (POST % b"/predict", ("uvloop",), "served_by_litserve", "litserve"),
    "mosec": (POST % b"/inference", ("uvloop",), "served_by_mosec", "mosec"),
}
NO_PEERS = {"gibbs", GUARDED, ALONE, "mosec"}
OTHER_ROWS = {
    ALONE: "the same server without a model",
    GUARDED: "with cancel_on_disconnect, a limit of time and max_pending",
}
ANSWER = re.compile(rb'HTTP/1.1 200 .*\r\n\r\n\s*\{\s*"result":\s*2\s*\}\s*', re.DOTALL)


@contextmanager
def served(who: str, loop: str) -> Iterator[int]:
    """A server's port, when it answers; nobody of its group is left."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    question, _, program, _ = ASKED[who]
    command = [sys.executable, "-m", f"benchmarks.{program}", who, loop, str(port)]
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as server:
        try:
            give_up = time.monotonic() + PATIENCE
            while not answers(port, question):
                if server.poll() is not None or time.monotonic() > give_up:
                    with suppress(ProcessLookupError):
                        os.killpg(server.pid, signal.SIGKILL)
                    assert server.stderr is not None
                    raise RuntimeError(f"{who} does not answer on {loop}: {server.stderr.read().decode()[-2000:]}")
                time.sleep(0.05)
            yield port
        finally:
            with suppress(subprocess.TimeoutExpired):
                server.terminate()
                server.wait(5)
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)


def answers(port: int, question: bytes) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
        sock.sendall(question)
        return ANSWER.match(whole(sock, b"")) is not None
    return False


def whole(sock: socket.socket, answer: bytes) -> bytes:
    """The rest of an answer, blocking."""
    while not is_whole(answer):
        if not (piece := sock.recv(1 << 16)):
            raise ConnectionError("the server has hung up")
        answer += piece
    return answer


def is_whole(answer: bytes) -> bool:
    head, found, body = answer.partition(b"\r\n\r\n")
    return bool(found) and len(body) >= int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)


def answers_per_second(port: int, question: bytes, connections: int, seconds: float) -> float:
    """Of so many connections that each wait for an answer and ask again; as long again before it counts."""
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.EpollSelector())
        for _ in range(connections):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(sock, selectors.EVENT_READ)
            sock.sendall(question)
        answered = before = 0
        counts_from, until = time.perf_counter() + seconds / 2, float("inf")
        while (now := time.perf_counter()) < until:
            if now > counts_from:
                start, before, counts_from, until = now, answered, float("inf"), now + seconds
            for key, _ in selector.select(PATIENCE):
                sock = key.fileobj  # type: ignore[assignment]
                if not ANSWER.match(answer := whole(sock, sock.recv(1 << 16))):
                    raise AssertionError(f"a wrong answer: {answer!r}")
                sock.sendall(question)
                answered += 1
        return (answered - before) / (now - start)


def measure(loop: str, plan: Plan, record: Record) -> None:
    connections, seconds = plan.pick((CONNECTIONS, SECONDS), quick=(4, 0.1))
    found: dict[str, float] = {}
    asked = {who: asked for who, asked in ASKED.items() if loop in asked[1]}
    for who, (*_, package) in [*asked.items()]:
        if importlib.util.find_spec(package) is None:
            record.note(f"{who} is not installed: not measured")
            del asked[who]
    for _ in range(plan.rounds):
        for who, (question, *_) in asked.items():
            with served(who, loop) as port:
                found[who] = max(found.get(who, 0.0), answers_per_second(port, question, connections, seconds))
    for who, value in found.items():
        what = OTHER_ROWS.get(who, f"{connections} connections")
        record.figure(loop, "gibbs" if who == GUARDED else who, what, value, "requests/s")
    share = found["gibbs"] / found[ALONE]
    record.figure(loop, "gibbs", "share of the same server without a model", 100 * share, "%")
    best = max(found.keys() - NO_PEERS, key=lambda who: found[who])
    ratio = Check(loop, f"requests/s ÷ the best peer's ({best})", found["gibbs"] / found[best], ">=", MUST)
    if loop == "trio":
        record.figure(loop, "gibbs", "times the best peer's", ratio.value, "times")
        record.checks.append(Check(loop, "requests/s ÷ the same server's without a model", share, ">=", MUST_SHARE))
    else:
        record.checks.append(ratio)


def main() -> int:
    return program("over_http", "a tiny model behind HTTP, 2 workers", measure, rounds=3)


if __name__ == "__main__":
    sys.exit(main())
