"""A Ctrl-C that comes while a task of the hub's own runs: between any two of its lines, on a loop that raises it right there."""

from __future__ import annotations

import signal

import pytest

# The signal is sent from within the task, in the line that `where` names.
PROGRAM = """
import signal
from gibbs._launch import output
from gibbs._parent import crew, link, worker

def interrupting(owner, name):
    original = getattr(owner, name)
    def interrupts(*args, **kwargs):
        setattr(owner, name, original)
        signal.raise_signal(signal.SIGINT)
        return original(*args, **kwargs)
    setattr(owner, name, interrupts)

class Model:
    def __call__(self, x):
        print("a line")
        return x
    def __init__(self):
        print("built")

async def main():
    async with gibbs.open_hub(Model, workers=2, launcher=gibbs.LocalLauncher(output="discard")) as hub:
        say(hub.statistics().pids)
        interrupting(*WHERE)
        await hub.request(3)
        await anyio.sleep_forever()

run(main)
"""

IN_A_TASK = {
    "a message is taken": "(link.Link, '_tell')",
    "a worker ends": "(worker.Worker, '_end')",
    "a seat is settled": "(crew.Crew, 'crashed')",
    "output is read": "(output.Output, '_pass_on')",
}


@pytest.mark.parametrize("moment", IN_A_TASK)
def test_it_ends_the_program_as_anywhere_else_and_leaves_nothing(moment, start_program, all_gone):
    source = PROGRAM.replace("WHERE", IN_A_TASK[moment])
    if moment in ("a worker ends", "a seat is settled"):
        source = source.replace("await hub.request(3)", "os.kill(hub.statistics().pids[0], signal.SIGKILL)")
    program = start_program(source)
    pids = program.read()
    _, err = program.end()
    assert program.process.returncode == -signal.SIGINT
    assert err.count("Traceback") - err.count("During handling of the above") == 1, err  # asyncio's own is of two parts
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert "Group" not in err
    all_gone(pids)


IN_A_CALLER = """
import signal
from gibbs._core.dispatch import Dispatcher

class Model:
    interruptible = True
    def __call__(self, x):
        if x < 0:
            print("begun", flush=True)
            time.sleep(600)
        return x

def interrupting(name):
    original = getattr(Dispatcher, name)
    def interrupts(*args, **how):
        setattr(Dispatcher, name, original)
        signal.raise_signal(signal.SIGINT)  # in the middle of a verb
        return original(*args, **how)
    setattr(Dispatcher, name, interrupts)

async def main():
    begun = anyio.Event()
    launcher = gibbs.LocalLauncher(output=lambda line, seat: begun.set())
    async with gibbs.open_hub(Model, workers=1, launcher=launcher, cancel_grace=20) as hub:
        interrupting("submit")
        try:
            await hub.request(1)
            await anyio.sleep(0)
        except KeyboardInterrupt:
            say("interrupted")
        say(await hub.request(2))
        interrupting("withdraw")
        try:
            async with anyio.create_task_group() as tg:
                tg.start_soon(hub.request, -1)
                await begun.wait()
                tg.cancel_scope.cancel()
            await anyio.sleep(0)
        except* KeyboardInterrupt:
            say("interrupted")
        say(await hub.request(3))
        await hub.drain()
        say(hub.statistics().running)

run(main)
"""


@pytest.mark.parametrize("anyio_backend", [("trio", {})], ids=["trio"], scope="module")
def test_it_never_lands_between_two_lines_of_the_core_so_who_catches_it_can_go_on(start_program):
    program = start_program(IN_A_CALLER)
    assert [program.read() for _ in range(5)] == ["interrupted", 2, "interrupted", 3, 0]
    assert program.end() == ("", "")
