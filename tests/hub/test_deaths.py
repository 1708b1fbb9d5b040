"""A worker dies, or must: whose requests fail, whose go back, and who notices nothing."""

from __future__ import annotations

import signal

import anyio
import pytest
from trio.testing import MockClock

import gibbs
from gibbs._wire import payload
from gibbs._wire.frames import encode
from gibbs._wire.messages import ANSWER, CALL, FAILURE, READY, SKIPPED, UNFIT
from gibbs.testing import ScriptedLauncher, serve


@pytest.fixture(scope="module")
def anyio_backend():
    return "trio", {"clock": MockClock(autojump_threshold=0)}


@pytest.fixture(params=[True, False], ids=["side", "in-band"])
def side(request):
    return request.param


class Echo:
    def __call__(self, x):
        return x


def open_hub(launcher, *, workers=1, close_timeout=0, **options):
    return gibbs.open_hub(Echo, name="echo", workers=workers, launcher=launcher, close_timeout=close_timeout, **options)


async def test_what_had_begun_raises_workercrashed_with_all_that_is_known(ask, by_hand, begin, side):
    launcher = ScriptedLauncher(by_hand, side=side)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        worker = launcher.worker()
        asked = await ask(tg, hub.request, 1)
        await begin(worker)
        worker.die(signal=signal.SIGSEGV, tail="Segmentation fault")
        with pytest.raises(gibbs.WorkerCrashed) as caught:
            await asked.outcome()
        crash = caught.value
        assert (crash.name, crash.pid, crash.seat, crash.incarnation) == ("echo", worker.pid, 0, 1)
        assert (crash.exit_code, crash.signal, crash.stderr_tail) == (None, "SIGSEGV", "Segmentation fault")
        assert (crash.may_have_run, crash.may_still_run) == (True, False)
        assert "native code" in crash.probable_cause


@pytest.mark.parametrize(
    ("later", "words"), [(8, "out-of-memory killer, which has ended"), (7, "not the kernel's out-of-memory killer")]
)
async def test_the_kernels_counter_tells_a_kill_for_want_of_memory(later, words, ask, by_hand, begin, monkeypatch):
    counter = iter([7, later])
    monkeypatch.setattr("gibbs._parent.supervisor.oom_kills", lambda: next(counter, later))
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        asked = await ask(tg, hub.request, 1)
        await begin(launcher.worker())
        launcher.worker().die(signal=signal.SIGKILL)
        with pytest.raises(gibbs.WorkerCrashed, match=words):
            await asked.outcome()


async def test_a_request_that_had_not_begun_goes_back_and_is_answered_by_another_worker(ask, by_hand, begin):
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        asked = await ask(tg, hub.request, 1)
        await launcher.worker().receive()
        launcher.worker().die(code=1)
        await anyio.wait_all_tasks_blocked()
        assert launcher.worker().spec.incarnation == 2
        call = await begin(launcher.worker())
        await launcher.worker().answer(call.link_id, "answer")
        assert await asked.outcome() == "answer"
        assert hub.statistics().crashed == 0


async def test_a_request_that_goes_back_keeps_its_place_in_the_queue(ask, by_hand, begin):
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        asked = [await ask(tg, hub.request, n) for n in range(3)]
        launcher.worker().die(code=1)
        await anyio.wait_all_tasks_blocked()
        for n in range(3):
            call = await begin(launcher.worker())
            assert call.content[1] == (n,)
            await launcher.worker().answer(call.link_id, n)
            assert await asked[n].outcome() == n


async def test_a_request_that_a_second_worker_did_not_begin_is_lost_with_the_promise_that_it_has_not_run(ask, by_hand):
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        asked = await ask(tg, hub.request, 1)
        for _ in range(2):
            await launcher.worker().receive()
            launcher.worker().die(code=1)
            await anyio.wait_all_tasks_blocked()
        with pytest.raises(gibbs.WorkerCrashed) as caught:
            await asked.outcome()
        assert not caught.value.may_have_run
        assert caught.value.incarnation == 2


async def test_without_a_page_all_that_was_sent_may_have_run(ask, by_hand):
    launcher = ScriptedLauncher(by_hand, side=False)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        asked = await ask(tg, hub.request, 1)
        await launcher.worker().receive()
        launcher.worker().die(code=1)
        with pytest.raises(gibbs.WorkerCrashed) as caught:
            await asked.outcome()
        assert caught.value.may_have_run


async def test_the_others_notice_nothing(ask, by_hand, begin, side):
    launcher = ScriptedLauncher(by_hand, side=side)
    async with open_hub(launcher, workers=2) as hub, anyio.create_task_group() as tg:
        asked = [await ask(tg, hub.request, n) for n in range(2)]
        calls = {worker.spec.seat: await begin(worker) for worker in launcher.workers}
        launcher.worker(0).die(code=1)
        lost, kept = calls[0].content[1][0], calls[1].content[1][0]
        with pytest.raises(gibbs.WorkerCrashed):
            await asked[lost].outcome()
        await launcher.worker(1).answer(calls[1].link_id, "fine")
        assert await asked[kept].outcome() == "fine"


async def test_an_idle_worker_that_dies_is_replaced_and_no_request_fails(side):
    launcher = ScriptedLauncher(side=side)
    async with open_hub(launcher) as hub:
        launcher.worker().die(signal=signal.SIGKILL)
        await anyio.wait_all_tasks_blocked()
        assert await hub.request(1) == 1
        assert hub.statistics().crashed == 0
        assert hub.statistics().restarts == 1


async def test_the_answer_that_was_in_the_stream_when_the_worker_died_is_delivered(ask, by_hand, begin, side):
    launcher = ScriptedLauncher(by_hand, side=side)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        worker = launcher.worker()
        asked = await ask(tg, hub.request, 1)
        call = await begin(worker)
        await worker.answer(call.link_id, "last words")
        worker.die(signal=signal.SIGKILL)
        assert await asked.outcome() == "last words"


async def test_last_words_are_heard_to_their_end_in_however_small_pieces_they_come(ask, by_hand, begin, side):
    launcher = ScriptedLauncher(by_hand, side=side)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        worker = launcher.worker()
        asked = await ask(tg, hub.request, 1)
        call = await begin(worker)
        for byte in encode(ANSWER, call.link_id, payload.dumps("last words")):
            worker._hub_hears.send_nowait(bytes([byte]))  # nobody runs between the first and the death
        worker.die(signal=signal.SIGKILL)
        assert await asked.outcome() == "last words"


async def test_an_answer_that_is_cut_by_the_death_is_none(ask, by_hand, begin):
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        worker = launcher.worker()
        asked = await ask(tg, hub.request, 1)
        call = await begin(worker)
        await worker.say(encode(ANSWER, call.link_id, b"a long answer")[:-1])
        worker.die(signal=signal.SIGKILL)
        with pytest.raises(gibbs.WorkerCrashed) as caught:
            await asked.outcome()
        assert "protocol" not in caught.value.probable_cause


# --------------------------------------------------------------------------------------------- who breaks the protocol


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(
            lambda link_id: encode(ANSWER, link_id + 1, b"\x80"), id="an answer to a request it does not have"
        ),
        pytest.param(lambda link_id: encode(ANSWER, link_id - 1, b"\x80"), id="a second answer"),
        pytest.param(lambda link_id: encode(FAILURE, 1 << 63, b"\x80"), id="a failure of a request that never was"),
        pytest.param(lambda link_id: encode(SKIPPED, link_id), id="skipping a request that somebody waits for"),
        pytest.param(lambda link_id: encode(SKIPPED, 0), id="skipping no request"),
        pytest.param(lambda link_id: encode(READY, 0, b"\x80"), id="ready while it serves"),
        pytest.param(lambda link_id: encode(UNFIT, 0, b"\x80"), id="unfit while it serves"),
        pytest.param(lambda link_id: encode(CALL, link_id, b"\x80"), id="a message for workers"),
        pytest.param(lambda link_id: b"Traceback (most recent call last):\n", id="text"),
        pytest.param(lambda link_id: b"\xff" * 100, id="garbage"),
        pytest.param(lambda link_id: encode(ANSWER, link_id)[:-8] + b"\xff" * 8, id="a header that claims exabytes"),
    ],
)
async def test_a_worker_that_breaks_the_protocol_is_killed_and_its_caller_told_why(ask, by_hand, begin, words, side):
    launcher = ScriptedLauncher(by_hand, side=side)
    async with open_hub(launcher, workers=2) as hub, anyio.create_task_group() as tg:
        asked = {n: await ask(tg, hub.request, n) for n in range(2)}
        calls = {worker.spec.seat: await begin(worker) for worker in launcher.workers}
        liar, honest = launcher.worker(0), launcher.worker(1)
        await liar.say(words(calls[0].link_id))
        with pytest.raises(gibbs.WorkerCrashed) as caught:
            await asked[calls[0].content[1][0]].outcome()
        assert "it was killed by the hub" in caught.value.probable_cause
        assert caught.value.signal == "SIGKILL"
        assert liar.kills
        await honest.answer(calls[1].link_id, "honest")
        assert await asked[calls[1].content[1][0]].outcome() == "honest"
        assert not honest.kills
        await hub.wait_ready()


@pytest.mark.parametrize("pieces", [1, 2])
async def test_what_a_worker_says_after_a_lie_is_not_believed_however_it_was_cut(ask, by_hand, begin, pieces, side):
    launcher = ScriptedLauncher(by_hand, side=side)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        asked = await ask(tg, hub.request, 1)
        worker = launcher.worker()
        call = await begin(worker)
        said = encode(ANSWER, call.link_id + 1, b"forged"), encode(ANSWER, call.link_id, payload.dumps("too late"))
        for piece in said if pieces == 2 else [b"".join(said)]:
            await worker.say(piece)
        with pytest.raises(gibbs.WorkerCrashed) as caught:
            await asked.outcome()
        assert f"request {call.link_id + 1}" in caught.value.probable_cause


async def test_a_worker_that_lies_while_it_is_idle_is_replaced(by_hand):
    launcher = ScriptedLauncher(by_hand, serve)
    async with open_hub(launcher) as hub:
        await launcher.worker().say(encode(ANSWER, 7, b""))
        await launcher.worker().wait_ended()
        assert await hub.request(1) == 1


async def test_a_worker_that_lies_about_an_abandoned_call_is_killed(ask, by_hand, begin):
    launcher = ScriptedLauncher(by_hand, serve)
    async with open_hub(launcher, cancel_grace=1000) as hub, anyio.create_task_group() as tg:
        worker = launcher.worker()
        asked = await ask(tg, hub.request, 1)
        call = await begin(worker)
        asked.cancel()
        await worker.interrupted()
        await worker.skip(call.link_id + 1)
        before = anyio.current_time()
        await worker.wait_ended()
        assert await hub.request(1) == 1
        assert anyio.current_time() == before


# ------------------------------------------------------------------------------------------------- stream and process


async def test_a_worker_that_closes_its_stream_but_lives_is_killed(ask, by_hand, begin, side):
    launcher = ScriptedLauncher(by_hand, side=side)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        worker = launcher.worker()
        asked = await ask(tg, hub.request, 1)
        await begin(worker)
        before = anyio.current_time()
        worker.hang_up()
        with pytest.raises(gibbs.WorkerCrashed) as caught:
            await asked.outcome()
        assert caught.value.signal == "SIGKILL"
        assert anyio.current_time() - before < 1


async def test_a_worker_that_closes_its_stream_as_it_ends_has_time_to_give_its_own_status(ask, by_hand, begin):
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        worker = launcher.worker()
        asked = await ask(tg, hub.request, 1)
        await begin(worker)
        worker.hang_up()
        await anyio.sleep(0.01)
        worker.die(code=3)
        with pytest.raises(gibbs.WorkerCrashed) as caught:
            await asked.outcome()
        assert caught.value.exit_code == 3


async def test_a_process_that_ends_is_noticed_while_its_stream_stays_open(ask, by_hand, begin, side):
    launcher = ScriptedLauncher(by_hand, side=side)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        worker = launcher.worker()
        asked = await ask(tg, hub.request, 1)
        await begin(worker)
        before = anyio.current_time()
        worker.die(code=4, hang_up=False)
        with pytest.raises(gibbs.WorkerCrashed) as caught:
            await asked.outcome()
        assert caught.value.exit_code == 4
        assert anyio.current_time() - before < 1


async def test_last_words_are_heard_although_the_stream_stays_open(ask, by_hand, begin):
    launcher = ScriptedLauncher(by_hand)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        worker = launcher.worker()
        asked = await ask(tg, hub.request, 1)
        call = await begin(worker)
        await worker.answer(call.link_id, "last words")
        worker.die(code=4, hang_up=False)
        assert await asked.outcome() == "last words"


class Clinging:
    """A stream of which a read cannot be cut before something has happened, as when a thread reads it."""

    def __init__(self, stream, happened):
        self._stream = stream
        self._happened = happened

    def __getattr__(self, name):
        return getattr(self._stream, name)

    async def receive(self, max_bytes=65536):
        with anyio.CancelScope(shield=True):
            await self._happened()
        raise anyio.EndOfStream


@pytest.fixture
def cling(ask, begin):
    """`await cling(hub, worker, happened)`: from now on the worker's stream is a clinging one."""

    async def cling(hub, worker, happened):
        link = hub._desk.crew.supervisors[worker.spec.seat].worker.link
        link._stream = Clinging(link._stream, happened)
        async with anyio.create_task_group() as tg:
            asked = await ask(tg, hub.request, 0)  # ends the read that has begun
            call = await begin(worker)
            await worker.answer(call.link_id, 0)
            assert await asked.outcome() == 0

    return cling


async def test_a_worker_that_must_go_is_killed_before_its_stream_is_waited_for(ask, by_hand, begin, cling):
    launcher = ScriptedLauncher(by_hand, serve)
    async with open_hub(launcher, on_cancel="kill") as hub, anyio.create_task_group() as tg:
        worker = launcher.worker()
        await cling(hub, worker, worker.wait_ended)
        running = await ask(tg, hub.request, 1)
        await begin(worker)
        running.cancel()
        assert (await worker.wait_ended()).signal == "SIGKILL"
        assert await hub.request(2) == 2


async def test_no_request_is_sent_to_a_worker_that_is_known_to_be_over(ask, by_hand, cling):
    launcher = ScriptedLauncher(by_hand, serve)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        let_go = anyio.Event()
        await cling(hub, launcher.worker(), let_go.wait)
        launcher.worker().die(code=1, hang_up=False)
        await anyio.wait_all_tasks_blocked()
        asked = await ask(tg, hub.request, 1)
        queued = hub.statistics().queued
        let_go.set()
        assert await asked.outcome() == 1
        assert queued == 1


async def test_a_process_that_cannot_be_killed_is_reported_and_not_waited_for_for_ever(ask, by_hand, begin, caplog):
    launcher = ScriptedLauncher(by_hand, serve)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        worker = launcher.worker()
        asked = await ask(tg, hub.request, 1)
        await begin(worker)
        worker.immortal = True
        await worker.say(b"garbage that costs its life")
        with pytest.raises(gibbs.WorkerCrashed) as caught:
            await asked.outcome()
        assert caught.value.may_still_run
        assert f"worker 0 (pid {worker.pid}) was killed but is not gone" in caplog.text
        assert await hub.request(2) == 2


async def test_a_request_that_an_unreaped_worker_may_still_begin_does_not_run_twice(ask, by_hand):
    launcher = ScriptedLauncher(by_hand, serve)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        worker = launcher.worker()
        asked = await ask(tg, hub.request, 1)
        await worker.receive()
        worker.immortal = True
        await worker.say(b"garbage that costs its life")
        with pytest.raises(gibbs.WorkerCrashed) as caught:
            await asked.outcome()
        assert (caught.value.may_have_run, caught.value.may_still_run) == (True, True)


async def test_a_request_that_begins_while_its_worker_is_being_killed_is_not_sent_again(ask, by_hand):
    launcher = ScriptedLauncher(by_hand, serve)
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        worker = launcher.worker()
        asked = await ask(tg, hub.request, 1)
        call = await worker.receive()
        worker.immortal = True  # SIGKILL is on its way
        await worker.say(b"garbage that costs its life")
        await anyio.wait_all_tasks_blocked()
        assert worker.kills
        assert worker.begin(call.link_id)
        worker.die(signal=signal.SIGKILL)
        with pytest.raises(gibbs.WorkerCrashed) as caught:
            await asked.outcome()
        assert (caught.value.may_have_run, caught.value.may_still_run) == (True, False)


async def test_crashes_leave_the_books_in_balance(side):
    async def dies_in_its_third_request(worker):
        await worker.start()
        for _ in range(2):
            await worker.run(await worker.receive())
        worker.begin((await worker.receive()).link_id)
        worker.die(signal=signal.SIGABRT)

    launcher = ScriptedLauncher(dies_in_its_third_request, side=side)
    outcomes = []

    async def one(hub, n):
        try:
            outcomes.append(await hub.request(n) == n)
        except gibbs.WorkerCrashed:
            outcomes.append("crashed")

    async with open_hub(launcher, workers=3) as hub:
        async with anyio.create_task_group() as tg:
            for n in range(60):
                tg.start_soon(one, hub, n)
        statistics = hub.statistics()
        assert (statistics.done, statistics.crashed) == (outcomes.count(True), outcomes.count("crashed")) == (40, 20)
        assert (statistics.queued, statistics.running) == (0, 0)


async def test_what_is_lost_with_a_call_that_did_not_unwind_says_where_that_was(ask, by_hand, begin):
    launcher = ScriptedLauncher(by_hand, serve)
    async with (
        open_hub(launcher, workers=2, cancel_grace=3) as hub,
        hub.lease() as lease,
        anyio.create_task_group() as tg,
    ):
        worker = launcher.worker(lease.seat)
        worker.where = 'Thread (most recent call first):\n  File "model.py", line 3 in run\n'
        running = await ask(tg, lease.request, 1)
        await begin(worker)
        running.cancel()
        await worker.wait_ended()
        with pytest.raises(gibbs.LeaseBroken, match=r"it was at model\.py:3 in run") as caught:
            await lease.request(2)
        crash = caught.value.__cause__
        assert isinstance(crash, gibbs.WorkerCrashed)
        assert crash.stack == '  File "model.py", line 3, in run'


async def test_a_fault_tells_of_the_thread_that_had_it(ask, by_hand, begin):
    """In the last lines, where it is not told apart from them."""
    launcher = ScriptedLauncher(by_hand, serve)
    tail = """Fatal Python error: Segmentation fault

Thread 0x00007f (most recent call first):
  File "pool.py", line 8 in wait

Current thread 0x00007e (most recent call first):
  File "model.py", line 3 in run
  File "model.py", line 9 in __call__

Extension modules: numpy (total: 1)"""
    async with open_hub(launcher) as hub, anyio.create_task_group() as tg:
        worker = launcher.worker()
        asked = await ask(tg, hub.request, 1)
        await begin(worker)
        worker.die(signal=signal.SIGSEGV, tail=tail)
        with pytest.raises(gibbs.WorkerCrashed) as caught:
            await asked.outcome()
    assert caught.value.stack.splitlines() == [
        '  File "model.py", line 9, in __call__',
        '  File "model.py", line 3, in run',
        "another thread:",
        '  File "pool.py", line 8, in wait',
    ]
    assert caught.value.probable_cause.endswith("it was at model.py:3 in run")
