"""Routes by which a load balancer, or whoever runs containers, asks how hubs are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request

    import gibbs

    from .starlette import AppHub


def health_routes(*hubs: AppHub[Any], live: str = "/healthz", ready: str = "/readyz") -> list[Route]:
    """Two routes for probes, each 200 or 503: whether this process is worth keeping, and whether requests should be sent to it.

    `live` says no when one of these hubs has failed, which a server does not notice by itself, and which only a new process mends.
    `ready` says no, with the reasons, also while a hub has no worker that serves, or drains. A queue that is full is no reason: whoever
    asks is told to come back, which is better than no server at all.

    Example:
        ```python
        app = Starlette(routes=[*routes, *health_routes(labels)], lifespan=lifespan(labels))

        api = FastAPI(lifespan=lifespan(labels))
        api.router.routes.extend(health_routes(labels))
        ```
    """

    def asked(request: Request) -> dict[str, gibbs.Health]:
        return {hub.name: hub.of(request).health() for hub in hubs}

    async def is_live(request: Request) -> Response:
        failed = [name for name, health in asked(request).items() if health.failed]
        return PlainTextResponse(f"failed: {', '.join(failed)}" if failed else "ok", status_code=503 if failed else 200)

    async def is_ready(request: Request) -> Response:
        about = {
            name: {"ready": health.ready or health.full, "reasons": [*health.reasons]}
            for name, health in asked(request).items()
        }
        everything_is = all(one["ready"] for one in about.values())
        return JSONResponse({"ready": everything_is, "hubs": about}, status_code=200 if everything_is else 503)

    return [Route(live, is_live), Route(ready, is_ready)]


health_routes.__module__ = "gibbs.contrib.starlette"
