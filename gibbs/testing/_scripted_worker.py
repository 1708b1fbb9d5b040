"""A worker in memory, as its script sees it: verbs for all that a worker can do, and for what none should.

Knows the wire as a worker does, and nothing of hubs. A script is an async function that drives one worker; `serve` is the
default one, a worker as it should be. A test may also call the verbs itself. Promises that what the hub sees is made of the
same bytes, page and signals as from a process: `begin` obeys an aim, an interrupt hits the running call and no other, and
a dead worker has closed its stream.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import anyio

from .._wire import payload, plain
from .._wire.failure import dump_failure
from .._wire.frames import encode
from .._wire.messages import ANSWER, FAILURE, READY, SETUP, SKIPPED, UNFIT
from .._wire.recipe import Recipe
from ._memory_process import MemoryProcess
from ._probe import in_memory

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeAlias

    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

    from ..abc import WorkerSpec
    from ._memory_process import Message

    Script: TypeAlias = "Callable[[ScriptedWorker], Awaitable[object]]"


class ScriptedWorker(MemoryProcess):
    """One worker in memory.

    Attributes:
        spec: what was to be launched: the seat, and the how-manieth worker of it.
        pid: a number that no process has.
        model: what `start` built.
        calls: every request that arrived, in order.
        begun, running, target: the link ids of the request that began last, that runs, and that the hub aimed at; 0: none.
        claims: how many requests were sent that it may begin.
        service_time: the seconds that it says it takes for a request; infinity: nothing is sent ahead to it.
        interrupts: how many hit the running request.
        kills: how often the hub killed it.
        immortal: True makes `kill` do nothing, as to a process that hangs in the kernel.
        ending: how it ended, None while it lives.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        pid: int,
        hub_says: MemoryObjectReceiveStream[bytes],
        hub_hears: MemoryObjectSendStream[bytes],
    ) -> None:
        super().__init__(spec, pid, hub_says, hub_hears)
        self.model: Any = None
        self._setup: dict[str, Any] | None = None

    # ---- to be a good worker

    async def start(self) -> bool:
        """Receive the recipe, build the model in this process, and say READY, or UNFIT: then False."""
        recipe = (await self._receive_setup())["recipe"]
        token = in_memory.set(self)
        try:
            factory, args = Recipe(recipe).load()
            self.model = factory(*args)
        except Exception as error:  # noqa: BLE001 - the user's code
            await self.unfit(error)
            return False
        finally:
            in_memory.reset(token)
        await self.ready()
        return True

    async def work(self) -> None:
        """Run requests until the hub says LEAVE."""
        while not (message := await self.receive()).is_leave:
            await self.run(message)

    async def run(self, call: Message) -> None:
        """Run one request and answer it. What the model returns is awaited if it can be; an interrupt cancels that."""
        if not self.begin(call.link_id):
            await self.skip(call.link_id)
            return
        token = in_memory.set(self)
        try:
            method, args, kwargs = call.content
            with anyio.CancelScope() as self._call_scope:
                value = getattr(self.model, method)(*args, **kwargs) if method else self.model(*args, **kwargs)
                if inspect.isawaitable(value):
                    value = await value
        except Exception as error:  # noqa: BLE001 - the model's own, which is what the caller shall get
            await self.fail(call.link_id, error)
        else:
            if self._call_scope.cancelled_caught:
                await self.skip(call.link_id)
            else:
                await self.answer(call.link_id, value)
        finally:
            self._call_scope = None
            in_memory.reset(token)

    # ---- to hear

    async def interrupted(self) -> None:
        """Wait for the next interrupt of the running request; each is told once."""
        while self._awaited_interrupts == self.interrupts:
            await self._news.wait()
        self._awaited_interrupts += 1

    async def aimed(self) -> int:
        """Wait until the hub aims at a request that has not begun, or at the running one; return its link id."""
        while not self.target:
            await self._news.wait()
        return self.target

    # ---- to speak

    async def ready(self, *, interruptible: bool | None = None, methods: dict[str, str] | None = None) -> None:
        """Say READY, with what the model offers: methods by name and kind.

        If not given, those of the model that `start` built; of one that was not built, `{"__call__": "plain"}`.
        """
        await self._receive_setup()
        if interruptible is None:
            interruptible = bool(getattr(self.model, "interruptible", False))
        if methods is None:
            methods = {"__call__": "plain"} if self.model is None else _methods_of(self.model)
        about = {"methods": methods, "interruptible": interruptible}
        await self.say(encode(READY, 0, plain.dumps(about)))

    async def unfit(self, error: BaseException, *, reason: str = "model") -> None:
        """Say that no model came of it."""
        await self._receive_setup()
        report = dump_failure(error, stage="call", where=str(self))
        await self.say(encode(UNFIT, 0, plain.dumps((reason, report))))

    def begin(self, link_id: int) -> bool:
        """Mark a request as begun, as the page would tell; False if the hub withdrew it first."""
        if not self.claim() or link_id in self._unwanted or link_id == self.target:
            self._unwanted.discard(link_id)
            return False
        self.mark_begun(link_id)
        return True

    async def answer(self, link_id: int, value: object) -> None:
        """Answer a request with a result."""
        await self._reply(ANSWER, link_id, payload.dumps(value))

    async def fail(self, link_id: int, error: BaseException) -> None:
        """Answer a request with an exception."""
        await self._reply(FAILURE, link_id, dump_failure(error, stage="call", where=str(self)))

    async def skip(self, link_id: int) -> None:
        """Say that a withdrawn request did not run, or not to its end."""
        await self._reply(SKIPPED, link_id, b"")

    # ---- inside

    async def _receive_setup(self) -> dict[str, Any]:
        if self._setup is None:
            message = await self.receive()
            assert message.kind == SETUP, f"the first message of a hub must be SETUP, not {message.kind}"
            setup: dict[str, Any] = message.content
            self._setup = setup
            if setup["in_band"]:
                self.read_on()
        return self._setup

    async def _reply(self, kind: int, link_id: int, body: bytes) -> None:
        self.mark_over(link_id)
        await self.say(encode(kind, link_id, body))


async def serve(worker: ScriptedWorker) -> None:
    """The default script: a worker as it should be, whose model runs in this process.

    Example:
        ```python
        async def dies_in_its_first_request(worker):
            await worker.start()
            call = await worker.receive()
            worker.begin(call.link_id)
            worker.die(signal=signal.SIGSEGV)


        launcher = ScriptedLauncher(dies_in_its_first_request, serve)
        ```
    """
    if await worker.start():
        await worker.work()


def _methods_of(model: Any) -> dict[str, str]:
    """The public callables of a model, with their kinds in the words of the wire."""
    names = [name for name in dir(model) if not name.startswith("_")] + ["__call__"] * callable(model)
    return {name: _kind_of(f) for name in names if callable(f := getattr(model, name))}


def _kind_of(f: Any) -> str:
    if inspect.iscoroutinefunction(f):
        return "async"
    if inspect.isasyncgenfunction(f):
        return "async generator"
    return "generator" if inspect.isgeneratorfunction(f) else "plain"


for _public in (ScriptedWorker, serve):
    _public.__module__ = "gibbs.testing"
