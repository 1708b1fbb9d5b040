"""Thumbnails: Pillow behind FastAPI, for pictures that strangers send.

    pip install 'gibbs[fastapi]' pillow
    uvicorn --app-dir examples thumbnails:app
    curl --data-binary @photo.jpg 'http://127.0.0.1:8000/thumbnail?width=200' -o small.jpg

A decoder of pictures has had holes before, and will again. A picture that crashes it costs one request. And with
`results=gibbs.Safe()` nothing that a worker sends back is executed; but a worker that was taken over is still a process of
your user's: see docs/security.md.
"""

import io

import anyio
import uvicorn
from fastapi import FastAPI, HTTPException, Query, Request, Response
from PIL import Image, ImageOps, UnidentifiedImageError

import gibbs
from gibbs.contrib.starlette import AppHub, cancel_on_disconnect, exception_handlers, health_routes, lifespan

LARGEST = 20 << 20  # bytes of a picture
Image.MAX_IMAGE_PIXELS = 25_000_000  # of twice as many Pillow makes an error: a small file may be a very large picture
FORMATS = ("JPEG", "PNG", "GIF", "WEBP")  # Pillow knows many more, some of them by other programs


class Thumbnailer:
    interruptible = True  # it keeps nothing from one call to the next

    def __call__(self, picture: bytes, width: int) -> bytes | None:
        """A JPEG, or None if that is no picture."""
        try:
            with Image.open(io.BytesIO(picture), formats=FORMATS) as image:
                upright = ImageOps.exif_transpose(image)
                upright.thumbnail((width, 4 * width))
                out = io.BytesIO()
                upright.convert("RGB").save(out, "JPEG")
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
        with anyio.fail_after(10):
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
