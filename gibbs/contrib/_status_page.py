"""A page that shows what hubs are doing, while one looks: the page, its events, and the same as JSON, at one address.

Knows Starlette, and what `gibbs.top.snapshot` tells. Must never change anything, and never send what a worker has said but as JSON, which the page shows as
text. Promises to hold up no server that ends, for longer than two seconds: they wait for open responses, some for ever, and tell no app that they do. So a
stream is three events, one a second, and a second later the page asks for the next, as it would of a server that was started anew.
"""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64encode
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import anyio
from starlette.responses import Response
from starlette.routing import Route

from ..top import snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from .starlette import AppHub

EVERY = 1.0  # seconds from one event to the next, in a stream and to that of the next stream
EVENTS = 3  # of a stream
_PAGE = files("gibbs.contrib").joinpath("status.html").read_text("utf-8")
_NO_STORE = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Vary": "Accept",
}


def status_routes(*hubs: AppHub[Any], path: str = "/status") -> list[Route]:
    """A live page about these hubs: what each worker runs and for how long, the queue, the last minutes, deaths and their causes.

    The hubs need a `gibbs.history.History` among their observers; of others the page says so. It changes nothing, and loads nothing from elsewhere. But it tells much of your program:
    mount it where only those can come who may read your logs.

    Who accepts `application/json` gets that instead, as at `<path>.json`: what `gibbs.top.snapshot` says.

    Example:
        ```python
        labels = AppHub("labels", lambda: gibbs.open_hub(Model, workers=4, observers=[History()]))
        app = Starlette(routes=[*routes, *status_routes(labels)], lifespan=lifespan(labels))
        ```
    """

    def told(request: Request) -> str:
        # As ASCII, in one line: what workers have said can end no line of a stream, and no string of a script.
        return json.dumps(snapshot(*(hub.of(request) for hub in hubs)), separators=(",", ":"))

    async def as_json(request: Request) -> Response:
        return Response(told(request), media_type="application/json", headers=_NO_STORE)

    async def as_asked(request: Request) -> Response:
        accepted = request.headers.get("accept", "")
        if "text/event-stream" in accepted:
            return _Events(lambda: told(request))
        if "application/json" in accepted and "text/html" not in accepted:
            return await as_json(request)
        return Response(_PAGE, media_type="text/html", headers=_PAGE_HEADERS)

    return [Route(path, as_asked), Route(f"{path}.json", as_json)]


status_routes.__module__ = "gibbs.contrib.starlette"


def _policy() -> str:
    """What the page may do: run its own script and style, ask its own server. Nothing may be made HTML of, by any script."""

    def own(tag: str) -> str:
        found = re.search(f"<{tag}>(.*?)</{tag}>", _PAGE, re.DOTALL)
        assert found is not None
        return f"'sha256-{b64encode(hashlib.sha256(found[1].encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; script-src {own('script')}; style-src {own('style')}; connect-src 'self'; base-uri 'none'; "
        f"form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )


_PAGE_HEADERS = {**_NO_STORE, "Content-Security-Policy": _policy(), "Referrer-Policy": "no-referrer"}


class _Events(Response):
    """A few server-sent events. Ends when the client leaves."""

    media_type = "text/event-stream"

    def __init__(self, told: Callable[[], str]) -> None:
        super().__init__(headers={**_NO_STORE, "X-Accel-Buffering": "no"})
        del self.headers["content-length"]  # nobody knows
        self._told = told

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def until_it_leaves() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            race.cancel_scope.cancel()

        async with anyio.create_task_group() as race:
            race.start_soon(until_it_leaves)
            race.cancel_scope.deadline = (
                anyio.current_time() + (EVENTS + 1) * EVERY
            )  # who does not read is not waited for
            try:
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                await self._tell(send)
            except OSError:  # so servers that speak ASGI 2.4 say that it has left
                pass
            race.cancel_scope.cancel()

    async def _tell(self, send: Send) -> None:
        retry = f"retry: {EVERY * 1e3:.0f}\n"
        for number in range(1, EVENTS + 1):
            body = f"{retry}data: {self._told()}\n\n".encode("ascii")
            await send({"type": "http.response.body", "body": body, "more_body": number < EVENTS})
            if number < EVENTS:
                await anyio.sleep(EVERY)
