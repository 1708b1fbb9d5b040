"""design.md §3: who may import whom, and who may wait. Read from the sources, also what stands under TYPE_CHECKING."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

GIBBS = Path(__file__).parents[2] / "gibbs"

# Room → the rooms whose names it may import, besides its own. "gibbs" is the public package itself.
MAY_IMPORT: dict[str, set[str]] = {
    "_errors": {"_records"},
    "events": {"_errors", "_records"},
    "history": {"events"},
    "_records": set(),
    "_model": set(),
    "_batched": set(),
    "abc": {"_records"},
    "_wire": set(),
    "_core": set(),
    "_worker": {"_wire", "_model", "_batched"},
    "worker": {"_worker", "_wire", "_model", "_batched"},  # the door
    "_share": {"_wire"},
    "dial": {"_launch"},  # a door too, for launchers
    "_factory": {"_batched", "_model"},
    "_options": {"_batched", "_core", "abc", "events", "_model", "_wire"},
    "_parent": {"_core", "_wire", "abc", "events", "_records", "_errors", "_options"},
    "_launch": {"_parent", "_core", "_wire", "abc", "_records"},
    "_context": {"_options", "_wire", "abc"},
    "_opener": {"_core", "_errors", "_options", "_wire"},
    "_desk": {"_context", "_opener", "_parent", "_core", "_wire", "_errors", "_options"},
    "_job": {"_desk", "_core", "_options", "_wire"},
    "_stream": {"_desk", "_core", "_options", "_wire"},
    "_map": {"_desk", "_core", "_options", "_wire"},
    "_lease": {"_desk", "_core", "_errors", "_options", "_parent"},
    "_calls": {"_desk", "_job", "_lease", "_map", "_options", "_stream"},
    "_hub": {
        "_calls",
        "_context",
        "_desk",
        "_launch",
        "_options",
        "_parent",
        "_core",
        "_wire",
        "_model",
        "abc",
        "events",
        "_records",
        "_errors",
        "_factory",
    },
    "gibbs": {
        "_hub",
        "_calls",
        "_batched",
        "_core",
        "_job",
        "_launch",
        "_map",
        "_errors",
        "_records",
        "_model",
        "_options",
        "_share",
        "_stream",
        "abc",
    },  # names, lazily
    "testing": {
        "gibbs",
        "abc",
        "events",
        "_batched",
        "_model",
        "_wire",
        "_worker",
    },  # speaks the wire; its threads are workers
    # As a user would; and for a launcher that stands on what every launcher stands on: dialling back, the worker's door.
    "contrib": {"gibbs", "abc", "events", "testing", "top", "_errors", "_launch", "_parent", "_wire", "worker"},
    "top": {"gibbs", "history"},
    "_replay": {"_batched", "_wire", "_worker"},  # does what a worker does
    "__main__": {
        "gibbs",
        "_launch",
        "_parent",
        "_replay",
        "_wire",
        "top",
    },  # as a user would; and what the platform offers
}
MAY_WAIT = {
    "_launch",
    "_parent",
    "_hub",
    "_desk",
    "_job",
    "_lease",
    "_map",
    "_stream",
    "_calls",
    "testing",
    "contrib",
    "top",
    "__main__",
}
WAITING = (ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith, ast.Await)

MODULES = {
    ".".join(["gibbs", *path.relative_to(GIBBS).with_suffix("").parts]).removesuffix(".__init__"): path
    for path in sorted(GIBBS.rglob("*.py"))
}


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else "gibbs"


def imports(module: str, tree: ast.AST) -> set[str]:
    """The modules of ours that a module imports, wherever in it the import stands."""
    package = module.split(".") if MODULES[module].name == "__init__.py" else module.split(".")[:-1]
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            found.update(name if (name := f"{base}.{alias.name}") in MODULES else base for alias in node.names)
    return {name for name in found if name.split(".")[0] == "gibbs"}


TREES = {module: ast.parse(path.read_text(), str(path)) for module, path in MODULES.items()}


@pytest.mark.parametrize("module", MODULES)
def test_a_room_imports_only_what_it_may(module):
    allowed = MAY_IMPORT[room(module)] | {room(module)}
    wrong = {name for name in imports(module, TREES[module]) if room(name) not in allowed}
    assert not wrong, f"{module} (may import: {', '.join(sorted(allowed))}) imports {', '.join(sorted(wrong))}"


def without_types(tree: ast.Module) -> ast.Module:
    """The module as it runs. Two classes of one room may name each other in annotations: a ticket its seat, a seat its tickets."""
    body = [node for node in tree.body if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")]
    return ast.Module(body, [])


def acyclic(graph: dict[str, set[str]]) -> None:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" ← ".join(error.args[1]), pytrace=False)


def test_no_two_modules_import_each_other():
    acyclic({module: imports(module, without_types(tree)) - {module} for module, tree in TREES.items()})


def test_no_two_rooms_know_each_other_not_even_for_types():
    graph: dict[str, set[str]] = {}
    for module, tree in TREES.items():
        graph.setdefault(room(module), set()).update({room(name) for name in imports(module, tree)} - {room(module)})
    acyclic(graph)


@pytest.mark.parametrize("module", [module for module in MODULES if room(module) not in MAY_WAIT])
def test_only_the_rooms_that_act_may_wait(module):
    for node in ast.walk(TREES[module]):
        waits = isinstance(node, WAITING) or (isinstance(node, ast.comprehension) and node.is_async)
        if waits and room(module) == "abc" and isinstance(node, ast.AsyncFunctionDef):
            waits = False  # declares what others implement; what it contains is walked too, and may not await
        assert not waits, f"{module}:{getattr(node, 'lineno', '?')} waits"


def test_the_rules_would_be_broken_by_what_breaks_them():
    broken = ast.parse(
        "from ._wire import frames\nfrom gibbs import _worker\nimport gibbs._parent.link\nfrom . import abc"
    )
    assert {room(name) for name in imports("gibbs._model", broken)} == {"_wire", "_worker", "_parent", "abc"}
    assert imports("gibbs._model", ast.parse("import os, anyio\nfrom gibbs import Hub")) == {"gibbs"}


def test_only_a_task_asks_anyio_for_the_time():
    """Elsewhere nobody knows which loop runs, under `asyncio.run`: answers are settled in a callback of the loop. `Crew.loop` is the hub's own."""
    found = []
    for path in sorted((GIBBS / "_parent").glob("*.py")):
        tree = ast.parse(path.read_text())
        waits = {id(node) for f in ast.walk(tree) if isinstance(f, ast.AsyncFunctionDef) for node in ast.walk(f)}
        found += [
            f"{path.name}:{node.lineno}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and node.attr == "current_time" and id(node) not in waits
            if isinstance(node.value, ast.Name) and node.value.id == "anyio"
        ]
    assert found == []
