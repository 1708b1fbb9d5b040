"""The promises of this repository, one session each: `nox -l` lists them, bare `nox` runs the quick ones (≤ 20 minutes on two cores).

The default Python's tests come last, so that what is read last is whether they passed. `nox -s tests-3.12 -- -k cancel` passes arguments on.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nox

DEFAULT = f"{sys.version_info.major}.{sys.version_info.minor}"  # the Python that runs nox
PYTHONS = [*sorted({"3.11", "3.12", "3.13"} - {DEFAULT}), DEFAULT]
LOWEST = ["anyio==4.15.0", "cloudpickle==3.1.0", "trio==0.32.0"]


def let_pyenv_answer() -> None:
    """pyenv's shims refuse every Python that was not asked for: ask for the newest patch of each of ours."""
    if "PYENV_VERSION" in os.environ or not (pyenv := shutil.which("pyenv")):
        return
    found = subprocess.run([pyenv, "versions", "--bare"], capture_output=True, text=True, check=False).stdout.split()
    newest = {}
    for version in sorted(
        (v for v in found if re.fullmatch(r"\d+\.\d+\.\d+", v)), key=lambda v: [*map(int, v.split("."))]
    ):
        newest[version.rpartition(".")[0]] = version
    wanted = [newest[python] for python in [DEFAULT, *PYTHONS] if python in newest]
    if wanted:
        os.environ["PYENV_VERSION"] = ":".join(dict.fromkeys(wanted))


let_pyenv_answer()
nox.options.default_venv_backend = "uv|virtualenv"  # quick where uv is, and works where it is not
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False  # skipped, and printed as skipped, at a desk and in CI alike
nox.options.reuse_venv = "yes"
nox.options.sessions = [
    "lint",
    "typing",
    "tests_wheel",
    "tests_lowest",
    *[f"tests-{python}" for python in PYTHONS],
]


def install(session: nox.Session, *pins: str) -> None:
    session.install("-q", "-e", ".[dev]", *pins)


def pytest(session: nox.Session, *arguments: str) -> None:
    """The executable, not `python -m pytest`, which would put the checkout on sys.path before what is installed."""
    session.run("pytest", "-q", "-n", "auto", "--session-timeout=1200", *(session.posargs or arguments))


@nox.session(python=DEFAULT)
def lint(session: nox.Session) -> None:
    """Style, likely bugs and spelling."""
    install(session)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("codespell", ".")


@nox.session(python=DEFAULT)
def typing(session: nox.Session) -> None:
    """Strict under two checkers, and everything that users see has a type."""
    install(session)
    python = str(Path(session.virtualenv.bin, "python"))
    session.run("mypy")
    session.run("basedpyright", "--pythonpath", python)
    # Finds the package by the session's own PATH; told a --pythonpath, it finds none.
    session.run("basedpyright", "--verifytypes", "gibbs", "--ignoreexternal")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Every test, on every loop: all with the default Python, all but examples and papers with the newest, the quick ones between."""
    install(session)
    if session.python == DEFAULT:
        pytest(session, "tests")
    elif session.python == max(PYTHONS, key=lambda python: int(python.rpartition(".")[2])):
        pytest(session, "tests", "--ignore=tests/examples", "--ignore=tests/docs")
    else:
        pytest(session, "tests/core", "tests/contract", "tests/hub", "tests/simulation", "tests/house")


@nox.session(python=DEFAULT)
def tests_lowest(session: nox.Session) -> None:
    """The oldest dependencies that we say we support."""
    install(session, *LOWEST)
    pytest(session, "tests/core", "tests/contract", "tests/hub")


@nox.session(python=DEFAULT)
def tests_wheel(session: nox.Session) -> None:
    """What is published works, without the checkout around it."""
    out = Path(session.create_tmp()).resolve()
    install(session)
    session.run("uv", "build", "-q", "--wheel", "--out-dir", str(out), ".")
    wheel = max(out.glob("gibbs-*.whl"), key=lambda file: file.stat().st_mtime)
    session.install("-q", "--force-reinstall", "--no-deps", str(wheel))
    session.run("python", "-I", "-c", "import gibbs; assert 'site-packages' in gibbs.__file__, gibbs.__file__")
    pytest(session, "tests/contract", "tests/end_to_end/test_opening.py")


@nox.session(python=DEFAULT)
def examples(session: nox.Session) -> None:
    """Each example runs as its text says, the walk-through on each loop (`tests` runs these too)."""
    install(session)
    pytest(session, "tests/examples")


@nox.session(python=DEFAULT)
def house(session: nox.Session) -> None:
    """Who imports whom, what is exported, how light the child is, and that the accusing fixtures accuse."""
    install(session)
    pytest(session, "tests/house")


@nox.session(python=DEFAULT)
def docs(session: nox.Session) -> None:
    """Every snippet of README and docs runs."""
    install(session)
    pytest(session, "tests/docs")


@nox.session(python=DEFAULT)
def properties(session: nox.Session) -> None:
    """Hypothesis at length."""
    install(session)
    session.env["HYPOTHESIS_PROFILE"] = "long"
    pytest(session, "tests/core", "--timeout=1200")


@nox.session(python=DEFAULT)
def storm(session: nox.Session) -> None:
    """Ten thousand requests of which every tenth kills its worker, on every loop: a minute each."""
    install(session)
    session.env["GIBBS_LONG"] = "1"
    pytest(session, "tests/end_to_end/test_crashes.py", "-k", "10000", "--timeout=600", "--durations=0")


@nox.session(python=DEFAULT)
def sweep(session: nox.Session) -> None:
    """Every public await, cancelled at every checkpoint, on every loop (`tests` runs this too)."""
    install(session)
    pytest(session, "tests/hub/test_sweep.py")


@nox.session(python=DEFAULT)
def simulation(session: nox.Session) -> None:
    """A hundred thousand simulated worlds on each of two loops; `GIBBS_SEEDS=start:stop` chooses others."""
    install(session)
    session.env["GIBBS_SEEDS"] = os.environ.get("GIBBS_SEEDS", "0:100000")
    pytest(session, "tests/simulation", "--timeout=600", "--session-timeout=0", "-n", "auto")


@nox.session(python=DEFAULT)
def coverage(session: nox.Session) -> None:
    """Branches that no test takes, in the parent and in the workers."""
    install(session)
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", "-q", *session.posargs)
    session.run("coverage", "combine", "-q")
    session.run("coverage", "report")


@nox.session(python=DEFAULT)
def bench(session: nox.Session) -> None:
    """The figures: each benchmark prints its own."""
    install(session)
    for file in session.posargs or sorted(map(str, Path("benchmarks").glob("[a-z]*.py"))):
        session.run("python", file)
