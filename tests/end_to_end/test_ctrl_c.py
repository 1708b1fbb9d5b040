"""A Ctrl-C that comes while a task of the hub's own runs: between any two of its lines, on a loop that raises it right there."""

from __future__ import annotations

import signal

import pytest

# The signal is sent from within the task, in the line that `where` names.
PROGRAM = """
import signal
from gibbs._parent import crew, worker, output

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
    "a message is taken": "(worker.Worker, '_take')",
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
