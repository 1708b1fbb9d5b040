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
from nox.command import CommandFailed

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
# Some machines say so, and then each of thousands of workers compiles gibbs again; where it is installed it is compiled once.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
nox.options.default_venv_backend = "uv|virtualenv"  # quick where uv is, and works where it is not
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False  # skipped, and printed as skipped, at a desk and in CI alike
nox.options.reuse_venv = "yes"
nox.options.sessions = [
    "lint",
    "typing",
    "tests_lowest",
    *[f"tests-{python}" for python in PYTHONS],
]

WHOLE = [
    "package",
    "tests_wheel",
    "ray",
    *[f"faults-{python}" for python in PYTHONS],
    "sweep",
    "properties",
    "simulation",
    "soak",
    "storm",
    "leaks",
    "sabotage",
    "mutants",
]


def install(session: nox.Session, *pins: str) -> None:
    session.install("-q", "-e", ".[dev]", *pins)


# Of three tests at a time one waits: for a process that starts, or that must be seen to end.
AT_A_TIME = str(3 * (os.cpu_count() or 2) // 2)


def pytest(session: nox.Session, *arguments: str) -> None:
    """The executable, not `python -m pytest`, which would put the checkout on sys.path before what is installed."""
    session.run("pytest", "-q", "-n", AT_A_TIME, "--session-timeout=1800", *(session.posargs or arguments))


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


# What a hub asks of AnyIO and of the loops: to wait, to be cancelled, to see an end.
QUICK = ["tests/contract", *[f"tests/hub/test_{part}.py" for part in ("contract", "cancelling", "deaths", "ending")]]
DANGERS = [
    *[f"tests/end_to_end/test_{danger}.py" for danger in ("ctrl_c", "trust")],
    # Versions of Python differ in what a signal at the wrong moment does to them.
    *[
        f"tests/end_to_end/test_stacks.py::test_{asked}"
        for asked in ("what_a_worker_does_is_told_and_goes_on", "asking_all_the_time_costs_no_request")
    ],
]


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """On every loop: all tests with the default Python; with the others the contract, and with the newest some dangers too."""
    install(session)
    if session.python == DEFAULT:
        pytest(session, "tests")
    elif session.python == max(PYTHONS, key=lambda python: int(python.rpartition(".")[2])):
        pytest(session, "tests/contract", *DANGERS)
    else:
        pytest(session, "tests/contract")


@nox.session(python=DEFAULT)
def tests_lowest(session: nox.Session) -> None:
    """The oldest dependencies that we say we support."""
    install(session, *LOWEST)
    pytest(session, *QUICK)  # the core depends on nothing


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
def ray(session: nox.Session) -> None:
    """Workers in a real Ray cluster of two nodes and more, on this machine: killed, frozen, replaced. Linux; some minutes, 2 GB."""
    session.install("-q", "-e", ".[dev,ray]", "distributed")
    # One process: each of several would have a cluster of its own.
    session.run("pytest", "-q", "--durations=10", *(session.posargs or ("tests/ray", "tests/examples/test_dask.py")))


@nox.session(python=DEFAULT)
def package(session: nox.Session) -> None:
    """Wheel and sdist, each in an empty environment: the doctor, and the walk-through as the sdist brings it."""
    out = Path(session.create_tmp()).resolve()
    shutil.rmtree(out)
    out.mkdir()
    session.install("-q", "build")
    session.run("python", "-m", "build", "--outdir", str(out), silent=True)
    [wheel], [sdist] = out.glob("*.whl"), out.glob("*.tar.gz")
    shutil.unpack_archive(sdist, out)
    walkthrough = out / sdist.name.removesuffix(".tar.gz") / "examples" / "walkthrough.py"
    session.chdir(out)  # away from the checkout
    for archive in (wheel, sdist):
        python = str(out / archive.suffix / "bin" / "python")
        session.run("python", "-m", "venv", str(out / archive.suffix))
        session.run(python, "-m", "pip", "install", "-q", f"{archive}[trio,uvloop,fastapi]", external=True)
        session.run(python, "-m", "gibbs", "doctor", external=True)
        session.run(python, str(walkthrough), *(["--backend", "trio"] if archive == sdist else []), external=True)


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
def site(session: nox.Session) -> None:
    """The pages as a site, in docs/_build; strict, and without a network."""
    session.install("-q", "-e", ".[docs]")
    session.run("python", "docs/site.py", "docs/_build")


@nox.session(python=DEFAULT)
def properties(session: nox.Session) -> None:
    """Hypothesis at length: a million steps of the core, and thousands of examples of everything else that is pure."""
    install(session)
    session.env["HYPOTHESIS_PROFILE"] = "long"
    machine = "tests/core/test_dispatch_machine.py"
    session.run("pytest", "-q", "-s", "-o", "faulthandler_timeout=0", machine, env={"GIBBS_STEPS": "1000000"})
    pytest(session, "tests/core", f"--ignore={machine}", "--timeout=1200")


@nox.session(python=DEFAULT)
def whole(session: nox.Session) -> None:
    """What takes hours: all of the sessions that `tests` runs a small part of."""
    for name in WHOLE:
        session.notify(name)


@nox.session(python=PYTHONS)
def faults(session: nox.Session) -> None:
    """The fault matrix: every fault in every phase of a worker, on every loop."""
    install(session)
    session.env["GIBBS_LONG"] = "1"
    pytest(session, "tests/faults", "--timeout=600", "--session-timeout=86400")


@nox.session(python=DEFAULT)
def storm(session: nox.Session) -> None:
    """Ten thousand requests of which every tenth kills its worker, on every loop: a minute each."""
    install(session)
    session.env["GIBBS_LONG"] = "1"
    pytest(session, "tests/end_to_end/test_crashes.py", "-k", "10000", "--timeout=600", "--durations=0")


@nox.session(python=DEFAULT)
def sweep(session: nox.Session) -> None:
    """Every public await: cancelled, cancelled twice, its worker dead, at every checkpoint, on every loop."""
    install(session)
    session.env["GIBBS_LONG"] = "1"
    sweeps = sorted(
        str(file) for folder in ("hub", "end_to_end") for file in Path("tests", folder).glob("test_sweep*.py")
    )
    pytest(session, *sweeps, "tests/faults/test_native_cancel.py", "--timeout=600", "--session-timeout=86400")


@nox.session(python=DEFAULT)
def simulation(session: nox.Session) -> None:
    """A hundred thousand simulated worlds on each of two loops; `GIBBS_SEEDS=start:stop` chooses others."""
    install(session)
    session.env["GIBBS_SEEDS"] = os.environ.get("GIBBS_SEEDS", "0:100000")
    pytest(session, "tests/simulation", "--timeout=600", "--session-timeout=86400", "-n", "auto")


@nox.session(python=DEFAULT)
def soak(session: nox.Session) -> None:
    """Ten minutes of chaos on each loop, and an exact ledger; arguments go to `python -m benchmarks.soak`."""
    install(session)
    for loop in ("asyncio", "uvloop", "trio"):
        arguments = session.posargs or ("--minutes", "10", "--seed", "1", "--kill-every", "0.3")
        session.run("python", "-m", "benchmarks.soak", "--loop", loop, *arguments)


@nox.session(python=DEFAULT)
def leaks(session: nox.Session) -> None:
    """A thousand hubs, a thousand crashes, a hundred thousand cancels: nothing grows."""
    install(session)
    session.env["GIBBS_LONG"] = "1"
    pytest(session, "tests/leaks", "--timeout=1800", "--session-timeout=86400", "-o", "faulthandler_timeout=1700")


@nox.session(python=DEFAULT)
def sabotage(session: nox.Session) -> None:
    """Twenty promises and thirty more, each broken on purpose in a copy of the code: a test must notice."""
    install(session)
    session.run("python", "-m", "tests.sabotage", *session.posargs)
    if not session.posargs:
        session.run("python", "-m", "tests.sabotage", "--more")


@nox.session(python=DEFAULT)
def mutants(session: nox.Session) -> None:
    """Small changes of the core, each of which a test must notice, or a sentence explain."""
    install(session)
    session.run("python", "-m", "tests.mutation", *session.posargs)


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
    """Every row of docs/performance.md beside its peers, three times, and the page anew; arguments go to `python -m benchmarks`."""
    session.install("-q", "-e", ".[dev,bench]")
    record = str(Path(session.create_tmp(), "performance.json").resolve())
    asked = session.posargs or ("--repeat", "3")
    missed = None
    try:
        session.run("python", "-m", "benchmarks", "--json", record, *asked)
    except CommandFailed as error:  # a target was missed, which the page shall show
        missed = error
    if not session.posargs:  # some of the rows, or other counts, are no page
        session.run("python", "-m", "benchmarks.page", record)
    if missed:
        raise missed
    session.run("python", "benchmarks/first_burst.py")
