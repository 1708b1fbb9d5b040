"""A model that says how far it is, and a page with a bar for it. Closing the page stops the model.

    pip install 'gibbs[fastapi]'
    uvicorn --app-dir examples progress:app        # and open http://127.0.0.1:8000

The model counts the prime numbers below a bound, in as many steps as there are bars on a ruler. The words that it reports, and its
result behind them, come to the browser as server-sent events.
"""

import json
from collections.abc import AsyncIterator
from typing import Annotated

import uvicorn
from fastapi import Depends, FastAPI, Query, Request
from fastapi.responses import HTMLResponse, StreamingResponse

import gibbs
from gibbs.contrib.starlette import AppHub, cancel_on_disconnect, exception_handlers, health_routes, lifespan

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Counting primes</title>
<style>:root { color-scheme: light dark } body { font: 1.1rem system-ui; margin: 2rem } progress { width: 100% }</style>
<h1>Primes below 2,000,000</h1>
<progress max="1" aria-label="How far the model is"></progress>
<p role="status">counting</p>
<script>
  const bar = document.querySelector("progress"), status = document.querySelector("p");
  const events = new EventSource("count?below=2000000");
  events.onmessage = ({ data }) => { bar.value = JSON.parse(data) };
  events.addEventListener("result", ({ data }) => { bar.value = 1; status.textContent = data; events.close() });
  events.onerror = () => { status.textContent = "no answer"; events.close() };
</script>
"""


class Primes:
    """Knows how to sieve, a piece at a time."""

    interruptible = True  # counting changes nothing in it

    def __call__(self, below: int, pieces: int = 100) -> int:
        small = [n for n in range(2, int(below**0.5) + 1) if all(n % d for d in range(2, int(n**0.5) + 1))]
        found = 0
        for piece in range(pieces):
            low, high = max(2, below * piece // pieces), below * (piece + 1) // pieces
            sieve = bytearray(b"\x01" * max(0, high - low))
            for prime in small:
                start = max(prime * prime, -(-low // prime) * prime)
                sieve[start - low :: prime] = bytes(len(range(start - low, len(sieve), prime)))
            found += sum(sieve)
            gibbs.report((piece + 1) / pieces)
        return found


primes = AppHub("primes", lambda: gibbs.open_hub(Primes, workers=2, max_pending=10))
app = FastAPI(lifespan=lifespan(primes), exception_handlers=exception_handlers())
app.router.routes.extend(health_routes(primes))

Hub = Annotated[gibbs.Hub[Primes], Depends(primes.of)]


@app.get("/", response_class=HTMLResponse)
async def page() -> str:
    return PAGE


@app.get("/count")
async def count(request: Request, hub: Hub, below: Annotated[int, Query(ge=2, le=10**8)]) -> StreamingResponse:
    async def events() -> AsyncIterator[str]:
        async with cancel_on_disconnect(request, streaming=True), hub.track(below) as job:
            async for share in job.progress:
                yield f"data: {json.dumps(share)}\n\n"
            yield f"event: result\ndata: {await job.result()}\n\n"

    return StreamingResponse(events(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


@app.get("/statistics")
async def statistics(hub: Hub) -> dict[str, int]:
    now = hub.statistics()
    return {"running": now.running, "left": now.cancelled, "killed": now.killed, "restarts": now.restarts}


if __name__ == "__main__":
    uvicorn.run(app)
