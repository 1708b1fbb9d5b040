"""What a fragment on a page, or in a docstring, needs around it to be a program.

A page names one of these in `<!-- prelude: hub -->` before its block; a docstring's is in DOCSTRINGS, by the name that it
belongs to. The snippet takes the place of the line that says `SNIPPET`, with its indentation.
"""

MODEL = """
import functools, time
import anyio
import gibbs

class Model:
    interruptible = True
    def __init__(self, folder="", scale=1): self.scale = scale
    def __call__(self, x): time.sleep(0.01); return x**2 if isinstance(x, int) else f"answer to {x}"
    def embed(self, text): return [float(len(text))]
    def render(self, page): return f"page {page}"

class MyAwesomeModel(Model): pass
def load_model(): return __import__("types").SimpleNamespace(predict=lambda images: ["label"] * len(images))
def answers_as_expected(model): assert model(3) == 9
def predict(image): return f"label of {image}"
image, order = "an image", "an order"
"""

# The page's lines stand in a coroutine. The guard is for anyio.to_process, which imports the program again.
COROUTINE = (
    MODEL
    + """
async def main():
    SNIPPET

if __name__ == "__main__":
    anyio.run(main)
"""
)

# The page's lines stand in the body of an open hub.
HUB = (
    MODEL
    + """
async def main():
    async with gibbs.open_hub(Model, workers=2) as hub:
        SNIPPET

anyio.run(main)
"""
)

# The page's lines stand in a coroutine, on a machine for which every other one is itself.
FLEET = (
    """
import sys
import gibbs
def interpreter(*_, **__): return here([sys.executable, "-m", "gibbs.worker", "--stdio"])
here = gibbs.CommandLauncher
gibbs.SSHLauncher = gibbs.CommandLauncher = interpreter
"""
    + COROUTINE
)

# The lines stand in a coroutine, in which there are arrays, and a model that takes them.
SHARED = COROUTINE.replace(
    "async def main():",
    "class Model:\n    def __init__(self, weights): self.weights = weights\n\nasync def main():\n    import numpy\n    w = b = numpy.ones(3)",
)

# The page's lines stand in the body of an open hub, whose model is a generator.
STREAMS = """
import anyio
import gibbs

class Storyteller:
    interruptible = True
    def __call__(self, prompt): yield from f"{prompt} there was a model".split()

prompt = "once"

async def main():
    async with gibbs.open_hub(Storyteller, workers=2) as hub:
        SNIPPET

anyio.run(main)
"""

# The page's lines stand in the body of an open hub, whose model tells how far it has come.
PROGRESS = """
import time
import anyio
import gibbs

class Reader:
    interruptible = True
    def __call__(self, pages):
        for number in range(1, pages + 1): time.sleep(0.001); gibbs.report(number / pages)

pages = 20

async def main():
    async with gibbs.open_hub(Reader, workers=1) as hub:
        SNIPPET

anyio.run(main)
"""

# The page's lines stand in the body of an open hub, whose model keeps in mind what was said, and dies when it is told to.
LEASES = """
import os
import anyio
import gibbs

class Story:
    def begin(self, title): self.lines = [title]
    def add(self, line):
        if line == "and died": os._exit(1)
        self.lines.append(line)
        return len(self.lines)
    def __call__(self): return " ".join(self.lines)

async def main():
    async with gibbs.open_hub(Story, workers=2) as hub:
        SNIPPET

anyio.run(main)
"""

# The page's lines are a call of open_hub, without the `async with` around it.
OPENED = (
    MODEL
    + """
from gibbs import open_hub
manager = (
    SNIPPET
)

async def main():
    async with manager as hub:
        assert await hub.request(3) == 9

anyio.run(main)
"""
)

# The page's lines are the methods of a model, indented or not, or begin a class called Solver.
METHODS = """
import threading
import anyio
import gibbs

def solve(x): return x**2

class Solver:
    def __init__(self):
        self.lock, self.cache, self.results = threading.Lock(), {}, []

    SNIPPET

async def main():
    async with gibbs.open_hub(Solver, workers=1) as hub:
        assert await hub.request(3) == 9
        assert await hub.using(on_cancel="interrupt").request(4) == 16

anyio.run(main)
"""

# The page's lines are routes and handlers of an app; a test client asks it.
APP = (
    MODEL
    + """
import contextlib
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient

@contextlib.asynccontextmanager
async def lifespan(app):
    async with gibbs.open_hub(Model, workers=2, max_pending=100) as app.state.hub:
        yield

app = FastAPI(lifespan=lifespan)

@app.get("/request")
async def simple_request(x: int):
    return {"result": await app.state.hub.request(x)}

SNIPPET

with TestClient(app) as client:
    assert client.get("/request?x=3").json() == {"result": 9}
    if "/health" in {route.path for route in app.routes}:
        assert client.get("/health").status_code == 200
"""
)

# The lines are a script for workers in memory, and a hub over it, or a launcher of it.
SCRIPTED = (
    MODEL
    + """
import signal
from gibbs.testing import ScriptedLauncher, serve

launcher = None

async def main():
    global launcher
    SNIPPET
    if launcher is not None:
        async with gibbs.open_hub(Model, workers=1, launcher=launcher) as hub:
            try:
                await hub.request(3)
                raise AssertionError("the first worker dies")
            except gibbs.WorkerCrashed:
                assert await hub.request(3) == 9

anyio.run(main)
"""
)

# The lines stand in the body of an inline hub.
INLINE = (
    MODEL
    + """
import pytest
from gibbs.testing import crash, hang, open_inline_hub

async def main():
    async with open_inline_hub(Model) as hub:
        SNIPPET

anyio.run(main)
"""
)

# The lines stand in a coroutine.
IN_A_TEST = INLINE.replace("    async with open_inline_hub(Model) as hub:\n        SNIPPET", "    SNIPPET")

# The lines are a property, of which this runs one example after the other.
PROPERTY = """
import anyio, pytest
from hypothesis import given, settings
from gibbs.testing import open_inline_hub
from gibbs.testing.strategies import does_not_travel, travels

settings.register_profile("few", max_examples=10, deadline=None)
settings.load_profile("few")

class Store:
    def __call__(self, value): return value

SNIPPET

[test] = [value for name, value in globals().items() if name.startswith("test_")]
inner = test.hypothesis.inner_test
test.hypothesis.inner_test = lambda value: anyio.run(inner, value)
test()
"""

# The lines belong to an app, or make one. A client asks each of its routes.
WEB = (
    MODEL
    + """
from typing import Annotated
from fastapi import Depends, FastAPI, Request
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.routing import Route
from gibbs.contrib.starlette import *

labels = AppHub("labels", lambda: gibbs.open_hub(Model, workers=1))
routes = []
app = FastAPI(lifespan=lifespan(labels))

SNIPPET

with TestClient(app) as client:
    paths = {route.path for route in app.routes}
    if "/label" in paths:
        assert client.get("/label?x=3").text in ("9", '"9"')
    if "/readyz" in paths:
        assert client.get("/readyz").status_code == 200
"""
)

# The lines stand in a route.
ROUTE = WEB.replace(
    "SNIPPET",
    """@app.get("/label")
async def label(request: Request, x: int, hub: Annotated[gibbs.Hub[Model], Depends(labels.of)]) -> int:
    SNIPPET""",
)

# The lines stand behind the program of the live page, and may make it anew.
STATUS = """
import anyio
import gibbs
from gibbs.contrib.starlette import AppHub, lifespan, status_routes
from gibbs.history import History
from starlette.applications import Starlette

class Model:
    def embed(self, text): return [len(text)]

embeddings = AppHub("embeddings", lambda: gibbs.open_hub(Model, workers=1, observers=[History()]))

SNIPPET
"""

PAGES = {
    "status": STATUS,
    "coroutine": COROUTINE,
    "fleet": FLEET,
    "hub": HUB,
    "streams": STREAMS,
    "progress": PROGRESS,
    "leases": LEASES,
    "opened": OPENED,
    "methods": METHODS,
    "app": APP,
}

DOCSTRINGS = {
    "gibbs.Calls.request": HUB,
    "gibbs.Elastic": OPENED,
    "gibbs.Failed": COROUTINE,
    "gibbs.batched": COROUTINE,
    "gibbs.Calls.lease": HUB,
    "gibbs.Calls.map": HUB,
    "gibbs.Calls.method": HUB,
    "gibbs.Calls.stream": STREAMS,
    "gibbs.Calls.track": PROGRESS,
    "gibbs.Calls.using": HUB,
    "gibbs.CommandLauncher": FLEET,
    "gibbs.ForkLauncher": OPENED,
    "gibbs.Hub.reload": HUB,
    "gibbs.Hub.stacks": HUB,
    "gibbs.LocalLauncher": OPENED,
    "gibbs.Recycle": OPENED,
    "gibbs.RestartPolicy": OPENED,
    "gibbs.SSHLauncher": FLEET,
    "gibbs.Safe": OPENED,
    "gibbs.abc.Propagator": COROUTINE.replace(
        "import gibbs\n", "import os\nfrom contextlib import contextmanager\n\nimport gibbs\n"
    ),
    "gibbs.contrib.opentelemetry.Tracing": COROUTINE.replace(
        "import gibbs\n", "import gibbs\nfrom gibbs.contrib.opentelemetry import Tracing\n"
    ),
    "gibbs.contrib.prometheus.Metrics": COROUTINE.replace(
        "import gibbs\n", "import gibbs\nfrom gibbs.contrib.prometheus import Metrics\n"
    ),
    "gibbs.contrib.starlette.AppHub": WEB,
    "gibbs.contrib.starlette.cancel_on_disconnect": ROUTE,
    "gibbs.contrib.starlette.health_routes": WEB,
    "gibbs.contrib.starlette.status_routes": WEB.replace(
        "import gibbs\n", "import gibbs\nfrom gibbs.history import History\n"
    ),
    "gibbs.function": COROUTINE,
    "gibbs.history.History": COROUTINE.replace("import gibbs\n", "import gibbs\nfrom gibbs.history import History\n"),
    "gibbs.share": SHARED,
    "gibbs.open_hub": COROUTINE,
    "gibbs.testing.ScriptedLauncher": SCRIPTED,
    "gibbs.testing.crash": INLINE,
    "gibbs.testing.hang": INLINE,
    "gibbs.testing.open_inline_hub": IN_A_TEST,
    "gibbs.testing.serve": SCRIPTED,
    "gibbs.testing.strategies.does_not_travel": PROPERTY,
    "gibbs.testing.strategies.travels": PROPERTY,
    "gibbs.testing.sweep": HUB.replace("import gibbs\n", "import gibbs\nfrom gibbs.testing import sweep\n"),
    "gibbs.top.as_rich": COROUTINE.replace("import gibbs\n", "import gibbs\nfrom gibbs.top import as_rich, snapshot\n"),
    "gibbs.top.open_socket": COROUTINE.replace(
        "import gibbs\n", "import gibbs\nfrom gibbs.history import History\nfrom gibbs.top import open_socket\n"
    ),
    "gibbs.uninterruptible": METHODS,
}
