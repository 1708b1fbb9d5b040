"""Who comes first by deadline, and who is refused since there is no time left. Under a virtual clock."""

from __future__ import annotations

import anyio
import pytest
from trio.testing import MockClock

import gibbs
from gibbs import events
from gibbs.testing import ScriptedLauncher


@pytest.fixture(scope="module")
def anyio_backend():
    return "trio", {"clock": MockClock(autojump_threshold=0)}


class Echo:
    def __call__(self, x):
        return x


def open_hub(launcher, **options):
    return gibbs.open_hub(Echo, name="echo", workers=1, launcher=launcher, **options)


async def takes_ten_seconds(worker):
    await worker.start()
    worker.service_time = 10.0
    while not (call := await worker.receive()).is_leave:
        worker.begin(call.link_id)
        await anyio.sleep(10)
        await worker.answer(call.link_id, call.content[1][0])


async def ask_within(hub, seconds, x, came):
    with anyio.move_on_after(seconds):
        came.append(await hub.request(x))


@pytest.mark.parametrize(("order", "expected"), [("fifo", [0, 1, 2, 3]), ("deadline", [0, 3, 2, 1])])
async def test_the_earliest_deadline_is_served_first(order, expected):
    came = []
    async with open_hub(ScriptedLauncher(takes_ten_seconds), order=order) as hub, anyio.create_task_group() as tg:
        for x, seconds in enumerate([999, 55, 50, 45]):
            tg.start_soon(ask_within, hub, seconds, x, came)
            await anyio.wait_all_tasks_blocked()
    assert came == expected


async def test_a_priority_goes_before_a_deadline():
    came = []
    async with open_hub(ScriptedLauncher(takes_ten_seconds), order="deadline") as hub:
        async with anyio.create_task_group() as tg:
            tg.start_soon(ask_within, hub, 999, "first", came)
            await anyio.wait_all_tasks_blocked()
            tg.start_soon(ask_within, hub, 50, "urgent", came)
            tg.start_soon(ask_within, hub.using(priority=9), 100, "important", came)
    assert came == ["first", "important", "urgent"]


async def test_a_request_whose_time_cannot_be_enough_is_refused_at_once():
    seen = []
    async with open_hub(ScriptedLauncher(takes_ten_seconds), shed=True, observers=[seen.append]) as hub:
        assert await hub.request(1) == 1, "nothing is known yet, so nothing is refused"
        before = anyio.current_time()
        with anyio.fail_after(5), pytest.raises(gibbs.HubOverloaded, match="a call takes 10 seconds") as caught:
            await hub.request(2)
        assert anyio.current_time() == before
        assert (caught.value.needed, caught.value.max_wait) == (10.0, None)
        [told] = [event for event in seen if isinstance(event, events.RequestTurnedAway)]
        assert (told.method, told.pending, told.needed) == ("__call__", 0, 10.0)
        assert hub.statistics().turned_away == 1
        with anyio.fail_after(11):
            assert await hub.request(3) == 3


async def test_one_that_waits_is_refused_when_its_time_cannot_be_enough_any_more(ask):
    async with open_hub(ScriptedLauncher(takes_ten_seconds), shed=True) as hub, anyio.create_task_group() as tg:
        await hub.request(1)
        first = await ask(tg, hub.request, 2)
        before = anyio.current_time()
        with (
            anyio.fail_after(15),
            pytest.raises(gibbs.HubOverloaded, match="more than the caller of this one had left"),
        ):
            await hub.request(3)
        assert anyio.current_time() == before + 5
        assert await first.outcome() == 2
        assert hub.statistics().expired == 1


async def test_without_shedding_it_is_run_as_far_as_its_caller_waits():
    async with open_hub(ScriptedLauncher(takes_ten_seconds)) as hub:
        await hub.request(1)
        with pytest.raises(TimeoutError), anyio.fail_after(5):
            await hub.request(2)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"order": "lifo"}, ValueError, 'order must be "fifo" or "deadline"'),
        ({"shed": 1}, TypeError, "shed must be True"),
    ],
)
def test_what_makes_no_sense_is_refused(options, error, words):
    with pytest.raises(error, match=words):
        open_hub(ScriptedLauncher(), **options)
