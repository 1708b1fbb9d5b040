"""Write the parts of the pages that are drawn from the code: `python docs/generate.py`.

Each part stands between `<!-- generated: name -->` and `<!-- end -->`. `tests/docs` compares, so a page cannot lag behind.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gibbs
from gibbs._core import lease, seat, ticket
from gibbs.contrib.ray import RayLauncher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gibbs.abc import Traits

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for what tests know
DOCS = ROOT / "docs"
MODULES = [
    "gibbs",
    "gibbs.abc",
    "gibbs.events",
    "gibbs.history",
    "gibbs.top",
    "gibbs.testing",
    "gibbs.testing.strategies",
    "gibbs.testing.fixtures",
    "gibbs.worker",
    "gibbs.dial",
    "gibbs.contrib.opentelemetry",
    "gibbs.contrib.prometheus",
    "gibbs.contrib.ray",
    "gibbs.contrib.starlette",
]
PART = re.compile(r"(<!-- generated: ([\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def pages() -> dict[Path, str]:
    """Each page that has generated parts, as it should be."""
    found = {}
    for page in sorted(DOCS.glob("*.md")):
        text = page.read_text()
        if PART.search(text):
            found[page] = PART.sub(lambda part: f"{part[1]}\n{DRAWN[part[2]]()}\n\n{part[3]}", text)
    return found


# ------------------------------------------------------------------------------------------------------ README and house


def readme() -> str:
    """README as far as it says so, with relative links as seen from docs/."""

    def moved(link: re.Match[str]) -> str:
        target = link[1]
        return f"]({target.removeprefix('docs/') if target.startswith('docs/') else '../' + target})"

    text = (ROOT / "README.md").read_text().split("<!-- so far docs/index.md too -->")[0].strip()
    return re.sub(r"\]\((?!\w+:|#)([^)]+)\)", moved, text)


def rooms() -> str:
    """Who may import whom, as tests/house holds it."""
    tree = ast.parse((ROOT / "tests/house/test_imports.py").read_text())
    [rule] = [
        node for node in tree.body if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "MAY_IMPORT"
    ]
    assert rule.value is not None
    table: dict[str, set[str]] = eval(compile(ast.Expression(rule.value), "MAY_IMPORT", "eval"), {"set": set})
    rows = [f"| `{room}` | {names(sorted(allowed)) or 'nothing of ours'} |" for room, allowed in table.items()]
    return "\n".join(["| room | may import |", "| --- | --- |", *rows])


# ------------------------------------------------------------------------------------------------------------ the tables


def moves(table: dict[Any, dict[Any, Any]]) -> str:
    """A state table, one line for each move and the state that it leads to."""
    lines: dict[tuple[str, str], list[str]] = {}
    for state, ways in table.items():
        for move, to in ways.items():
            lines.setdefault((move.name, to.name), []).append(state.name)
    rows = [f"| {', '.join(states)} | {move.lower()} | {to} |" for (move, to), states in lines.items()]
    ends = [state.name for state, ways in table.items() if not ways]
    return "\n".join(
        [
            "| from | move | to |",
            "| --- | --- | --- |",
            *rows,
            "",
            f"Ends, from which nothing leads: {', '.join(ends) or 'none'}.",
        ]
    )


# ------------------------------------------------------------------------------------------------------------ guarantees


def guarantees() -> str:
    """What each launcher's users can rely on, as it follows from its traits."""
    launchers: dict[str, Traits] = {
        "this machine": gibbs.LocalLauncher().traits,
        "ssh": gibbs.SSHLauncher(["host"]).traits,
        "a command": gibbs.CommandLauncher(["command"]).traits,
        "Ray": RayLauncher().traits,
    }
    rows: list[tuple[str, Callable[[Traits], str]]] = [
        ("every request gets one outcome", lambda _: "yes"),
        ("a request runs at most once, unless `retries` allows more", lambda _: "yes"),
        ("exactly once", lambda _: "no: nobody can"),
        (
            "after `WorkerCrashed` it does not run any more",
            lambda traits: "yes" if traits.kill_is_certain else "if `may_still_run` is False",
        ),
        (
            "what was sent ahead to a worker that dies, and had not begun, goes to another one",
            lambda traits: (
                "no: it may have run, says its `WorkerCrashed`"
                if not traits.last_words
                else "yes"
                if traits.kill_is_certain
                else "if `may_still_run` is False"
            ),
        ),
        ("a cancelled caller goes on at once", lambda _: "yes"),
        (
            "a running call is interrupted, and its worker kept",
            lambda traits: "yes, for models that allow it" if traits.in_place_cancel else "no: the worker is replaced",
        ),
        ("a worker that dies is noticed", lambda _: "by the end of its stream, at once"),
        ("a host that says nothing any more is noticed", silence),
        (
            "nothing is left when the program ends, or is killed",
            lambda traits: (
                "yes" if traits.kill_is_certain else "yes; behind a cut connection as soon as that is noticed"
            ),
        ),
        (
            "arrays travel",
            lambda traits: "through shared memory" if traits.same_host else "in the stream",
        ),
        (
            "an error tells how the process ended",
            lambda traits: {
                "full": "exit status, signal, last lines",
                "code": "the same, by way of another exit status",
                "none": "no",
            }[traits.exit_status],
        ),
        ("opens a port on this machine", lambda traits: "yes" if traits.listens else "no"),
    ]
    lines = [f"| | {' | '.join(launchers)} |", f"| --- |{' --- |' * len(launchers)}"]
    lines += [f"| {promise} | {' | '.join(map(kept, launchers.values()))} |" for promise, kept in rows]
    return "\n".join(lines)


def silence(traits: Traits) -> str:
    if traits.silent_loss_within is None:
        return "when the command ends"
    return f"within {traits.silent_loss_within:g} s" if traits.silent_loss_within else "there is none between"


# ----------------------------------------------------------------------------------------------------------- reliability


def in_words(node_id: str) -> str:
    """A test as a sentence, and where it is."""
    path, _, name = node_id.partition("::")
    return f"{name.partition('[')[0].removeprefix('test_').replace('_', ' ')} (`{path.removeprefix('tests/')}`)"


def promises() -> str:
    """Each promise, the tests that hold it, the sabotages which they notice, and how many peers were seen to keep it."""
    from tests.faults.peers import GROUPS, PEERS
    from tests.faults.promises import PROMISES
    from tests.sabotage.arenas import OF_ARENAS
    from tests.sabotage.sabotages import TWENTY

    faults = {name: fault for group in GROUPS.values() for name, fault in group.items()}
    sabotages = {sabotage.name: sabotage for sabotage in (*TWENTY, *OF_ARENAS)}
    rows = []
    for promise in PROMISES:
        tests = dict.fromkeys(test for name in promise.sabotages for test in sabotages[name].tests)
        kept = sum(all(faults[name].peers[peer] != "n" for name in promise.faults) for peer in range(len(PEERS)))
        peers = f"{kept} of {len(PEERS)}" if promise.faults else "not tried"
        held = "<br>".join(map(in_words, tests))
        rows.append(f"| {promise.text} | {held} | {'<br>'.join(promise.sabotages)} | {peers} |")
    return "\n".join(["| promise | held by | broken on purpose | peers |", "| --- | --- | --- | --- |", *rows])


def faults() -> str:
    """The catalogue: what happens, what is wanted, which test holds it, and how the peers bore it."""
    from tests.faults.catalogue import CATALOGUE
    from tests.faults.peers import GROUPS, PEERS

    marks = {"Y": "✔", "n": "✘", "-": "·"}
    parts = []
    for title, group in GROUPS.items():
        parts.append(f"### {title}\n")
        parts.append(f"| fault | wanted | held by | {' | '.join(PEERS)} |")
        parts.append("| --- | --- | --- |" + " --- |" * len(PEERS))
        for name, fault in group.items():
            verdicts = " | ".join(marks[peer] for peer in fault.peers)
            parts.append(f"| {fault.happens} | {fault.wanted} | {in_words(CATALOGUE[name])} | {verdicts} |")
        parts.append("")
    return "\n".join(parts).rstrip()


def features() -> str:
    """What gibbs and its peers offer: each cell with its test, the fault that was run, or the parameter that does it."""
    from tests.faults.catalogue import CATALOGUE
    from tests.faults.features import FEATURES
    from tests.faults.peers import GROUPS, PEERS

    faults = {name: fault for group in GROUPS.values() for name, fault in group.items()}
    marks = {"Y": "✔", "n": "✘", "-": "·"}
    rows = []
    for feature in FEATURES:
        cells, test = [feature.gibbs, *feature[4:]], feature.test
        if feature.fault:
            cells = ["✔", *(f"{marks[peer]} *" for peer in faults[feature.fault].peers[:-1])]
            test = CATALOGUE[feature.fault].partition("::")[0].removeprefix("tests/")
        rows.append(f"| {feature.what} | {' | '.join(cells)} | {test and f'`{test}`'} |")
    head = f"| | gibbs | {' | '.join(PEERS[:-1])} | gibbs's test |"
    return "\n".join([head, "| --- |" + " --- |" * (len(PEERS) + 1), *rows])


# --------------------------------------------------------------------------------------------------------- the reference


def reference() -> str:
    """Every public name with its docstring."""
    return "\n\n".join(text for name in MODULES for text in module_entry(name))


def module_entry(name: str) -> Iterator[str]:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        return
    public = getattr(module, "__all__", [])
    if not public:
        return
    yield f"## {name}"
    if name != "gibbs":
        yield markdown(inspect.getdoc(module) or "")
    for attribute in public:
        yield from entry(f"{name}.{attribute}", getattr(module, attribute))


def entry(path: str, thing: Any) -> Iterator[str]:
    yield f"### {path}"
    node = definition(path.rpartition(".")[2], thing)
    if isinstance(node, ast.ClassDef):
        yield fenced(class_line(node))
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        yield fenced(signature(node))
    yield markdown(inspect.getdoc(thing) or "")
    if isinstance(node, ast.ClassDef):
        members: dict[str, list[ast.FunctionDef | ast.AsyncFunctionDef]] = {}
        for member in node.body:
            if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef) and not member.name.startswith("_"):
                members.setdefault(member.name, []).append(member)
        for name, defined in members.items():
            overloads = [one for one in defined if any("overload" in ast.unparse(d) for d in one.decorator_list)]
            yield f"#### {path.rpartition('.')[2]}.{name}"
            yield fenced("\n".join(map(signature, overloads or defined)))
            yield markdown(inspect.getdoc(inspect.getattr_static(thing, name)) or "")


def definition(name: str, thing: Any) -> ast.stmt | None:
    """Where a thing is written down. `__module__` says where users import it from, so the modules themselves are asked."""
    for module_name, module in sorted(sys.modules.items()):
        if module_name.split(".")[0] == "gibbs" and vars(module).get(name) is thing:
            for node in ast.parse(Path(str(module.__file__)).read_text()).body:
                if getattr(node, "name", None) == name:
                    return node
    return None


def class_line(node: ast.ClassDef) -> str:
    """What a class is derived from, and how a record is made."""
    fields = [ast.unparse(one) for one in node.body if isinstance(one, ast.AnnAssign)]
    if any("dataclass" in ast.unparse(one) for one in node.decorator_list) and fields:
        return wrapped(node.name, ["*", *fields], "")
    bases = [ast.unparse(base) for base in node.bases]
    return f"class {node.name}" + (f"({', '.join(bases)})" if bases else "")


def signature(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    if any(ast.unparse(one) == "property" for one in node.decorator_list):
        return f"{node.name}: {ast.unparse(node.returns)}" if node.returns else node.name
    word = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    return wrapped(f"{word} {node.name}", split(ast.unparse(node.args)), returns)


def split(arguments: str) -> list[str]:
    """At the commas that are in no bracket and no string."""
    parts, depth, quote = [""], 0, ""
    for character in arguments:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        else:
            depth += (character in "([{") - (character in ")]}")
        if character == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += character
    spaced = [re.sub(r"^([\w*]+: .*?[^=!<>])=(?!=)", r"\1 = ", part.strip()) for part in parts]
    return [part for part in spaced if part]


def wrapped(head: str, arguments: list[str], tail: str) -> str:
    line = f"{head}({', '.join(arguments)}){tail}"
    if len(line) <= 100:
        return line
    return f"{head}(\n" + "".join(f"    {argument},\n" for argument in arguments) + f"){tail}"


SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields|Cancellation|Example|Examples|Note):")
LISTED = {"Args", "Attributes", "Raises"}


def markdown(docstring: str) -> str:
    """A docstring as Markdown: its sections get bold heads, their items become lists."""
    out: list[str] = []
    section, body = "", []

    def close() -> None:
        text = textwrap.dedent("\n".join(body)).strip("\n")
        if section:
            out.append(f"**{section}**\n\n" + (items(text) if section in LISTED else text))
        elif text:
            out.append(text)

    for line in docstring.splitlines():
        if found := SECTION.fullmatch(line):
            close()
            section, body = found[1], []
        else:
            body.append(line)
    close()
    return "\n\n".join(out)


def items(text: str) -> str:
    """`name: what it is`, with continuations, as a list."""
    listed: list[str] = []
    for line in text.splitlines():
        if line.startswith(" ") and listed:
            listed[-1] += " " + line.strip()
        elif line:
            name, colon, what = line.partition(": ")
            listed.append(f"- {names(name.split(', '))}: {what}" if colon else f"- {line}")
    return "\n".join(listed)


def names(of: list[str]) -> str:
    return ", ".join(f"`{name}`" if re.fullmatch(r"\**[\w.]+", name) else name for name in of)


def fenced(code: str) -> str:
    return f"```python\n{code}\n```"


DRAWN = {
    "readme": readme,
    "rooms": rooms,
    "ticket moves": lambda: moves(ticket.MOVES),
    "seat moves": lambda: moves(seat.MOVES),
    "lease moves": lambda: moves(lease.MOVES),
    "guarantees": guarantees,
    "promises": promises,
    "faults": faults,
    "features": features,
    "reference": reference,
}

if __name__ == "__main__":
    for page, text in pages().items():
        page.write_text(text)
