"""Several launchers for the seats of one hub, and workers of which nobody can say whether they still run. Under a virtual clock."""

from __future__ import annotations

import re

import anyio
import pytest
from trio.testing import MockClock

import gibbs
from gibbs.abc import LaunchFailed, LaunchRefused, Traits
from gibbs.testing import ScriptedLauncher, serve


@pytest.fixture(scope="module")
def anyio_backend():
    return "trio", {"clock": MockClock(autojump_threshold=0)}


class Echo:
    def __call__(self, x):
        return x


class Far(ScriptedLauncher):
    """Scripted workers, as if they were on another machine."""

    @property
    def traits(self):
        return Traits(same_host=False, kill_is_certain=False)


def open_hub(launcher, workers, **options):
    return gibbs.open_hub(Echo, name="echo", workers=workers, launcher=launcher, **options)


# --------------------------------------------------------------------------------------------------------------- fleets


async def test_each_launcher_fills_its_own_seats_in_their_order():
    near, far = ScriptedLauncher(), Far()
    async with open_hub([(near, 2), (far, 3)], 5) as hub:
        assert [await hub.request(n) for n in range(10)] == [*range(10)]
    assert {(worker.spec.seat, worker.spec.workers) for worker in near.workers} == {(0, 2), (1, 2)}
    assert {(worker.spec.seat, worker.spec.workers) for worker in far.workers} == {(2, 3), (3, 3), (4, 3)}


async def test_workers_that_take_long_to_start_elsewhere_hold_up_nobody_here():
    async def takes_a_minute(worker):
        await anyio.sleep(59)
        await serve(worker)

    near, far = ScriptedLauncher(), Far(takes_a_minute)
    start = anyio.current_time()
    async with open_hub([(far, 8), (near, 4)], 12, ready=4, start_concurrency=1, start_timeout=600) as hub:
        assert anyio.current_time() == start
        assert await hub.request(1) == 1
        await hub.wait_ready()
        assert anyio.current_time() == start + 8 * 59


async def test_of_two_that_are_free_the_near_one_is_asked_and_the_far_one_when_that_is_busy(ask):
    near, far = ScriptedLauncher(), Far()
    async with open_hub([(far, 1), (near, 1)], 2) as hub, anyio.create_task_group() as tg:
        for n in range(5):
            await hub.request(n)
        assert (len(near.workers[0].calls), len(far.workers[0].calls)) == (5, 0)
        near.workers[0].hang()
        first = await ask(tg, hub.request, "near")
        assert await hub.request("far") == "far"
        near.workers[0].go_on()
        assert await first.outcome() == "near"
    assert (len(near.workers[0].calls), len(far.workers[0].calls)) == (6, 1)


async def test_sessions_are_left_in_the_reverse_order_and_all_of_them_when_one_cannot_be_entered():
    events = []

    class Told(ScriptedLauncher):
        def __init__(self, name):
            super().__init__()
            self.name = name

        def session(self):
            outer = super().session()

            class Session:
                async def __aenter__(session):
                    if self.name == "broken":
                        raise ConnectionError("no cluster")
                    events.append(f"enter {self.name}")
                    return await outer.__aenter__()

                async def __aexit__(session, *error):
                    events.append(f"leave {self.name}")
                    return await outer.__aexit__(*error)

            return Session()

    async with open_hub([(Told("a"), 1), (Told("b"), 1)], 2):
        pass
    assert events == ["enter a", "enter b", "leave b", "leave a"]
    events.clear()
    with pytest.raises(ConnectionError, match="no cluster"):
        async with open_hub([(Told("a"), 1), (Told("broken"), 1)], 2):
            pytest.fail("entered")
    assert events == ["enter a", "leave a"]


@pytest.mark.parametrize(
    ("launcher", "error", "words"),
    [
        ([], ValueError, "workers=3, not none"),
        ([(ScriptedLauncher(), 1), (ScriptedLauncher(), 1)], ValueError, "workers=3, not 1 + 1"),
        ([(ScriptedLauncher(), 4)], ValueError, "workers=3, not 4"),
        ([(ScriptedLauncher(), 0), (ScriptedLauncher(), 3)], ValueError, "number of workers of a launcher must be"),
        ([(ScriptedLauncher(), True)], TypeError, "number of workers of a launcher must be"),
        ([ScriptedLauncher()], TypeError, "pairs of one and its number of workers"),
        ([(3, ScriptedLauncher())], TypeError, "launcher must be a gibbs.abc.Launcher, not 3"),
        ([(ScriptedLauncher, 3)], TypeError, "launcher must be a gibbs.abc.Launcher, not"),
    ],
)
def test_a_fleet_that_makes_no_sense_is_refused_before_anything_starts(launcher, error, words):
    with pytest.raises(error, match=re.escape(words)):
        open_hub(launcher, 3)


# ------------------------------------------------------------------------------------------- what a launcher cannot have


@pytest.mark.parametrize("error", [LaunchFailed, LaunchRefused])
async def test_a_place_that_cannot_be_had_while_a_hub_opens_is_told_in_the_launchers_words(error):
    async def launching(spec):
        raise error("the cluster is on fire")

    with pytest.raises(gibbs.WorkerStartFailed, match="the cluster is on fire") as caught:
        async with open_hub(ScriptedLauncher(launching=launching), 1):
            pytest.fail("entered")
    assert caught.value.reason == "launch"
    assert type(caught.value.__cause__) is error


async def test_a_place_that_is_lost_for_a_while_is_tried_again():
    tries = []

    async def launching(spec):
        tries.append(spec.incarnation)
        if 1 < spec.incarnation < 4:
            raise LaunchFailed("not now")

    launcher = ScriptedLauncher(launching=launching)
    async with open_hub(launcher, 1) as hub:
        launcher.worker().die(code=1)
        assert await hub.request(1) == 1
    assert tries == [1, 2, 3, 4]


async def test_a_place_that_is_refused_ends_the_hub_with_that_and_whoever_waits_is_told():
    async def launching(spec):
        if spec.incarnation > 1:
            raise LaunchRefused("the key was taken back")

    launcher = ScriptedLauncher(launching=launching)
    echoes = []
    with pytest.raises(gibbs.WorkerStartFailed, match="the key was taken back") as caught:
        async with open_hub(launcher, 1) as hub, anyio.create_task_group() as tg:

            @tg.start_soon
            async def asks():
                with anyio.CancelScope(shield=True), pytest.raises(gibbs.HubClosed) as closed:
                    await hub.request(1)
                echoes.append(closed.value.__cause__)

            launcher.worker().die(code=1)
            await anyio.sleep_forever()
    assert echoes in ([caught.value], [])


# ------------------------------------------------------------------------------------------------------ who may still run


async def begins_and_is_lost(worker):
    await worker.start()
    call = await worker.receive()
    worker.begin(call.link_id)
    worker.die(certain=False)


async def reads_and_is_lost(worker):
    await worker.start()
    await worker.receive()
    worker.die(certain=False)


@pytest.mark.parametrize("script", [begins_and_is_lost, reads_and_is_lost])
async def test_of_a_worker_that_may_still_run_all_that_was_sent_to_it_may_have_run_and_nothing_goes_back(script):
    launcher = ScriptedLauncher(script, serve)
    async with open_hub(launcher, 1) as hub:
        with pytest.raises(gibbs.WorkerCrashed, match="its host is not heard of any more") as caught:
            await hub.request(1)
        assert (caught.value.may_have_run, caught.value.may_still_run) == (True, True)
        assert "send it again only if it can run twice at a time" in str(caught.value)
        assert await hub.request(2) == 2
    assert len(launcher.worker().calls) == 1


@pytest.mark.parametrize("uncertain_too", [False, True])
async def test_what_may_still_run_is_tried_again_only_on_request(uncertain_too):
    async with open_hub(ScriptedLauncher(begins_and_is_lost, serve), 1) as hub:
        calls = hub.using(retries=1, retry_uncertain=uncertain_too)
        if uncertain_too:
            assert await calls.request(1) == 1
        else:
            with pytest.raises(gibbs.WorkerCrashed):
                await calls.request(1)
    assert hub.statistics().retried == uncertain_too
