"""Every launcher passes the same check, the scripted and the inline one too: so what stands for processes in tests is verified."""

from __future__ import annotations

import errno
import shlex
import sys

import pytest

from gibbs import CommandLauncher, ForkLauncher, LocalLauncher
from gibbs._launch import watch_posix
from gibbs.abc import WorkerSpec
from gibbs.testing import InBand, InlineLauncher, ScriptedLauncher, check_launcher
from tests.end_to_end.sshd import needs_sshd, running_sshd

WORKER = [sys.executable, "-m", "gibbs.worker", "--stdio"]
IN_A_SHELL = f"echo Welcome; {shlex.join(WORKER)}; exit $?"


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(LocalLauncher, id="local", marks=pytest.mark.slow),
        pytest.param(lambda: InBand(LocalLauncher()), id="local-in-band", marks=pytest.mark.slow),
        pytest.param(ForkLauncher, id="fork", marks=pytest.mark.slow),
        pytest.param(lambda: InBand(ForkLauncher(preload=["json"])), id="fork-in-band", marks=pytest.mark.slow),
        pytest.param(ScriptedLauncher, id="scripted"),
        pytest.param(lambda: ScriptedLauncher(side=False), id="scripted-without-side"),
        pytest.param(lambda: InBand(ScriptedLauncher()), id="scripted-in-band"),
        pytest.param(InlineLauncher, id="inline"),
        pytest.param(lambda: CommandLauncher(WORKER), id="command", marks=pytest.mark.slow),
        pytest.param(lambda: CommandLauncher(["sh", "-c", IN_A_SHELL]), id="shell", marks=pytest.mark.slow),
    ],
)
async def test_a_launcher_keeps_the_contract(make):
    await check_launcher(make())


@pytest.mark.slow
async def test_a_launcher_keeps_the_contract_in_band_on_a_kernel_whose_counters_cannot_be_asked_without_waiting(
    monkeypatch,
):
    """Linux before 5.8."""

    def not_supported(*_):
        raise OSError(errno.EOPNOTSUPP, "no")

    monkeypatch.setattr("os.preadv", not_supported)
    async with LocalLauncher().session() as session:
        process = await session.launch(WorkerSpec(name="old", seat=0, incarnation=1, workers=1))
        assert process.side is None
    await check_launcher(LocalLauncher())


@pytest.mark.slow
@pytest.mark.parametrize("make", [LocalLauncher, lambda: InBand(LocalLauncher())], ids=["posix", "posix-in-band"])
async def test_a_launcher_keeps_the_contract_by_what_any_posix_system_offers(make, monkeypatch):
    monkeypatch.setattr("gibbs._launch.child.platform", watch_posix)
    await check_launcher(make())


@pytest.mark.slow
@pytest.mark.timeout(120)
@needs_sshd
async def test_a_launcher_keeps_the_contract_over_ssh(tmp_path_factory):
    with running_sshd(tmp_path_factory.mktemp("sshd")) as sshd:
        await check_launcher(sshd.launcher())
