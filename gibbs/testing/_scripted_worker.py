"""A worker in memory, as its script sees it: verbs for all that a worker can do, and for what none should.

Knows the wire as a worker does, and nothing of hubs. A script is an async function that drives one worker; `serve` is the
default one, a worker as it should be. A test may also call the verbs itself. Promises that what the hub sees is made of the
same bytes, page and signals as from a process: `begin` obeys an aim, an interrupt hits the running call and no other, and
a dead worker has closed its stream.
"""

from __future__ import annotations

import inspect
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import anyio

from .._batched import batch_of, batches_of
from .._wire import payload, plain
from .._wire.failure import dump_failure
from .._wire.frames import encode
from .._wire.items import pack_items
from .._wire.messages import ANSWER, CLOSE, FAILURE, ITEMS, READY, REPORT, SETUP, SKIPPED, UNFIT
from .._wire.recipe import Recipe
from ._memory_process import MemoryProcess
from ._probe import in_memory

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeAlias

    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

    from ..abc import WorkerSpec
    from ._message import Message

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
            factory, args, _ = Recipe(recipe).load()
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
            if message.is_batch:
                await self.run_batch([await self.receive() for _ in range(message.batch_size)])
            else:
                await self.run(message)

    async def run(self, call: Message) -> None:
        """Run one request and answer it. What the model returns is awaited if it can be; an interrupt cancels that.

        Of a stream send what the model yields, which may be an async generator.
        """
        if not self.begin(call.link_id):
            await self.skip(call.link_id)
            return
        token = in_memory.set(self)
        closed = False
        try:
            method, args, kwargs, *_ = call.content
            with anyio.CancelScope() as self._call_scope:
                value = getattr(self.model, method)(*args, **kwargs) if method else self.model(*args, **kwargs)
                if call.is_stream:
                    closed = await self._stream(call.link_id, value)
                elif inspect.isawaitable(value):
                    value = await value
        except Exception as error:  # noqa: BLE001 - the model's own, which is what the caller shall get
            await self.fail(call.link_id, error)
        else:
            if self._call_scope.cancelled_caught or closed:
                await self.skip(call.link_id)
            elif call.is_stream:
                await self.end(call.link_id)
            else:
                await self.answer(call.link_id, value)
        finally:
            self._call_scope = None
            in_memory.reset(token)

    async def run_batch(self, calls: list[Message]) -> None:
        """Run several requests in one call of a batched method, and answer each."""
        members: list[Message] = []
        for call in calls:
            if self.begin(call.link_id, first=members[0].link_id if members else None):
                members.append(call)
            else:
                await self.skip(call.link_id)
        if not members:
            return
        token = in_memory.set(self)
        try:
            f, _ = batch_of(self.model, members[0].content[0])
            with anyio.CancelScope() as self._call_scope:
                values = f([call.content[1][0] for call in members])
                if inspect.isawaitable(values):
                    values = await values
        except Exception as error:  # noqa: BLE001 - the model's own, which is what the callers shall get
            for call in members:
                await self.fail(call.link_id, error)
        else:
            for number, call in enumerate(members):
                if self._call_scope.cancelled_caught:
                    await self.skip(call.link_id)
                else:
                    await self.answer(call.link_id, values[number])
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
        """Say READY, with what the model offers: methods by name and kind, by default of the model that `start` built, if it did."""
        await self._receive_setup()
        if interruptible is None:
            interruptible = bool(getattr(self.model, "interruptible", False))
        batched = {} if self.model is None else batches_of(self.model)
        if methods is None:
            methods = {"__call__": "plain"} if self.model is None else _methods_of(self.model)
        about = {
            "methods": methods,
            "batched": {name: (batch.max_size, float(batch.max_wait)) for name, batch in batched.items()},
            "interruptible": interruptible,
        }
        await self.say(encode(READY, 0, plain.dumps(about)))

    async def unfit(self, error: BaseException, *, reason: str = "model") -> None:
        """Say that no model came of it."""
        await self._receive_setup()
        await self.say(encode(UNFIT, 0, plain.dumps((reason, dump_failure(error, stage="call", where=str(self))))))

    def begin(self, link_id: int, *, first: int | None = None) -> bool:
        """Mark a request as begun, as the page would tell; False if the hub withdrew it first.

        `first`: of several that are one call, the one that began first.
        """
        if not self.claim() or link_id in self._unwanted or link_id == self.target:
            self._unwanted.discard(link_id)
            return False
        self.mark_begun(link_id, first=first)
        return True

    async def answer(self, link_id: int, value: object) -> None:
        """Answer a request with a result."""
        await self._reply(ANSWER, link_id, payload.dumps(value))

    async def credit(self, link_id: int) -> int:
        """Wait until more items of a stream may be sent. Returns how many; 0: its reader has left."""
        message = await self.receive_about(link_id)
        return 0 if message.kind == CLOSE else int.from_bytes(message.body, "little")

    async def give(self, link_id: int, *items: object) -> None:
        """Send items of a stream, in one piece, whether there is credit for them or not."""
        await self.say(encode(ITEMS, link_id, pack_items([(1, payload.dumps(item)) for item in items])))

    async def report(self, link_id: int, value: object) -> None:
        """Say how far a request has come, whether its caller wants to know or not."""
        await self.say(encode(REPORT, link_id, payload.dumps(value)))

    async def end(self, link_id: int) -> None:
        """Say that a stream has come to its end."""
        await self._reply(ANSWER, link_id, b"")

    async def fail(self, link_id: int, error: BaseException) -> None:
        """Answer a request with an exception."""
        await self._reply(FAILURE, link_id, dump_failure(error, stage="call", where=str(self)))

    async def skip(self, link_id: int) -> None:
        """Say that a withdrawn request did not run, or not to its end."""
        await self._reply(SKIPPED, link_id, b"")

    # ---- inside

    async def _stream(self, link_id: int, items: Any) -> bool:
        """Send all that it yields, within its credit. Returns whether its reader has left before the end."""
        async with aclosing(items if hasattr(items, "aclose") else _awaited(items)) as items:
            credit = await self.credit(link_id)
            while credit and self.target != link_id:
                try:
                    item = await anext(items)
                except StopAsyncIteration:
                    return False
                await self.give(link_id, item)
                credit = credit - 1 or (self.target != link_id and await self.credit(link_id))
        return True

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
        await self.say(self.pace() + encode(kind, link_id, body))


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


async def _awaited(items: Any) -> Any:
    try:
        for item in items:
            yield item
    finally:
        items.close()


def _methods_of(model: Any) -> dict[str, str]:
    """The public callables of a model, with their kinds in the words of the wire."""
    names = [name for name in dir(model) if not name.startswith("_")] + ["__call__"] * callable(model)
    return {name: _kind_of(f) for name in names if callable(f := getattr(model, name))}


def _kind_of(f: Any) -> str:
    if inspect.iscoroutinefunction(f):
        return "async"
    return "generator" if inspect.isgeneratorfunction(f) or inspect.isasyncgenfunction(f) else "plain"


for _public in (ScriptedWorker, serve):
    _public.__module__ = "gibbs.testing"
