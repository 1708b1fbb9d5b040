"""A program without descriptors, or memory, to spare: a clean error, nothing left, and it works again when there is some."""

from __future__ import annotations

import pytest

from tests.faults import programs
from tests.faults.programs import all_gone, in_turn

start_program = programs.start_program

HEAD = """
import resource

MOST = resource.getrlimit(resource.RLIMIT_NOFILE)[1]

class Model:
    def __call__(self, x=0): return x

    def pid(self): return os.getpid()

    def die(self): os._exit(4)

def descriptors():
    return sorted(int(fd) for fd in os.listdir("/proc/self/fd"))

def leave_free(n):
    '''Let exactly so many more descriptors be opened.'''
    used, limit = {*descriptors()}, 0
    while n or limit in used:
        n -= limit not in used
        limit += 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, MOST))

def leave_many():
    resource.setrlimit(resource.RLIMIT_NOFILE, (MOST, MOST))

def is_childless():
    try: os.waitpid(-1, os.WNOHANG)
    except ChildProcessError: return True
    return False
"""


@pytest.mark.parametrize("output", in_turn(["stderr", "inherit", "discard"]))
def test_with_ever_so_few_descriptors_opening_fails_in_words_until_it_succeeds(output, start_program):
    program = start_program(
        HEAD
        + f"""
async def open_once():
    launcher = gibbs.LocalLauncher(output={output!r})
    async with gibbs.open_hub(Model, workers=2, launcher=launcher) as hub:
        return await hub.request("served")

async def main():
    say(await open_once())  # all that is imported late is imported now
    before = descriptors()
    for free in range(60):
        leave_free(free)
        try:
            outcome = await open_once()
        except gibbs.WorkerStartFailed as error:
            cause = error.__cause__
            outcome = error.reason, isinstance(cause, OSError) and errno.errorcode[cause.errno], str(error)
        leave_many()
        assert descriptors() == before, (free, before, descriptors())
        assert is_childless(), free
        say(outcome)
        if outcome == "served":
            break

run(main)
"""
    )
    assert program.read() == "served"
    failures = 0
    while (outcome := program.read()) != "served":
        reason, error, text = outcome
        assert (reason, error) == ("resources", "EMFILE"), text
        assert "no process could be made" in text
        failures += 1
    assert failures > 5
    assert program.end() == 0, program.words
    assert program.words == ""


@pytest.mark.cell(0)
def test_an_opening_that_the_limit_meets_half_way_leaves_no_worker_of_the_other_half(start_program):
    program = start_program(
        HEAD
        + """
async def main():
    for workers in (1, 6):
        async with gibbs.open_hub(Model, workers=workers) as hub:
            need = len(descriptors())
            pids = hub.statistics().pids
    before = descriptors()
    leave_free((need - len(before)) // 2)
    try:
        async with gibbs.open_hub(Model, workers=6):
            say("entered")
    except gibbs.WorkerStartFailed as error:
        say(error.reason, len(getattr(error, "__notes__", ())) > 0)
    leave_many()
    say(descriptors() == before, is_childless())

run(main)
"""
    )
    assert program.read() == ("resources", True)
    assert program.read() == (True, True)
    assert program.end() == 0, program.words


@pytest.mark.cell(1)
def test_with_some_workers_for_want_of_descriptors_the_hub_serves_and_says_what_is_amiss(start_program):
    program = start_program(
        HEAD
        + """
async def main():
    options = {"workers": 6, "restarts": gibbs.RestartPolicy(max_failures=1000)}
    async with gibbs.open_hub(Model, **options) as hub:
        need = len(descriptors())
    before = descriptors()
    leave_free((need - len(before)) * 2 // 3)
    async with gibbs.open_hub(Model, ready=1, **options) as hub:
        say([await hub.request(n) for n in range(5)], hub.health().ready, len(hub.health().reasons))
        leave_many()
        await hub.wait_ready()
        say(hub.health().reasons, len({*hub.statistics().pids}))
    say(descriptors() == before, is_childless())

run(main)
"""
    )
    assert program.read() == ([0, 1, 2, 3, 4], True, 1)
    assert program.read() == ((), 6)
    assert program.read() == (True, True)
    assert program.end() == 0, program.words
    assert "no process could be made" in program.words


def test_a_worker_that_cannot_be_replaced_for_want_of_descriptors_is_replaced_when_there_are_some(start_program):
    program = start_program(
        HEAD
        + """
import logging

class Heard(logging.Handler):
    failures = []
    def emit(self, record):
        if "no process could be made" in record.getMessage(): self.failures.append(record.getMessage())

async def main():
    logging.getLogger("gibbs").addHandler(Heard())
    failures = Heard.failures
    async with gibbs.open_hub(Model, workers=2, restarts=gibbs.RestartPolicy(max_failures=1000)) as hub:
        before = len(descriptors())
        say(hub.statistics().pids)
        for free in range(40):
            leave_free(free)  # those of the worker that dies will be free too
            failures.clear()
            try:
                await hub.method("die").request()
            except gibbs.WorkerCrashed as error:
                assert error.exit_code == 4
            while not failures and hub.statistics().seats["serving"] < 2:
                await anyio.sleep(0.002)
            said = bool(failures), [await hub.request(n) for n in range(3)], hub.health().ready, len(hub.health().reasons)
            leave_many()
            await hub.wait_ready()
            say(said)
            assert len(descriptors()) == before, (free, before, descriptors())
            if not said[0]:
                break
        say(hub.health().reasons, len({*hub.statistics().pids}))
    say(is_childless())

run(main)
"""
    )
    all_pids = program.read()
    failures = 0
    while program.read() == (True, [0, 1, 2], True, 1):
        failures += 1
    assert failures > 2
    assert program.read() == ((), 2)
    assert program.read() is True
    assert program.end() == 0, program.words
    all_gone(all_pids)


@pytest.mark.cell(2)
def test_a_hub_that_can_start_nobody_for_want_of_descriptors_says_so_and_answers_when_it_can(start_program):
    program = start_program(
        HEAD
        + """
async def main():
    async with gibbs.open_hub(Model, workers=1, restarts=gibbs.RestartPolicy(max_failures=1000)) as hub:
        leave_free(0)
        try:
            await hub.method("die").request()
        except gibbs.WorkerCrashed:
            pass
        while hub.statistics().restarts < 3:
            await anyio.sleep(0.002)
        async with anyio.create_task_group() as tg:
            @tg.start_soon
            async def ask():
                say(await hub.request("late, and answered"))
            while not hub.statistics().queued:
                await anyio.sleep(0.002)
            say(hub.health().ready, hub.health().reasons)
            leave_many()
    say(is_childless())

run(main)
"""
    )
    ready, reasons = program.read()
    assert not ready
    assert "1 of 1 workers are not ready" in reasons[0]
    assert program.read() == "late, and answered"
    assert program.read() is True
    assert program.end() == 0, program.words


@pytest.mark.cell(0)
def test_a_hub_that_gives_up_for_want_of_descriptors_says_why(start_program):
    program = start_program(
        HEAD
        + """
async def main():
    try:
        async with gibbs.open_hub(Model, workers=1, restarts=gibbs.RestartPolicy(max_failures=1)) as hub:
            leave_free(0)
            try:
                await hub.method("die").request()
            except gibbs.WorkerCrashed:
                pass
            await anyio.sleep_forever()
    except gibbs.RestartsExhausted as error:
        leave_many()
        say(error.__cause__.reason, errno.errorcode[error.__cause__.__cause__.errno], str(error))
    say(is_childless())

run(main)
"""
    )
    reason, error, text = program.read()
    assert (reason, error) == ("resources", "EMFILE")
    assert "no process could be made" in text
    assert program.read() is True
    assert program.end() == 0, program.words


@pytest.mark.cell(1)
def test_closing_needs_no_descriptor(start_program):
    program = start_program(
        HEAD
        + """
async def main():
    before = descriptors()
    async with gibbs.open_hub(Model, workers=2) as hub:
        pids = hub.statistics().pids
        leave_free(0)
        say(await hub.request(3))
        with anyio.move_on_after(0.01):
            while True: await hub.request(3)
    leave_many()
    say(descriptors() == before, is_childless())

run(main)
"""
    )
    assert program.read() == 3
    assert program.read() == (True, True)
    assert program.end() == 0, program.words


@pytest.mark.cell(2)
def test_a_program_without_memory_to_spare_gets_an_error_and_is_served_when_there_is_some(start_program):
    program = start_program(
        HEAD
        + """
async def open_once():
    async with gibbs.open_hub(Model, workers=2) as hub:
        return await hub.request("served")

def in_use():
    return int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()

async def main():
    say(await open_once())
    before = descriptors()
    async with gibbs.open_hub(Model, workers=2) as hub:
        resource.setrlimit(resource.RLIMIT_AS, (in_use() + (8 << 20), resource.RLIM_INFINITY))
        try:
            await hub.request(b"x" * (256 << 20))
        except MemoryError:
            say("MemoryError")
        say(await hub.request("small"))
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        say(len(await hub.request(b"x" * (16 << 20))))
    say(descriptors() == before, is_childless())

run(main)
"""
    )
    assert program.read() == "served"
    assert program.read() == "MemoryError"
    assert program.read() == "small"
    assert program.read() == 16 << 20
    assert program.read() == (True, True)
    assert program.end() == 0, program.words
