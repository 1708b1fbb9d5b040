"""Draw a digit, and a model of scikit-learn says which it is. With a page to draw on.

    pip install 'gibbs[fastapi]' scikit-learn
    uvicorn --app-dir examples digits:app          # and open http://127.0.0.1:8000

The model is built in the worker, from the pictures that scikit-learn brings along: that takes seconds, most of them for its
import, and the page is there when it is done.
"""

from pathlib import Path
from typing import Annotated

import anyio
import uvicorn
from fastapi import Depends, FastAPI, Request
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, Field

import gibbs
from gibbs.contrib.starlette import AppHub, cancel_on_disconnect, exception_handlers, health_routes, lifespan

PAGE = Path(__file__).with_name("digits.html").read_text()


class Digits:
    """Learns at once, when it is built, and is asked from then on."""

    interruptible = True  # asking changes nothing in it, so a client that leaves costs nobody a model

    def __init__(self) -> None:
        from sklearn.datasets import load_digits
        from sklearn.svm import SVC

        pictures, labels = load_digits(return_X_y=True)
        self.model = SVC(gamma=0.001).fit(pictures, labels)

    @gibbs.batched(max_size=64)
    def __call__(self, drawings: list[list[float]]) -> list[int]:
        """Asked with one drawing at a time; those that wait while it is busy are recognized in one go."""
        return [int(label) for label in self.model.predict(drawings)]


class Drawing(BaseModel):
    """8 × 8 pixels, line after line, from 0 for paper to 16 for ink."""

    pixels: Annotated[list[Annotated[float, Field(ge=0, le=16)]], Field(min_length=64, max_length=64)]


digits = AppHub("digits", lambda: gibbs.open_hub(Digits, workers=2, max_pending=100))
app = FastAPI(lifespan=lifespan(digits), exception_handlers=exception_handlers())
app.router.routes.extend(health_routes(digits))


@app.get("/", response_class=HTMLResponse)
async def page() -> str:
    return PAGE


@app.post("/classify")
async def classify(
    request: Request, drawing: Drawing, hub: Annotated[gibbs.Hub[Digits], Depends(digits.of)]
) -> dict[str, int]:
    async with cancel_on_disconnect(request):
        with anyio.fail_after(10):
            digit = await hub.request(drawing.pixels)
    return {"digit": digit}


if __name__ == "__main__":
    uvicorn.run(app)
