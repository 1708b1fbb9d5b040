"""`python -m gibbs doctor`: what a bug report needs, and a hub that works."""

import subprocess
import sys

import gibbs.__main__ as program


def test_the_doctor_tells_versions_and_what_the_platform_offers_and_proves_it():
    done = subprocess.run(
        [sys.executable, "-m", "gibbs", "doctor"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for word in ("gibbs ", "anyio ", "pidfd", "memfd", "lifeline", "CPUs"):
        assert word in done.stdout
    for loop in ("asyncio", "uvloop", "trio"):
        (line,) = [line for line in done.stdout.splitlines() if line.startswith(loop)]
        assert "its worker answered" in line or "not installed" in line


def test_a_hub_that_does_not_work_is_told_and_is_the_exit_status(monkeypatch, capsys):
    async def fails() -> str:
        raise OSError("no descriptors left")

    monkeypatch.setattr(program, "prove", fails)
    # One is enough; and uvloop would keep a pipe for its next loop.
    monkeypatch.setattr(program, "LOOPS", {"asyncio": program.LOOPS["asyncio"]})
    assert program.doctor() == 1
    assert "FAILED: OSError: no descriptors left" in capsys.readouterr().out
