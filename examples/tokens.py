"""A model that tells word by word, and stops when the tab is closed in which it is read. With a page to read on.

    pip install 'gibbs[fastapi]'
    uvicorn --app-dir examples tokens:app          # and open http://127.0.0.1:8000

The model is a toy: it learns from this file which word may follow which, and takes a twentieth of a second for each. It would tell
for ever. What a real one needs is the same: a generator that yields its tokens.
"""

import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated

import uvicorn
from fastapi import Depends, FastAPI, Request
from fastapi.responses import HTMLResponse, StreamingResponse

import gibbs
from gibbs.contrib.starlette import AppHub, cancel_on_disconnect, exception_handlers, health_routes, lifespan

PAGE = Path(__file__).with_name("tokens.html").read_text()


class Storyteller:
    """Knows which words follow each word, and takes one of them."""

    interruptible = True  # telling changes nothing in it

    def __init__(self) -> None:
        words = Path(__file__).read_text().split()
        self.followers = defaultdict(list)
        for word, follower in zip(words, [*words[1:], words[0]], strict=True):
            self.followers[word].append(follower)

    def __call__(self, prompt: str) -> Iterator[str]:
        word = (prompt.split() or ["A"])[-1]
        while True:
            time.sleep(0.05)  # in the place of what a real model computes
            word = random.choice(self.followers.get(word) or list(self.followers))
            yield f"{word} "


storyteller = AppHub("storyteller", lambda: gibbs.open_hub(Storyteller, workers=2, max_pending=10))
app = FastAPI(lifespan=lifespan(storyteller), exception_handlers=exception_handlers())
app.router.routes.extend(health_routes(storyteller))

Hub = Annotated[gibbs.Hub[Storyteller], Depends(storyteller.of)]


@app.get("/", response_class=HTMLResponse)
async def page() -> str:
    return PAGE


@app.get("/tell")
async def tell(request: Request, hub: Hub, prompt: str = "A model") -> StreamingResponse:
    async def told() -> AsyncIterator[str]:
        async with cancel_on_disconnect(request, streaming=True), hub.using(buffer=4).stream(prompt) as words:
            async for word in words:
                yield word

    return StreamingResponse(told(), media_type="text/plain; charset=utf-8", headers={"X-Accel-Buffering": "no"})


@app.get("/statistics")
async def statistics(hub: Hub) -> dict[str, int]:
    now = hub.statistics()
    return {"running": now.running, "left": now.cancelled, "killed": now.killed, "restarts": now.restarts}


if __name__ == "__main__":
    uvicorn.run(app)
