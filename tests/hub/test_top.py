"""`python -m gibbs top`: what it shows of a real hub, over the socket that the program opens on purpose; and that no terminal obeys a worker."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

import anyio
import anyio.to_thread
import pytest

import gibbs
from gibbs.history import History
from gibbs.testing import ScriptedLauncher, serve
from gibbs.top import as_rich, as_text, open_socket, snapshot
from gibbs.top._command import top

HOSTILE = "\x1b[2J\x1b]0;title\x07 \u202egnp.exe \u2028 \x9b31m [red]plain[/red]"


class Model:
    def __call__(self, x):
        return x


async def dies(worker):
    if await worker.start():
        await worker.receive()
        worker.die(signal=signal.SIGSEGV, tail=f"first\n{HOSTILE}")


def open_hub(**options):
    launcher = ScriptedLauncher(dies, serve)
    return gibbs.open_hub(Model, workers=1, name=HOSTILE, launcher=launcher, observers=[History()], **options)


async def test_what_it_shows_is_printable_whatever_workers_say_and_is_all_there():
    async with open_hub() as hub:
        await hub.request(1)
        told = json.loads(json.dumps(snapshot(hub)))
        rich = as_rich(told).plain
    text = as_text(told)
    assert rich == f"{text}\n"
    assert all(line.isprintable() for line in text.splitlines())
    assert "\\x1b[2J" in text
    assert "[red]plain[/red]" in text, "which is no markup"
    assert "was ended by SIGSEGV" in text
    assert "1 died" in text
    assert "serving" in text


@pytest.mark.leaves("thread", reason="AnyIO keeps its threads, as long as the loop or longer")
async def test_a_socket_is_for_its_own_user_and_tells_whoever_connects(tmp_path, capsys):
    path = tmp_path / "app.sock"
    async with open_hub() as hub:
        for _ in range(2):  # the second finds what a program that was killed has left
            async with open_socket(path, hub):
                assert stat.S_IMODE(path.stat().st_mode) == 0o600
                ended = await anyio.to_thread.run_sync(
                    lambda: top(str(path), once=True, as_json=True, headers=[]), abandon_on_cancel=True
                )
                async with await anyio.connect_unix(path) as stream:
                    assert (await stream.receive()).startswith(b'{"time"')  # and is there still when it closes
                    os.link(path, tmp_path / "kept")
            assert not path.exists()
            os.rename(tmp_path / "kept", path)
    [hub_told, _] = [json.loads(line)["hubs"][0] for line in capsys.readouterr().out.splitlines()]
    assert ended == 0
    assert hub_told["history"]["state"] == "open"


@pytest.mark.leaves("thread", reason="AnyIO keeps its threads, as long as the loop or longer")
async def test_what_its_block_raises_leaves_it_as_itself(tmp_path):
    with pytest.raises(ZeroDivisionError):
        async with open_socket(tmp_path / "app.sock"):
            raise ZeroDivisionError
    assert not (tmp_path / "app.sock").exists()


@pytest.mark.parametrize("where", ["http://127.0.0.1:9/status", "no such.sock"])
def test_nobody_there_is_said_in_a_line(where):
    done = subprocess.run(
        [sys.executable, "-m", "gibbs", "top", "--once", where], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"{where}: ")
    assert len(done.stderr.splitlines()) == 1


class Page(BaseHTTPRequestHandler):
    """A status page that is somewhere else than it was asked for."""

    asked: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self):
        Page.asked.append((self.path, self.headers["X-Key"]))
        moved = {"/status/": "/status?all", "/stranger": "http://localhost:9/status", "/round": "/round"}.get(self.path)
        self.send_response(307 if moved else 200)
        self.send_header(*(("Location", moved) if moved else ("Content-Type", "text/event-stream")))
        self.send_header("Connection", "close")
        self.end_headers()
        if not moved:
            empty = {"time": 0, "pid": 1, "host": "h", "hubs": []}
            self.wfile.write(f"data: {json.dumps(empty)}\n\n".encode())

    def log_message(self, *args):
        pass


@pytest.mark.parametrize(
    ("path", "status", "asked"),
    [("/status", 0, 1), ("/status/", 0, 2), ("/stranger", 1, 1), ("/round", 1, 2)],
)
def test_a_page_with_a_slash_too_many_is_found_and_what_is_for_it_told_to_nobody_else(path, status, asked, capsys):
    with HTTPServer(("127.0.0.1", 0), Page) as server:
        Page.asked.clear()
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            where = f"http://127.0.0.1:{server.server_port}{path}"
            assert top(where, once=True, as_json=True, headers=["X-Key: k"]) == status
        finally:
            server.shutdown()
            thread.join()
    said = capsys.readouterr()
    assert ("no status page, it says 307" in said.err) == bool(status)
    assert ('"hubs": []' in said.out) == (not status)
    assert [key for _, key in Page.asked] == ["k"] * asked
