"""How a hub ends: closing, draining, and which error leaves. Under a virtual clock."""

from __future__ import annotations

import contextlib

import anyio
import pytest
from trio.testing import MockClock

import gibbs
from gibbs._parent.link import Link
from gibbs._wire.messages import LEAVE
from gibbs.testing import ScriptedLauncher, serve


@pytest.fixture(scope="module")
def anyio_backend():
    return "trio", {"clock": MockClock(autojump_threshold=0)}


class Echo:
    def __call__(self, x):
        return x


class Slow:
    """A model whose calls take as many seconds as they are told."""

    def __call__(self, seconds):
        async def sleep():  # in memory, what a model returns is awaited
            await anyio.sleep(seconds)
            return seconds

        return sleep()


class BodyError(Exception):
    pass


FRAGILE = gibbs.RestartPolicy(max_failures=0)


def open_hub(launcher, *, model=Echo, workers=1, **options):
    return gibbs.open_hub(model, name="echo", workers=workers, launcher=launcher, **options)


async def unfit(worker):
    await worker.unfit(RuntimeError("broken"))


async def clings(worker):
    """Is ready, and does not leave."""
    await worker.ready(interruptible=True, methods={"__call__": "plain"})
    await anyio.sleep_forever()


# -------------------------------------------------------------------------------------------------------------- closing


async def test_idle_workers_are_asked_to_leave_and_may_exit_in_peace():
    launcher = ScriptedLauncher()
    async with open_hub(launcher, workers=3):
        before = anyio.current_time()
    assert anyio.current_time() == before
    assert {(worker.ending.how, worker.ending.code) for worker in launcher.workers} == {("exited", 0)}


async def test_a_worker_may_take_its_time_to_leave_within_close_timeout():
    async def tidy(worker):
        await serve(worker)
        await anyio.sleep(4)

    launcher = ScriptedLauncher(tidy)
    async with open_hub(launcher, workers=3, close_timeout=5):
        before = anyio.current_time()
    assert anyio.current_time() - before == pytest.approx(4)
    assert all(worker.ending.how == "exited" for worker in launcher.workers)


async def test_one_deadline_holds_for_all_workers_together():
    launcher = ScriptedLauncher(clings)
    async with open_hub(launcher, workers=5, close_timeout=5):
        before = anyio.current_time()
    assert anyio.current_time() - before == pytest.approx(5)
    assert all(worker.ending.signal == "SIGKILL" for worker in launcher.workers)


async def test_to_close_again_gives_no_more_time():
    launcher = ScriptedLauncher(clings)
    async with anyio.create_task_group() as tg:
        async with open_hub(launcher, close_timeout=5) as hub:

            @tg.start_soon
            async def again():
                await anyio.sleep(3)
                hub._desk.crew.close(5)  # as when its supervision fails meanwhile

            before = anyio.current_time()
        assert anyio.current_time() - before == pytest.approx(5)
        assert launcher.worker().ending.signal == "SIGKILL"


async def test_with_close_timeout_0_workers_are_killed_at_once():
    launcher = ScriptedLauncher(clings)
    async with open_hub(launcher, workers=5, close_timeout=0):
        before = anyio.current_time()
    assert anyio.current_time() == before


async def test_workers_that_are_still_starting_are_killed_at_once():
    async def script(worker):
        await (anyio.sleep_forever() if worker.spec.seat else serve(worker))

    launcher = ScriptedLauncher(script)
    async with open_hub(launcher, workers=3, ready=1, close_timeout=60):
        before = anyio.current_time()
    assert anyio.current_time() == before
    assert len(launcher.workers) == 3


async def test_a_launch_that_hangs_is_given_up_at_once():
    async def launching(spec):
        if spec.seat:
            await anyio.sleep_forever()

    async with open_hub(ScriptedLauncher(launching=launching), workers=2, ready=1, close_timeout=60):
        before = anyio.current_time()
    assert anyio.current_time() == before


async def test_a_seat_that_waits_for_its_restart_does_not_hold_up_closing():
    async def script(worker):
        await (unfit(worker) if worker.spec.seat else serve(worker))

    policy = gibbs.RestartPolicy(max_failures=100)
    async with open_hub(ScriptedLauncher(script), workers=2, ready=1, restarts=policy) as hub:
        while hub.statistics().restarts < 9:
            await anyio.sleep(1)
        before = anyio.current_time()
    assert anyio.current_time() == before


async def test_requests_that_are_queued_or_running_raise_hubclosed_in_the_tasks_that_wait(ask):
    launcher = ScriptedLauncher(clings)
    async with anyio.create_task_group() as tg:
        async with open_hub(launcher, close_timeout=1) as hub:
            asked = [await ask(tg, hub.request, n) for n in range(3)]
        for one in asked:
            with pytest.raises(gibbs.HubClosed) as caught:
                await one.outcome()
            assert (caught.value.reason, caught.value.name) == ("closed", "echo")
        assert hub.statistics().refused == 3
        assert hub.statistics().queued == hub.statistics().running == 0


async def test_waiters_need_not_wait_for_the_workers_to_be_gone(ask):
    launcher = ScriptedLauncher(clings)
    told_at = None

    async def waits(hub):
        nonlocal told_at
        with pytest.raises(gibbs.HubClosed):
            await hub.using(on_cancel="finish").request(1)
        told_at = anyio.current_time()

    async with anyio.create_task_group() as tg:
        async with open_hub(launcher, close_timeout=30) as hub:
            tg.start_soon(waits, hub)
            await anyio.wait_all_tasks_blocked()
            closed_at = anyio.current_time()
        assert told_at == closed_at
        assert anyio.current_time() == closed_at + 30


async def test_who_waits_for_workers_is_told_that_the_hub_has_closed(ask):
    async def launching(spec):
        await anyio.sleep_forever()

    async with anyio.create_task_group() as tg:
        async with open_hub(ScriptedLauncher(launching=launching), ready=0) as hub:
            waiting = await ask(tg, hub.wait_ready)
        with pytest.raises(gibbs.HubClosed) as caught:
            await waiting.outcome()
        assert caught.value.reason == "closed"


async def test_a_closed_hub_says_so_to_everybody():
    async with open_hub(ScriptedLauncher()) as hub:
        pass
    for call in (hub.request, hub.method("f").request, hub.using(on_cancel="kill").request):
        with pytest.raises(gibbs.HubClosed) as caught:
            await call(1)
        assert caught.value.reason == "closed"
    with pytest.raises(gibbs.HubClosed):
        await hub.wait_ready()
    assert hub.health() == gibbs.Health(ready=False, reasons=("the hub is closed",))
    assert hub.statistics().seats["retired"] == 1


async def test_a_running_call_is_interrupted_at_once_when_the_hub_closes(ask, begin):
    launcher = ScriptedLauncher(clings)
    async with anyio.create_task_group() as tg:

        async def unwinds(worker, call):
            await worker.interrupted()
            await worker.skip(call.link_id)
            assert (await worker.receive()).is_leave
            worker.die(code=0)

        async with open_hub(launcher, close_timeout=60) as hub:
            await ask(tg, hub.request, 1)
            call = await begin(launcher.worker())
            tg.start_soon(unwinds, launcher.worker(), call)
            before = anyio.current_time()
        assert anyio.current_time() == before
        assert launcher.worker().ending.how == "exited"


async def test_a_running_call_that_must_be_killed_is_so_at_once_when_the_hub_closes(ask, begin):
    launcher = ScriptedLauncher(clings)
    async with anyio.create_task_group() as tg:
        async with open_hub(launcher, close_timeout=60, on_cancel="kill") as hub:
            await ask(tg, hub.request, 1)
            await begin(launcher.worker())
            before = anyio.current_time()
        assert anyio.current_time() == before


async def test_an_interrupted_call_that_does_not_unwind_has_its_grace_and_no_more(ask, begin):
    launcher = ScriptedLauncher(clings)
    async with anyio.create_task_group() as tg:
        async with open_hub(launcher, close_timeout=60, cancel_grace=2) as hub:
            await ask(tg, hub.request, 1)
            await begin(launcher.worker())
            before = anyio.current_time()
        assert anyio.current_time() - before == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize(("seconds", "gone_after", "how"), [(7, 7, "exited"), (70, 10, "signalled")])
async def test_a_call_that_finishes_has_until_close_timeout(ask, seconds, gone_after, how):
    launcher = ScriptedLauncher()
    async with anyio.create_task_group() as tg:
        async with open_hub(launcher, model=Slow, close_timeout=10, on_cancel="finish") as hub:
            await ask(tg, hub.request, seconds)
            await anyio.wait_all_tasks_blocked()
            before = anyio.current_time()
        assert anyio.current_time() - before == pytest.approx(gone_after)
        assert launcher.worker().ending.how == how


async def test_a_ctrl_c_that_is_raised_in_a_task_of_the_hub_waits_for_no_worker(monkeypatch):
    """asyncio raises the second one wherever it comes; here it is where the first worker is told to leave."""

    def interrupted(link, kind, *what):
        if kind == LEAVE:
            monkeypatch.undo()
            raise KeyboardInterrupt
        send(link, kind, *what)

    send = Link.send
    launcher = ScriptedLauncher(clings)
    before = anyio.current_time()
    with pytest.raises(KeyboardInterrupt):
        async with open_hub(launcher, workers=2, close_timeout=600):
            monkeypatch.setattr(Link, "send", interrupted)
    assert anyio.current_time() == before
    assert all(worker.ending is not None for worker in launcher.workers)


async def test_a_process_that_cannot_be_reaped_does_not_hide_the_body_s_error(caplog):
    launcher = ScriptedLauncher(clings)
    with pytest.raises(BodyError):
        async with open_hub(launcher, close_timeout=1):
            launcher.worker().immortal = True
            raise BodyError
    assert "was killed but is not gone" in caplog.text


async def test_closing_in_a_cancelled_scope_still_lets_workers_leave_in_peace():
    async def tidy(worker):
        await serve(worker)
        await anyio.sleep(2)

    launcher = ScriptedLauncher(tidy)
    with anyio.CancelScope() as scope:
        async with open_hub(launcher, workers=2, close_timeout=5):
            before = anyio.current_time()
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert anyio.current_time() - before == pytest.approx(2)
    assert all(worker.ending.how == "exited" for worker in launcher.workers)


# -------------------------------------------------------------------------------------------------------------- draining


async def test_a_draining_hub_answers_what_it_accepted_and_refuses_what_comes(ask):
    async with open_hub(ScriptedLauncher(), model=Slow) as hub, anyio.create_task_group() as tg:
        accepted = [await ask(tg, hub.request, n) for n in (1, 2, 3)]
        draining = await ask(tg, hub.drain)
        with pytest.raises(gibbs.HubClosed) as caught:
            await hub.request(4)
        assert caught.value.reason == "draining"
        assert hub.health() == gibbs.Health(ready=False, reasons=("the hub is draining",))
        assert not draining.done.is_set()
        assert [await one.outcome() for one in accepted] == [1, 2, 3]
        await draining.outcome()


async def test_draining_is_idempotent_and_irreversible(ask):
    async with open_hub(ScriptedLauncher(), model=Slow) as hub, anyio.create_task_group() as tg:
        accepted = await ask(tg, hub.request, 5)
        both = [await ask(tg, hub.drain) for _ in range(2)]
        for one in both:
            await one.outcome()
        assert accepted.value == 5
        await hub.drain()
        with pytest.raises(gibbs.HubClosed):
            await hub.request(1)


async def test_a_drain_that_is_cancelled_leaves_the_hub_draining(ask):
    async with open_hub(ScriptedLauncher(), model=Slow) as hub, anyio.create_task_group() as tg:
        accepted = await ask(tg, hub.request, 5)
        with anyio.move_on_after(1):
            await hub.drain()
        with pytest.raises(gibbs.HubClosed) as caught:
            await hub.request(1)
        assert caught.value.reason == "draining"
        assert await accepted.outcome() == 5
        await hub.drain()


async def test_a_draining_hub_goes_on_replacing_workers(ask):
    async def dies_before_it_begins(worker):
        await worker.ready(methods={"__call__": "plain"})
        await worker.receive()
        worker.die(code=1)

    async with open_hub(ScriptedLauncher(dies_before_it_begins, serve)) as hub, anyio.create_task_group() as tg:
        accepted = await ask(tg, hub.request, 1)
        await hub.drain()
        assert await accepted.outcome() == 1


async def test_a_draining_hub_tries_again_when_a_start_fails(ask):
    launcher = ScriptedLauncher(clings, unfit, unfit, serve)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        accepted = await ask(tg, hub.request, 1)
        draining = await ask(tg, hub.drain)
        launcher.worker().die(code=1)
        await draining.outcome()
        assert await accepted.outcome() == 1


async def test_a_drain_is_over_when_the_last_request_is_cancelled(ask):
    async with open_hub(ScriptedLauncher(clings), close_timeout=0) as hub, anyio.create_task_group() as tg:
        asked = [await ask(tg, hub.request, n) for n in range(2)]
        draining = await ask(tg, hub.drain)
        for one in asked:
            assert not draining.done.is_set()
            one.cancel()
            await one.outcome()
        await draining.outcome()


async def test_a_drain_that_the_closing_overtakes_says_so(ask):
    async with anyio.create_task_group() as tg:
        async with open_hub(ScriptedLauncher(clings), close_timeout=0) as hub:
            await ask(tg, hub.request, 1)
            draining = await ask(tg, hub.drain)
        with pytest.raises(gibbs.HubClosed) as caught:
            await draining.outcome()
        assert caught.value.reason == "closed"


async def test_leaving_the_body_does_not_drain(ask):
    async with anyio.create_task_group() as tg:
        async with open_hub(ScriptedLauncher(), model=Slow) as hub:
            asked = await ask(tg, hub.request, 1)
            await anyio.wait_all_tasks_blocked()
        with pytest.raises(gibbs.HubClosed):
            await asked.outcome()


# ----------------------------------------------------------------------------------------------------- which error leaves


async def test_a_body_s_error_leaves_as_itself():
    error = BodyError()
    with pytest.raises(BodyError) as caught:
        async with open_hub(ScriptedLauncher()):
            raise error
    assert caught.value is error


async def test_a_group_that_the_user_raises_is_not_touched():
    error = ExceptionGroup("mine", [BodyError(), ExceptionGroup("inner", [ValueError()])])
    with pytest.raises(ExceptionGroup) as caught:
        async with open_hub(ScriptedLauncher()):
            raise error
    assert caught.value is error
    assert len(error.exceptions) == 2


async def test_the_hub_s_failure_leaves_alone_when_the_body_has_no_error_of_its_own():
    launcher = ScriptedLauncher(serve, unfit)
    with pytest.raises(gibbs.RestartsExhausted):
        async with open_hub(launcher, restarts=FRAGILE):
            launcher.worker().die(code=1)
            await anyio.sleep_forever()


async def test_a_body_s_error_and_the_hub_s_failure_leave_as_one_group():
    launcher = ScriptedLauncher(serve, unfit)
    error = BodyError()
    with pytest.raises(ExceptionGroup) as caught:
        async with open_hub(launcher, restarts=FRAGILE):
            launcher.worker().die(code=1)
            try:
                await anyio.sleep_forever()
            finally:
                raise error
    assert caught.value.exceptions[0] is error
    assert isinstance(caught.value.exceptions[1], gibbs.RestartsExhausted)


async def fails_and_asks(hub, launcher):
    """Let the hub fail, and return the HubClosed that a request gets then."""
    launcher.worker().die(code=1)
    with contextlib.suppress(anyio.get_cancelled_exc_class()):
        await anyio.sleep_forever()
    with anyio.CancelScope(shield=True):
        with pytest.raises(gibbs.HubClosed) as caught:
            await hub.request(1)
    assert caught.value.reason == "failed"
    return caught.value


async def test_an_echo_of_the_failure_is_dropped():
    launcher = ScriptedLauncher(serve, unfit)
    with pytest.raises(gibbs.RestartsExhausted):
        async with open_hub(launcher, restarts=FRAGILE) as hub:
            raise await fails_and_asks(hub, launcher)


async def test_echoes_of_the_failure_are_dropped_inside_groups():
    launcher = ScriptedLauncher(serve, unfit)
    with pytest.raises(gibbs.RestartsExhausted):
        async with open_hub(launcher, restarts=FRAGILE) as hub:
            echo = await fails_and_asks(hub, launcher)
            raise ExceptionGroup("two", [echo, ExceptionGroup("inner", [echo])])


async def test_what_is_no_echo_stays_when_echoes_are_dropped():
    launcher = ScriptedLauncher(serve, unfit)
    error = BodyError()
    other = gibbs.HubClosed("another hub", "failed")
    with pytest.raises(ExceptionGroup) as caught:
        async with open_hub(launcher, restarts=FRAGILE) as hub:
            echo = await fails_and_asks(hub, launcher)
            raise ExceptionGroup("three", [echo, error, ExceptionGroup("inner", [echo, other])])
    rest, failure = caught.value.exceptions
    assert rest.message == "three"
    assert rest.exceptions[0] is error
    assert rest.exceptions[1].exceptions == (other,)
    assert isinstance(failure, gibbs.RestartsExhausted)


async def test_tasks_of_the_body_that_wait_when_the_hub_fails_do_not_make_a_group():
    launcher = ScriptedLauncher(serve, unfit)
    with pytest.raises(gibbs.RestartsExhausted):
        async with open_hub(launcher, restarts=FRAGILE) as hub, anyio.create_task_group() as tg:
            launcher.worker().die(code=1)
            for n in range(3):
                tg.start_soon(hub.request, n)


# ---------------------------------------------------------------------------------------------------- health, statistics


async def test_statistics_tell_how_every_request_ended(ask):
    async def script(worker):
        await worker.start()
        for _ in range(4):
            await worker.run(await worker.receive())
        worker.begin((await worker.receive()).link_id)
        worker.die(code=1)

    async with anyio.create_task_group() as tg:
        async with open_hub(ScriptedLauncher(script, serve), model=Slow, on_cancel="finish") as hub:
            assert await hub.request(0) == 0
            assert await hub.request(1) == 1
            with pytest.raises(TypeError):
                await hub.request("not a number")
            with anyio.move_on_after(1):
                await hub.request(2)
            with pytest.raises(gibbs.WorkerCrashed):
                await hub.request(4)
            await ask(tg, hub.request, 1000)
            await anyio.wait_all_tasks_blocked()
            queued = await ask(tg, hub.request, 1000)
            await anyio.sleep(3)
            now = hub.statistics()
            assert (now.running, now.queued, now.oldest_wait) == (1, 1, pytest.approx(3))
            assert now.seats["serving"] == 1
            assert len(now.pids) == 1
            assert now.pids[0] is not None
        with pytest.raises(gibbs.HubClosed):
            await queued.outcome()
    end = hub.statistics()
    assert (end.done, end.failed, end.cancelled, end.crashed, end.refused) == (2, 1, 1, 1, 2)
    assert (end.queued, end.running, end.restarts, end.oldest_wait) == (0, 0, 1, 0.0)
    assert end.pids == (None,)


async def test_the_repr_tells_the_state():
    async with open_hub(ScriptedLauncher(), workers=2) as hub:
        assert "'echo' open: 2 of 2 workers ready, 0 requests running, 0 queued" in repr(hub)
        await hub.drain()
        assert "draining" in repr(hub)
    assert "closed: 0 of 2" in repr(hub)
