"""The data of the sabotages do not rot: texts and tests are there, and what comes of an edit is still a program, and another one."""

from __future__ import annotations

import ast
import functools
import sys
from pathlib import Path

import pytest

from tests.sabotage.__main__ import Ran, commit, verdict
from tests.sabotage.arenas import OF_ARENAS
from tests.sabotage.more import MORE
from tests.sabotage.parts import DISPATCH, Edit, Sabotage
from tests.sabotage.sabotages import TWENTY

ROOT = Path(__file__).parents[2]
ALL = pytest.mark.parametrize("sabotage", [*TWENTY, *MORE, *OF_ARENAS], ids=lambda sabotage: sabotage.name)


def test_there_are_these_twenty():
    assert [sabotage.name for sabotage in TWENTY] == [
        "skip the reap",
        "kill the process but not its group",
        "drop the shield at close",
        "no lifeline",
        "reply with the neighbour's id",
        "do not check the id of a reply",
        "mark *begun* after unpickling",
        "put a returned ticket at the tail",
        "send a returned ticket a third time",
        "leave queued tickets unsettled at close",
        "forget a cancelled ticket in the queue",
        "assign to a seat that is interrupting",
        "leave `running` set after a call",
        "interrupt without the id check",
        "count grace from the cancel",
        "count a planned exit as a failure",
        "decode a result in the link's task",
        "let `KeyboardInterrupt` inside a group through",
        "map a memfd without seals",
        "wait for end-of-stream after an exit",
    ]


def test_no_two_have_the_same_name():
    names = [sabotage.name for sabotage in (*TWENTY, *MORE, *OF_ARENAS)]
    assert len(names) == len({*names})


@ALL
def test_each_edit_finds_its_place_once_and_makes_another_program(sabotage):
    texts = {edit.file: (ROOT / edit.file).read_text() for edit in sabotage.edits}
    assert texts
    for edit in sabotage.edits:
        before = texts[edit.file]
        assert before.count(edit.old) == 1, f"{edit.file} has this {before.count(edit.old)} times: {edit.old!r}"
        texts[edit.file] = before.replace(edit.old, edit.new)
        assert edit.file.startswith("gibbs/"), "a sabotage of the tests would prove nothing"
        assert ast.dump(ast.parse(before)) != ast.dump(ast.parse(texts[edit.file])), "only comments differ"
    for file, text in texts.items():
        compile(text, file, "exec")


@functools.cache
def functions_of(file):
    tree = ast.parse((ROOT / file).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@ALL
def test_each_test_that_must_notice_exists(sabotage):
    assert sabotage.tests
    for test in sabotage.tests:
        file, _, name = test.partition("::")
        assert name.partition("[")[0] in functions_of(file), test


@ALL
def test_each_says_in_one_line_why_it_matters(sabotage):
    assert sabotage.why
    assert "\n" not in sabotage.why


# ----------------------------------------------------------------------------------------------------------- the driver


@pytest.mark.parametrize(
    ("status", "output", "noticed"),
    [
        (0, "1 passed", False),
        (1, "FAILED tests/a.py::test_b - AssertionError: assert 1 == 2\n1 failed", True),
        (1, "ERROR tests/a.py::test_b - Failed: left behind: process 1 [Z]\n1 passed, 1 error", True),
        (1, "+++++++++++++++++ Timeout +++++++++++++++++", True),
        (None, "", True),
        (-6, "Fatal Python error: Aborted", True),
        (1, "FAILED tests/a.py::test_b - NameError: name 'x' is not defined\n1 failed", False),
        (1, "FAILED tests/a.py::test_b - ImportError: no such thing\n1 failed", False),
        (1, "Traceback (most recent call last):", False),
        (1, "ERROR    gibbs:worker.py:1 what a log says", False),
        (2, "ERROR collecting tests/a.py\nERROR tests/a.py - SyntaxError: invalid syntax", False),
        (4, "ERROR: not found: tests/a.py::test_b", False),
        (5, "1 deselected", False),
        (-9, "", False),
    ],
)
def test_a_test_has_noticed_if_it_failed_and_not_if_it_could_not_be_run(status, output, noticed):
    assert verdict(Ran(status, output))[0] is noticed


LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the driver reads /proc")
QUIET = ("tests/core/test_dispatch.py::test_a_request_is_not_answered_twice",)
FALSE = {
    "harmless": (Edit(DISPATCH, "No await, no clock, no I/O", "Nothing"), "it passed"),
    "out of date": (Edit(DISPATCH, "what never was there", ""), "does not have this once"),
    "deadly": (
        Edit("gibbs/_worker/service.py", "if kind not in REQUESTS:", "if kind in REQUESTS:"),
        "nothing works any more",
    ),
}


@LINUX
@pytest.mark.slow
@pytest.mark.parametrize(("edit", "why"), FALSE.values(), ids=FALSE)
def test_a_sabotage_that_proves_nothing_is_not_said_to_be_noticed(edit, why, capfd):
    assert not commit(Sabotage("a false one", "", (edit,), QUIET), "asyncio", talkative=False)
    said = capfd.readouterr().out
    assert said.startswith("NOT NOTICED  a false one")
    assert why in said
