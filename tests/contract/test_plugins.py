"""The test kit under the two plugins that run async tests: AnyIO's, on each loop, and pytest-trio. Each runs a project of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import gibbs

pytestmark = pytest.mark.slow

# Without a decorator or a marker: both plugins have a mode for that.
TESTS = """
    import anyio
    import pytest

    import gibbs
    from gibbs.testing import crash, hang, open_inline_hub

    class Model:
        def __call__(self, x):
            return x * x

    @pytest.fixture
    async def hub(no_orphans):
        async with open_inline_hub(Model, workers=2) as hub:
            yield hub

    @pytest.fixture
    async def processes(no_orphans):
        async with gibbs.open_hub(Model, workers=1) as hub:
            yield hub

    async def test_a_hub_may_be_a_fixture(hub):
        assert await anyio.amap(hub.request, range(4)) == [0, 1, 4, 9]

    async def test_so_may_one_with_processes(processes):
        await crash(processes)
        assert await processes.request(3) == 9

    async def test_a_hub_may_be_opened_in_the_test(no_orphans):
        async with open_inline_hub(Model) as hub:
            await crash(hub)
            assert await hub.request(3) == 9

    async def test_one_that_gives_up_is_opened_in_the_test():
        with pytest.raises(gibbs.RestartsExhausted):
            async with open_inline_hub(Model, restarts=gibbs.RestartPolicy(max_crashes=0)) as hub:
                await crash(hub)
                await anyio.sleep_forever()

    async def test_a_cancelled_request_hurts_nobody(hub):
        async with hang(hub):
            for x in range(3):
                with anyio.move_on_after(0.01):
                    await hub.request(x)
        assert await hub.request(3) == 9
"""


@pytest.fixture
def project(pytester, monkeypatch):
    """Runs these tests in a pytest of their own, configured so."""
    monkeypatch.setenv("PYTHONPATH", f"{Path(gibbs.__file__).parents[1]}:{os.environ.get('PYTHONPATH', '')}")

    def run(tests, *configuration, **counts):
        pytester.makepyfile(TESTS + tests)
        pytester.makeconftest('pytest_plugins = ["gibbs.testing.fixtures"]')
        pytester.makeini("\n".join(["[pytest]", "filterwarnings = error", *configuration]))
        pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider").assert_outcomes(**counts)

    return run


def test_under_anyios_plugin(project):
    project(
        """
    @pytest.fixture(scope="module", params=["asyncio", "trio"])
    def anyio_backend(request):
        return request.param

    @pytest.fixture(scope="module")
    async def shared(anyio_backend):
        async with open_inline_hub(Model) as hub:
            yield hub

    @pytest.mark.parametrize("x", [2, 3])
    async def test_a_module_may_share_one(shared, x):
        assert await shared.request(x) == x * x
        await crash(shared)
    """,
        "anyio_mode = auto",
        passed=14,
    )


def test_under_pytest_trio(project):
    pytest.importorskip("pytest_trio")
    project(
        """
    async def test_a_clock_that_jumps(hub, autojump_clock):
        async with hang(hub), hang(hub, 1):
            with pytest.raises(TimeoutError), anyio.fail_after(3600):
                await hub.request(3)
        assert await hub.request(3) == 9

    async def test_a_clock_that_jumps_does_not_while_a_model_works(hub, autojump_clock, monkeypatch):
        monkeypatch.setattr("gibbs.testing._inline._CALL_PATIENCE", 30.0)  # however long that takes
        with anyio.fail_after(0.001):
            assert await hub.request(3) == 9
    """,
        "trio_mode = true",
        passed=7,
    )


def test_under_pytest_trio_a_hub_of_a_fixture_that_gives_up_fails_the_test(project):
    pytest.importorskip("pytest_trio")
    project(
        """
    @pytest.fixture
    async def fragile():
        async with open_inline_hub(Model, restarts=gibbs.RestartPolicy(max_crashes=0)) as hub:
            yield hub

    async def test_it_is_cancelled(fragile):
        await crash(fragile)
        await anyio.sleep_forever()
    """,
        "trio_mode = true",
        passed=5,
        failed=1,
    )
