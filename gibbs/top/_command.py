"""`python -m gibbs top`: asks a status page, or a socket, what hubs are doing, and shows it.

Knows where snapshots come from. Must never believe what they say to be fit for a terminal: `_text` sees to that.
"""

from __future__ import annotations

import importlib.util
import json
import socket
import sys
import time
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from ._text import as_rich, as_text, printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from http.client import HTTPResponse
    from typing import IO
    from urllib.parse import SplitResult

PATIENCE = 10.0  # seconds, for something to be said
_AGAIN = 1.0  # seconds, until it is asked again
_LONGEST = 64 << 20  # bytes of a line
_MOVED = (301, 302, 303, 307, 308)


class NoStatus(Exception):
    """What is there says something else."""


def top(where: str, *, once: bool, as_json: bool, headers: list[str]) -> int:
    """Show it until Ctrl-C; or once, as text or JSON. The exit status."""
    asked = dict(_header(one) for one in headers)
    try:
        if not once and not as_json and sys.stdout.isatty():
            if importlib.util.find_spec("rich") is not None:
                return _live(where, asked)
            print("once, since rich is not installed: pip install 'gibbs[top]'", file=sys.stderr)
        snapshot = next(snapshots(where, asked))
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="backslashreplace")
        print(json.dumps(snapshot) if as_json else as_text(snapshot))
    except KeyboardInterrupt:
        pass
    except (OSError, HTTPException, NoStatus) as error:
        print(printable(f"{where}: {type(error).__name__}: {error}"), file=sys.stderr)
        return 1
    return 0


def _header(text: str) -> tuple[str, str]:
    name, _, value = text.partition(":")
    return name.strip(), value.strip()


def _live(where: str, headers: dict[str, str]) -> int:
    from rich.live import Live
    from rich.text import Text

    shown = Text("connecting")
    with Live(shown, auto_refresh=False, screen=True) as live:
        while True:
            try:
                for snapshot in snapshots(where, headers):
                    shown = as_rich(snapshot)
                    live.update(shown, refresh=True)
            except (OSError, HTTPException, NoStatus) as error:
                lost = Text(printable(f"connection lost, trying again: {error}\n\n"), style="bold red")
                live.update(lost + shown, refresh=True)
            time.sleep(_AGAIN)


def snapshots(where: str, headers: dict[str, str]) -> Iterator[dict[str, Any]]:
    """What is told there, until it ends. Raises OSError, HTTPException or NoStatus."""
    if where.startswith(("http://", "https://")):
        yield from _of_page(where, headers)
        return
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE)
        connection.connect(where)
        with connection.makefile("rb") as lines:
            yield from map(_read, iter(lambda: lines.readline(_LONGEST), b""))


def _of_page(where: str, headers: dict[str, str]) -> Iterator[dict[str, Any]]:
    url = urlsplit(where)
    kind = HTTPSConnection if url.scheme == "https" else HTTPConnection
    connection = kind(url.hostname or "", url.port, timeout=PATIENCE)
    try:
        response = _ask(connection, url, headers)
        if (
            response.status in _MOVED
            and (there := urlsplit(urljoin(where, response.headers["Location"] or "")))[:2] == url[:2]
        ):
            response.read()  # a slash too many: to somebody else no headers are shown
            response = _ask(connection, there, headers)
        if response.status != 200 or "text/event-stream" not in response.headers.get("Content-Type", ""):
            raise NoStatus(f"this is no status page, it says {response.status} {response.reason}")
        yield from _events(response)
    finally:
        connection.close()


def _ask(connection: HTTPConnection, url: SplitResult, headers: dict[str, str]) -> HTTPResponse:
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    connection.request("GET", target, headers={"Accept": "text/event-stream", **headers})
    return connection.getresponse()


def _events(response: IO[bytes]) -> Iterator[dict[str, Any]]:
    while line := response.readline(_LONGEST):
        if line.startswith(b"data: "):
            yield _read(line[6:])


def _read(line: bytes) -> dict[str, Any]:
    try:
        snapshot: dict[str, Any] = json.loads(line)
        as_text(snapshot)
    except Exception as error:
        raise NoStatus(f"what it says is no snapshot: {type(error).__name__}: {error}") from error
    return snapshot
