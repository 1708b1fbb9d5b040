"""A server and its client in one: runs an app's lifespan, asks it, and leaves when it is told to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.lowlevel


@dataclass
class Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[Client]:
    async with app.router.lifespan_context(app) as state:
        yield Client(app, state or {})


class Client:
    def __init__(self, app: Any, state: Any) -> None:
        self.app = app
        self.state = state

    async def ask(
        self,
        path: str,
        *,
        method: str = "GET",
        body: bytes = b"",
        accept: str = "*/*",
        leaves: anyio.Event | None = None,
        spec: str = "2.3",
    ) -> Answer:
        """The answer, or what there is of one when `leaves` is set and the app has ended. Raises what the app raises."""
        leaves = leaves or anyio.Event()
        answer = Answer()
        sent = [body[at : at + 3] for at in range(0, len(body), 3)] or [b""]

        listens = anyio.ResourceGuard("listening to a client")  # of two, some servers tell one that the client has left

        async def receive() -> dict[str, Any]:
            with listens:
                await anyio.lowlevel.checkpoint()
                if sent:
                    return {"type": "http.request", "body": sent.pop(0), "more_body": bool(sent)}
                await leaves.wait()
                return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if leaves.is_set() and spec >= "2.4":
                raise OSError("the client has left")
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            else:
                answer.body += message.get("body", b"")
                if not message.get("more_body"):
                    leaves.set()

        path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": spec},
            "http_version": "1.1",
            "scheme": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(b"content-type", b"application/json"), (b"accept", accept.encode())],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            "state": dict(self.state),
        }
        await self.app(scope, receive, send)
        return answer
