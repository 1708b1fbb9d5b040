"""Build the site of these pages: `python docs/site.py OUT`. Strict, and without a network.

The pages are written for a forge's eyes too, so they are copied before they are built: links that leave docs/ lead to copies of what
they mean.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
EXAMPLES = ROOT / "examples"

NAV = {
    "Home": "index.md",
    "Tutorial": "tutorial.md",
    "How to": {
        "In Starlette and FastAPI": "web.md",
        "Deploying": "deploying.md",
        "Testing an app": "testing.md",
        "Property-testing": "property_testing.md",
        "Cancelling": "cancelling.md",
        "Streams": "streams.md",
        "Batches": "batches.md",
        "Who comes first": "options.md",
        "What a model can ask": "models.md",
        "How it is getting on": "progress.md",
        "A call and its caller": "context.md",
        "Many items": "maps.md",
        "Conversations": "leases.md",
        "From one machine to a cluster": "cluster.md",
        "A hub that lives for months": "living.md",
        "What happens in it": "observers.md",
        "A live page": "status.md",
        "On call": "on_call.md",
        "Metrics": "metrics.md",
        "Traces": "traces.md",
        "Moving to gibbs": "moving.md",
        "Examples": "examples.md",
    },
    "Which tool when": "why.md",
    "Reference": "reference.md",
    "How it works": {
        "Architecture": "architecture.md",
        "Reliability": "reliability.md",
        "Performance": "performance.md",
        "Security": "security.md",
        "Glossary": "glossary.md",
    },
    "Project": {"Changes": "changes.md", "Contributing": "contributing.md"},
}


def entries(nav: dict[str, object]) -> list[dict[str, object]]:
    return [{title: entries(to) if isinstance(to, dict) else to} for title, to in nav.items()]


# A JSON text is a YAML text. No fonts and no scripts come from elsewhere.
CONFIG = {
    "site_name": "gibbs",
    "site_description": "Warm copies of a blocking model in processes of their own, awaited from asyncio, uvloop and Trio",
    "docs_dir": "pages",
    "nav": entries(NAV),
    "theme": {
        "name": "material",
        "font": False,
        "features": ["content.code.copy", "navigation.sections", "navigation.footer", "toc.follow"],
        "palette": [
            {
                "media": "(prefers-color-scheme: light)",
                "scheme": "default",
                "primary": "teal",
                "toggle": {"icon": "material/weather-night", "name": "Dark"},
            },
            {
                "media": "(prefers-color-scheme: dark)",
                "scheme": "slate",
                "primary": "teal",
                "toggle": {"icon": "material/weather-sunny", "name": "Light"},
            },
        ],
    },
    "extra_css": ["site.css"],
    "plugins": ["search"],
    "extra": {"generator": False},
    "markdown_extensions": [
        "tables",
        "sane_lists",
        {"toc": {"permalink": True}},
        "pymdownx.highlight",
        "pymdownx.superfences",
    ],
    "validation": {
        "nav": {"omitted_files": "warn", "not_found": "warn", "absolute_links": "warn"},
        "links": {"not_found": "warn", "anchors": "warn", "absolute_links": "warn", "unrecognized_links": "warn"},
    },
}


# Tables are wide here, and are scrolled sideways where the window is narrow.
CSS = """
.md-grid { max-width: 78rem }
.md-typeset table:not([class]) { font-size: .65rem }
.md-typeset table:not([class]) :is(th, td) { min-width: 4.5rem; padding: .5em .8em }
.md-typeset table:not([class]) td:first-child { min-width: 9rem }
.md-typeset table:not([class]) code { white-space: nowrap }
"""


def page_of_examples() -> str:
    """Each program of examples/, with what it says of itself first."""
    lines = ["# Examples", "", "Each of them is run by the tests.", ""]
    for program in sorted(EXAMPLES.glob("*.py")):
        about = ast.get_docstring(ast.parse(program.read_text())) or ""
        lines.append(f"- [`{program.name}`](examples/{program.name}): {about.partition(chr(10))[0]}")
    return "\n".join(lines) + "\n"


def stage(folder: Path) -> None:
    pages = folder / "pages"
    shutil.copytree(DOCS, pages, ignore=shutil.ignore_patterns("*.py", "_build", "__pycache__"))
    shutil.copytree(EXAMPLES, pages / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    (pages / "examples.md").write_text(page_of_examples())
    for page in pages.glob("*.md"):
        text = page.read_text().replace("](../examples)", "](examples.md)")
        page.write_text(re.sub(r"\]\(\.\./(examples/[^)]+)\)", r"](\1)", text))
    (pages / "site.css").write_text(CSS)
    (folder / "mkdocs.yml").write_text(json.dumps(CONFIG, indent=1))


def main(out: str) -> int:
    with tempfile.TemporaryDirectory() as folder:
        stage(Path(folder))
        command = [sys.executable, "-m", "mkdocs", "build", "-q", "--strict", "-f", f"{folder}/mkdocs.yml"]
        command += ["-d", str(Path(out).resolve())]
        return subprocess.run(command, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
