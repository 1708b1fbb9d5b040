"""What type-checks without a plugin and without a word from the user.

Never run, only checked, by mypy --strict and by pyright and basedpyright in strict mode.
The calls that must be refused are in refused.py. The constructor's arguments are *not*
checked: ``open_hub(Model, "anything", workers=1)`` passes. A ParamSpec on the factory would
have to share ``**kwargs`` with the options of the hub, and PEP 612 has no way to say that.
``functools.partial(Model, ...)`` and ``lambda: Model(...)`` are checked, by the checker's own
knowledge of them.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from typing import Any, Generic, Protocol, TypeVar, assert_type, cast, overload

import anyio
import anyio.from_thread

import gibbs
from gibbs.testing import InlineLauncher, crash, hang, open_inline_hub
from gibbs.testing.strategies import does_not_travel, travels

T = TypeVar("T")


class Base:
    def inherited(self, data: bytes) -> int:
        raise NotImplementedError


class Model(Base):
    def __init__(self, path: str = "", *, wait_time: float = 0) -> None: ...

    def __call__(self, x: int) -> str:
        raise NotImplementedError

    def embed(self, text: str, *, scale: float = 1.0) -> list[float]:
        raise NotImplementedError

    def nothing(self) -> None: ...

    def many(self, *xs: int) -> int:
        raise NotImplementedError

    def options(self, text: str, **options: float) -> bytes:
        raise NotImplementedError

    def anything(self, text: str, **options: Any) -> bytes:
        raise NotImplementedError

    def positional(self, text: str, /, **options: float) -> bytes:
        raise NotImplementedError

    def reserved(self, name: str, *, workers: int, on_cancel: bool, args: int) -> int:
        raise NotImplementedError

    def generic(self, x: T, n: int = 1) -> list[T]:
        raise NotImplementedError

    @overload
    def several(self, x: int) -> int: ...
    @overload
    def several(self, x: str) -> str: ...
    def several(self, x: int | str) -> int | str:
        raise NotImplementedError

    @staticmethod
    def static(x: int) -> int:
        raise NotImplementedError

    @classmethod
    def of_class(cls, x: int) -> int:
        raise NotImplementedError


class SubModel(Model): ...


async def opening() -> None:
    async with gibbs.open_hub(Model, workers=4) as hub:
        assert_type(hub, gibbs.Hub[Model])
        assert_type(hub.name, str)
        assert_type(hub.statistics(), gibbs.HubStatistics)
        assert_type(hub.health(), gibbs.Health)
        await hub.wait_ready()
        await hub.wait_ready(2)
        await hub.drain()
    async with gibbs.open_hub(
        Model,
        "model.bin",
        workers=4,
        name="m",
        launcher=None,
        ready=1,
        start_timeout=1,
        start_concurrency=2,
        close_timeout=1.5,
        max_pending=0,
        max_message=1 << 20,
        results=gibbs.Safe(allow=[Model]),
        on_cancel="interrupt",
        cancel_grace=0.5,
        abandon_on_cancel=False,
        restarts=gibbs.RestartPolicy(max_failures=1, period=10),
    ) as hub:
        assert_type(hub, gibbs.Hub[Model])


def build(path: str) -> Model:
    raise NotImplementedError


async def factories() -> None:
    async with gibbs.open_hub(functools.partial(Model, wait_time=1), workers=1) as a:
        assert_type(a, gibbs.Hub[Model])
        assert_type(await a.request(3), str)
    async with gibbs.open_hub(lambda: Model(), workers=1) as b:
        assert_type(b, gibbs.Hub[Model])
    async with gibbs.open_hub(build, "model.bin", workers=1) as c:
        assert_type(c, gibbs.Hub[Model])
    # not checked, see above: the factory takes a str
    async with gibbs.open_hub(build, 1, 2, 3, workers=1) as d:
        assert_type(d, gibbs.Hub[Model])


async def requests(hub: gibbs.Hub[Model]) -> None:
    assert_type(await hub.request(3), str)
    assert_type(await hub.request(x=3), str)
    later: Coroutine[Any, Any, str] = hub.request(3)
    assert_type(await later, str)


async def how(hub: gibbs.Hub[Model]) -> None:
    assert_type(hub.using(on_cancel="kill"), gibbs.Calls[Model])
    assert_type(hub.using(), gibbs.Calls[Model])
    assert_type(await hub.using(on_cancel="kill").request(3), str)
    urgent = hub.using(priority=1, retries=2, retry_uncertain=True, key="tenant", max_wait=0.5)
    assert_type(await urgent.request(3), str)
    assert_type(await hub.method(Model.embed).using(priority=-1, key=b"x", max_wait=1).request("a"), list[float])
    both = hub.using(on_cancel=None).using(abandon_on_cancel=False)
    assert_type(await both.request(3), str)
    assert_type(await both.method(Model.embed).request("a"), list[float])
    endpoint = hub.method(Model.embed).using(on_cancel="finish", abandon_on_cancel=True)
    assert_type(await endpoint.request("a"), list[float])


async def methods(hub: gibbs.Hub[Model]) -> None:
    assert_type(await hub.method(Model.embed).request("a"), list[float])
    assert_type(await hub.method(Model.embed).request(text="a", scale=2), list[float])
    await hub.method(Model.nothing).request()
    assert_type(await hub.method(Model.inherited).request(b""), int)
    assert_type(await hub.method(Model.many).request(1, 2, 3), int)
    # mypy refuses the first two where method() has the Concatenate overload only
    assert_type(await hub.method(Model.options).request("a", k=1), bytes)
    assert_type(await hub.method(Model.anything).request("a", k=object()), bytes)
    assert_type(await hub.method(Model.positional).request("a", text=1), bytes)
    # no keyword is reserved
    named = hub.method(Model.reserved)
    assert_type(await named.request("a", workers=1, on_cancel=True, args=1), int)
    assert_type(await hub.method(Model.generic).request("a"), list[str])
    assert_type(await hub.method(Model.generic).request(b"", n=2), list[bytes])
    assert_type(await hub.method(Model.__call__).request(3), str)
    # by name: untyped, and what a static or class method needs (see refused.py)
    assert_type(hub.method("static"), gibbs.Endpoint[..., Any])
    assert_type(await hub.method("of_class").using(on_cancel="kill").request(1, k=2), Any)


async def overloaded(hub: gibbs.Hub[Model]) -> None:
    # Both checkers keep the first overload only. The others: by name, or with a cast.
    assert_type(await hub.method(Model.several).request(1), int)
    assert_type(await hub.method("several").request("a"), Any)
    text = cast("Callable[[Model, str], str]", Model.several)
    assert_type(await hub.method(text).request("a"), str)


# A model with keyword-only arguments and a parameter that is called self.


class Keywords:
    def __call__(this, self: int, *, g: bytes, f: str = "") -> float:  # pyright: ignore[reportSelfClsParameterName]
        raise NotImplementedError


async def keywords(hub: gibbs.Hub[Keywords]) -> None:
    assert_type(await hub.request(1, g=b""), float)
    assert_type(await hub.request(g=b"", f="", self=1), float)


# Models without __call__, and untyped ones in the manner of torch.nn.Module.


class NoCall:
    def embed(self, text: str) -> int:
        raise NotImplementedError


class Untyped:
    __call__: Callable[..., Any]


async def without_call() -> None:
    async with gibbs.open_hub(NoCall, workers=1) as hub:
        assert_type(await hub.method(NoCall.embed).request("a"), int)
    async with gibbs.open_hub(Untyped, workers=1) as untyped:
        assert_type(await untyped.request(1, k=2), Any)


# Generic models: name the parameter, in the factory and in the method.


class Box(Generic[T]):
    def __init__(self, x: T) -> None: ...

    def __call__(self, x: T) -> list[T]:
        raise NotImplementedError

    def first(self, x: T, y: int) -> T:
        raise NotImplementedError


class Echo:
    def __call__(self, x: T) -> list[T]:
        raise NotImplementedError


async def generic_models() -> None:
    async with gibbs.open_hub(Box[int], 1, workers=1) as hub:
        assert_type(hub, gibbs.Hub[Box[int]])
        assert_type(await hub.request(1), list[int])
        assert_type(await hub.method(Box[int].first).request(1, 2), int)
    async with gibbs.open_hub(Echo, workers=1) as echo:
        # mypy cannot solve echo.request(1) (see refused.py); this both can.
        assert_type(await echo.method(Echo.__call__).request(1), list[int])


# Functions.


def predict(x: int, *, k: str = "") -> bytes:
    raise NotImplementedError


async def functions() -> None:
    async with gibbs.open_hub(gibbs.function(predict), workers=1) as hub:
        assert_type(await hub.request(1), bytes)
        assert_type(await hub.request(x=1, k="a"), bytes)
        assert_type(await hub.using(on_cancel="kill").request(1), bytes)


# Streams.


class Teller:
    def __call__(self, prompt: str, *, most: int = 10) -> Iterator[str]:
        raise NotImplementedError

    def numbers(self, x: int) -> Generator[int, None, str]:
        raise NotImplementedError

    def copies(self, x: T) -> Iterator[T]:
        raise NotImplementedError

    def length(self, text: str) -> int:
        raise NotImplementedError


async def streams(hub: gibbs.Hub[Teller]) -> None:
    assert_type(hub.stream("a", most=3), gibbs.Stream[str])
    async with hub.stream("a") as words:
        assert_type(words, gibbs.Stream[str])
        async for word in words:
            assert_type(word, str)
        assert_type(await anext(words), str)
    assert_type(hub.using(buffer=3).stream("a"), gibbs.Stream[str])
    assert_type(hub.method(Teller.numbers).stream(1), gibbs.Stream[int])
    assert_type(hub.method(Teller.numbers).using(buffer=1, on_cancel="kill").stream(x=1), gibbs.Stream[int])
    assert_type(hub.method(Teller.copies).stream(1), gibbs.Stream[int])
    assert_type(hub.method("numbers").stream(1), gibbs.Stream[Any])
    assert_type(await hub.method(Teller.length).request("a"), int)
    _wider: gibbs.Stream[object] = hub.stream("a")


def tell(prompt: str) -> Iterator[str]:
    raise NotImplementedError


async def streaming_functions() -> None:
    async with gibbs.open_hub(gibbs.function(tell), workers=1) as hub:
        assert_type(hub.stream("a"), gibbs.Stream[str])


# Batches: the decorated method takes one item, for its callers and for the hub's.


class Labels:
    @gibbs.batched(max_size=8, max_wait=0.1, size_of=len, on_error="split")
    def __call__(self, texts: list[str]) -> list[int]:
        raise NotImplementedError

    @gibbs.batched()
    def some_fail(self, texts: list[str]) -> list[int | gibbs.Failed]:
        raise NotImplementedError

    @gibbs.batched()
    def to_tuple(self, texts: list[bytes]) -> tuple[str, ...]:
        raise NotImplementedError


@gibbs.batched()
def double(numbers: list[int]) -> list[float]:
    raise NotImplementedError


async def batches(hub: gibbs.Hub[Labels]) -> None:
    assert_type(Labels()("a"), int)
    assert_type(await hub.request("a"), int)
    assert_type(await hub.method(Labels.some_fail).request("a"), int)
    assert_type(await hub.method(Labels.to_tuple).request(b"a"), str)
    assert_type(double(1), float)
    async with gibbs.open_hub(gibbs.function(double), workers=1) as doubles:
        assert_type(await doubles.request(1), float)


# Maps.


async def maps(hub: gibbs.Hub[Model], labels: gibbs.Hub[Labels], source: AsyncIterator[int]) -> None:
    assert_type(hub.map([1, 2]), gibbs.Results[str])
    assert_type(hub.map(range(3), limit=10, ordered=False), gibbs.Results[str])
    async with hub.map(source) as results:
        async for result in results:
            assert_type(result, str)
    assert_type(hub.method(Model.embed).map(["a"]), gibbs.Results[list[float]])
    assert_type(labels.map(["a"]), gibbs.Results[int])
    assert_type(hub.using(on_cancel="kill").map([1]), gibbs.Results[str])


# Jobs.


async def jobs(hub: gibbs.Hub[Model], labels: gibbs.Hub[Labels]) -> None:
    assert_type(hub.track(1), gibbs.Job[str])
    async with hub.track(1) as job:
        assert_type(await job.result(), str)
        async for _ in job.progress:
            pass
    assert_type(hub.method(Model.embed).track("a"), gibbs.Job[list[float]])
    assert_type(hub.method("embed").track("a"), gibbs.Job[Any])
    assert_type(labels.using(retries=1).track("a"), gibbs.Job[int])
    gibbs.report(0.5)


# Leases.


async def leases(hub: gibbs.Hub[Model], tellers: gibbs.Hub[Teller], labels: gibbs.Hub[Labels]) -> None:
    assert_type(hub.lease(), gibbs.Lease[Model])
    assert_type(hub.using(priority=1).lease(), gibbs.Lease[Model])
    async with hub.lease() as worker:
        assert_type(worker, gibbs.Lease[Model])
        assert_type(worker.seat, int)
        assert_type(worker.incarnation, int)
        assert_type(await worker.request(3), str)
        assert_type(await worker.method(Model.embed).request("a"), list[float])
        assert_type(worker.map([1, 2]), gibbs.Results[str])
        assert_type(worker.using(on_cancel="kill"), gibbs.Calls[Model])
        assert_type(await worker.using(on_cancel="kill").request(3), str)
        await by_answer(worker)
        assert_type(takes_function(worker.request), str)
    async with tellers.lease() as teller, labels.lease() as labeller:
        assert_type(teller.stream("a"), gibbs.Stream[str])
        assert_type(await labeller.request("a"), int)
    _wider: gibbs.Lease[Base] = hub.lease()


# A hub in somebody's signature: the model, a base or protocol of it, or only what it answers.


class Embedder(Protocol):
    def embed(self, text: str) -> list[float]: ...


async def by_base(hub: gibbs.Hub[Base]) -> None:
    assert_type(await hub.method(Base.inherited).request(b""), int)


async def by_protocol(hub: gibbs.Hub[Embedder]) -> None:
    assert_type(await hub.method(Embedder.embed).request("a"), list[float])


async def by_answer(calls: gibbs.Calls[Callable[[int], object]]) -> None:
    assert_type(await calls.request(1), object)


async def by_endpoint(endpoint: gibbs.Endpoint[[int], object]) -> None:
    assert_type(await endpoint.request(1), object)


async def passing(hub: gibbs.Hub[Model], sub: gibbs.Hub[SubModel]) -> None:
    await by_base(hub)
    await by_base(sub)
    await by_protocol(sub)
    await by_answer(sub)
    await by_answer(hub.using(on_cancel="kill"))
    await by_endpoint(hub.method(Model.__call__))
    assert_type(await sub.request(3), str)
    assert_type(await sub.method(Model.embed).request("a"), list[float])


# As a function value.


def takes_function(f: Callable[[int], Awaitable[T]]) -> T:
    raise NotImplementedError


async def function_values(hub: gibbs.Hub[Model]) -> None:
    plain: Callable[[int], Awaitable[str]] = hub.request
    assert_type(await plain(3), str)
    assert_type(takes_function(hub.request), str)
    assert_type(takes_function(hub.using(on_cancel="kill").request), str)
    assert_type(takes_function(hub.method(Model.__call__).request), str)
    assert_type(await anyio.amap(hub.request, [1, 2]), list[str])
    assert_type(await anyio.amap(hub.method(Model.embed).request, ["a"]), list[list[float]])
    assert_type(anyio.from_thread.run(hub.request, 3), str)
    assert_type(await functools.partial(hub.request, 3)(), str)
    async with anyio.create_task_group() as tg:
        tg.start_soon(hub.request, 3)


def in_the_model() -> None:
    with gibbs.uninterruptible():
        pass


async def in_tests() -> None:
    async with open_inline_hub(
        Model, "model.bin", workers=2, on_cancel="interrupt", restarts=gibbs.RestartPolicy()
    ) as hub:
        assert_type(hub, gibbs.Hub[Model])
        assert_type(await hub.request(3), str)
        assert_type(await hub.method(Model.embed).request("a"), list[float])
        await crash(hub)
        await crash(hub, 1)
        async with hang(hub, seat=1) as nothing:
            assert_type(nothing, None)
    async with open_inline_hub(functools.partial(Model, wait_time=1)) as partial_hub:
        assert_type(await partial_hub.request(3), str)
    fleet = [(gibbs.LocalLauncher(), 4), (gibbs.SSHLauncher(["gpu1"]), 8), (gibbs.CommandLauncher(["srun"]), 1)]
    async with gibbs.open_hub(Model, workers=13, launcher=fleet) as mixed:
        assert_type(mixed, gibbs.Hub[Model])
    async with gibbs.open_hub(Model, workers=1, launcher=InlineLauncher()) as inline:
        assert_type(inline, gibbs.Hub[Model])
    assert_type(travels().example(), Any)
    assert_type(does_not_travel().example(), Any)
