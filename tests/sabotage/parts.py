"""What both lists of sabotages are made of: an edit, a sabotage, and where things are."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Edit:
    """One change: in this file the old text, which is there once, becomes the new one."""

    file: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Sabotage:
    """A promise that is broken on purpose.

    `tests` are node ids, with or without parameters; every one of them must notice. `timeout` is how many seconds each may take: a
    hang is noticed too, and some of these hang.
    """

    name: str
    why: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]
    timeout: int = 30


CHILD = "gibbs/_launch/child.py"
CREW = "gibbs/_parent/crew.py"
DESK = "gibbs/_desk.py"
OPENER = "gibbs/_opener.py"
DISPATCH = "gibbs/_core/dispatch.py"
PLACEMENT = "gibbs/_core/placement.py"
HOME = "gibbs/_parent/home.py"
QUEUE = "gibbs/_core/queue.py"
LINES = "gibbs/_core/lines.py"
SEAT = "gibbs/_core/seat.py"
INBOX = "gibbs/_worker/inbox.py"
INQUIRY = "gibbs/_launch/inquiry.py"
INTERRUPT = "gibbs/_worker/interrupt.py"
LIFELINE = "gibbs/_worker/lifeline.py"
LINK = "gibbs/_parent/link.py"
LINUX = "gibbs/_launch/watch_linux.py"
READABLE = "gibbs/_parent/readable.py"
SERVE = "gibbs/_worker/serve.py"
SERVICE = "gibbs/_worker/service.py"
STANDSTILL = "gibbs/_launch/standstill.py"
SUPERVISOR = "gibbs/_parent/supervisor.py"
TURNS = "gibbs/_parent/turns.py"
WORKER = "gibbs/_parent/worker.py"

AHEAD_OF_TURN = "tests/hub/test_sent_ahead.py::"
CANCELLING = "tests/hub/test_cancelling.py::"
CONTRACT = "tests/end_to_end/test_contract.py::"
CORE = "tests/core/test_dispatch.py::"
CRASHES = "tests/end_to_end/test_crashes.py::"
DEATHS = "tests/hub/test_deaths.py::"
ENDING = "tests/hub/test_ending.py::"
HOSTILE = "tests/end_to_end/test_hostile_models.py::"
HUB_CONTRACT = "tests/hub/test_contract.py::"
OPENING = "tests/end_to_end/test_opening.py::"
ORPHANS = "tests/end_to_end/test_orphans.py::"
PROPAGATORS = "tests/hub/test_propagators.py::"
REAL_AHEAD_OF_TURN = "tests/end_to_end/test_sent_ahead.py::"
REAL_CANCELLING = "tests/end_to_end/test_cancelling.py::"
SECOND_LOOK = "tests/end_to_end/test_second_look.py::"
STARTING = "tests/hub/test_starting.py::"
STACKS = "tests/end_to_end/test_stacks.py::"
TRACES = "tests/hub/test_traces.py::"
TRUST = "tests/end_to_end/test_trust.py::"
