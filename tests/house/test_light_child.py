"""Each import that the child does not make is start-up time and memory that N workers do not pay."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

HEAVY = {
    *("anyio", "trio", "uvloop", "sniffio", "cloudpickle", "numpy", "opentelemetry"),
    *(
        "asyncio",
        "logging",
        "threading",
        "queue",
        "dataclasses",
        "typing",
        "inspect",
        "socket",
        "selectors",
        "ssl",
        "subprocess",
        "multiprocessing",
    ),
    *(
        "concurrent",
        "tempfile",
        "shutil",
        "random",
        "json",
        "email",
        "urllib",
        "http",
        "unittest",
        "pathlib",
        "argparse",
        "ast",
    ),
}


def loaded_by(statement: str, cwd: os.PathLike[str]) -> set[str]:
    # Without coverage's hook in the child, which would load all of it.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    script = f"{statement}\nimport sys\nnames = sorted(sys.modules)\nimport json\nprint(json.dumps(names))"
    done = subprocess.run(
        [sys.executable, "-c", script], env=environ, cwd=cwd, stdout=subprocess.PIPE, check=True, timeout=50
    )
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("module", ["gibbs", "gibbs.worker"])
def test_the_child_is_light(module, tmp_path):
    loaded = loaded_by(f"import {module}", tmp_path) - loaded_by("pass", tmp_path)
    assert module in loaded
    heavy = {name for name in loaded if name.split(".")[0] in HEAVY}
    assert not heavy, f"import {module} loads {', '.join(sorted(heavy))}"


def test_the_child_never_enters_the_rooms_of_the_parent(tmp_path):
    loaded = loaded_by("import gibbs.worker", tmp_path)
    assert not {
        name
        for name in loaded
        if name.split(".")[:1] == ["gibbs"]
        and name.split(".")[1:2] in (["_parent"], ["_core"], ["_hub"], ["abc"], ["_errors"])
    }


def test_a_heavy_import_would_be_seen(tmp_path):
    assert "asyncio" in loaded_by("import asyncio", tmp_path) - loaded_by("pass", tmp_path)
