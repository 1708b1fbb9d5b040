"""What workers in memory log: which record is believed, and whose request it is of."""

from __future__ import annotations

import logging

import anyio
import pytest

import gibbs
from gibbs._wire import payload, plain
from gibbs._wire.frames import encode
from gibbs._wire.messages import LOG
from gibbs.testing import ScriptedLauncher
from tests.hub.swept import until

GOOD = {
    "name": "tests.records",
    "msg": "hello",
    "args": None,
    "levelname": "WARNING",
    "levelno": 30,
    "pathname": "model.py",
    "filename": "model.py",
    "module": "model",
    "exc_info": None,
    "exc_text": None,
    "stack_info": None,
    "lineno": 7,
    "funcName": "f",
    "created": 1.5,
    "msecs": 500.0,
    "relativeCreated": 3.0,
    "thread": 1,
    "threadName": "MainThread",
    "processName": "MainProcess",
    "process": 5,
}


class Unused:
    def __call__(self, x):
        raise NotImplementedError


@pytest.fixture
def kept():
    class Kept(logging.Handler):
        def emit(self, record):
            self.records.append(record)

    handler = Kept()
    handler.records = []
    logger = logging.getLogger("tests.records")
    logger.addHandler(handler)
    yield handler.records
    logger.removeHandler(handler)


async def log(worker, link_id=0, body=None, **parts):
    await worker.say(encode(LOG, link_id, plain.dumps(GOOD | parts) if body is None else body))


async def test_a_record_is_of_the_request_that_its_worker_holds_and_of_none_when_that_is_over(
    by_hand, begin, ask, kept
):
    launcher = ScriptedLauncher(by_hand)
    async with (
        gibbs.open_hub(Unused, workers=1, close_timeout=0.0, launcher=launcher, name="records") as hub,
        anyio.create_task_group() as tg,
    ):
        worker = launcher.worker()
        for number in (1, 2):
            asked = await ask(tg, hub.request, 1)
            call = await begin(worker)
            await log(worker, call.link_id)
            await worker.answer(call.link_id, 1)
            await asked.outcome()
            await log(worker, call.link_id)
            await until(lambda number=number: len(kept) == 2 * number)
            assert [record.request_id for record in kept[-2:]] == [number, None]
        assert {(record.hub, record.seat, record.incarnation, record.processName) for record in kept} == {
            ("records", 0, 1, "records/0")
        }


async def test_a_record_comes_while_a_worker_starts_and_as_its_last_word(kept):
    async def script(worker):
        await log(worker, msg="it begins")
        await worker.ready(methods={"__call__": "plain"})
        await log(worker, msg="it ends")
        worker.die(code=1)

    async with gibbs.open_hub(Unused, workers=1, ready=0, close_timeout=0.0, launcher=ScriptedLauncher(script)):
        await until(lambda: len(kept) >= 2)
    assert [record.msg for record in kept[:2]] == ["it begins", "it ends"]


LIES = {
    "no pickle": {"body": b"x"},
    "no dict": {"body": plain.dumps([1])},
    "empty": {"body": plain.dumps({})},
    "a class": {"body": payload.dumps(GOOD | {"extra": Unused})},
    "a list in it": {"extra": [1]},
    "a level that is none": {"levelno": "high"},
    "a name that is none": {"name": 3},
    "no message": {"msg": None},
    "a time that is none": {"created": float("nan")},
    "a number for a key": {"body": plain.dumps(GOOD | {3: 3})},
}


@pytest.mark.parametrize("lie", LIES)
async def test_what_is_no_record_ends_the_worker_that_sent_it(by_hand, begin, ask, kept, lie):
    launcher = ScriptedLauncher(by_hand)
    async with (
        gibbs.open_hub(Unused, workers=1, close_timeout=0.0, launcher=launcher) as hub,
        anyio.create_task_group() as tg,
    ):
        worker = launcher.worker()
        asked = await ask(tg, hub.request, 1)
        await begin(worker)
        await log(worker, **LIES[lie])
        with pytest.raises(gibbs.WorkerCrashed, match="no message of the protocol"):
            await asked.outcome()
        assert kept == []


async def test_a_record_that_nobody_asked_for_ends_its_worker(by_hand, begin, ask, kept):
    launcher = ScriptedLauncher(by_hand)
    async with (
        gibbs.open_hub(Unused, workers=1, close_timeout=0.0, launcher=launcher, logs=False) as hub,
        anyio.create_task_group() as tg,
    ):
        asked = await ask(tg, hub.request, 1)
        await begin(launcher.worker())
        await log(launcher.worker())
        with pytest.raises(gibbs.WorkerCrashed, match="not asked for any"):
            await asked.outcome()
        assert kept == []
