"""Real servers with a hub in their app: the first burst, clients that leave, signals, kills, crashes under load, too many at once.

Each test starts a server as its users do, and looks at its answers and at its processes. What is the server's own doing is said
where it differs.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anyio
import pytest

from tests.web.servers.real import WATCHDOG, Server, each_server, read, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3 * WATCHDOG)]


@each_server
def test_the_first_burst_is_answered(kind, tmp_path):
    with Server(kind, tmp_path) as server, ThreadPoolExecutor(10) as clients:
        answers = list(clients.map(lambda x: server.ask(f"/square?x={x}"), range(10)))
    assert answers == [(200, {"result": x**2}) for x in range(10)]


# ---------------------------------------------------------------------------------------------------- a client that leaves


@each_server
@pytest.mark.parametrize("request_line", ["POST /leave", "GET /leave-a-stream"])
def test_a_client_that_leaves_stops_the_models_work_and_the_model_stays_warm(kind, request_line, tmp_path):
    with Server(kind, tmp_path) as server:
        before = server.workers()
        with socket.create_connection(("127.0.0.1", server.port), WATCHDOG) as client:
            client.sendall(f"{request_line}?mark=it HTTP/1.1\r\nHost: here\r\nContent-Length: 2\r\n\r\nab".encode())
            [began] = until(lambda: server.marks(r"it began in \d+"), "the call began", server)
        [interrupted] = until(lambda: server.marks(r"it was interrupted in \d+"), "the call was stopped", server)
        assert began.split()[-1] == interrupted.split()[-1]
        assert server.ask("/square?x=5") == (200, {"result": 25})
        assert server.workers() == before


# ------------------------------------------------------------------------------------------------------- a server that ends


def to_its_first_process(server: Server, number: int) -> None:
    """As Docker, or a person with `kill`."""
    server.send(number, server.process.pid)


def to_its_group(server: Server, number: int) -> None:
    """As Ctrl-C."""
    os.killpg(server.process.pid, number)


def to_all(server: Server, number: int) -> None:
    """As systemd: the workers too."""
    server.send(number, *server.family())


@each_server
@pytest.mark.parametrize(
    ("number", "send"),
    [
        pytest.param(signal.SIGTERM, to_its_first_process, id="SIGTERM"),
        pytest.param(signal.SIGTERM, to_all, id="SIGTERM-to-all"),
        pytest.param(signal.SIGINT, to_its_group, id="Ctrl-C"),
    ],
)
def test_a_server_that_is_told_to_end_answers_what_it_accepted_and_leaves_nobody(kind, number, send, tmp_path):
    with Server(kind, tmp_path) as server, ThreadPoolExecutor(1) as clients:
        answer = clients.submit(server.ask, "/hold?x=3&mark=it")
        until(lambda: server.marks(r"it began .*"), "the call began", server)
        send(server, number)
        until(server.says_that_it_ends, "it says that it ends", server)
        server.lets_go()
        if send is to_all and not server.kind.all_may_be_told:
            with pytest.raises(ConnectionError):
                answer.result()
        else:
            assert answer.result() == (200, {"result": 9})
        server.process.wait(WATCHDOG)
        until(lambda: not server.family(), "nobody is left", server)


@each_server
def test_nobody_outlives_a_server_that_is_killed_in_a_call(kind, tmp_path):
    with Server(kind, tmp_path) as server, ThreadPoolExecutor(1) as clients:
        answer = clients.submit(server.ask, "/hold?x=3&mark=it")
        until(lambda: server.marks(r"it began .*"), "the call began", server)
        serving = server.family() - server.workers()
        # The first alone would leave those that serve; and killed after them, it might have started others.
        server.send(signal.SIGKILL, server.process.pid, *serving)
        with pytest.raises(ConnectionError):
            answer.result()
        until(lambda: not server.family(), "nobody is left", server)


# ------------------------------------------------------------------------------------------------------ workers that crash


@each_server
def test_each_killed_worker_costs_one_request_at_most_under_load(kind, tmp_path):
    clients, each, kills = 8, 60, 6
    some_more = threading.Semaphore(0)

    def asks_again_and_again() -> list[int]:
        statuses = []
        connection = server.connect()
        for x in range(each):
            connection.request("GET", f"/square?x={x}")
            status, body = read(connection.getresponse())
            assert status == 503 or body == {"result": x**2}
            statuses.append(status)
            some_more.release()
        connection.close()
        return statuses

    with Server(kind, tmp_path) as server:
        with ThreadPoolExecutor(clients) as pool:
            asking = [pool.submit(asks_again_and_again) for _ in range(clients)]
            for _ in range(kills):
                for _ in range(clients * each // (kills + 1)):
                    assert some_more.acquire(timeout=WATCHDOG)
                victim = until(lambda: [*server.workers()], "a worker is there", server)[0]
                server.send(signal.SIGKILL, victim)
            statuses = Counter(status for one in asking for status in one.result())
        assert statuses[200] + statuses[503] == clients * each
        assert statuses[503] <= kills
        until(lambda: len(server.workers()) == 2 * server.kind.lifespans, "all workers are back", server)


@each_server
def test_a_hub_that_fails_is_seen_by_the_probe_or_ends_the_server(kind, tmp_path):
    with Server(kind, tmp_path, MAX_FAILURES="2") as server:
        (tmp_path / "cannot be built").touch()
        server.send(signal.SIGKILL, *server.workers())
        if server.kind.stops_with_its_hub:
            server.process.wait(WATCHDOG)
            until(lambda: not server.family(), "nobody is left", server)
        else:
            asked = until(
                lambda: [answer for answer in [server.ask("/readyz")] if "has failed" in str(answer)],
                "it is seen",
                server,
            )
            status, body = asked[0]
            assert (status, body["ready"]) == (503, False)
            assert "cannot be built any more" in str(body)
            until(lambda: server.ask("/square?x=1")[0] == 503, "requests are refused", server)
            # Where two processes serve, each has a hub of its own, and either may be asked.
            until(lambda: server.ask("/healthz") == (503, "failed: squares"), "that it is beyond help", server)
        assert "cannot be built any more" in server.log


# ------------------------------------------------------------------------------------------------------ too many at once


@each_server
def test_of_500_requests_at_once_each_is_answered_or_told_to_come_back(kind, tmp_path):
    many, pending = 500, 100
    statuses: Counter[int] = Counter()

    async def ask(x: int) -> None:
        async with await anyio.connect_tcp("127.0.0.1", server.port) as stream:
            await stream.send(f"GET /hold?x={x}&mark={x} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n".encode())
            text = b""
            with anyio.fail_after(WATCHDOG):
                async for piece in stream:
                    text += piece
        statuses[status := int(text.split()[1])] += 1
        assert status == 503 or text.endswith(b'{"result":%d}' % x**2), text
        assert status == 200 or b"\r\nretry-after: 1\r\n" in text.lower(), text
        if statuses[503] == at_least_refused:
            server.lets_go()

    async def ask_all() -> None:
        async with anyio.create_task_group() as tg:
            for x in range(many):
                tg.start_soon(ask, x)

    with Server(kind, tmp_path, MAX_PENDING=str(pending)) as server:
        at_least_refused = many - server.kind.lifespans * (2 + pending)
        anyio.run(ask_all)
        assert statuses[200] + statuses[503] == many
        assert statuses[200] >= 2 + pending
        assert server.ask("/square?x=5") == (200, {"result": 25})


# --------------------------------------------------------------------------------------------------------------- reload


def test_a_reload_closes_the_hub_and_opens_another(tmp_path):
    with Server("uvicorn-reload", tmp_path) as server:
        before = server.workers()
        source = Path(tmp_path, "app.py")
        source.write_text(source.read_text().replace("return x**2", "return x**3  # of another length"))
        until(lambda: len(server.workers() - before) == 2 and not server.workers() & before, "they are others", server)
        until(lambda: server.ask("/square?x=2") == (200, {"result": 8}), "it serves what was changed", server)
