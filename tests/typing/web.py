"""What type-checks of `gibbs.contrib.starlette`, in Starlette and in FastAPI, and of metrics, without a word from the user.

Never run, only checked, by mypy --strict and by basedpyright in strict mode.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated, assert_type

from fastapi import Depends, FastAPI, Request
from starlette.applications import Starlette
from starlette.websockets import WebSocket

import gibbs
from gibbs.contrib.prometheus import Metrics
from gibbs.contrib.starlette import (
    AppHub,
    ClientLeft,
    cancel_on_disconnect,
    exception_handlers,
    health_routes,
    lifespan,
)


class Model:
    def __call__(self, x: int) -> str:
        raise NotImplementedError


labels = AppHub("labels", lambda: gibbs.open_hub(Model, workers=2, observers=[Metrics()]))
assert_type(labels, AppHub[Model])


@asynccontextmanager
async def own(app: Starlette) -> AsyncGenerator[None]:
    yield


@asynccontextmanager
async def own_with_state(app: Starlette) -> AsyncGenerator[dict[str, int]]:
    yield {"one": 1}


Starlette(
    routes=[*health_routes(labels)],
    lifespan=lifespan(labels),
    exception_handlers=exception_handlers(retry_after=5),
)
Starlette(lifespan=lifespan(labels, inside=own))
Starlette(lifespan=lifespan(labels, inside=own_with_state))
app = FastAPI(lifespan=lifespan(labels), exception_handlers=exception_handlers())
app.router.routes.extend(health_routes(labels))


async def label(request: Request, hub: Annotated[gibbs.Hub[Model], Depends(labels.of)]) -> str:
    assert_type(labels.of(request), gibbs.Hub[Model])
    try:
        async with cancel_on_disconnect(request):
            assert_type(await hub.request(3), str)
    except ClientLeft:
        return ""
    async with cancel_on_disconnect(request, streaming=True):
        return await labels.of(request).request(3)


async def talk(websocket: WebSocket) -> None:
    assert_type(labels.of(websocket), gibbs.Hub[Model])
