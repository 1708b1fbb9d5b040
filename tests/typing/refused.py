"""What must be refused. Never run, only checked; see api.py.

Each line names the rules that refuse it, mypy's and pyright's. A line that is accepted makes
its ignore unneeded, and that is an error in both: ``warn_unused_ignores`` (in --strict) and
``reportUnnecessaryTypeIgnoreComment``. ``enableTypeIgnoreComments`` must be false, or pyright
obeys mypy's comment and never looks at its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar, overload

import gibbs
from gibbs.testing import crash, hang, open_inline_hub

T = TypeVar("T")


class Model:
    def __init__(self, path: str = "", *, wait_time: float = 0) -> None: ...

    def __call__(self, x: int) -> str:
        raise NotImplementedError

    def embed(self, text: str, *, scale: float = 1.0) -> list[float]:
        raise NotImplementedError

    def options(self, text: str, **options: float) -> bytes:
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


class Teller:
    def __call__(self, prompt: str) -> Iterator[str]:
        raise NotImplementedError


class SubModel(Model):
    def more(self) -> int:
        raise NotImplementedError


class Other:
    def embed(self, text: str) -> int:
        raise NotImplementedError

    def options(self, text: str, **options: float) -> int:
        raise NotImplementedError


class Keywords:
    def __call__(self, x: int, *, g: bytes, f: str = "") -> float:
        raise NotImplementedError


class NoCall:
    def embed(self, text: str) -> int:
        raise NotImplementedError


class Echo:
    def __call__(self, x: T) -> list[T]:
        raise NotImplementedError


def predict(x: int, *, k: str = "") -> bytes:
    raise NotImplementedError


def takes_function(f: Callable[[str], Awaitable[str]]) -> None: ...


def takes_hub(hub: gibbs.Hub[SubModel]) -> None: ...


def takes_calls(calls: gibbs.Calls[Callable[[int], bytes]]) -> None: ...


def takes_endpoint(endpoint: gibbs.Endpoint[[int], bytes]) -> None: ...


async def requests(hub: gibbs.Hub[Model], keywords: gibbs.Hub[Keywords]) -> None:
    await hub.request("a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await hub.request()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await hub.request(1, 2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await hub.request(1, k=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await keywords.request(1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await keywords.request(1, g="")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await keywords.request(1, b"")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    hub.request(1)  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]
    print(1 + await hub.request(1))  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue, reportUnknownArgumentType]


async def how(hub: gibbs.Hub[Model]) -> None:
    hub.using(on_cancel="nope")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    hub.using(abandon_on_cancel=None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    hub.using(cancel="kill")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    hub.using(priority="high")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    hub.using(key=("a", 1))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    hub.using(retries=None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    hub.using(retry_uncertain=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    hub.using("kill")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await hub.using(on_cancel="kill").request("a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await hub.using().drain()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    hub.method(Model.embed).using(on_cancel="nope")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def methods(hub: gibbs.Hub[Model]) -> None:
    hub.method(Other.embed)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    hub.method(Other.options)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    hub.method(SubModel.more)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    hub.method(predict)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    hub.method(3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    hub.method(hub)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    # a static or class method has no place for the model: by name, it is served
    hub.method(Model.static)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    hub.method(Model.of_class)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await hub.method(Model.embed).request(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await hub.method(Model.embed).request()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await hub.method(Model.embed).request("a", 2.0)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await hub.method(Model.embed).request("a", scale="b")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await hub.method(Model.options).request("a", k="b")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await hub.using(on_cancel="kill").method(Model.embed).request(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    hub.method(Model.embed).method("a")  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    # limit: of an overloaded method the first overload is kept
    await hub.method(Model.several).request("a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def without_call(hub: gibbs.Hub[NoCall]) -> None:
    await hub.request(1)  # type: ignore[arg-type, misc]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    await hub.using(on_cancel="kill").request(1)  # type: ignore[arg-type, misc]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]


async def generic_call(hub: gibbs.Hub[Echo]) -> None:
    # limit of mypy; pyright solves it (api.py has the form that both take)
    await hub.request(1)  # type: ignore[arg-type]


async def functions() -> None:
    async with gibbs.open_hub(gibbs.function(predict), workers=1) as hub:
        await hub.request("a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        await hub.request(1, k=2)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    async with gibbs.open_hub(predict, workers=1) as wrong:
        await wrong.request(1)  # type: ignore[arg-type, misc]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]


def streams(hub: gibbs.Hub[Model], tellers: gibbs.Hub[Teller]) -> None:
    hub.stream(3)  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    hub.method(Model.embed).stream("a")  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    tellers.stream(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    tellers.stream("a", k=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    tellers.using(buffer="a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class Batched:
    @gibbs.batched()
    def label(self, texts: list[str]) -> list[int]:
        raise NotImplementedError

    @gibbs.batched()  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
    def no_list(self, text: str) -> int:
        raise NotImplementedError


async def batches(hub: gibbs.Hub[Batched]) -> None:
    await hub.method(Batched.label).request(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await hub.method(Batched.label).request(["a"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    gibbs.batched(on_error="retry")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def maps(hub: gibbs.Hub[Model]) -> None:
    hub.map(["a"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    hub.map(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    hub.map([1], limit="a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def jobs(hub: gibbs.Hub[Model]) -> None:
    hub.track("a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    hub.track()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    hub.method(Model.embed).track(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    gibbs.report()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def leases(hub: gibbs.Hub[Model]) -> None:
    hub.lease(3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    with hub.lease():  # type: ignore[attr-defined]  # pyright: ignore[reportGeneralTypeIssues]
        pass
    async with hub.lease() as worker:
        await worker.request("a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        worker.method(Other.embed)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
        worker.seat = 3  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
        await worker.drain()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]


def opening() -> None:
    gibbs.open_hub(Model)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    gibbs.open_hub(3, workers=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    gibbs.open_hub(Model, workers=1, wait_time=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    gibbs.open_hub(Model, workers=1, ready="some")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    gibbs.open_hub(Model, workers="4")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    gibbs.open_hub(Model, workers=1, on_cancel="nope")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    gibbs.open_hub(factory=Model, workers=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def passing(hub: gibbs.Hub[Model]) -> None:
    takes_function(hub.request)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    takes_hub(hub)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    takes_calls(hub)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    takes_endpoint(hub.method(Model.__call__))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def names(hub: gibbs.Hub[Model]) -> None:
    from gibbs import Hubs as Hubs  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType]

    gibbs.open_hubb  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    hub.methd  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]


async def in_tests(hub: gibbs.Hub[Model]) -> None:
    open_inline_hub(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    open_inline_hub(Model, launcher=gibbs.LocalLauncher())  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    open_inline_hub(Model, workers="4")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await crash(Model)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await crash(hub, "0")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    hang(hub.using(priority=1))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    async with open_inline_hub(Model) as inline:
        await inline.request("a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
