"""`gibbs.contrib.starlette`, in Starlette and in FastAPI, by messages and by their own test clients. Real servers are not tried here."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import anyio
import httpx
import pytest
from fastapi import Body, Depends, FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

import gibbs
from gibbs.contrib.starlette import (
    AppHub,
    ClientLeft,
    cancel_on_disconnect,
    exception_handlers,
    health_routes,
    lifespan,
)
from tests.web.asgi import Client, served

pytestmark = pytest.mark.anyio

WATCHDOG = 20.0
LOOPS_OF_ASYNCIO = [("asyncio", {"use_uvloop": False}), ("asyncio", {"use_uvloop": True})]


class Model:
    interruptible = True

    def __call__(self, x: int) -> int:
        return x + 1

    def pid(self) -> int:
        return os.getpid()

    def wait(self, mark: str) -> None:
        """Until it is interrupted; says in two files that it began and that it was."""
        try:
            Path(mark).touch()
            time.sleep(600)
        finally:
            Path(mark + " interrupted").touch()

    def raises(self, what: str) -> None:
        if what == "exit":
            os._exit(3)
        raise {"TimeoutError": TimeoutError, "KeyError": KeyError}[what](what)


def labels_of(**options: Any) -> AppHub[Model]:
    return AppHub("labels", lambda: gibbs.open_hub(Model, workers=1, cancel_grace=WATCHDOG, **options))


async def exists(mark: Path) -> None:
    with anyio.fail_after(WATCHDOG):
        while not mark.exists():
            await anyio.sleep(0.005)


# ------------------------------------------------------------------------------------------------------------- the lifespan


async def test_a_hub_is_found_in_a_route_of_starlette_typed_and_by_name():
    labels = labels_of()

    async def typed(request: Request) -> JSONResponse:
        hub = labels.of(request)
        return JSONResponse([await hub.request(1), hub is request.state.labels])

    app = Starlette(routes=[Route("/typed", typed)], lifespan=lifespan(labels))
    async with served(app) as client:
        assert (await client.ask("/typed")).body == b"[2,true]"


async def test_a_hub_is_a_dependency_of_a_route_of_fastapi():
    labels = labels_of()
    app = FastAPI(lifespan=lifespan(labels))

    @app.get("/label")
    async def label(x: int, hub: Annotated[gibbs.Hub[Model], Depends(labels.of)]) -> int:
        return await hub.request(x)

    async with served(app) as client:
        assert (await client.ask("/label?x=6")).body == b"7"


@pytest.mark.leaves("thread", reason="AnyIO keeps its threads, as long as the loop or longer")
async def test_a_def_route_of_fastapi_asks_from_its_thread():
    labels = labels_of()
    app = FastAPI(lifespan=lifespan(labels))

    @app.get("/label")
    def label(x: int, hub: Annotated[gibbs.Hub[Model], Depends(labels.of)]) -> int:
        return anyio.from_thread.run(hub.request, x)

    async with served(app) as client:
        assert (await client.ask("/label?x=6")).body == b"7"


async def test_several_hubs_and_the_apps_own_lifespan_are_open_inside_each_other():
    seen = []

    def watched(name: str) -> AppHub[Model]:
        @asynccontextmanager
        async def opened() -> AsyncIterator[gibbs.Hub[Model]]:
            async with gibbs.open_hub(Model, workers=1) as hub:
                seen.append(f"{name} opens")
                yield hub
            seen.append(f"{name} is closed")

        return AppHub(name, opened)

    @asynccontextmanager
    async def own(_: Any) -> AsyncIterator[dict[str, str]]:
        seen.append("the app's own begins")
        yield {"database": "db"}
        seen.append("the app's own ends")

    async def both(request: Request) -> JSONResponse:
        answers = [await hub.request(1) for hub in (request.state.left, request.state.right)]
        return JSONResponse([*answers, request.state.database])

    app = Starlette(routes=[Route("/", both)], lifespan=lifespan(watched("left"), watched("right"), inside=own))
    async with served(app) as client:
        assert (await client.ask("/")).body == b'[2,2,"db"]'
    assert seen == [
        "left opens",
        "right opens",
        "the app's own begins",
        "the app's own ends",
        "right is closed",
        "left is closed",
    ]


async def test_an_own_lifespan_that_gives_no_state_is_fine():
    @asynccontextmanager
    async def own(_: Any) -> AsyncIterator[None]:
        yield

    async with served(Starlette(lifespan=lifespan(labels_of(), inside=own))) as client:
        assert [*client.state] == ["labels"]


async def test_an_own_lifespan_may_be_around_the_hubs_and_use_them():
    labels = labels_of()

    @asynccontextmanager
    async def own(app: Any) -> AsyncIterator[dict[str, Any]]:
        async with lifespan(labels)(app) as state:
            yield {**(state or {}), "warm": await (state or {})["labels"].request(1)}

    async with served(Starlette(lifespan=own)) as client:
        assert client.state["warm"] == 2
        assert [*client.state] == ["labels", "warm"]


async def test_one_declaration_serves_two_apps_with_a_hub_each():
    labels = labels_of()
    apps = [Starlette(lifespan=lifespan(labels)) for _ in range(2)]
    async with served(apps[0]) as one, served(apps[1]) as other:
        assert one.state["labels"] is not other.state["labels"]


def test_two_hubs_of_one_name_are_refused():
    with pytest.raises(ValueError, match="'labels'"):
        lifespan(labels_of(), labels_of())


@pytest.mark.parametrize("name", ["", "my labels", "1st"])
def test_a_name_that_is_no_attribute_is_refused(name):
    with pytest.raises(ValueError, match=r"request\.state"):
        AppHub(name, lambda: gibbs.open_hub(Model, workers=1))


async def test_a_hub_that_is_not_open_says_what_is_missing():
    labels = labels_of()

    async def route(request: Request) -> JSONResponse:
        return JSONResponse(await labels.of(request).request(1))

    app = Starlette(routes=[Route("/", route)])
    with pytest.raises(RuntimeError, match=r"lifespan=lifespan\(labels"):
        await Client(app, {}).ask("/")
    async with gibbs.open_hub(Model, workers=1) as app.state.labels:
        assert (await Client(app, {}).ask("/")).body == b"2"
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
            assert (await client.get("/")).json() == 2


@pytest.mark.leaves("thread", reason="the test client's loop lives in one")
@pytest.mark.filterwarnings("ignore:Using `httpx`")  # Starlette's own matter, said at import
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_starlettes_test_client_opens_the_hub_and_a_websocket_finds_it(backend):
    from starlette.testclient import TestClient

    labels = labels_of()

    async def route(request: Request) -> JSONResponse:
        return JSONResponse(await labels.of(request).request(1))

    async def talk(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_json(await labels.of(websocket).request(await websocket.receive_json()))
        await websocket.close()

    app = Starlette(routes=[Route("/", route), WebSocketRoute("/talk", talk)], lifespan=lifespan(labels))
    with TestClient(app, backend=backend) as client:
        assert client.get("/").json() == 2
        with client.websocket_connect("/talk") as websocket:
            websocket.send_json(6)
            assert websocket.receive_json() == 7


# --------------------------------------------------------------------------------------------------- a client that leaves


async def pass_on(request: Request, call_next: Any) -> Any:
    return await call_next(request)


MIDDLEWARE = {"plain": [], "behind a middleware": [Middleware(BaseHTTPMiddleware, dispatch=pass_on)]}


@pytest.mark.parametrize("middleware", MIDDLEWARE.values(), ids=MIDDLEWARE)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_client_that_leaves_stops_the_models_work_and_the_model_stays_warm(tmp_path, middleware, method):
    labels = labels_of()

    async def wait(request: Request) -> JSONResponse:
        async with cancel_on_disconnect(request):
            await labels.of(request).method(Model.wait).request(str(tmp_path / "mark"))
        raise AssertionError("it was not left")

    app = Starlette(
        routes=[Route("/", wait, methods=[method])],
        middleware=middleware,
        lifespan=lifespan(labels),
        exception_handlers=exception_handlers(),
    )
    await leave(app, tmp_path / "mark", method=method, body=b"some text" * (method == "POST"))


@pytest.mark.parametrize("middleware", MIDDLEWARE.values(), ids=MIDDLEWARE)
async def test_a_client_that_leaves_a_route_of_fastapi_whose_body_was_read(tmp_path, middleware):
    labels = labels_of()
    app = FastAPI(lifespan=lifespan(labels), middleware=middleware, exception_handlers=exception_handlers())

    @app.post("/")
    async def wait(
        request: Request, text: Annotated[str, Body()], hub: Annotated[gibbs.Hub[Model], Depends(labels.of)]
    ) -> None:
        assert text == "some text"
        async with cancel_on_disconnect(request):
            await hub.method(Model.wait).request(str(tmp_path / "mark"))

    await leave(app, tmp_path / "mark", method="POST", body=b'"some text"')


@pytest.mark.parametrize(
    ("spec", "middleware"), [("2.3", "plain"), ("2.3", "behind a middleware"), ("2.4", "plain")]
)  # of a client that has left, Starlette's own middleware makes an error in a group where ASGI 2.4 is spoken
async def test_a_client_that_leaves_a_streaming_response(tmp_path, spec, middleware):
    labels = labels_of()

    async def stream(request: Request) -> StreamingResponse:
        hub = labels.of(request)

        async def pieces() -> AsyncIterator[bytes]:
            yield b"first"
            try:
                async with cancel_on_disconnect(request, streaming=True):
                    await hub.method(Model.wait).request(str(tmp_path / "mark"))
            except ClientLeft:
                return
            yield b"second"

        return StreamingResponse(pieces())

    app = Starlette(
        routes=[Route("/", stream)],
        lifespan=lifespan(labels),
        middleware=MIDDLEWARE[middleware],
        exception_handlers=exception_handlers(),
    )
    await leave(app, tmp_path / "mark", spec=spec)


async def leave(app: Any, mark: Path, **how: Any) -> None:
    """Ask, leave while the model works; it is interrupted, and the same worker answers the next."""
    async with served(app) as client:
        hub = client.state["labels"]
        pid = await hub.method(Model.pid).request()
        leaves = anyio.Event()

        async def ask() -> None:
            with anyio.fail_after(WATCHDOG), contextlib.suppress(ClientDisconnect):  # a server may let it know
                await client.ask("/", leaves=leaves, **how)

        async with anyio.create_task_group() as tg:
            tg.start_soon(ask)
            await exists(mark)
            leaves.set()
        await exists(mark.with_name(mark.name + " interrupted"))
        assert await hub.method(Model.pid).request() == pid
        statistics = hub.statistics()
        assert (statistics.cancelled, statistics.killed, statistics.running) == (1, 0, 0)


async def test_a_client_that_stays_gets_its_answer_and_errors_arrive_as_themselves():
    labels = labels_of()

    async def route(request: Request) -> JSONResponse:
        async with cancel_on_disconnect(request):
            answer = await labels.of(request).request(int(request.query_params["x"]))
            if answer == 0:
                await labels.of(request).method(Model.raises).request("KeyError")
        return JSONResponse(answer)

    app = Starlette(routes=[Route("/", route)], lifespan=lifespan(labels))
    async with served(app) as client:
        assert (await client.ask("/?x=1")).body == b"2"
        with pytest.raises(KeyError):
            await client.ask("/?x=-1")


async def test_whoever_is_cancelled_from_outside_is_not_told_that_a_client_left():
    seen, begun = [], anyio.Event()
    app = Starlette(routes=[Route("/", waits_in_the_block(seen, begun))])
    async with anyio.create_task_group() as tg:
        tg.start_soon(Client(app, {}).ask, "/")
        await begun.wait()
        tg.cancel_scope.cancel()
    assert seen == [anyio.get_cancelled_exc_class()]


@pytest.mark.parametrize("anyio_backend", LOOPS_OF_ASYNCIO, indirect=True)
async def test_a_native_cancellation_as_uvicorns_when_its_patience_ends_goes_through():
    seen, begun = [], anyio.Event()
    app = Starlette(routes=[Route("/", waits_in_the_block(seen, begun))])
    task = asyncio.ensure_future(Client(app, {}).ask("/"))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == [asyncio.CancelledError]


def waits_in_the_block(seen: list[type], begun: anyio.Event) -> Any:
    async def route(request: Request) -> None:
        try:
            async with cancel_on_disconnect(request):
                begun.set()
                await anyio.sleep_forever()
        except BaseException as error:
            seen.append(type(error))
            raise

    return route


async def test_what_a_broken_server_raises_leaves_as_itself():
    async def receive() -> Any:
        raise LookupError("no such message")

    request = Request({"type": "http", "headers": []}, receive)
    with pytest.raises(LookupError, match="no such message"):
        async with cancel_on_disconnect(request):
            await anyio.sleep_forever()


# ------------------------------------------------------------------------------------------------------ what may be raised


def app_of(labels: AppHub[Model], **options: Any) -> Starlette:
    async def ask(request: Request) -> JSONResponse:
        hub = labels.of(request)
        with anyio.fail_after(float(request.query_params.get("within", "inf"))):
            return JSONResponse(await hub.method(request.query_params["method"]).request(request.query_params["x"]))

    return Starlette(
        routes=[Route("/", ask), *health_routes(labels)],
        lifespan=lifespan(labels),
        exception_handlers=exception_handlers(**options),
    )


async def test_a_worker_that_dies_costs_its_client_a_503(caplog):
    async with served(app_of(labels_of())) as client:
        answer = await client.ask("/?method=raises&x=exit")
        assert answer.status == 503
        assert json.loads(answer.body) == {"detail": "the worker of this request died"}
        assert "a request was lost" in caplog.text
        assert "exited with status 3" in caplog.text


async def test_a_conversation_whose_worker_died_is_a_503():
    async def route(_: Request) -> JSONResponse:
        raise gibbs.LeaseBroken("labels", 0, 1, how="exited with status 3")

    app = Starlette(routes=[Route("/", route)], exception_handlers=exception_handlers())
    async with served(app) as client:
        answer = await client.ask("/")
        assert (answer.status, json.loads(answer.body)) == (503, {"detail": "the worker of this request died"})


async def test_a_scope_that_is_over_is_a_504_and_a_timeout_of_the_models_own_is_not(tmp_path):
    async with served(app_of(labels_of())) as client:
        assert (await client.ask(f"/?method=wait&within=0.05&x={tmp_path}/mark")).status == 504
        with pytest.raises(TimeoutError, match="TimeoutError"):  # which a server makes a 500
            await client.ask("/?method=raises&x=TimeoutError")


async def test_a_timeout_of_a_connection_is_not_taken_for_a_scope_of_the_apps():
    async def route(_: Request) -> JSONResponse:
        raise TimeoutError(110, "Connection timed out")

    app = Starlette(routes=[Route("/", route)], exception_handlers=exception_handlers())
    with pytest.raises(TimeoutError, match="Connection timed out"):
        await Client(app, {}).ask("/")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (gibbs.HubOverloaded("labels", 3), 1013),
        (gibbs.HubClosed("labels", "closed"), 1011),
        (TimeoutError(), 1011),
    ],
    ids=lambda what: type(what).__name__,
)
@pytest.mark.filterwarnings("ignore:Using `httpx`")
def test_a_websocket_is_closed_with_a_code_and_not_sent_a_response(backend, error, code):
    from starlette.testclient import TestClient
    from starlette.websockets import WebSocketDisconnect

    async def talk(websocket: WebSocket) -> None:
        await websocket.accept()
        raise error

    app = Starlette(routes=[WebSocketRoute("/", talk)], exception_handlers=exception_handlers())
    with TestClient(app, backend=backend) as client, client.websocket_connect("/") as websocket:
        with pytest.raises(WebSocketDisconnect) as caught:
            websocket.receive_text()
    assert caught.value.code == code


async def test_a_body_that_nobody_read_is_not_kept_and_whoever_reads_it_later_is_told():
    labels = labels_of()

    async def route(request: Request) -> JSONResponse:
        async with cancel_on_disconnect(request):
            with anyio.fail_after(WATCHDOG):
                while not request._stream_consumed:
                    await labels.of(request).request(1)
        with pytest.raises(RuntimeError, match="Stream consumed"):
            await request.body()
        return JSONResponse(None)

    app = Starlette(routes=[Route("/", route, methods=["POST"])], lifespan=lifespan(labels))
    async with served(app) as client:
        assert (await client.ask("/", method="POST", body=b"x" * 10)).status == 200


async def test_one_request_too_many_is_a_503_that_says_when_to_come_back(tmp_path):
    async with served(app_of(labels_of(max_pending=0), retry_after=1.5)) as client, anyio.create_task_group() as tg:
        tg.start_soon(client.state["labels"].method(Model.wait).request, str(tmp_path / "mark"))
        await exists(tmp_path / "mark")
        answer = await client.ask("/?method=pid&x=1")
        assert (answer.status, answer.headers["retry-after"]) == (503, "2")
        tg.cancel_scope.cancel()


class FailsTwice:
    """Built once; then neither it nor what should follow it."""

    def __init__(self, mark: str) -> None:
        if Path(mark).exists():
            raise ValueError("the weights are gone")
        Path(mark).touch()

    def __call__(self) -> None:
        os._exit(3)


async def test_a_hub_that_fails_while_the_server_goes_on_is_seen(tmp_path, caplog):
    """As uvicorn has it: the lifespan ends with the error, and requests come all the same."""
    mark = str(tmp_path / "mark")
    labels: AppHub[Any] = AppHub(
        "labels",
        lambda: gibbs.open_hub(FailsTwice, mark, workers=1, restarts=gibbs.RestartPolicy(max_failures=0)),
    )

    async def ask(request: Request) -> JSONResponse:
        return JSONResponse(await labels.of(request).request())

    app = Starlette(
        routes=[Route("/", ask), *health_routes(labels)],
        lifespan=lifespan(labels),
        exception_handlers=exception_handlers(),
    )
    client: Any = None
    with pytest.raises(gibbs.RestartsExhausted):
        async with served(app) as client:
            assert json.loads((await client.ask("/readyz")).body) == {
                "ready": True,
                "hubs": {"labels": {"ready": True, "reasons": []}},
            }
            await client.ask("/")
            await anyio.sleep(WATCHDOG)
    answer = await client.ask("/")
    assert (answer.status, json.loads(answer.body)) == (503, {"detail": "the model is not available"})
    assert "the weights are gone" in caplog.text
    answer = await client.ask("/readyz")
    assert answer.status == 503
    assert json.loads(answer.body)["hubs"]["labels"]["reasons"]
    answer = await client.ask("/healthz")
    assert (answer.status, answer.body) == (503, b"failed: labels")


async def test_a_full_queue_is_no_reason_to_send_nobody_here(tmp_path):
    async with served(app_of(labels_of(max_pending=0))) as client, anyio.create_task_group() as tg:
        tg.start_soon(client.state["labels"].method(Model.wait).request, str(tmp_path / "mark"))
        await exists(tmp_path / "mark")
        answer = await client.ask("/readyz")
        [about] = json.loads(answer.body)["hubs"].values()
        assert answer.status == 200
        assert about["ready"]
        assert "queue is full" in about["reasons"][0]
        tg.cancel_scope.cancel()


async def test_a_hub_that_drains_is_not_ready():
    async with served(app_of(labels_of())) as client:
        await client.state["labels"].drain()
        answer = await client.ask("/readyz")
        assert (answer.status, json.loads(answer.body)["ready"]) == (503, False)
        assert (await client.ask("/?method=pid&x=1")).status == 503


def test_neither_starlette_nor_fastapi_is_imported_unless_it_is_used():
    program = (
        "import sys, gibbs; gibbs.open_hub; assert 'starlette' not in sys.modules; "
        "import gibbs.contrib.starlette; assert 'fastapi' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
