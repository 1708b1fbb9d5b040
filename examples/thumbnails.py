"""Thumbnails: Pillow behind FastAPI, for pictures that strangers send.

    pip install 'gibbs[fastapi]' pillow
    uvicorn --app-dir examples thumbnails:app
    curl --data-binary @photo.jpg 'http://127.0.0.1:8000/thumbnail?width=200' -o small.jpg

A decoder of pictures has had holes before, and will again. `results=gibbs.Safe()`: nothing that a worker sends back is
unpickled, so one that was taken over cannot take over the app. And a picture that crashes the decoder costs one request.
"""

import io

import uvicorn
from fastapi import FastAPI, HTTPException, Query, Request, Response
from PIL import Image, UnidentifiedImageError

import gibbs
from gibbs.contrib.starlette import AppHub, cancel_on_disconnect, exception_handlers, health_routes, lifespan

LARGEST = 20 << 20  # bytes of a picture


class Thumbnailer:
    interruptible = True  # it keeps nothing from one call to the next

    def __call__(self, picture: bytes, width: int) -> bytes | None:
        """A JPEG, or None if that is no picture."""
        try:
            with Image.open(io.BytesIO(picture)) as image:
                image.thumbnail((width, 4 * width))
                out = io.BytesIO()
                image.convert("RGB").save(out, "JPEG")
        except (UnidentifiedImageError, Image.DecompressionBombError, OSError):
            return None
        return out.getvalue()


thumbnails = AppHub("thumbnails", lambda: gibbs.open_hub(Thumbnailer, workers=2, max_pending=50, results=gibbs.Safe()))
app = FastAPI(lifespan=lifespan(thumbnails), exception_handlers=exception_handlers())
app.router.routes.extend(health_routes(thumbnails))


@app.post("/thumbnail")
async def thumbnail(request: Request, width: int = Query(200, ge=16, le=2000)) -> Response:
    picture = await read(request)
    async with cancel_on_disconnect(request):
        small = await thumbnails.of(request).request(picture, width)
    if small is None:
        raise HTTPException(415, "this is no picture that can be made small")
    return Response(small, media_type="image/jpeg")


async def read(request: Request) -> bytes:
    """The body, unless it is too large."""
    picture = bytearray()
    async for piece in request.stream():
        picture += piece
        if len(picture) > LARGEST:
            raise HTTPException(413, f"a picture may have {LARGEST >> 20} MB")
    return bytes(picture)


if __name__ == "__main__":
    uvicorn.run(app)
