"""Starlette on Trio, served by Hypercorn: prime factors, with Trio's own scopes.

    pip install 'gibbs[fastapi,trio]'
    cd examples && hypercorn -k trio starlette_trio:app
    curl 'http://127.0.0.1:8000/factors?n=600851475143'      # {"factors":[71,839,1471,6857]}
    curl 'http://127.0.0.1:8000/factors?n=1000000016000000063'    # 504, after two seconds

The scope around the request is Trio's. When its time is over the model is interrupted, and stays.
"""

import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import gibbs
from gibbs.contrib.starlette import AppHub, cancel_on_disconnect, exception_handlers, health_routes, lifespan

PATIENCE = 2  # seconds


class Factors:
    interruptible = True  # it has nothing that could be left half done

    def __call__(self, n: int) -> list[int]:
        found, divisor = [], 2
        while divisor * divisor <= n:
            while n % divisor == 0:
                found.append(divisor)
                n //= divisor
            divisor += 1
        return [*found, n] if n > 1 else found


factors = AppHub("factors", lambda: gibbs.open_hub(Factors, workers=2, max_pending=20))


async def answer(request: Request) -> JSONResponse:
    try:
        n = int(request.query_params["n"])
    except (KeyError, ValueError):
        raise HTTPException(400, "n must be a whole number") from None
    async with cancel_on_disconnect(request):
        with trio.fail_after(PATIENCE):
            found = await factors.of(request).request(n)
    return JSONResponse({"factors": found})


app = Starlette(
    routes=[Route("/factors", answer), *health_routes(factors)],
    lifespan=lifespan(factors),
    exception_handlers=exception_handlers(),
)
