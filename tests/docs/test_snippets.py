"""Every snippet runs: those of README, of docs/ and of the docstrings of public names.

A `python` block is a program of its own, unless a comment before it says what it is:

- `<!-- prelude: hub -->`: a fragment, run inside that prelude of preludes.py;
- `<!-- file: test_app.py -->`: a file; all of a page's files lie in one folder, where pytest is run;
- `<!-- from: examples/load.py -->`: a passage of that file, word for word, which tests/examples runs;
- `<!-- not run: why -->`: with a reason in words.

A `text` block after `<!-- prints -->` is what the program before it prints, `<!-- prints: command -->` what that command
prints; measured numbers are compared by their shape. Generated parts are left out: they repeat README, whose blocks run
here, and the docstrings, whose blocks run here too.
"""

from __future__ import annotations

import configparser
import importlib
import inspect
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
import yaml

from gibbs.contrib.starlette import health_routes

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PRELUDES = runpy.run_path(str(Path(__file__).with_name("preludes.py")))
MAIN = {"README.md", "tutorial.md", "cancelling.md"}
WATCHDOG = 50
PUBLIC = [
    "gibbs",
    "gibbs.abc",
    "gibbs.testing",
    "gibbs.testing.strategies",
    "gibbs.testing.fixtures",
    "gibbs.history",
    "gibbs.top",
    "gibbs.worker",
    "gibbs.contrib.opentelemetry",
    "gibbs.contrib.prometheus",
    "gibbs.contrib.starlette",
]
STARLETTE_ON_HTTPX = "ignore:Using `httpx`"  # FastAPI's test client, about itself

GENERATED = re.compile(r"<!-- generated: .*?<!-- end -->", re.DOTALL)
BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>(?:prelude|file|from|not run|prints)\b.*?) -->\n+)?^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: str
    number: int
    language: str
    mark: str  # "prelude", "file", "from", "not run", "prints" or ""
    argument: str
    text: str

    @property
    def id(self) -> str:
        return f"{self.page}-{self.number}"


def blocks() -> Iterator[Block]:
    for page in PAGES:
        for number, found in enumerate(BLOCK.finditer(GENERATED.sub("", page.read_text())), 1):
            mark, _, argument = (found["mark"] or "").partition(": ")
            yield Block(page.name, number, found["language"], mark, argument, found["text"])


BLOCKS = list(blocks())
PYTHON = [block for block in BLOCKS if block.language == "python"]


def marked(*marks: str) -> list[Any]:
    return [pytest.param(block, id=block.id) for block in PYTHON if block.mark in marks]


def inside(prelude: str, snippet: str) -> str:
    """The snippet in the place of the prelude's line SNIPPET."""
    [line] = [line for line in prelude.splitlines() if line.strip() == "SNIPPET"]
    return prelude.replace(line, textwrap.indent(textwrap.dedent(snippet).strip("\n"), line.removesuffix("SNIPPET")))


def run(program: str, folder: Path) -> str:
    """Run a program in a folder of its own, and return what it printed. A warning is an error."""
    file = folder / "snippet.py"
    file.write_text(program)
    return command([sys.executable, "-W", "error", "-W", STARLETTE_ON_HTTPX, str(file)], folder)


def command(words: list[str], folder: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV"))}
    done = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, timeout=WATCHDOG, check=False
    )
    assert done.returncode == 0, f"ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def on_loop(backend: str, program: str) -> str:
    if backend == "trio":
        pytest.importorskip("trio")
        program = program.replace("anyio.run(main)", 'anyio.run(main, backend="trio")')
    return program


def shape(output: str) -> str:
    """What was printed, with a # for each measured number: one with a decimal point, or a process's id."""
    output = re.sub(r"\d+\.\d+", "#", output)
    # What is known of a SIGKILL depends on whether this machine counts those of its out-of-memory killer.
    output = re.sub(r"SIGKILL; .*out-of-memory.*", "SIGKILL; #", output)
    return re.sub(r"\b(worker|pid|worker,) \d+", r"\1 #", output).strip()


# ------------------------------------------------------------------------------------------------------------- programs


def programs() -> Iterator[Any]:
    """Each program as it stands; those of the main pages that choose their loop by `anyio.run(main)` also on Trio."""
    for block in PYTHON:
        if block.mark not in ("", "prelude"):
            continue
        program = inside(PRELUDES["PAGES"][block.argument], block.text) if block.mark else block.text
        both = block.page in MAIN and "anyio.run(main)" in program
        for backend in ["asyncio", "trio"] if both else ["asyncio"]:
            yield pytest.param(block, program, backend, id=f"{block.id}-{backend}")


@pytest.mark.slow
@pytest.mark.parametrize(("block", "program", "backend"), list(programs()))
def test_a_snippet_runs_as_it_stands(block: Block, program: str, backend: str, tmp_path: Path) -> None:
    printed = run(on_loop(backend, program), tmp_path)
    following = next((one for one in BLOCKS if one.page == block.page and one.number == block.number + 1), None)
    if following and following.mark == "prints" and not following.argument:
        assert shape(printed) == shape(following.text)
    else:
        assert not printed.strip(), "it prints, and the page does not say what"


@cache
def printed_by(program: str) -> str:
    return command([sys.executable, program], ROOT)


@pytest.mark.slow
@pytest.mark.parametrize(
    "block", [pytest.param(block, id=block.id) for block in BLOCKS if block.mark == "prints" and block.argument]
)
def test_a_command_prints_what_the_page_says(block: Block) -> None:
    words = shlex.split(block.argument)
    assert words[0] == "python"
    assert len(words) == 2
    assert shape(printed_by(words[1])) == shape(block.text)


# ------------------------------------------------------------------------------------------------------------ the others

PROJECTS = sorted({block.page for block in PYTHON if block.mark == "file"})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "options"),
    # In every way that pytest has to find them, where the page is about tests.
    [*((page, "") for page in PROJECTS), ("testing.md", "--import-mode=importlib"), ("testing.md", "-n 2")],
)
def test_the_files_of_a_page_pass_their_own_tests(page: str, options: str, tmp_path: Path) -> None:
    if options.startswith("-n"):
        pytest.importorskip("xdist")
    files = [block for block in BLOCKS if block.page == page and block.mark == "file"]
    for block in files:
        (tmp_path / block.argument).write_text(block.text)
    printed = command([sys.executable, "-m", "pytest", "-q", *shlex.split(options)], tmp_path)
    tests = sum(len(re.findall(r"^(?:async )?def test_", block.text, re.MULTILINE)) for block in files)
    assert int(re.findall(r"(\d+) passed", printed)[0]) >= tests > 0
    assert not re.search(r"failed|skipped", printed), printed


@pytest.mark.slow
def test_the_project_of_a_page_runs_through_nox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With this Python and what it has installed, in the place of environments of nox's own."""
    pytest.importorskip("nox")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    for block in BLOCKS:
        if block.page == "property_testing.md" and block.mark == "file":
            (tmp_path / block.argument).write_text(block.text)
    nox = [sys.executable, "-m", "nox", "--no-venv", "--no-install"]
    assert {*re.findall(r"^\* (\w+)", command([*nox, "--list"], tmp_path), re.MULTILINE)} == {"tests", "properties"}
    printed = command([*nox, "-s", "tests"], tmp_path)
    assert re.search(r"\d+ passed", printed), printed


@pytest.mark.parametrize("block", marked("from"))
def test_a_passage_of_an_example_is_quoted_word_for_word(block: Block) -> None:
    assert block.text in (ROOT / block.argument).read_text(), f"{block.argument} says it differently now"
    assert Path(block.argument).parts[0] == "examples"  # all that is there is run by tests/examples


@pytest.mark.parametrize("block", marked("not run"))
def test_a_snippet_that_is_not_run_has_a_reason(block: Block) -> None:
    assert len(block.argument.split()) > 3
    compile(block.text, block.id, "exec", flags=0x2000)  # ast.PyCF_ALLOW_TOP_LEVEL_AWAIT: it is Python at least


def test_every_block_has_a_kind() -> None:
    assert {block.language for block in BLOCKS} <= {"python", "console", "text", "toml", "mermaid", *DEPLOYED}
    assert {block.mark for block in PYTHON} <= {"", "prelude", "file", "from", "not run"}
    fences = sum(len(re.findall(r"^```", GENERATED.sub("", page.read_text()), re.MULTILINE)) for page in PAGES)
    assert fences == 2 * len(BLOCKS), "a fence that is no block of its own"


# -------------------------------------------------------------------------------------------- containers and services


def of_dockerfile(text: str) -> list[str]:
    [line] = [line for line in text.splitlines() if line.startswith("CMD ")]
    words: list[str] = json.loads(line.removeprefix("CMD "))
    return words


def of_manifest(text: str) -> list[str]:
    [container] = yaml.safe_load(text)["spec"]["containers"]
    probes = [container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")]
    assert {*probes} <= {route.path for route in health_routes()}
    words: list[str] = container["args"]
    return words


def of_unit(text: str) -> list[str]:
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[method-assign, assignment]
    unit.read_string(text)
    return shlex.split(unit["Service"]["ExecStart"])


DEPLOYED = {"dockerfile": of_dockerfile, "yaml": of_manifest, "ini": of_unit}


@pytest.mark.parametrize("block", [pytest.param(block, id=block.id) for block in BLOCKS if block.language in DEPLOYED])
def test_a_manifest_can_be_read_and_its_server_knows_its_options(block: Block) -> None:
    program, app, *options = DEPLOYED[block.language](block.text)
    assert Path(program).name == "uvicorn"
    known = {option for parameter in uvicorn.main.params for option in parameter.opts}
    assert {option for option in options if option.startswith("-")} <= known
    assert app == "app:app"


# --------------------------------------------------------------------------------------------------------------- console


def console() -> Iterator[Any]:
    for block in BLOCKS:
        if block.language == "console":
            for line in block.text.splitlines():
                yield pytest.param(line, id=f"{block.id}-{line[:40]}")


@pytest.mark.parametrize("line", list(console()))
def test_a_command_of_a_page_exists(line: str) -> None:
    assert line.startswith("$ "), f"a console block holds commands only, after a $: {line}"
    for part in line.removeprefix("$ ").split("&&"):
        program, *arguments = shlex.split(part, comments=True)
        tool = Path(program).name
        if program.startswith(".venv/bin/") and tool not in ("pip", "python"):
            assert (Path(sys.prefix, "bin", tool)).exists(), f"the extra dev installs no {tool}"
        else:
            assert tool in ("python", "python3", "pip", "git", "cd", "source", "curl", "kill", "hypercorn"), (
                f"not everybody has {tool}"
            )
        if tool == "pip":
            assert arguments[0] == "install"
        for argument in arguments:
            if argument.endswith((".py", ".md")):
                assert (ROOT / argument).is_file(), argument
            if argument.startswith("tests") and argument != "tests-3.12":
                assert (ROOT / argument.partition("::")[0]).exists(), argument


# ------------------------------------------------------------------------------------------------------------ docstrings


EXAMPLE = re.compile(r"^( *)```python\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)


def docstrings() -> Iterator[Any]:
    """The examples of public names, and of what they define."""
    seen = set()
    for name in PUBLIC:
        module = importlib.import_module(name)
        for attribute in module.__all__:
            thing = getattr(module, attribute)
            members = vars(thing).items() if inspect.isclass(thing) else ()
            for path, one in [(attribute, thing), *((f"{attribute}.{key}", value) for key, value in members)]:
                for number, (_, text) in enumerate(EXAMPLE.findall(inspect.getdoc(one) or ""), 1):
                    if (key := (text, path.rpartition(".")[2])) not in seen:  # a method that is inherited comes twice
                        seen.add(key)
                        yield f"{name}.{path}", number, textwrap.dedent(text)


def docstring_programs() -> Iterator[Any]:
    for path, number, text in docstrings():
        prelude = PRELUDES["DOCSTRINGS"].get(path)
        program = inside(prelude, text) if prelude else text
        yield pytest.param(program, id=f"{path}-{number}")


@pytest.mark.slow
@pytest.mark.parametrize("program", list(docstring_programs()))
def test_an_example_of_a_docstring_runs(program: str, tmp_path: Path) -> None:
    run(program, tmp_path)


def test_no_prelude_is_left_over() -> None:
    assert set(PRELUDES["DOCSTRINGS"]) <= {path for path, _, _ in docstrings()}
    assert {block.argument for block in PYTHON if block.mark == "prelude"} == set(PRELUDES["PAGES"])
