"""What propagators bring from the caller to the call: around what it is put, with what, and what becomes of those that raise.

The workers are threads, so that what is around a call there can be seen here.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import contextmanager
from contextvars import ContextVar

import anyio
import pytest

import gibbs
from gibbs import events
from gibbs.testing import open_inline_hub

tenant: ContextVar[str] = ContextVar("tenant")
inside: ContextVar[tuple] = ContextVar("inside", default=())
WATCHDOG = 30.0
SEEN = []


@pytest.fixture(autouse=True)
def nothing_seen():
    SEEN.clear()
    tenant.set("Ann")


class Notes:
    """What is around each call, in `SEEN`; within, `inside` says what was brought."""

    name = "notes"

    def __init__(self, value="noted"):
        self.value = value

    def capture(self, hub, method):
        return self.value and f"{self.value} by {tenant.get()} for {hub}.{method}"

    @staticmethod
    @contextmanager
    def around(method, values):
        token = inside.set(tuple(values))
        SEEN.append(("entered", method, tuple(values)))
        if values[0].startswith("do not enter"):
            raise RuntimeError("not entered")
        try:
            yield
        except BaseException as error:
            SEEN.append(("left", type(error).__name__))
            raise
        else:
            SEEN.append(("left", None))
        finally:
            inside.reset(token)
        if values[0].startswith("do not leave"):
            raise RuntimeError("not left")


class Model:
    interruptible = True

    def __call__(self, x=None):
        if x == "raise":
            raise LookupError(x)
        return inside.get()

    def yields(self, count):
        for _ in range(count):
            yield inside.get()

    def loops(self):
        SEEN.append("loops")
        while True:
            time.sleep(0.0005)

    @gibbs.batched(max_size=4, max_wait=10.0)
    def many(self, items):
        return [inside.get() for _ in items]

    @gibbs.batched(max_size=4, max_wait=10.0, on_error="split")
    def halves(self, items):
        if "bad" in items:
            raise LookupError("bad")
        return items


def opened(*propagate, seen=None, **options):
    observers = [] if seen is None else [seen.append]
    options = {"cancel_grace": WATCHDOG} | options
    return open_inline_hub(Model, name="m", propagate=propagate or [Notes()], observers=observers, **options)


async def test_a_call_is_put_in_what_its_caller_brought_and_what_it_raises_is_seen():
    brought = ("noted by Ann for m.__call__",)
    async with opened() as hub:
        assert await hub.request() == brought
        with pytest.raises(LookupError):
            await hub.request("raise")
        async with hub.track() as job:
            assert await job.result() == brought
        async with hub.map([1]) as results:
            assert [result async for result in results] == [brought]
    assert SEEN[:4] == [
        ("entered", "__call__", brought),
        ("left", None),
        ("entered", "__call__", brought),
        ("left", "LookupError"),
    ]
    assert len(SEEN) == 8


async def test_a_generator_is_in_it_from_its_first_step_to_its_last_and_when_it_is_closed_early():
    brought = ("noted by Ann for m.yields",)
    async with opened() as hub:
        async with hub.method("yields").stream(2) as items:
            assert [item async for item in items] == [brought, brought]
        async with hub.method("yields").using(buffer=1).stream(100) as items:
            assert await anext(items) == brought
    assert SEEN == [("entered", "yields", brought), ("left", None)] * 2


async def test_a_batch_is_put_once_in_what_all_have_brought_and_in_nobodys_variables():
    async with opened(Notes(), tenant, inside) as hub:
        assert await anyio.amap(hub.method("many").request, range(4)) == [("noted by Ann for m.many",) * 4] * 4
        assert SEEN == [("entered", "many", ("noted by Ann for m.many",) * 4), ("left", None)]
        SEEN.clear()
        found = []
        async with anyio.create_task_group() as tg:
            for item in (1, "bad", 3, 4):
                tg.start_soon(ask, found, hub.method("halves").request, item)
    assert sorted(found, key=str) == [1, 3, 4, "LookupError"]
    assert sorted(len(one[2]) for one in SEEN if one[0] == "entered") == [1, 1, 2, 2, 4], "each try is a call"
    assert Counter(one[1] for one in SEEN if one[0] == "left") == {"LookupError": 3, None: 2}


async def ask(found, request, *args):
    try:
        found.append(await request(*args))
    except Exception as error:  # noqa: BLE001
        found.append(type(error).__name__)


async def test_a_call_that_is_cancelled_is_left_with_the_interrupt():
    async with opened() as hub, anyio.create_task_group() as tg:
        tg.start_soon(hub.method("loops").request)
        with anyio.fail_after(WATCHDOG):
            while "loops" not in SEEN:
                await anyio.sleep(0.001)
            tg.cancel_scope.cancel()
    assert SEEN[-1] == ("left", "Interrupted")


async def test_observers_find_what_was_captured_in_each_event_of_the_request():
    seen = []
    async with opened(Notes(), tenant, seen=seen, workers=2) as hub:
        await hub.request()
        async with hub.lease():
            pass
    of_call = [event.propagated for event in seen if isinstance(event, events.RequestEvent) and event.number == 1]
    assert of_call == [{"notes": "noted by Ann for m.__call__", "tenant": "Ann"}] * 3
    [of_lease] = [event.propagated for event in seen if isinstance(event, events.RequestEnded) and event.number == 2]
    assert of_lease["notes"] == "noted by Ann for m."


async def test_who_brings_nothing_is_put_in_nothing():
    async with opened(Notes(None)) as hub:
        assert await hub.request() == ()
    assert not SEEN


async def test_one_that_cannot_be_entered_fails_the_call_and_one_that_cannot_be_left_is_told(monkeypatch):
    told = []
    monkeypatch.setattr("sys.excepthook", lambda kind, error, traceback: told.append(str(error)))
    async with opened(Notes("do not enter")) as hub:
        for _ in range(2):
            with pytest.raises(RuntimeError, match="not entered"):
                await hub.request()
        assert hub.statistics().restarts == 0
    async with opened(Notes("do not leave")) as hub:
        assert len(await hub.request()) == 1
    assert told == ["not left"]


async def test_what_cannot_be_pickled_is_refused_by_the_propagators_name():
    class Locks(Notes):
        def capture(self, hub, method):
            return threading.Lock()

    async with opened(Locks()) as hub:
        with pytest.raises(
            TypeError, match="what comes of the propagator 'notes' is propagated, and cannot be pickled"
        ):
            await hub.request()


def test_what_is_no_propagator_is_refused_and_two_of_one_name():
    with pytest.raises(TypeError, match="a list of context variables and propagators"):
        opened(Notes)
    with pytest.raises(ValueError, match="two propagators called 'notes'"):
        opened(Notes(), Notes())
