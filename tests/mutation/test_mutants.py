"""The faults that are put into the core are those that we think of, and what is explained still exists."""

import ast

import pytest

from tests.mutation.__main__ import ROOT, TARGETS
from tests.mutation.mutants import mutants
from tests.mutation.survivors import EXPLAINED


def faults(line):
    """What becomes of one line in a function: what is after the arrow."""
    source = f"def f():\n    while 1:\n        {line}\n"
    made = [mutant.name.partition("  →  ") for mutant in mutants(source)]
    return [after for before, _, after in made if not before.startswith("f: while")]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("x += 1", ["(removed)", "x -= 1", "x += 2", "x += 0"]),
        ("x: int = y", ["(removed)"]),
        ("del x", ["(removed)"]),
        ("return x", ["(removed)", "return None"]),
        ("return None", ["(removed)"]),
        ("raise E", ["(removed)"]),
        ("break", ["continue"]),
        ("continue", ["break"]),
        ("if x:\n            pass", ["if not x:"]),
        ("if not x:\n            pass", ["if x:"]),
        ("if a < b:\n            pass", ["if a >= b:", "if a <= b:"]),
        ("if a is b:\n            pass", ["if a is not b:"]),
        ("x(a and b)", ["(removed)", "x(a or b)", "x(b)", "x(a)"]),
        ("x(a if b else c)", ["(removed)", "x(a)", "x(c)", "x(a if not b else c)"]),
        ("x(a + b)", ["(removed)", "x(a - b)"]),
        ("x(-a)", ["(removed)", "x(a)"]),
        ("x(True)", ["(removed)", "x(False)"]),
        ("x('a')", ["(removed)", "x('a?')"]),
        ("x(f'a{b}')", ["(removed)"]),
        ("x(min(a, b))", ["(removed)", "x(max(a, b))"]),
        ("x(reversed(a))", ["(removed)", "x(a)"]),
        ("x({a: b, c: d})", ["(removed)", "x({c: d})", "x({a: b})"]),
        ("'a docstring'", []),
        ("x: int", []),
    ],
)
def test_a_line_becomes(line, expected):
    assert faults(line) == expected


@pytest.mark.slow
@pytest.mark.timeout(300)  # a large module has 2,000 of them, each as long as itself
@pytest.mark.parametrize("target", TARGETS)
def test_each_mutant_has_a_name_of_its_own_is_another_program_and_can_be_read(target):
    source = (ROOT / "gibbs" / target).read_text()
    made = mutants(source)
    assert len({mutant.name for mutant in made}) == len(made)
    same = ast.unparse(ast.parse(source))
    for mutant in made:
        assert mutant.source != same
        ast.parse(mutant.source)


@pytest.mark.timeout(300)
def test_what_is_explained_is_a_mutant_and_the_reason_is_in_words():
    for target, reasons in EXPLAINED.items():
        names = {mutant.name for mutant in mutants((ROOT / "gibbs" / target).read_text())}
        assert reasons.keys() <= names, f"{target}: no mutants any more"
        assert all(len(reason.split()) > 4 for reason in reasons.values())
