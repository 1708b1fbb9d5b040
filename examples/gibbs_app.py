"""The scaled app: the same model and the same route, on four workers.

Serve it, and ask it ten times at once from another terminal:

    python examples/gibbs_app.py        # on Trio: hypercorn -k trio examples/gibbs_app.py:app
    python examples/load.py             # 10 requests took 0.768 s

Besides, what the plain app could not do: `/cancellable` stops the model's work when the
client leaves, a worker that dies costs one client a 500 that says why, and `/statistics`
shows how the hub is.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from model import MyAwesomeModel

import gibbs
from gibbs.contrib.starlette import cancel_on_disconnect, exception_handlers


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with gibbs.open_hub(MyAwesomeModel, workers=4) as app.state.hub:
        yield


app = FastAPI(lifespan=lifespan, exception_handlers=exception_handlers())


@app.get("/request")
async def simple_request(x: int) -> dict[str, int]:
    return {"result": await app.state.hub.request(x)}


@app.get("/cancellable")
async def cancellable_request(request: Request, x: int) -> dict[str, int]:
    async with cancel_on_disconnect(request):
        result = await app.state.hub.request(x)
    return {"result": result}


@app.exception_handler(gibbs.WorkerCrashed)
async def worker_crashed(_: Request, error: gibbs.WorkerCrashed) -> JSONResponse:
    return JSONResponse({"error": f"this request's worker died: {error.how}", "worker": error.pid}, status_code=500)


@app.get("/statistics")
async def statistics() -> Any:
    return app.state.hub.statistics()


if __name__ == "__main__":
    uvicorn.run(app)
