"""What a row is, and what the rows of one kind have in common: all deaths, all hangs, all lies, all exceptions.

A cell is what must be seen when the fault comes in that phase of a worker's life, or in words why it makes no sense there.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.faults.outcomes import (
    Answer,
    CallerGivesUp,
    CallerLeaves,
    Closes,
    Crash,
    Itself,
    NextCall,
    Nobody,
    Outcome,
    Remote,
    StartFails,
)

PHASES = (
    "starting",  # in the model's __init__
    "idle",  # a thread of the model, while the main one reads the stream
    "receiving",  # in the unpickling of an argument
    "half_received",  # a thread of the model, while a large message is half here, and the hub's loop stands still
    "busy",  # in the call
    "leased",  # in a call on a lease, behind which another waits
    "tracked",  # in a call that has reported, and whose caller has heard it
    "batched",  # in a call that is a batch
    "yielding",  # in the code of a generator, behind an item that its reader has
    "replying",  # in the pickling of the result
    "half_replied",  # a thread of the model, while a large result is half gone, and the hub's loop stands still
    "freeing",  # in the __del__ of an argument, between the call and its reply
    "cancelled",  # in the model's handler of gibbs.Interrupted
    "awaited",  # the same, with a caller who waits until the worker is free or gone (abandon_on_cancel=False)
    "closing",  # in an exit handler, when the worker was asked to leave
)
CHANGING = (  # the hub changes
    "standing_by",  # a thread of a spare's model, while the main one reads the stream
    "taking_over",  # in the first call of a spare that takes the place of one that died
    "reloading",  # in the __init__ of the first model of a reload
    "checked",  # in the check of a reload
    "reloaded",  # in a call of the worker before, while the first of a reload starts
    "recycling",  # in the __init__ of the model that is to take the place of one that is well
    "recycled",  # in a call of that one, while the other starts
    "dismissed",  # in the call of a worker that goes when that is over
)

Cells = dict[str, Outcome | str]


@dataclass(frozen=True)
class Row:
    """A fault. `outside`: what the test does to the process meanwhile. `endless`: the action does not come back; `seen` then makes the
    condition by which the process is seen to be at it.
    """

    name: str
    cells: Cells
    action: str = ""
    outside: Callable[[int, Path], None] | None = None
    endless: bool = False
    seen: Callable[[int, Path], Callable[[], object]] | None = None
    returns: bool = False  # the fault is what the call returns
    twice: bool = False  # two processes run the call, which is the fault

    def __post_init__(self) -> None:
        # Where a row does not say otherwise, six phases are as their neighbours, and a change of the hub changes nothing.
        self.cells.setdefault("leased", self.cells["busy"])
        self.cells.setdefault("tracked", self.cells["busy"])
        self.cells.setdefault("batched", self.cells["busy"])
        self.cells.setdefault("yielding", self.cells["busy"])
        self.cells.setdefault("freeing", self.cells["replying"])
        self.cells.setdefault("awaited", self.cells["cancelled"])
        self.cells.setdefault("standing_by", self.cells["idle"])
        for phase in ("reloading", "checked", "recycling"):
            self.cells.setdefault(phase, self.cells["starting"])
        for phase in ("taking_over", "reloaded", "recycled", "dismissed"):
            self.cells.setdefault(phase, self.cells["busy"])


# --------------------------------------------------------------------------------------------------------------- families


def harmless(**how: object) -> Cells:
    answer, leaves = Answer(**how), CallerLeaves(**how)
    return {
        "starting": answer,
        "idle": Nobody(**how),
        "receiving": answer,
        "half_received": answer,
        "busy": answer,
        "replying": answer,
        "half_replied": answer,
        "cancelled": leaves,
        "closing": Closes(),
    }


def dies(**how: object) -> Cells:
    crash = Crash(**how)
    return {
        "starting": StartFails(reason="exited", **how),
        "idle": Nobody("replaced"),
        "receiving": crash,
        "half_received": Answer("replaced"),  # it had not begun, and goes to the next worker
        "busy": crash,
        "replying": crash,
        "half_replied": crash,
        "cancelled": CallerLeaves("replaced"),
        "closing": Closes(by="death"),
    }


def lies(**also: Outcome | str) -> Cells:
    """It says what is no message, or makes no sense: the hub kills it."""
    crash = Crash(signal="SIGKILL", cause="protocol")
    return {
        **dies(signal="SIGKILL"),
        "starting": StartFails(reason="exited", signal="SIGKILL", said="protocol"),
        **dict.fromkeys(("receiving", "busy", "replying"), crash),
        "closing": Closes(exits="anyhow"),  # killed, if that is quicker
        "half_replied": "what is said in the middle of a reply is part of it: a worker is trusted with what it answers",
    } | also


def hangs(*, only_its_thread: bool, interruptible: bool = False) -> Cells:
    """It does not come back. `only_its_thread`: others of the same process run on."""
    gives_up, leaves = CallerGivesUp("replaced"), CallerLeaves("replaced", by_grace=True)
    interrupted = CallerGivesUp("kept") if interruptible else gives_up
    beside = Answer() if only_its_thread else gives_up
    return {
        "starting": StartFails(reason="timeout", said="start_timeout", exits="killed"),
        "idle": Nobody() if only_its_thread else NextCall(ends=gives_up),
        "receiving": interrupted,
        "half_received": beside,
        "busy": interrupted,
        "replying": gives_up,  # the call is over: what is pickled is not interrupted
        "half_replied": beside,
        "cancelled": leaves,
        "closing": Closes(by="deadline"),
    }


def loses_its_stream(idle: Outcome, half_received: Outcome, half_replied: Outcome) -> Cells:
    """It cannot speak any more, and ends itself when it sees that; the hub ends it if it does not."""
    return {**dies(signal="SIGKILL"), "closing": Closes(exits="anyhow")} | {
        "idle": idle,
        "half_received": half_received,
        "half_replied": half_replied,
    }


IN_ITS_THREAD = "an exception in a thread of the model ends that thread: idle shows it"


def raises(type_name: str, call: Outcome, **also: Outcome | str) -> Cells:
    """An exception: `call` is what becomes of one in the call; one of the arguments or of the result always arrives in words."""
    cause = call.type if isinstance(call, Itself) else type_name
    return {
        "starting": StartFails(reason="model", cause=cause),
        "idle": Nobody(),
        "receiving": Remote(type_name=type_name, stage="arguments"),
        "half_received": IN_ITS_THREAD,
        "busy": call,
        "replying": Remote(type_name=type_name, stage="result"),
        "half_replied": IN_ITS_THREAD,
        "freeing": Answer(),  # the interpreter drops what a __del__ raises
        "cancelled": CallerLeaves(),
        "closing": Closes(),
    } | also


def itself(kind: type[BaseException], said: str = "", **also: Outcome | str) -> Cells:
    return raises(kind.__name__, Itself(type=kind, said=said), **also)


def words(type_name: str, said: str = "", **also: Outcome | str) -> Cells:
    return raises(type_name, Remote(type_name=type_name, said=said), **also)


def result(outcome: Outcome) -> Cells:
    return {
        **dict.fromkeys((*PHASES, *CHANGING), "the fault is the result of a call: replying shows it"),
        "replying": outcome,
    }


# ----------------------------------------------------------------------------------------------------------- from outside


def kill(pid: int, folder: Path) -> None:
    os.kill(pid, signal.SIGKILL)


def stop(pid: int, folder: Path) -> None:
    with suppress(ProcessLookupError):  # the hub may have killed it before: its time to start, or to leave, is short
        os.kill(pid, signal.SIGSTOP)
    while state_of(pid) not in "TZX":
        time.sleep(0.001)


def stop_and_continue(pid: int, folder: Path) -> None:
    stop(pid, folder)
    os.kill(pid, signal.SIGCONT)
    (folder / "go on").touch()


def terminate(pid: int, folder: Path) -> None:
    os.kill(pid, signal.SIGTERM)
    (folder / "go on").touch()


def interrupt(pid: int, folder: Path) -> None:
    os.kill(pid, signal.SIGINT)


# ------------------------------------------------------------------------------------------------ seen from outside


def stops(pid: int, folder: Path) -> Callable[[], object]:
    return lambda: state_of(pid) in "TZX"  # the hub may have killed it before anybody looked


def spins(pid: int, folder: Path) -> Callable[[], object]:
    """Its time grows while it does nothing else: it is in C code."""
    before = cpu_time(pid)
    return lambda: state_of(pid) in "ZX" or cpu_time(pid) > before + 2


def is_at_it(pid: int, folder: Path) -> Callable[[], object]:
    return (folder / "at it").exists


def is_another_program(pid: int, folder: Path) -> Callable[[], object]:
    return lambda: state_of(pid) in "ZX" or "time.sleep" in told(pid, "cmdline")


def cpu_time(pid: int) -> int:
    """In ticks of the kernel's."""
    fields = told(pid, "stat").rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12]) if fields else 0


def state_of(pid: int) -> str:
    """The kernel's letter for it; of one that is gone as of one that nobody has reaped yet."""
    fields = told(pid, "stat").rpartition(")")[2].split()
    return fields[0] if fields else "Z"


def told(pid: int, what: str) -> str:
    try:
        return Path(f"/proc/{pid}/{what}").read_text()
    except OSError:
        return ""
