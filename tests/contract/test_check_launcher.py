"""The check of launchers can fail: each of these launchers breaks one sentence of the contract, and is told so."""

from __future__ import annotations

from contextlib import asynccontextmanager

import anyio
import pytest
from trio.testing import MockClock

from gibbs import Ending
from gibbs.testing import ScriptedLauncher, check_launcher, serve


@pytest.fixture(scope="module")
def anyio_backend():
    return "trio", {"clock": MockClock(autojump_threshold=0)}


class Process:
    """A scripted worker's process, as it should be. Subclasses break it."""

    def __init__(self, process, session):
        self.inner = process
        self.session = session

    def __getattr__(self, name):
        return getattr(self.inner, name)


class Launcher:
    """A launcher whose processes are of another class."""

    def __init__(self, process_class=Process):
        self._scripted = ScriptedLauncher()
        self._process_class = process_class
        self.traits = self._scripted.traits

    @asynccontextmanager
    async def session(self):
        async with self._scripted.session() as inner:
            session = Session(inner, self._process_class)
            yield session
        session.left = True


class Session:
    def __init__(self, inner, process_class):
        self.inner = inner
        self.process_class = process_class
        self.left = False

    async def launch(self, spec):
        return self.process_class(await self.inner.launch(spec), self)


async def test_the_launcher_that_the_broken_ones_are_made_of_passes():
    await check_launcher(Launcher())


# ------------------------------------------------------------------------------------------------------------ processes


class KillDoesNothing(Process):
    def kill(self):
        pass

    async def aclose(self):
        await self.inner.stream.aclose()


class KillMustBeAwaited(Process):
    def kill(self):
        self.inner.kill()
        return anyio.Event().wait


class EndedReturnsEarly(Process):
    async def ended(self):
        return Ending(how="exited", code=0)


class EndedReturnsOnce(Process):
    told = False

    async def ended(self):
        if self.told:
            await anyio.sleep_forever()
        ending = await self.inner.ended()
        self.told = True
        return ending


class EndedIsLostWhenCancelled(Process):
    asked = False

    async def ended(self):
        if self.asked:
            await anyio.sleep_forever()
        self.asked = True
        return await self.inner.ended()


class EndedReturnsSomethingElse(Process):
    async def ended(self):
        await self.inner.ended()
        return 0


class EndIsNotCertain(Process):
    async def ended(self):
        ending = await self.inner.ended()
        return Ending(how=ending.how, code=ending.code, certain=False)


class StreamNeverEnds(Process):
    @property
    def stream(self):
        return EndlessStream(self.inner.stream)


class EndlessStream(anyio.abc.ByteStream):
    def __init__(self, inner):
        self.inner = inner

    async def receive(self, max_bytes=65536):
        try:
            return await self.inner.receive(max_bytes)
        except anyio.EndOfStream:
            await anyio.sleep_forever()

    async def send(self, item):
        await self.inner.send(item)

    async def send_eof(self):
        await self.inner.send_eof()

    async def aclose(self):
        await self.inner.aclose()


class StreamIsNone(Process):
    @property
    def stream(self):
        class NoByteStream:
            send = self.inner.stream.send
            receive = self.inner.stream.receive

        return NoByteStream()


class AcloseLeavesTheStreamOpen(Process):
    async def aclose(self):
        self.inner.worker.die(signal=9, hang_up=False)


class AcloseDoesNotKill(Process):
    async def aclose(self):
        self.inner.worker.immortal = True  # kill() by others still ends it
        await self.inner.aclose()
        self.inner.worker.immortal = False


class AcloseWorksOnce(Process):
    closed = False

    async def aclose(self):
        if self.closed:
            raise RuntimeError("closed twice")
        self.closed = True
        await self.inner.aclose()


class OutlivesItsSession(Process):
    async def ended(self):
        if self.session.left:
            await anyio.sleep_forever()
        return await self.inner.ended()


class Side:
    def __init__(self, inner):
        self.inner = inner

    def begun(self):
        return self.inner.begun()

    def aim(self, link_id):
        self.inner.aim(link_id)

    def strike(self):
        self.inner.strike()

    def offer(self, count):
        self.inner.offer(count)

    def take_back(self, at_most):
        return self.inner.take_back(at_most)

    def service_time(self):
        return self.inner.service_time()


class SignalsAreLost(Process):
    @property
    def side(self):
        side = Side(self.inner.side)
        side.strike = lambda: None
        return side


class BegunIsNotTold(Process):
    @property
    def side(self):
        side = Side(self.inner.side)
        side.begun = lambda: 0
        return side


class WithdrawnRequestsRun(Process):
    @property
    def side(self):
        side = Side(self.inner.side)
        side.take_back = lambda at_most: min(at_most, self.inner.worker.claims)
        return side


@pytest.mark.parametrize(
    ("process_class", "sentence"),
    [
        (KillDoesNothing, r"ended\(\) must return after"),
        (KillMustBeAwaited, r"kill\(\) must be synchronous"),
        (EndedReturnsEarly, r"ended\(\) must not return while the process lives"),
        (EndedReturnsOnce, r"ended\(\) must return again"),
        (EndedIsLostWhenCancelled, r"ended\(\) must return (again|after kill\(\))"),
        (EndedReturnsSomethingElse, r"ended\(\) must return a gibbs.Ending, not 0"),
        (EndIsNotCertain, r"kill\(\) must end it for certain"),
        (StreamNeverEnds, "the stream must end"),
        (StreamIsNone, "stream must be an anyio.abc.ByteStream"),
        (AcloseLeavesTheStreamOpen, r"aclose\(\) must close the stream"),
        (AcloseDoesNotKill, r"ended\(\) must return after aclose\(\), which kills"),
        (OutlivesItsSession, "no process may outlive its session"),
        (SignalsAreLost, "an interrupted call must be given up"),
        (BegunIsNotTold, "an interrupted call must be given up"),
        (WithdrawnRequestsRun, "a withdrawn request must be skipped"),
    ],
)
async def test_a_process_that_breaks_the_contract_is_told_so(process_class, sentence):
    with pytest.raises(AssertionError, match=sentence):
        await check_launcher(Launcher(process_class), patience=5)


async def test_an_error_of_the_launcher_leaves_as_itself():
    with pytest.raises(RuntimeError, match="closed twice"):
        await check_launcher(Launcher(AcloseWorksOnce))


# -------------------------------------------------------------------------------------------------------------- workers


async def answers_something_else(worker):
    await worker.start()
    while not (call := await worker.receive()).is_leave:
        worker.begin(call.link_id)
        await worker.answer(call.link_id, "something else")


async def answers_another_request(worker):
    await worker.start()
    call = await worker.receive()
    await worker.answer(call.link_id + 1, call.content[1][0])
    await anyio.sleep_forever()


async def never_answers(worker):
    await worker.start()
    await anyio.sleep_forever()


async def never_ready(worker):
    await anyio.sleep_forever()


async def not_interruptible(worker):
    await worker.ready(interruptible=False, methods={"__call__": "plain", "count": "plain"})
    await anyio.sleep_forever()


async def loses_big_messages(worker):
    await worker.start()
    while not (call := await worker.receive()).is_leave:
        if len(call.body) > 1_000_000:
            await anyio.sleep_forever()
        await worker.run(call)


async def hides_that_it_cannot_be_built(worker):
    if not await worker.start():
        await anyio.sleep_forever()
    await worker.work()


async def leaves_with_an_error(worker):
    await serve(worker)
    worker.die(code=1)


async def stays_when_asked_to_leave(worker):
    await serve(worker)
    if worker.model:
        await anyio.sleep_forever()


async def says_it_died_of_something_else(worker):
    if not await worker.start():
        return
    while not (call := await worker.receive()).is_leave:
        if call.content[0] == "exit":
            worker.die(code=0)
        await worker.run(call)


async def loses_its_model_by_an_interrupt(worker):
    await worker.start()
    while not (call := await worker.receive()).is_leave:
        await worker.run(call)
        if worker.interrupts:
            worker.die(code=70)


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        (answers_something_else, "a worker must serve on after the handshake"),
        (answers_another_request, "request 1 must be answered, not by message"),
        (never_answers, "a worker must serve on after the handshake"),
        (never_ready, "a worker must answer SETUP by READY"),
        (not_interruptible, "READY must tell that the model is interruptible"),
        (loses_big_messages, "a message of some megabytes must pass both ways"),
        (hides_that_it_cannot_be_built, r"ended\(\) must return after UNFIT"),
        (leaves_with_an_error, r"LEAVE must end it with status 0: it exited with status 1"),
        (stays_when_asked_to_leave, r"ended\(\) must return after LEAVE"),
        (says_it_died_of_something_else, "the exit status must be the process's own, 3: it exited with status 0"),
    ],
)
@pytest.mark.parametrize("side", [True, False], ids=["side", "in-band"])
async def test_a_worker_that_breaks_the_contract_is_told_so(script, sentence, side):
    with pytest.raises(AssertionError, match=sentence):
        await check_launcher(ScriptedLauncher(script, side=side))


async def test_a_worker_that_does_not_survive_its_interrupt_is_told_so():
    with pytest.raises((AssertionError, anyio.EndOfStream, anyio.BrokenResourceError)):
        await check_launcher(ScriptedLauncher(loses_its_model_by_an_interrupt))


# -------------------------------------------------------------------------------------------------------------- launches


async def test_a_launch_that_never_returns_is_told_so():
    async def launching(spec):
        await anyio.sleep_forever()

    with pytest.raises(AssertionError, match=r"launch\(\) must return a process"):
        await check_launcher(ScriptedLauncher(launching=launching))


async def test_a_launch_that_does_not_heed_a_cancellation_is_told_so():
    class Heedless(Session):
        async def launch(self, spec):
            with anyio.CancelScope(shield=True):
                return await super().launch(spec)

    class Launching(Launcher):
        @asynccontextmanager
        async def session(self):
            async with self._scripted.session() as inner:
                yield Heedless(inner, Process)

    with pytest.raises(AssertionError, match=r"launch\(\) in a cancelled scope must give no process"):
        await check_launcher(Launching())


async def test_a_launcher_that_can_start_only_one_worker_fails_as_a_hub():
    async def launching(spec):
        if spec.seat:
            await anyio.sleep_forever()

    with pytest.raises(Exception, match=r"did not become ready|a hub over it must open"):
        await check_launcher(ScriptedLauncher(launching=launching))


async def test_a_session_that_does_not_end_is_told_so():
    class Endless(Launcher):
        @asynccontextmanager
        async def session(self):
            async with super().session() as session:
                yield session
            await anyio.sleep_forever()

    with pytest.raises(AssertionError, match="a session must begin, and end when it is left"):
        await check_launcher(Endless())


async def test_traits_of_another_kind_are_told_so():
    launcher = Launcher()
    launcher.traits = None
    with pytest.raises(AssertionError, match=r"traits must be a gibbs\.abc\.Traits"):
        await check_launcher(launcher)
