"""What the pages say about the repository is so: links, names, files, and the parts that are drawn from the code."""

from __future__ import annotations

import functools
import importlib
import re
import runpy
import sys
from pathlib import Path

import anyio
import pytest

import gibbs

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = {page.relative_to(ROOT).as_posix(): page for page in [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]}
TEXTS = {name: page.read_text() for name, page in PAGES.items()}
PROSE = {name: re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE) for name, text in TEXTS.items()}

GENERATE = runpy.run_path(str(DOCS / "generate.py"))
DRAWN: dict[Path, str] = GENERATE["pages"]()


# ------------------------------------------------------------------------------------------------- drawn from the code


@pytest.mark.parametrize("page", [pytest.param(page, id=page.name) for page in DRAWN])
def test_what_is_drawn_from_the_code_is_as_the_code(page: Path) -> None:
    if page.read_text() != DRAWN[page]:
        pytest.fail(f"{page.name} is older than the code: run `python docs/generate.py`", pytrace=False)


def test_nothing_that_can_be_drawn_is_left_out() -> None:
    parts = {name for text in TEXTS.values() for name in re.findall(r"<!-- generated: ([\w ]+) -->", text)}
    assert parts == set(GENERATE["DRAWN"])


@pytest.mark.parametrize("module", GENERATE["MODULES"])
def test_every_public_name_is_in_the_reference(module: str) -> None:
    headings = re.findall(r"^### (\S+)$", TEXTS["docs/reference.md"], re.MULTILINE)
    assert [f"{module}.{name}" for name in importlib.import_module(module).__all__] == [
        heading for heading in headings if heading.rpartition(".")[0] == module
    ]


# ------------------------------------------------------------------------------------------------------ links and names


def anchors(text: str) -> set[str]:
    """The headings of a page, as a forge makes anchors of them."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links() -> list[object]:
    return [
        pytest.param(name, target, id=f"{name}-{target}")
        for name, text in PROSE.items()
        for target in dict.fromkeys(re.findall(r"\]\(([^)]+)\)", text))
    ]


@pytest.mark.parametrize(("page", "target"), links())
def test_a_link_leads_somewhere(page: str, target: str) -> None:
    path, _, anchor = target.partition("#")
    assert ":" not in path, "the pages need no network"
    file = (PAGES[page].parent / path).resolve() if path else PAGES[page]
    assert file.exists()
    if anchor:
        assert anchor in anchors(file.read_text())


def resolved(dotted: str) -> object:
    """The thing with this dotted name: a module, or what can be reached from one."""
    parts = dotted.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        return functools.reduce(getattr, parts[cut:], module)
    raise ModuleNotFoundError(dotted)


def mentioned() -> list[str]:
    """The dotted names in the prose, without those which the pages say are gone."""
    names = {name for text in PROSE.values() for name in re.findall(r"`(gibbs(?:\.\w+)+)", text)}
    return sorted(names - attributes())


def attributes() -> set[str]:
    """Of spans, as they stand in the code that sets them."""
    code = [ROOT / "gibbs" / "contrib" / name for name in ("opentelemetry.py", "_model_spans.py")]
    return {name for file in code for name in re.findall(r'"(gibbs\.[a-z_.]+)"', file.read_text())}


@pytest.mark.parametrize("dotted", mentioned())
def test_a_name_in_the_prose_exists(dotted: str) -> None:
    resolved(dotted)


@pytest.mark.parametrize(
    ("what", "verb"),
    [
        ("queued", "submit"),
        ("sent", "_send"),
        ("answered", "answered_all"),
        ("cancelled", "withdraw"),
        ("lost", "lost"),
    ],
)
def test_the_page_tells_where_a_request_is(what: str, verb: str) -> None:
    dotted = f"gibbs._core.dispatch.Dispatcher.{verb}"
    assert callable(resolved(dotted))
    assert f"| it is {what} | `{dotted}` |" in TEXTS["docs/architecture.md"]


def files() -> list[str]:
    """The files and folders of the repository that the prose names."""
    found = {
        name for text in PROSE.values() for name in re.findall(r"`((?:tests|examples|docs|benchmarks)/[^`\s]*)`", text)
    }
    return sorted(found)


@pytest.mark.parametrize("name", files())
def test_a_file_in_the_prose_exists(name: str) -> None:
    assert (ROOT / name).exists()


# --------------------------------------------------------------------------------------------------- README and glossary


def test_readme_fits_on_a_screen() -> None:
    assert len(TEXTS["README.md"].splitlines()) <= 100


def test_every_promise_of_readme_names_what_holds_it() -> None:
    table = TEXTS["README.md"].partition("| promise | held by |")[2].partition("\n\n")[0]
    rows = [row.strip("| ").split(" | ") for row in table.strip().splitlines()[1:]]
    assert len(rows) >= 8
    for promise, held_by in rows:
        held = [ROOT / name for name in re.findall(r"`([^`]+)`", held_by)]
        assert held, promise
        for file in held:
            assert "def " in file.read_text(), f"{promise}: {file.name}"


def test_every_page_can_be_reached_from_readme_and_from_the_index() -> None:
    pages = {page.name for page in DOCS.glob("*.md")} - {"index.md"}
    assert pages <= {Path(target).name for target in re.findall(r"\]\((docs/[^)#]+)", TEXTS["README.md"])}
    assert pages <= set(re.findall(r"\]\((\w+\.md)\)", TEXTS["docs/index.md"]))


def test_the_glossary_is_in_order_and_has_the_words_of_the_house() -> None:
    words = re.findall(r"^\*\*([^*]+)\*\*:", TEXTS["docs/glossary.md"], re.MULTILINE)
    assert words == sorted(words)
    assert set(words) >= {
        "hub",
        "seat",
        "worker",
        "link",
        "ticket",
        "payload",
        "order",
        "launcher",
        "crew",
        "incarnation",
    }


async def test_windows_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = gibbs.open_hub(dict, workers=1)
    await anyio.lowlevel.checkpoint()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "platform", "win32")
        with pytest.raises(NotImplementedError, match="does not run on Windows"):
            await hub.__aenter__()
