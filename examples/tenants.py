"""Many tenants before one model: who pays comes first, each finds the worker that knows him, and a log line says for whom it was.

    pip install 'gibbs[fastapi]'
    uvicorn --app-dir examples tenants:app
    curl -H 'X-Tenant: ann' -H 'X-Paid: yes' 'http://127.0.0.1:8000/greet?name=Bob'

The model keeps what it has learned of a tenant, which takes it a while. `key` brings a tenant back to the worker that has it, if that is
free; `priority` lets those who pay go first, and nobody wait for ever; `max_wait` turns away who would wait too long; `retries` asks
another worker after a crash, since a greeting does no harm when it is made twice. The tenant and the number of the request are context
variables, which the model's log lines have too.
"""

import logging
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from itertools import count
from typing import Annotated

import uvicorn
from fastapi import Depends, FastAPI, Header, Request, Response

import gibbs
from gibbs.contrib.starlette import AppHub, exception_handlers, health_routes, lifespan

tenant: ContextVar[str] = ContextVar("tenant", default="-")
number: ContextVar[int] = ContextVar("number", default=0)
numbers = count(1)
logger = logging.getLogger("tenants")


class Greeter:
    """Learns how a tenant greets, once for each worker that meets him."""

    interruptible = True

    def __init__(self) -> None:
        self.known: dict[str, str] = {}

    def __call__(self, name: str) -> str:
        who = tenant.get()
        if who not in self.known:
            logger.info("request %d: worker %d learns of %s", number.get(), gibbs.current_worker().seat, who)
            time.sleep(0.2)  # in the place of loading what a tenant has trained
            self.known[who] = f"{who} greets {{}}"
        return self.known[who].format(name)


greeter = AppHub("greeter", lambda: gibbs.open_hub(Greeter, workers=2, propagate=[tenant, number]))
app = FastAPI(lifespan=lifespan(greeter), exception_handlers=exception_handlers())
app.router.routes.extend(health_routes(greeter))


@app.middleware("http")
async def number_requests(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    number.set(next(numbers))
    tenant.set(request.headers.get("X-Tenant", "-"))
    response = await answer(request)
    response.headers["X-Number"] = str(number.get())
    return response


@app.get("/greet")
async def greet(
    name: str,
    hub: Annotated[gibbs.Hub[Greeter], Depends(greeter.of)],
    x_paid: Annotated[str, Header()] = "no",
) -> dict[str, str]:
    paid = x_paid == "yes"
    calls = hub.using(priority=int(paid), key=tenant.get(), max_wait=30 if paid else 5, retries=1)
    return {"greeting": await calls.request(name)}


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    uvicorn.run(app)
