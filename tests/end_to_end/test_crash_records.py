"""What killed a worker, in a file: written when it died, and run again by `python -m gibbs replay`."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import threading
from contextvars import ContextVar
from functools import partial

import anyio
import pytest

import gibbs
from gibbs._parent import crash_records
from tests.end_to_end.callers import WATCHDOG, until

tenant: ContextVar[str] = ContextVar("tenant")


class Fatal:
    """Dies of what it is told to, but where the variable MENDED says that it was mended."""

    def __init__(self, name):
        self.name = name

    def __call__(self, x, *, die=False):
        if die:
            self.die()
        return f"{self.name} {x}"

    def die(self):
        if "MENDED" not in os.environ:
            os.kill(os.getpid(), signal.SIGSEGV)

    def size(self, data):
        self.die()
        return len(data)

    def yields(self, count):
        yield from range(count)
        self.die()

    def who(self):
        self.die()
        return tenant.get()

    @gibbs.batched()
    def batch(self, items):
        self.die()
        return [item * 2 for item in items]

    def hangs(self):
        signal.pause()


@pytest.fixture
def opened(tmp_path, launcher):
    return partial(
        gibbs.open_hub,
        Fatal,
        "model",
        workers=1,
        launcher=launcher,
        record_crashes=tmp_path / "crashes",
        cancel_grace=0,
    )


@pytest.fixture
def records(tmp_path):
    """Those that are there, the oldest first."""
    return lambda: sorted((tmp_path / "crashes").glob("*.crash"))


async def dies(call, *args, **kwargs):
    with pytest.raises(gibbs.WorkerCrashed):
        await call(*args, **kwargs)


async def replay(record, *options, stdin=b"", **environment):
    """What it says, and its exit status."""
    done = await anyio.run_process(
        [sys.executable, "-m", "gibbs", "replay", *options, str(record)],
        input=stdin,
        env=os.environ | environment,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return done.stdout.decode(), done.returncode


async def test_a_request_that_kills_its_worker_does_so_again(opened, records):
    async with opened() as hub:
        assert await hub.request(1) == "model 1"
        await dies(hub.request, 2, die=True)
        assert await hub.request(3) == "model 3"
    [record] = records()
    said, status = await replay(record, "--no-debugger")
    assert status == -signal.SIGSEGV
    assert re.search(r"worker 0\.1 of 'Fatal' \(pid \d+\) died in __call__: .*SIGSEGV", said)
    assert "in die" in said, "the line that it is on now"
    said, status = await replay(record, "--no-debugger", MENDED="1")
    assert re.search(r"It was at, the innermost call last:\n(  File .*\n)*  File .*, in die\n", said)
    assert (said.splitlines()[-1], status) == ("It returned 'model 2'", 0)


async def test_the_debugger_stops_at_the_first_line_of_the_model(opened, records):
    async with opened() as hub:
        await dies(hub.request, 2, die=True)
    said, status = await replay(records()[0], stdin=b"p x\nc\n", MENDED="1")
    assert "__call__()\n-> " in said
    assert "(Pdb) 2\n" in said
    assert said.endswith("It returned 'model 2'\n")
    assert status == 0


async def test_in_processes_of_their_own_it_is_told_how_many_survived(opened, records):
    async with opened() as hub:
        await dies(hub.request, 2, die=True)
    said, status = await replay(records()[0], "--isolate", "2")
    assert ["1 of 2: ended with -11", "2 of 2: ended with -11"] == [
        line for line in said.splitlines() if " of 2: " in line
    ]
    assert status == 1
    assert (await replay(records()[0], "--isolate", "1", MENDED="1"))[1] == 0


async def test_every_kind_of_call_can_be_run_again(opened, records):
    async def read():
        async with hub.method("yields").stream(3) as items:
            assert [item async for item in items] == [0, 1, 2]

    async def ask_as(name):
        tenant.set(name)
        await dies(hub.method("who").request)

    async with opened(propagate=[tenant]) as hub:
        await dies(hub.method("size").request, bytes(1 << 20))
        await dies(read)
        await ask_as("Ann")
        await dies(hub.method("batch").request, 21)
    said = [await replay(record, "--no-debugger", MENDED="1") for record in records()]
    ends = [words.splitlines()[-1].removeprefix("It returned ") for words, _ in said]
    assert ends == [str(1 << 20), "[0, 1, 2]", "'Ann'", "[42]"]


async def test_only_its_user_can_read_it(opened, records, tmp_path):
    async with opened() as hub:
        await dies(hub.request, 2, die=True)
    assert stat.S_IMODE(records()[0].stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "crashes").stat().st_mode) == 0o700
    assert [*(tmp_path / "crashes").iterdir()] == records(), "nothing unfinished is left"


async def test_what_killed_nobody_is_not_recorded(opened, records, start):
    """A worker that dies with nothing to do; one that is killed for a cancel; a model's exception; a hub that closes."""
    async with opened() as hub:
        with pytest.raises(TypeError):
            await hub.request()
        [pid] = hub.statistics().pids
        os.kill(pid, signal.SIGKILL)
        await until(lambda: hub.statistics().restarts == 1 and hub.health().ready)
        call = start(hub.method("hangs"))
        await until(lambda: hub.statistics().running == 1)
        await call.cancel()
        await until(lambda: hub.statistics().killed == 1 and hub.health().ready)
        last = start(hub.method("hangs"))
        await until(lambda: hub.statistics().running == 1)
    await last.end()
    assert records() == []


async def test_the_last_ones_are_kept_and_none_that_is_large(opened, records, monkeypatch, caplog):
    monkeypatch.setattr(crash_records, "MOST", 2)
    monkeypatch.setattr(crash_records, "LARGEST", 10_000)
    policy = gibbs.RestartPolicy(max_failures=float("inf"))
    async with opened(restarts=policy) as hub:
        for x in range(3):
            await dies(hub.request, x, die=True)
        await dies(hub.method("size").request, bytes(10_000))
    assert [record.name.rpartition("-")[2] for record in records()] == ["2.crash", "3.crash"]
    assert "too many for a crash record" in caplog.text


@pytest.mark.in_turn
async def test_records_are_in_the_order_of_the_deaths_also_when_the_first_is_written_last(opened, records, monkeypatch):
    write, second_is_there = crash_records.CrashRecords._write, threading.Event()

    def overtaken(self, died, facts, *args):
        if facts["request"] == 1:
            assert second_is_there.wait(WATCHDOG)
        file = write(self, died, facts, *args)
        if facts["request"] == 2:
            second_is_there.set()
        return file

    monkeypatch.setattr(crash_records.CrashRecords, "_write", overtaken)
    async with opened() as hub:
        for x in range(2):
            await dies(hub.request, x, die=True)
    assert [record.name.rpartition("-")[2] for record in records()] == ["1.crash", "2.crash"]


async def test_a_record_that_cannot_be_written_is_said_once_and_costs_nobody_anything(
    opened, records, tmp_path, caplog
):
    async with opened() as hub:
        (tmp_path / "crashes").rmdir()
        for x in range(2):
            await dies(hub.request, x, die=True)
        assert await hub.request(3) == "model 3"
    assert caplog.text.count("a crash record could not be written") == 1


async def test_where_no_directory_can_be_made_no_hub_is_opened(tmp_path, launcher):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        async with gibbs.open_hub(
            Fatal, "", workers=1, launcher=launcher, record_crashes=tmp_path / "file" / "crashes"
        ):
            pytest.fail("it opened")
    with pytest.raises(TypeError, match="record_crashes must be"):
        gibbs.open_hub(Fatal, "", workers=1, record_crashes=True)


async def test_what_is_no_record_is_refused_in_words(tmp_path):
    (tmp_path / "none").write_text("something else")
    said, status = await replay(tmp_path / "none")
    assert (status, said) == (2, f"{tmp_path / 'none'} cannot be replayed: it does not begin as a crash record does\n")
