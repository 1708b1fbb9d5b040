"""One tiny model behind FastAPI, by whom: `python -m benchmarks.served WHO LOOP PORT` serves until it is ended.

Each is used as its documentation says, with two worker processes. Must not know what is measured. Promises that all answer
`GET /?x=1` with `{"result": 2}`, and are served in the same way.
"""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request

from benchmarks.models import tiny

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

WORKERS = 2


# Each route is written down in full, as a user would: what a helper costs would be everybody's.


def alone() -> Any:
    """No model: what there is to share."""

    app = FastAPI()

    @app.get("/")
    async def route(x: int) -> dict[str, int]:
        return {"result": tiny(x)}

    return app


def with_gibbs() -> Any:

    import gibbs

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with gibbs.open_hub(gibbs.function(tiny), workers=WORKERS) as app.state.hub:
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    async def route(x: int) -> dict[str, int]:
        return {"result": await app.state.hub.request(x)}

    return app


def with_all_of_gibbs() -> Any:
    """As docs/web.md and docs/deploying.md advise."""
    import anyio

    import gibbs
    from gibbs.contrib.starlette import AppHub, cancel_on_disconnect, exception_handlers, lifespan

    numbers = AppHub("numbers", lambda: gibbs.open_hub(gibbs.function(tiny), workers=WORKERS, max_pending=1000))
    app = FastAPI(lifespan=lifespan(numbers), exception_handlers=exception_handlers())

    @app.get("/")
    async def route(request: Request, x: int) -> dict[str, int]:
        async with cancel_on_disconnect(request):
            with anyio.fail_after(10):
                result = await numbers.of(request).request(x)
        return {"result": result}

    return app


def with_to_process() -> Any:
    import anyio
    import anyio.to_process

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.limiter = anyio.CapacityLimiter(WORKERS)
        yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    async def route(x: int) -> dict[str, int]:
        return {"result": await anyio.to_process.run_sync(tiny, x, limiter=app.state.limiter)}

    return app


def with_executor() -> Any:
    import asyncio
    from concurrent.futures import ProcessPoolExecutor

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with ProcessPoolExecutor(WORKERS) as app.state.pool:
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    async def route(x: int) -> dict[str, int]:
        return {"result": await asyncio.get_running_loop().run_in_executor(app.state.pool, tiny, x)}

    return app


def with_trio_parallel() -> Any:
    import trio
    import trio_parallel

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.limiter = trio.CapacityLimiter(WORKERS)
        async with trio_parallel.open_worker_context() as app.state.context:
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    async def route(x: int) -> dict[str, int]:
        return {"result": await app.state.context.run_sync(tiny, x, limiter=app.state.limiter)}

    return app


def by_framework(make: Callable[[], Any]) -> Callable[[str, int], None]:
    """The app under uvicorn, or for Trio under Hypercorn."""

    def serve(loop: str, port: int) -> None:
        if loop == "trio":
            import hypercorn.trio
            import trio

            config = hypercorn.Config()
            config.bind = [f"127.0.0.1:{port}"]
            trio.run(hypercorn.trio.serve, make(), config)
        else:
            import uvicorn

            uvicorn.run(make(), loop=loop, port=port, log_level="warning", access_log=False)

    return serve


SERVERS = {
    "FastAPI alone": by_framework(alone),
    "gibbs": by_framework(with_gibbs),
    "gibbs, guarded": by_framework(with_all_of_gibbs),
    "anyio.to_process": by_framework(with_to_process),
    "ProcessPoolExecutor": by_framework(with_executor),
    "trio-parallel": by_framework(with_trio_parallel),
}

if __name__ == "__main__":
    who, loop, port = sys.argv[1:]
    SERVERS[who](loop, int(port))
