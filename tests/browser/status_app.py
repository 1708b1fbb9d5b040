"""What the live page is shown of: a hub whose name, exceptions and output are markup if HOSTILE is set, and which dies or hangs when it is asked to."""

import contextlib
import os
import random
import sys
import time
from collections.abc import AsyncIterator

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import gibbs
from gibbs.contrib.starlette import AppHub, lifespan, status_routes
from gibbs.history import History

MARKUP = "</script><img src=x onerror='canary=1'><script>canary=1</script>"
NAME = MARKUP if "HOSTILE" in os.environ else "embeddings"

Angry = type(MARKUP, (Exception,), {})


class Model:
    interruptible = True

    def embed(self, seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    def render(self, seconds: float) -> None:
        time.sleep(seconds)

    def rank(self) -> None:
        raise Angry(MARKUP) if "HOSTILE" in os.environ else ValueError("no candidates")

    def parse(self) -> None:
        print(MARKUP if "HOSTILE" in os.environ else "parser: stack smashed at page 17", file=sys.stderr, flush=True)
        os.kill(os.getpid(), 11)


hub = AppHub("hub", lambda: gibbs.open_hub(Model, workers=4, name=NAME, observers=[History()], slow_call=2))


async def ask(request: Request) -> PlainTextResponse:
    arguments = [float(argument) for argument in request.query_params.getlist("x")]
    view = hub.of(request).using(retries=3)
    with contextlib.suppress(Exception):
        await view.method(request.path_params["method"]).request(*arguments)
    return PlainTextResponse("so it was")


@contextlib.asynccontextmanager
async def with_traffic(app: Starlette) -> AsyncIterator[dict[str, object]]:
    """As of a calm night, if TRAFFIC is set; for pictures."""
    async with lifespan(hub)(app) as state:

        async def caller() -> None:
            while True:
                await anyio.sleep(random.expovariate(4))
                method, seconds = random.choice([*[("embed", 40)] * 12, *[("render", 8)] * 3, ("rank", 0)])
                with contextlib.suppress(Exception), anyio.move_on_after(0.2):
                    arguments = [random.expovariate(seconds)] if seconds else []
                    await state["hub"].method(method).request(*arguments)

        async with anyio.create_task_group() as tg:
            for _ in range(8 if "TRAFFIC" in os.environ else 0):
                tg.start_soon(caller)
            yield dict(state)
            tg.cancel_scope.cancel()


app = Starlette(routes=[Route("/ask/{method}", ask), *status_routes(hub)], lifespan=with_traffic)
