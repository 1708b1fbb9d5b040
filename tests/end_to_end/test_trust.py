"""What a worker may do to its hub, and what not: how long its messages may be, and results that are not trusted."""

from __future__ import annotations

import math
import os

import anyio
import numpy
import pytest

import gibbs
from gibbs._wire.frames import encode_header
from gibbs._wire.messages import ANSWER
from gibbs.testing import ScriptedLauncher, ScriptedWorker
from tests.end_to_end.callers import answer

MIB = 1 << 20


class Picture:
    def __init__(self, width):
        self.width = width


class EndsTheProgram:
    """A result that ends whoever opens it."""

    def __reduce__(self):
        return os._exit, (99,)


class Boom(Exception):
    """An exception that ends whoever opens it as itself."""

    def __reduce__(self):
        return EndsTheProgram().__reduce__() if os.environ.get("GIBBS_TEST_ARMED") else super().__reduce__()


class Model:
    def pid(self):
        return os.getpid()

    def of_size(self, size):
        return bytes(size)

    def length(self, data):
        return len(data)

    def fails(self, size):
        error = ValueError("with a load")
        error.load = bytes(size)
        raise error

    def talks(self, size):
        error = ValueError("x" * size)
        error.add_note("y" * size)
        raise type("N" * size, (KeyboardInterrupt,), {})("z" * size) from error

    def picture(self):
        return Picture(7)

    def mixed(self):
        return {
            "array": numpy.arange(6.0).reshape(2, 3),
            "scalar": numpy.float32(1.5),
            "texts": ["a", "b"],
            "none": None,
        }

    def ends_the_program(self):
        return [EndsTheProgram()]

    def raises(self):
        raise KeyError("missing")

    def raises_what_ends_the_program(self):
        os.environ["GIBBS_TEST_ARMED"] = "1"
        try:
            raise Boom("armed")
        finally:
            print("raised")


class Unbuilt:
    def __init__(self):
        raise Boom("not built")


# ---------------------------------------------------------------------------------------------------------- how long


async def test_a_request_above_max_message_is_an_error_before_anything_is_sent(launcher):
    async with gibbs.open_hub(Model, workers=1, launcher=launcher, max_message=MIB) as hub:
        pid = await answer(hub.method(Model.pid))
        with pytest.raises(gibbs.MessageTooLarge, match="nothing was sent") as caught:
            await hub.method(Model.length).request(bytes(MIB))
        assert caught.value.what == "request"
        assert caught.value.size > caught.value.limit == MIB
        assert hub.statistics().done == 1
        assert await answer(hub.method(Model.length), bytes(MIB - 1000)) == MIB - 1000
        assert await answer(hub.method(Model.pid)) == pid


async def test_a_result_above_max_message_is_an_error_of_that_request_alone(either_launcher):
    async with gibbs.open_hub(Model, workers=1, launcher=either_launcher, max_message=MIB) as hub:
        pid = await answer(hub.method(Model.pid))
        with pytest.raises(gibbs.MessageTooLarge, match="stayed behind") as caught:
            await hub.method(Model.of_size).request(MIB)
        assert caught.value.what == "result"
        assert caught.value.size > caught.value.limit == MIB
        assert len(await answer(hub.method(Model.of_size), MIB - 1000)) == MIB - 1000
        assert await answer(hub.method(Model.pid)) == pid
        assert hub.statistics().failed == 1


async def test_an_exception_above_max_message_is_told_in_words(launcher):
    async with gibbs.open_hub(Model, workers=1, launcher=launcher, max_message=MIB) as hub:
        pid = await answer(hub.method(Model.pid))
        with pytest.raises(gibbs.RemoteError, match="with a load") as caught:
            await hub.method(Model.fails).request(MIB)
        assert caught.value.type_name == "ValueError"
        assert await answer(hub.method(Model.pid)) == pid


async def test_without_a_limit_everything_is_sent(launcher):
    async with gibbs.open_hub(Model, workers=1, launcher=launcher, max_message=math.inf) as hub:
        assert len(await answer(hub.method(Model.of_size), 3 * MIB)) == 3 * MIB
        assert await answer(hub.method(Model.length), bytes(3 * MIB)) == 3 * MIB


async def test_a_worker_that_announces_more_than_max_message_is_killed_at_once():
    async def boasts(worker: ScriptedWorker) -> None:
        await worker.start()
        call = await worker.receive()
        worker.begin(call.link_id)
        await worker.say(encode_header(ANSWER, call.link_id, MIB + 1))
        await anyio.sleep_forever()

    launcher = ScriptedLauncher(boasts)
    async with gibbs.open_hub(Model, workers=1, launcher=launcher, max_message=MIB) as hub:
        with pytest.raises(gibbs.WorkerCrashed, match="no message of the protocol"):
            await hub.method(Model.pid).request()


@pytest.mark.parametrize("size", [1 << 20, 1 << 23])
async def test_what_exceptions_say_is_capped(launcher, size):
    async with gibbs.open_hub(Model, workers=1, launcher=launcher) as hub:
        with pytest.raises(gibbs.RemoteError) as caught:
            await hub.method(Model.talks).request(size)
        error = caught.value
        assert max(map(len, [error.type_name, error.message])) < 9_000
        assert len(error.traceback) < 65_000
        assert sum(map(len, error.__notes__)) < 75_000
        assert "left out" in error.message


# --------------------------------------------------------------------------------------------------------- how trusted


@pytest.fixture
def safe_hub(either_launcher):
    def open_hub(*allow, factory=Model):
        return gibbs.open_hub(factory, workers=1, launcher=either_launcher, results=gibbs.Safe(allow=allow))

    return open_hub


async def test_a_result_that_would_end_the_program_is_a_remote_error_and_the_worker_is_kept(safe_hub):
    async with safe_hub(Picture) as hub:
        pid = await answer(hub.method(Model.pid))
        with pytest.raises(gibbs.RemoteError, match="_exit, which is not allowed") as caught:
            await hub.method(Model.ends_the_program).request()
        assert caught.value.stage == "result"
        assert await answer(hub.method(Model.pid)) == pid


async def test_data_come_through_and_so_does_what_is_allowed(safe_hub):
    async with safe_hub(Picture) as hub:
        assert (await answer(hub.method(Model.picture))).width == 7
        mixed = await answer(hub.method(Model.mixed))
        assert mixed.pop("array").tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
        assert mixed == {"scalar": 1.5, "texts": ["a", "b"], "none": None}


async def test_what_is_not_allowed_is_refused_by_name_with_the_way_to_allow_it(safe_hub):
    async with safe_hub() as hub:
        with pytest.raises(gibbs.RemoteError, match=r"Picture, which is not allowed.*gibbs\.Safe\(allow=\[Picture\]\)"):
            await hub.method(Model.picture).request()


async def test_exceptions_arrive_in_words(safe_hub):
    async with safe_hub() as hub:
        with pytest.raises(gibbs.RemoteError, match="KeyError: 'missing'") as caught:
            await hub.method(Model.raises).request()
        assert (caught.value.type_name, caught.value.stage) == ("KeyError", "call")
        assert "raise KeyError" in caught.value.traceback
        with pytest.raises(gibbs.RemoteError, match="armed"):
            await hub.method(Model.raises_what_ends_the_program).request()


async def test_a_model_that_cannot_be_built_is_told_in_words(safe_hub):
    with pytest.raises(gibbs.WorkerStartFailed, match="not built") as caught:
        async with safe_hub(factory=Unbuilt):
            pass
    assert isinstance(caught.value.__cause__, gibbs.RemoteError)


PROGRAM = """
class Result:
    def __init__(self, text): self.text = text

class Model:
    def __call__(self, text): return Result(text)
    def forbidden(self): return Ends()

class Ends:
    def __reduce__(self): return os._exit, (99,)

async def main():
    async with gibbs.open_hub(Model, workers=1, results=gibbs.Safe(allow=[Result])) as hub:
        result = await hub.request("from a script")
        assert type(result) is Result
        say(result.text)
        try:
            await hub.method(Model.forbidden).request()
        except gibbs.RemoteError as error:
            say(error.stage)

run(main)
"""


def test_a_class_of_the_script_can_be_allowed(start_program):
    program = start_program(PROGRAM)
    assert program.read() == "from a script"
    assert program.read() == "result"
    assert program.end() == ("", "")


TRUSTING = PROGRAM.replace(", results=gibbs.Safe(allow=[Result])", "").replace(
    "async with", "say('opened')\n    async with"
)


def test_without_it_such_a_result_ends_the_program_as_the_documentation_says(start_program):
    program = start_program(TRUSTING)
    assert program.read() == "opened"
    assert program.read() == "from a script"
    program.end()
    assert program.process.returncode == 99
