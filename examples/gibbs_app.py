"""The scaled app: the same model and the same route, on four workers.

Serve it, and ask it ten times at once from another terminal:

    python examples/gibbs_app.py        # on Trio: hypercorn -k trio examples/gibbs_app.py:app
    python examples/load.py             # 10 requests took 0.768 s

Besides, what the plain app could not do: `/cancellable` stops the model's work when the
client leaves, a worker that dies costs one client a 500 that says why, and `/statistics`
shows how the hub is.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from model import MyAwesomeModel

import gibbs


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with gibbs.open_hub(MyAwesomeModel, workers=4) as app.state.hub:
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/request")
async def simple_request(x: int) -> dict[str, int]:
    return {"result": await app.state.hub.request(x)}


@app.get("/cancellable")
async def cancellable_request(request: Request, x: int) -> dict[str, int]:
    return {"result": await while_connected(request, app.state.hub.request, x)}


async def while_connected(request: Request, call: Callable[..., Awaitable[Any]], *args: object) -> Any:
    """Await `call(*args)`, and cancel it when the client leaves.

    Read the request's body first: two readers would steal each other's messages.
    """

    async def watch_the_client() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        race.cancel_scope.cancel()

    try:
        async with anyio.create_task_group() as race:
            race.start_soon(watch_the_client)
            answer = await call(*args)
            race.cancel_scope.cancel()
            return answer
    except ExceptionGroup as group:
        if len(group.exceptions) > 1:
            raise
        lone = group.exceptions[0]  # so that the app's error handlers know it again
        raise lone from lone.__cause__
    raise HTTPException(499, "the client has left")  # nobody will read it


@app.exception_handler(gibbs.WorkerCrashed)
async def worker_crashed(_: Request, error: gibbs.WorkerCrashed) -> JSONResponse:
    return JSONResponse({"error": str(error), "worker": error.pid}, status_code=500)


@app.get("/statistics")
async def statistics() -> Any:
    return app.state.hub.statistics()


if __name__ == "__main__":
    uvicorn.run(app)
