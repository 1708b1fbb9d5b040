"""The public names: one table, one block for type checkers, one `__all__`, and all three say the same."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path

import pytest

gibbs = pytest.importorskip("gibbs", reason="not written yet", exc_type=ImportError)
SOURCE = Path(gibbs.__file__ or "gibbs")
TREE = ast.parse(SOURCE.read_text()) if SOURCE.is_file() else ast.Module([], [])
PUBLIC_MODULES = [
    "gibbs",
    "gibbs.abc",
    "gibbs.events",
    "gibbs.history",
    "gibbs.top",
    "gibbs.worker",
    "gibbs.testing",
    "gibbs.testing.strategies",
    "gibbs.testing.fixtures",
    "gibbs.contrib.opentelemetry",
    "gibbs.contrib.prometheus",
    "gibbs.contrib.ray",
    "gibbs.contrib.starlette",
]


def checkers_block() -> dict[str, str]:
    """name → module, from `if TYPE_CHECKING: from ._hub import Hub as Hub`."""
    found = {}
    for block in TREE.body:
        if (
            isinstance(block, ast.If)
            and "TYPE_CHECKING" in ast.unparse(block.test)
            and "not" not in ast.unparse(block.test)
        ):
            for node in ast.walk(block):
                if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("gibbs")):
                    module = "gibbs." + node.module if node.level else node.module
                    for alias in node.names:
                        assert alias.asname == alias.name, (
                            f"{alias.name}: only `{alias.name} as {alias.name}` is a re-export"
                        )
                        found[alias.name] = module
    return found


def table() -> dict[str, str]:
    """name → module, from the dictionary that `__getattr__` looks into."""
    for node in TREE.body:
        value = getattr(node, "value", None)
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(value, ast.Dict):
            found = ast.literal_eval(value)
            return {
                name: importlib.util.resolve_name(module, "gibbs") if module[0] == "." else module
                for name, module in found.items()
            }
    return {}


PUBLIC = [name for name in getattr(gibbs, "__all__", []) if not name.startswith("__")]


def full(module: str) -> str:
    return module if module.startswith("gibbs") else f"gibbs.{module}"


def test_there_is_something_to_look_at():
    assert PUBLIC
    assert checkers_block()
    assert table()


def test_the_table_the_block_and_all_agree():
    assert {name: full(module) for name, module in table().items()} == checkers_block()
    assert set(PUBLIC) == set(table())
    assert len(gibbs.__all__) == len(set(gibbs.__all__))


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_can_be_had_and_is_the_one_of_its_module(name):
    assert getattr(gibbs, name) is getattr(importlib.import_module(full(table()[name])), name)
    assert name in dir(gibbs)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        gibbs.no_such_name


def everything_public() -> list:
    found = {}
    for name in PUBLIC_MODULES:
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
            continue
        for attribute in getattr(module, "__all__", []):
            value = getattr(module, attribute)
            if not attribute.startswith("__") and (inspect.isclass(value) or callable(value)):
                found.setdefault(id(value), pytest.param(name, attribute, value, id=f"{name}.{attribute}"))
    return [*found.values()]


@pytest.mark.parametrize(("module", "name", "value"), everything_public())
def test_a_public_thing_says_where_users_import_it_from(module, name, value):
    if inspect.isclass(value) or inspect.isfunction(value):
        assert value.__module__ in PUBLIC_MODULES, f"{module}.{name} says it lives in {value.__module__}"


@pytest.mark.parametrize(("module", "name", "value"), everything_public())
def test_a_public_thing_has_a_docstring(module, name, value):
    assert vars(value).get("__doc__") if inspect.isclass(value) else inspect.getdoc(value), f"{module}.{name}"
    if inspect.isclass(value):
        members = {
            key: getattr(member, "__func__", member) for key, member in vars(value).items() if not key.startswith("_")
        }
        bare = [
            key
            for key, member in members.items()
            if isinstance(member, property) or inspect.isfunction(member)
            if not inspect.getdoc(member)
        ]
        assert not bare, f"{module}.{name}: no docstring on {', '.join(bare)}"
