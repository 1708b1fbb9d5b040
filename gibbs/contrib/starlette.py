"""A hub in a Starlette or FastAPI app: opened by its lifespan, found in a route, left by a client, seen by a probe.

Knows Starlette and gibbs's public names; FastAPI needs nothing more and is not imported. Must never know how a hub works. Promises
that nothing is kept here: a hub belongs to the app that opened it, so one `AppHub` may serve several apps, on several loops.
"""

from __future__ import annotations

import logging
import math
import sys
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.websockets import WebSocket

import gibbs

from ._probes import health_routes
from ._status_page import status_routes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
    from contextlib import AbstractAsyncContextManager

    Lifespan = Callable[[Any], AbstractAsyncContextManager[dict[str, Any]]]
    OwnLifespan = Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any] | None]]
    Handler = Callable[[Any, Any], Coroutine[Any, Any, Any]]  # a response, or of a WebSocket None

__all__ = [
    "AppHub",
    "ClientLeft",
    "cancel_on_disconnect",
    "exception_handlers",
    "health_routes",
    "lifespan",
    "status_routes",
]

M = TypeVar("M")

_logger = logging.getLogger("gibbs")

CLIENT_HAS_LEFT = 499  # as nginx says it; nobody will read it
INTERNAL_ERROR, TRY_AGAIN_LATER = 1011, 1013  # of a WebSocket


class ClientLeft(ClientDisconnect):
    """The client left while `cancel_on_disconnect` listened. Nobody reads the response: `exception_handlers` make it a 499."""


class AppHub(Generic[M]):
    """A hub that lives as long as an app. Made beside the app, where nothing starts yet; opened by `lifespan`.

    Args:
        name: what it is called in the app's state, so that `request.state.<name>` is the hub.
        opened: makes the hub's context, each time that the app starts: `lambda: gibbs.open_hub(Model, workers=4)`.

    Raises:
        ValueError: the name is no identifier.

    Example:
        ```python
        labels = AppHub("labels", lambda: gibbs.open_hub(Model, workers=4))
        app = FastAPI(lifespan=lifespan(labels), exception_handlers=exception_handlers())


        @app.get("/label")
        async def label(x: int, hub: Annotated[gibbs.Hub[Model], Depends(labels.of)]) -> int | str:
            return await hub.request(x)
        ```
    """

    def __init__(self, name: str, opened: Callable[[], AbstractAsyncContextManager[gibbs.Hub[M]]]) -> None:
        if not name.isidentifier():
            raise ValueError(f"an AppHub is an attribute of request.state, and cannot be called {name!r}")
        self.name = name
        self.opened = opened

    def of(self, connection: HTTPConnection) -> gibbs.Hub[M]:
        """The hub of the app that serves this request or WebSocket; a dependency for FastAPI: `Depends(labels.of)`.

        Where no lifespan runs, as under httpx's ASGI transport, it is looked for in `app.state` too.

        Raises:
            RuntimeError: it is not open.
        """
        hub: gibbs.Hub[M] | None = connection.scope.get("state", {}).get(self.name)
        if hub is None:
            hub = getattr(connection.app.state, self.name, None)
        if hub is None:
            raise RuntimeError(
                f"the hub {self.name!r} is not open: give the app `lifespan=lifespan({self.name}, ...)`; if it is mounted in another, "
                f"the outermost app, whose lifespan alone is run. A test client runs the lifespan only in a `with` block, and "
                f"httpx's ASGI transport never: open a hub in the test, as app.state.{self.name}"
            )
        return hub


def lifespan(*hubs: AppHub[Any], inside: OwnLifespan | None = None) -> Lifespan:
    """A lifespan for `Starlette(lifespan=...)` or `FastAPI(lifespan=...)` during which these hubs are open.

    They are opened one after the other and closed in the reverse order. The app's own lifespan can be entered `inside`, when they are
    open, or it can be around them: `async with lifespan(labels)(app) as state`.

    Raises:
        ValueError: two hubs have one name.

    A hub that fails later ends the lifespan with its error; most servers log that and go on serving. Then requests raise
    `HubClosed`, with the error as cause, and `/readyz` says no.
    """
    if twice := [name for name, count in Counter(hub.name for hub in hubs).items() if count > 1]:
        raise ValueError(f"two hubs of one app are called {twice[0]!r}")

    @asynccontextmanager
    async def opened(app: Any) -> AsyncIterator[dict[str, Any]]:
        async with AsyncExitStack() as stack:
            state: dict[str, Any] = {}
            for hub in hubs:
                state[hub.name] = await stack.enter_async_context(hub.opened())
            if inside is not None:
                more: Mapping[str, Any] | None = await stack.enter_async_context(inside(app))
                state.update(more or {})
            yield state

    return opened


@asynccontextmanager
async def cancel_on_disconnect(request: Request, *, streaming: bool = False) -> AsyncIterator[None]:
    """Cancel what is awaited in the block when the client leaves: a model that may be interrupted stays warm.

    Any other is killed with its worker, so that whoever asks and leaves costs you a model each time: if that takes long to build, let
    the call finish, `hub.using(on_cancel="finish")`.

    What you want of the request's body must have been read before: there is one stream of messages, and this listens to it and keeps
    nothing. In the generator of a streaming response each block must end before the next `yield`, and `except ClientLeft: return` ends
    the response.

    Args:
        streaming: whether this is such a generator. There Starlette listens itself, if the server speaks ASGI 2.3 or older, and two who
            listen are one too many for some servers.

    Raises:
        ClientLeft: the client left before the block was done.
        Exception: what the block raised, as itself.

    Cancellation:
        The block's own is passed on.

    Example:
        ```python
        async with cancel_on_disconnect(request):
            label = await hub.request(x)
        return label
        ```
    """
    if streaming and _starlette_listens(request):
        yield
        return
    error: BaseException | None = None
    was_cut = False  # and if that does not leave the task group, it was the watcher who did it

    async def watch() -> None:
        nonlocal error
        try:
            await _until_it_leaves(request)
        except Exception as raised:  # noqa: BLE001 - as below
            error = raised
        race.cancel_scope.cancel()

    async with anyio.create_task_group() as race:
        race.start_soon(watch)
        try:
            yield
        except anyio.get_cancelled_exc_class():
            was_cut = True
            raise
        except BaseException as raised:  # noqa: BLE001 - raised again below: out of the task group it would come in a group
            error = raised
        finally:
            race.cancel_scope.cancel()
    try:
        if error is not None:
            raise error
    finally:
        del error  # or it and this frame would hold each other
    if was_cut:
        raise ClientLeft


def _starlette_listens(request: Request) -> bool:
    """Whether a streaming response is cancelled by Starlette when its client leaves, as its `StreamingResponse` decides."""
    version: str = request.scope.get("asgi", {}).get("spec_version", "2.0")
    return tuple(map(int, version.split("."))) < (2, 4)


async def _until_it_leaves(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        request._stream_consumed = True  # noqa: SLF001 - so that whoever reads the body later is told, and does not wait for ever


def exception_handlers(*, retry_after: float = 1.0) -> dict[int | type[Exception], Handler]:
    """For `Starlette(exception_handlers=...)` or `FastAPI(exception_handlers=...)`: what a hub may raise, as responses.

    | raised | response | a WebSocket is closed with |
    | --- | --- | --- |
    | `HubOverloaded` | 503 with `Retry-After` | 1013 |
    | `WorkerCrashed`, `LeaseBroken` | 503: this request's worker died | 1011 |
    | `HubClosed` | 503; what the hub failed of is logged | 1011 |
    | `TimeoutError` of a scope, such as `anyio.fail_after`; Trio's `TooSlowError`, if Trio was imported before | 504 | 1011 |
    | a client that left in `cancel_on_disconnect` | 499 | |

    A `TimeoutError` that the *model* raised is an error of the model's, and one with an `errno` is a connection's: 500, as any other.
    Details are for the log, not for clients.

    Args:
        retry_after: seconds that a client is told to wait, rounded up.
    """
    seconds = str(math.ceil(retry_after))

    async def overloaded(connection: Any, _: Exception) -> Response | None:
        return await _sorry(
            connection, 503, "too many requests are waiting", {"Retry-After": seconds}, code=TRY_AGAIN_LATER
        )

    return {
        gibbs.HubOverloaded: overloaded,
        gibbs.WorkerCrashed: _crashed,
        gibbs.LeaseBroken: _crashed,
        gibbs.HubClosed: _closed,
        TimeoutError: _timed_out,
        **({sys.modules["trio"].TooSlowError: _timed_out} if "trio" in sys.modules else {}),
        ClientLeft: _left,
    }


async def _crashed(connection: Any, error: Exception) -> Response | None:
    _logger.error("a request was lost: %s", error)
    return await _sorry(connection, 503, "the worker of this request died")


async def _closed(connection: Any, error: Exception) -> Response | None:
    _logger.error("a request was refused: %s", error, exc_info=error.__cause__)
    return await _sorry(connection, 503, "the model is not available")


async def _timed_out(connection: Any, error: Exception) -> Response | None:
    is_the_models = any(note.startswith("Raised in ") for note in getattr(error, "__notes__", ()))
    if is_the_models or getattr(error, "errno", None) is not None:
        raise error
    _logger.warning("a request took too long: %s", connection.url.path)
    return await _sorry(connection, 504, "the answer took too long")


async def _left(_: Any, __: Exception) -> Response:
    return Response(status_code=CLIENT_HAS_LEFT)


async def _sorry(
    connection: Any, status: int, detail: str, headers: Mapping[str, str] | None = None, *, code: int = INTERNAL_ERROR
) -> Response | None:
    """The response; a WebSocket, which has no place for one, is closed with a code."""
    if isinstance(connection, WebSocket):
        await connection.close(code, detail)
        return None
    return JSONResponse({"detail": detail}, status_code=status, headers=headers)
