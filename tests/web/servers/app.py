"""The app that every real server is given: Starlette, and a hub whose model does as it is told.

It is copied into a folder of its own and served from there, as a user's would be. `hold` and `leave` say by a file when they
begin, and `hold` goes on when the file `go` is there.
"""

import os
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

import gibbs
from gibbs.contrib.starlette import (
    AppHub,
    ClientLeft,
    cancel_on_disconnect,
    exception_handlers,
    health_routes,
    lifespan,
)

MAX_PENDING = float(os.environ.get("MAX_PENDING", "inf"))


class Model:
    interruptible = True

    def __init__(self) -> None:
        if Path("cannot be built").exists():
            raise RuntimeError("this model cannot be built any more")

    def square(self, x: int) -> int:
        return x**2

    def hold(self, x: int, mark: str) -> int:
        try:
            Path(f"{mark} began in {os.getpid()}").touch()
            while not Path("go").exists():
                time.sleep(0.002)
        except gibbs.Interrupted:
            Path(f"{mark} was interrupted in {os.getpid()}").touch()
            raise
        return x**2


squares = AppHub(
    "squares",
    lambda: gibbs.open_hub(
        Model,
        workers=2,
        max_pending=MAX_PENDING,
        cancel_grace=40,  # a busy machine kills no worker that is being interrupted
        restarts=gibbs.RestartPolicy(max_failures=float(os.environ.get("MAX_FAILURES", "inf"))),
    ),
)


async def square(request: Request) -> JSONResponse:
    x = int(request.query_params["x"])
    return JSONResponse({"result": await squares.of(request).method(Model.square).request(x)})


async def hold(request: Request) -> JSONResponse:
    x, mark = int(request.query_params["x"]), request.query_params["mark"]
    return JSONResponse({"result": await squares.of(request).method(Model.hold).request(x, mark)})


async def leave(request: Request) -> JSONResponse:
    """As `hold`, for as long as the client is there; of a POST, after its body was read."""
    x, mark = len(await request.body()), request.query_params["mark"]
    async with cancel_on_disconnect(request):
        result = await squares.of(request).method(Model.hold).request(x, mark)
    return JSONResponse({"result": result})


async def leave_a_stream(request: Request) -> StreamingResponse:
    async def items() -> AsyncIterator[str]:
        yield "first\n"
        try:
            async with cancel_on_disconnect(request, streaming=True):
                result = await squares.of(request).method(Model.hold).request(2, request.query_params["mark"])
        except ClientLeft:
            return
        yield f"{result}\n"

    return StreamingResponse(items())


async def statistics(request: Request) -> JSONResponse:
    """Of this process: with several, of whichever was asked."""
    return JSONResponse(asdict(squares.of(request).statistics()))


app = Starlette(
    routes=[
        Route("/square", square),
        Route("/hold", hold),
        Route("/leave", leave, methods=["GET", "POST"]),
        Route("/leave-a-stream", leave_a_stream),
        Route("/statistics", statistics),
        *health_routes(squares),
    ],
    lifespan=lifespan(squares),
    exception_handlers=exception_handlers(),
)
