"""The live page: what its one address answers, and that it never waits for long. What a browser makes of it is tests/browser's; here time is virtual."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import signal

import anyio
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

import gibbs
from gibbs.contrib.starlette import AppHub, lifespan, status_routes
from gibbs.history import History
from gibbs.testing import ScriptedLauncher, serve
from gibbs.top._command import _events
from tests.clocks import jumping_loops
from tests.web.asgi import served

pytestmark = pytest.mark.anyio

HOSTILE = "</script><img src=x onerror=alert(1)>\n\ndata: {}\r\u2028\x1b[2J"


@pytest.fixture(scope="module", params=jumping_loops())
def anyio_backend(request):
    return request.param


class Model:
    def __call__(self, x):
        return x


def app_of(*, observers=None, launcher=None, name="m"):
    observers = [History()] if observers is None else observers
    hub = AppHub(
        "hub",
        lambda: gibbs.open_hub(
            Model, workers=1, name=name, launcher=launcher or ScriptedLauncher(), observers=observers
        ),
    )
    return Starlette(routes=[*status_routes(hub)], lifespan=lifespan(hub))


def left():
    """A client that leaves as soon as it has something."""
    leaves = anyio.Event()
    leaves.set()
    return leaves


async def test_one_address_is_a_page_for_browsers_and_json_for_scripts():
    async with served(app_of()) as client:
        page = await client.ask("/status", accept="text/html,application/xhtml+xml,*/*")
        assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert (await client.ask("/status")).body == page.body
        for answer in (await client.ask("/status", accept="application/json"), await client.ask("/status.json")):
            [hub] = json.loads(answer.body)["hubs"]
            assert (hub["name"], hub["ready"], hub["history"]["seats"][0]["state"]) == ("m", True, "serving")
            assert answer.headers["cache-control"] == page.headers["cache-control"] == "no-store"


async def test_the_page_may_run_its_own_script_and_nothing_else():
    async with served(app_of()) as client:
        page = await client.ask("/status")
    text, policy = page.body.decode(), page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    for tag in ("script", "style"):
        [found] = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        own = base64.b64encode(hashlib.sha256(found.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{own}'" in policy
    assert not re.search(
        r"\son\w+\s*=|innerHTML|outerHTML|insertAdjacent|document\.write|https?://(?!www\.w3\.org/2000/svg)", text
    )


async def test_events_come_once_a_second_and_are_soon_over_so_that_no_server_waits_for_them(anyio_backend):
    async with served(app_of()) as client:
        answer = await client.ask("/status", accept="text/event-stream")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.body.startswith(b"retry: 1000\ndata: {")
    told = [snapshot["hubs"][0]["history"]["opened"] for snapshot in _events(io.BytesIO(answer.body))]
    assert len(told) == 3
    since = [later - told[0] for later in told]
    if anyio_backend[1].get("use_uvloop"):  # whose time is real, and a machine may pause
        assert since[1] > 0.9
        assert since[2] > 1.9
    else:
        assert since == pytest.approx([0, 1, 2])


@pytest.mark.parametrize("spec", ["2.3", "2.4"])
async def test_events_end_when_the_client_leaves(spec):
    async with served(app_of()) as client:
        answer = await client.ask("/status", accept="text/event-stream", leaves=left(), spec=spec)
        assert answer.body.count(b"data: ") < 2, "the second would come a second later"


async def test_what_workers_say_is_a_string_in_one_line_of_ascii():
    async def dies(worker):
        if await worker.start():
            await worker.receive()
            worker.die(signal=signal.SIGSEGV, tail=HOSTILE)

    async with served(app_of(launcher=ScriptedLauncher(dies, serve), name=HOSTILE)) as client:
        assert await client.state["hub"].request(1) == 1, "on the second, since it had not begun"
        answer = await client.ask("/status", accept="text/event-stream", leaves=left())
    assert answer.body.isascii()
    [first, *_] = _events(io.BytesIO(answer.body))
    [hub] = first["hubs"]
    assert hub["name"] == HOSTILE
    assert "onerror" in hub["history"]["ended"][0]["tail"]
    assert answer.body.count(b"\n") == 3


async def test_a_hub_without_a_history_says_what_to_do():
    async with served(app_of(observers=[])) as client:
        [hub] = json.loads((await client.ask("/status.json")).body)["hubs"]
    assert hub["history"] is None
    assert "observers=[gibbs.history.History()]" in hub["missing"]


async def test_it_may_be_mounted_anywhere_since_it_names_no_address():
    hub = AppHub("hub", lambda: gibbs.open_hub(Model, workers=1, launcher=ScriptedLauncher()))
    app = Starlette(routes=[Mount("/deep/er", routes=status_routes(hub, path="/live"))], lifespan=lifespan(hub))
    async with served(app) as client:
        assert (await client.ask("/deep/er/live.json")).status == 200
        assert b"location.pathname" in (await client.ask("/deep/er/live")).body
