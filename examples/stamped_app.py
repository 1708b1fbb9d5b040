"""The scaled app with the stamped model in it, for the walk-through and the benchmark.

Every call leaves its stamps in a file:

    STAMPS=stamps.txt uvicorn --app-dir examples stamped_app:app
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from gibbs_app import app
from stamped_model import StampedModel

import gibbs

WAIT_TIME = float(os.environ.get("WAIT_TIME", "0.25"))


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with gibbs.open_hub(StampedModel, WAIT_TIME, workers=4) as app.state.hub:
        yield


app.router.lifespan_context = lifespan
