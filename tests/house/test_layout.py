"""What lies where, and what must lie nowhere."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GIBBS = ROOT / "gibbs"
MODULES = {path.relative_to(ROOT).as_posix(): path for path in sorted(GIBBS.rglob("*.py"))}

LIMIT = 300
LONG: dict[str, str] = {
    "gibbs/_calls.py": "the contract of every verb and option, which is nearly all of it",
    "gibbs/_hub.py": "what each option of open_hub means, which is told where it is given",
    "gibbs/_errors.py": "whatever can be raised, in one place, and what it says",
    "gibbs/events.py": "whatever can be told, in one place, and what each word of it means",
    "gibbs/_core/dispatch.py": "every verb that moves a request: what may happen to it is read in one place",
    "gibbs/_parent/worker.py": "all roads from a launch to the grave, and the only clock: a second place would race with it",
}

HOSTS = [
    "pypi" + ".org",
    "python" + "hosted.org",
    "npm" + "js.org",
    "npm" + "js.com",
    "deb" + ".debian.org",
    "proxy.golang" + ".org",
]
MACHINE_PATH = re.compile(r"(?<![\w.~}])/(?:work|farm|root|home/\w+|Users/\w+)/")


def tracked() -> list[Path]:
    """What git tracks, and what it would if asked: a file is looked at before it is committed."""
    git = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        names = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [path for name in names if name and (path := ROOT / name).is_file() and path.stat().st_size < 1_000_000]


@pytest.mark.parametrize("name", MODULES)
def test_a_module_opens_with_what_it_is(name):
    assert ast.get_docstring(ast.parse(MODULES[name].read_text())), f"{name} has no docstring"


def test_no_module_is_a_drawer():
    assert not [
        name for name, path in MODULES.items() if re.fullmatch(r"_?(utils?|helpers?|common|misc|tools?)", path.stem)
    ]


def test_a_long_module_has_a_reason():
    long = {name: lines for name, path in MODULES.items() if (lines := len(path.read_text().splitlines())) > LIMIT}
    assert long.keys() == LONG.keys(), f"over {LIMIT} lines: {long}; with a reason: {[*LONG]}"


def test_no_file_names_a_registry_nor_a_place_on_somebodys_machine():
    found = []
    for path in tracked():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if any(host in line for host in HOSTS) or MACHINE_PATH.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    assert not found, "\n".join(found)


def test_the_pattern_knows_a_machine_path():
    assert MACHINE_PATH.search("see /" + "work/main/x")
    assert MACHINE_PATH.search('"/' + 'home/someone/x"')
    assert not MACHINE_PATH.search("framework/main, ./work/, $HOME/x")


def test_what_must_not_be_committed_is_not():
    names = {path.name for path in tracked()}
    assert not names & {"uv.lock", ".coverage", "tox.ini", "setup.py"}
