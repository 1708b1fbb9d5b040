"""What every launcher must do, tried: `await check_launcher(MyLauncher())` in a test.

Knows the launcher's contract and the wire; takes the part of the hub. Each check is one sentence, which the AssertionError
says when it does not hold. Promises that it uses nothing but the contract, and that it ends: whatever does not come within
`patience` seconds has failed.
"""

from __future__ import annotations

import math
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING

import anyio
from anyio.abc import ByteStream

from gibbs import Ending, Origin, open_hub

from .._wire.messages import LEAVE, UNFIT
from ..abc import Traits, WorkerSpec
from ._hub_end import HubEnd
from ._probe import Probe, ProbeError
from ._sweep import sweep

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from ..abc import Launcher, LaunchSession

_BIG = 3_000_001  # bytes: more than any socket buffer, and no round number
_MOMENT = 0.05  # seconds in which something must not happen
_SPEC = WorkerSpec(name="check", seat=0, incarnation=1, workers=1)


async def check_launcher(launcher: Launcher, *, patience: float = 30.0) -> None:
    """Try all that a hub expects of a launcher. Starts a dozen of its workers, one after the other.

    Args:
        launcher: starts workers that have this package, so that they can import the model of the check.
        patience: seconds that anything may take.

    Raises:
        AssertionError: what does not hold, as a sentence.

    Cancellation:
        Goes through; what was launched is gone, as far as the launcher keeps its word.

    Example:
        ```python
        async def test_my_launcher_is_one():
            await check_launcher(MyLauncher())
        ```
    """
    _must(isinstance(launcher.traits, Traits), "traits must be a gibbs.abc.Traits")
    for check in _CHECKS:
        await check(_Check(launcher, patience))


def _must(holds: bool, what: str) -> None:  # an assertion that `python -O` keeps
    if not holds:
        raise AssertionError(what)


class _Check:
    """One check: its sessions, its workers, its patience."""

    def __init__(self, launcher: Launcher, patience: float) -> None:
        self.launcher = launcher
        self.patience = patience

    @contextmanager
    def soon(self, what: str) -> Iterator[None]:
        """Whatever is awaited in the block is over in time, or `what` does not hold."""
        with anyio.move_on_after(self.patience) as scope:
            yield
        _must(not scope.cancelled_caught, f"{what} (nothing happened within {self.patience:g} seconds)")

    @asynccontextmanager
    async def session(self) -> AsyncIterator[LaunchSession]:
        """A session, from which a failed check leaves as itself, not in the group of somebody's tasks."""
        failed: Exception | None = None
        with anyio.move_on_after(self.patience) as scope:
            async with self.launcher.session() as session:
                scope.deadline = math.inf
                try:
                    yield session
                except Exception as error:  # noqa: BLE001 - raised again below
                    failed = error
                scope.deadline = anyio.current_time() + self.patience
        if failed is not None:
            raise failed
        _must(not scope.cancelled_caught, "a session must begin, and end when it is left")

    async def launch(self, session: LaunchSession) -> HubEnd:
        """A process, before the handshake."""
        with self.soon("launch() must return a process"):
            return HubEnd(await session.launch(_SPEC), elsewhere=not self.launcher.traits.same_host)
        raise AssertionError

    @asynccontextmanager
    async def worker(self, *args: object) -> AsyncIterator[HubEnd]:
        """A worker with its model built, and its end."""
        async with self.session() as session:
            hub = await self.launch(session)
            try:
                with self.soon("a worker must answer SETUP by READY"):
                    await hub.shake_hands(Probe, *args)
                yield hub
            finally:
                hub.process.kill()
                with anyio.CancelScope(shield=True), anyio.move_on_after(self.patience):
                    await hub.process.aclose()

    async def gone(self, hub: HubEnd, why: str) -> Ending:
        """The process ends, and its stream with it."""
        with self.soon(f"ended() must return {why}"):
            ending = await hub.process.ended()
        _must(isinstance(ending, Ending), f"ended() must return a gibbs.Ending, not {ending!r}")
        with self.soon("ended() must return again"):
            _must(ending == await hub.process.ended(), "ended() must return the same again")
        with self.soon(f"the stream must end {why}"):
            await hub.hear_the_end()
        return ending

    async def still_serves(self, hub: HubEnd, why: str) -> None:
        """It does not end, and answers."""
        with self.soon(f"a worker must serve on {why}"):
            _must(await hub.ask("", "well?") == "well?", f"a worker must serve on {why}")


async def _launch_gives_a_connected_process(check: _Check) -> None:
    async with check.worker() as hub:
        process = hub.process
        _must(isinstance(process.stream, ByteStream), "stream must be an anyio.abc.ByteStream")
        _must(isinstance(process.origin, Origin), "origin must be a gibbs.Origin")
        _must("count" in hub.about["methods"], "READY must tell the model's methods")
        _must(hub.about["interruptible"] is True, "READY must tell that the model is interruptible")
        await check.still_serves(hub, "after the handshake")


async def _answers_and_exceptions_come_back(check: _Check) -> None:
    async with check.worker(41) as hub:
        with check.soon("a request must be answered"):
            _must(await hub.ask("count") == 42, "the model must be built with the arguments that were sent")
        with check.soon("the model's exception must come back"):
            raised: ProbeError | None = None
            try:
                await hub.ask("fail", 1, "two")
            except ProbeError as error:
                raised = error
            _must(raised is not None and raised.args == (1, "two"), "an exception must come back with its arguments")
        await check.still_serves(hub, "after an exception")


async def _big_messages_pass_whole_both_ways(check: _Check) -> None:
    async with check.worker() as hub:
        big = bytes(range(256)) * (_BIG // 256) + b"end"
        with check.soon("a message of some megabytes must pass both ways"):
            _must(await hub.ask("", big) == big, "a message of some megabytes must come back unchanged")
        await check.still_serves(hub, "after a big message")


async def _a_model_that_cannot_be_built_is_reported(check: _Check) -> None:
    async with check.session() as session:
        hub = await check.launch(session)
        with check.soon("a worker whose model cannot be built must say UNFIT"):
            kind = await hub.shake_hands(Probe, None)
        _must(kind == UNFIT, "a worker whose model cannot be built must say UNFIT")
        await check.gone(hub, "after UNFIT, by itself")
        await hub.process.aclose()


async def _a_worker_leaves_when_it_is_asked(check: _Check) -> None:
    async with check.worker() as hub:
        await hub.say(LEAVE)
        ending = await check.gone(hub, "after LEAVE")
        _must(ending.exit_code == 0 or ending.how == "unknown", f"LEAVE must end it with status 0: it {ending}")


async def _a_running_call_is_interrupted(check: _Check) -> None:
    async with check.worker() as hub:
        link_id = await hub.call("hang")
        with check.soon("an interrupted call must be given up, by SKIPPED"):
            _must(await hub.interrupt(link_id), "an interrupted call must be given up, by SKIPPED")
        await check.still_serves(hub, "after an interrupt, with the same model")
        _must(hub.process.side is None or hub.process.side.begun() == hub.last_id, "side.begun() must tell the last id")


async def _a_withdrawn_request_is_skipped(check: _Check) -> None:
    async with check.worker() as hub:
        running = await hub.call("hang")
        with check.soon("a request that was withdrawn before it began must be skipped"):
            told, skipped = await hub.call_and_withdraw_behind(running, "count")
            _must(told == 1, f"side.take_back() must tell that one request had not begun, not {told}")
            _must(skipped, "a withdrawn request must be skipped, by SKIPPED")
            _must(await hub.ask("count") == 1, "a request that was withdrawn before it began must not run")


async def _ended_waits_for_the_end(check: _Check) -> None:
    async with check.worker() as hub:
        with anyio.move_on_after(_MOMENT):
            await hub.process.ended()
            raise AssertionError("ended() must not return while the process lives")
        await check.still_serves(hub, "after a cancelled ended()")
        hub.process.kill()
        await check.gone(hub, "after kill(), also when it was cancelled before")


async def _kill_ends_a_busy_worker(check: _Check) -> None:
    async with check.worker() as hub:
        await hub.call("hang")
        for _ in range(2):
            returned: object = hub.process.kill()  # type: ignore[func-returns-value]
            _must(returned is None, "kill() must be synchronous")
        ending = await check.gone(hub, "after kill(), also in a call")
        certain = ending.certain or not check.launcher.traits.kill_is_certain
        _must(certain, "kill() must end it for certain, as traits say")
        hub.process.kill()  # of no effect, and no error
        with check.soon("aclose() must return, also the second time"):
            await hub.process.aclose()
            await hub.process.aclose()


async def _a_process_that_ends_by_itself_is_noticed(check: _Check) -> None:
    async with check.worker() as hub:
        await hub.call("exit", 3)
        ending = await check.gone(hub, "when the process ends by itself")
        _must(ending.exit_code in (3, None), f"the exit status must be the process's own, 3: it {ending}")


async def _aclose_ends_a_live_worker(check: _Check) -> None:
    async with check.worker() as hub:
        await hub.call("hang")
        with check.soon("aclose() must return while the process lives"):
            await hub.process.aclose()
        with suppress(anyio.ClosedResourceError), check.soon("aclose() must close the stream"):
            await hub.process.stream.send(b"?")
            raise AssertionError("aclose() must close the stream")
        await check.gone(hub, "after aclose(), which kills")


async def _a_launch_can_be_cancelled(check: _Check) -> None:
    async with check.session() as session:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await session.launch(_SPEC)
        _must(scope.cancelled_caught, "launch() in a cancelled scope must give no process")
        async for step in sweep(lambda: session.launch(_SPEC), most=100):
            if step.value is not None:
                step.value.kill()
                await check.gone(HubEnd(step.value), "after kill(), also before the handshake")
                await step.value.aclose()


async def _a_session_leaves_nothing(check: _Check) -> None:
    async with check.session() as session:
        hub = await check.launch(session)
        with check.soon("a worker must answer SETUP by READY"):
            await hub.shake_hands(Probe)
        await hub.call("hang")
    with check.soon("no process may outlive its session"):
        _must(isinstance(await hub.process.ended(), Ending), "ended() must return a gibbs.Ending")
    with anyio.CancelScope(shield=True):
        await hub.process.aclose()


async def _a_hub_runs_on_it(check: _Check) -> None:
    failed: AssertionError | None = None
    with check.soon("a hub over it must open, answer and close"):
        async with open_hub(Probe, workers=2, launcher=check.launcher, start_timeout=check.patience) as hub:
            try:
                _must(await hub.request(7) == 7, "a hub over it must answer")
                with anyio.move_on_after(_MOMENT):
                    await hub.method(Probe.hang).request()
                    raise AssertionError("the probe hangs")
                _must([await hub.request(n) for n in range(4)] == [0, 1, 2, 3], "a hub must serve on after a cancel")
            except AssertionError as error:
                failed = error
    if failed is not None:
        raise failed


_CHECKS: tuple[Callable[[_Check], Awaitable[None]], ...] = (
    _launch_gives_a_connected_process,
    _answers_and_exceptions_come_back,
    _big_messages_pass_whole_both_ways,
    _a_model_that_cannot_be_built_is_reported,
    _a_worker_leaves_when_it_is_asked,
    _a_running_call_is_interrupted,
    _a_withdrawn_request_is_skipped,
    _ended_waits_for_the_end,
    _kill_ends_a_busy_worker,
    _a_process_that_ends_by_itself_is_noticed,
    _aclose_ends_a_live_worker,
    _a_launch_can_be_cancelled,
    _a_session_leaves_nothing,
    _a_hub_runs_on_it,
)

check_launcher.__module__ = "gibbs.testing"
