"""Values that travel come back equal, values that do not are refused in the caller: over threads, and a few over processes."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

import gibbs
from gibbs._wire import payload
from gibbs.testing import InlineLauncher
from gibbs.testing.strategies import does_not_travel, travels

LAUNCHERS = [
    pytest.param(InlineLauncher, id="inline"),
    pytest.param(gibbs.LocalLauncher, id="local", marks=pytest.mark.slow),
]

# The fixture is one hub for all examples, and the loop of the first.
one_hub = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


class Echo:
    def __call__(self, value):
        return value


class Keeps:
    """Makes what it is asked for; none of it can be brought back."""

    def __call__(self, index):
        from gibbs.testing._samples import Refuses

        return [Refuses(ValueError), [Refuses(KeyError)]][index]


@pytest.fixture(params=LAUNCHERS)
async def hub(request):
    async with gibbs.open_hub(Echo, workers=1, launcher=request.param()) as hub:
        yield hub


def same(one, other):
    return type(one) is type(other) and one == other


@given(travels())
def test_what_travels_is_the_same_when_it_is_read(value):
    assert same(payload.loads(payload.dumps(value)), value)


@given(does_not_travel())
def test_what_does_not_travel_cannot_be_written(value):
    with pytest.raises(Exception):  # noqa: B017 - whatever its own code, or a pickler, raises
        payload.dumps(value)


@one_hub
@given(value=travels())
async def test_what_travels_comes_back_the_same(hub, value):
    assert same(await hub.request(value), value)


@one_hub
@given(value=does_not_travel())
async def test_what_does_not_travel_is_its_callers_error_and_nothing_is_sent(hub, value):
    before = hub.statistics()
    with pytest.raises(Exception) as caught:
        await hub.request(value)
    assert not isinstance(caught.value, gibbs.GibbsError)
    after = hub.statistics()
    assert (after.done, after.failed, after.cancelled) == (before.done, before.failed, before.cancelled)
    assert await hub.request("the next") == "the next"
    assert after.restarts == 0


@pytest.mark.parametrize("launcher", LAUNCHERS)
async def test_a_result_that_does_not_travel_is_an_error_of_its_request(launcher):
    async with gibbs.open_hub(Keeps, workers=1, launcher=launcher()) as hub:
        for index in range(2):
            with pytest.raises((ValueError, KeyError, gibbs.RemoteError), match="this does not travel"):
                await hub.request(index)
        assert hub.statistics().restarts == 0
