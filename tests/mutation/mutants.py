"""All small faults that can be put into a module: what a tired programmer types, or forgets to.

Knows Python's syntax and nothing of gibbs. A mutant is named by where it is and by its line before and after, so that a name
outlives changes elsewhere in the module.

Our own and not mutmut's or cosmic-ray's, because of what the core is made of: most of its lines are bookkeeping without a
value, tables, and properties. mutmut 3.8 removes no statement and looks neither into decorated functions nor outside of
functions; cosmic-ray 8.7 removes no statement either. (Removed statements and table rows are a third of what is made here.)
"""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

NEGATED = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.GtE,
    ast.GtE: ast.Lt,
    ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,  # codespell:ignore notin
    ast.NotIn: ast.In,  # codespell:ignore notin
}
MOVED = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}  # at the border
ARITHMETIC = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult}
OTHER_FUNCTION = {"min": "max", "max": "min", "any": "all", "all": "any"}
TRANSPARENT = {"reversed", "sorted", "list", "tuple", "bytes"}  # without one: another order, or no copy
REMOVED = (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Delete, ast.Raise, ast.Return, ast.Expr)


class Mutant(NamedTuple):
    """A module with one fault."""

    name: str
    source: str


@cache
def mutants(source: str) -> list[Mutant]:
    """Every mutant of a module's text, each with a name of its own."""
    tree = ast.parse(source)
    unchanged = ast.unparse(tree)
    found, names = [], Counter()
    for place, statement, node, field, index in _spots(tree):
        old = getattr(node, field) if index is None else getattr(node, field)[index]
        before = _line(statement)
        for new in _faults(old, node, field):
            _put(node, field, index, new)
            after = "(removed)" if isinstance(new, ast.Pass) else _line(new if old is statement else statement)
            text = ast.unparse(tree)
            _put(node, field, index, old)
            if text == unchanged:
                continue
            name = f"{place}: {_change(before, after)}"
            names[name] += 1
            found.append(Mutant(name if names[name] == 1 else f"{name}  ({names[name]})", text))
    return found


def _change(before: str, after: str) -> str:
    """What was, and what is instead; of long lines the surroundings of the difference."""
    same = next((at for at, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), len(before))
    start = max(0, same - 50) if len(before) > 120 else 0
    cut = "…" if start else ""
    return "  →  ".join(
        cut + (line[start:][:109] + "…" if len(line) - start > 110 else line[start:]) for line in (before, after)
    )


def _put(node: ast.AST, field: str, index: int | None, value: object) -> None:
    if index is None:
        setattr(node, field, value)
    else:
        getattr(node, field)[index] = value


def _line(statement: ast.AST) -> str:
    """A statement as one line; of a compound one, its head."""
    shown = copy.copy(statement)
    for block in ("body", "orelse", "finalbody", "handlers"):
        if isinstance(getattr(shown, block, None), list):
            setattr(shown, block, [ast.Pass()] if block == "body" else [])
    text = ast.unparse(shown)
    return " ".join(text.removesuffix("pass").split())


def _spots(tree: ast.Module) -> Iterator[tuple[str, ast.AST, ast.AST, str, int | None]]:
    """Where something could be else: the place's name, its statement, and how to reach it from its parent."""

    def walk(place: str, statement: ast.AST, node: ast.AST) -> Iterator[tuple[str, ast.AST, ast.AST, str, int | None]]:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            place = f"{place}.{node.name}".lstrip(".")
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns", "decorator_list", "ctx", "bases") or isinstance(node, ast.JoinedStr):
                continue
            if not isinstance(value, ast.AST | list):
                continue
            children = enumerate(value) if isinstance(value, list) else [(None, value)]
            for index, child in children:
                if not isinstance(child, ast.AST) or _does_nothing(child):
                    continue
                own = child if isinstance(child, ast.stmt) else statement
                yield place or "module", own, node, field, index
                yield from walk(place, own, child)

    yield from walk("", tree, tree)


def _does_nothing(node: ast.AST) -> bool:
    """A docstring; `__slots__`, which saves memory; a field or a variable that is only declared."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    if isinstance(node, ast.Assign):
        return ast.unparse(node.targets[0]) == "__slots__"
    return isinstance(node, ast.AnnAssign) and node.value is None


def _faults(old: ast.AST, parent: ast.AST, field: str) -> Iterator[ast.AST]:
    """What could stand there instead."""
    if isinstance(old, REMOVED):
        yield ast.Pass()
    if isinstance(old, ast.Return) and old.value is not None and ast.unparse(old.value) != "None":
        yield ast.Return(ast.Constant(None))
    if isinstance(old, ast.Break):
        yield ast.Continue()
    if isinstance(old, ast.Continue):
        yield ast.Break()
    if isinstance(old, ast.Compare):
        for table in (NEGATED, MOVED):
            for number, operator in enumerate(old.ops):
                if type(operator) in table:
                    new = copy.copy(old)
                    new.ops = [*old.ops]
                    new.ops[number] = table[type(operator)]()
                    yield new
    elif field == "test" and not (isinstance(old, ast.UnaryOp) and isinstance(old.op, ast.Not)):
        yield ast.UnaryOp(ast.Not(), old)
    if isinstance(old, ast.UnaryOp) and isinstance(old.op, ast.Not | ast.USub):
        yield old.operand
    if isinstance(old, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(old.op, ast.And) else ast.And(), old.values)
        for number in range(len(old.values)):
            rest = [value for other, value in enumerate(old.values) if other != number]
            yield rest[0] if len(rest) == 1 else ast.BoolOp(old.op, rest)
    if isinstance(old, ast.IfExp):
        yield old.body
        yield old.orelse
    if isinstance(old, ast.BinOp) and type(old.op) in ARITHMETIC:
        yield ast.BinOp(old.left, ARITHMETIC[type(old.op)](), old.right)
    if isinstance(old, ast.AugAssign) and type(old.op) in ARITHMETIC:
        yield ast.AugAssign(old.target, ARITHMETIC[type(old.op)](), old.value)
    if isinstance(old, ast.Constant):
        yield from _other_constants(old.value)
    if isinstance(old, ast.Call) and isinstance(old.func, ast.Name):
        if old.func.id in OTHER_FUNCTION:
            yield ast.Call(ast.Name(OTHER_FUNCTION[old.func.id], ast.Load()), old.args, old.keywords)
        if old.func.id in TRANSPARENT and old.args:
            yield old.args[0]
    if isinstance(old, ast.Dict):
        for number in range(len(old.keys)):
            keep = [other for other in range(len(old.keys)) if other != number]
            yield ast.Dict([old.keys[other] for other in keep], [old.values[other] for other in keep])


def _other_constants(value: object) -> Iterator[ast.Constant]:
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int | float):
        yield ast.Constant(value + 1)
        yield ast.Constant(value - 1)
    elif isinstance(value, str):
        yield ast.Constant(value + "?")
    elif isinstance(value, bytes) and value:
        yield ast.Constant(value + b"?")
