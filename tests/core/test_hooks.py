"""Which of a model's methods are hooks: by name, by signature, behind decorators, and never by running a property."""

from __future__ import annotations

import functools

import pytest

import gibbs
from gibbs._worker.build import Unfit
from gibbs._worker.hooks import Hooks, open_model


def no_grad(f):
    """As torch.no_grad() and many others."""

    @functools.wraps(f)
    def wrapped(*args, **kwargs):
        return f(*args, **kwargs)

    return wrapped


class Plain:
    def warm_up(self): ...
    def close(self): ...
    def healthy(self): ...


class Decorated:
    @no_grad
    def warm_up(self, times=3, *, fast=True): ...
    @staticmethod
    def close(): ...
    @classmethod
    def healthy(cls): ...


class TakeSomething:
    @no_grad
    def warm_up(self, batch): ...
    @staticmethod
    def close(door): ...
    @gibbs.batched()
    def healthy(self, items): ...


class Unusual:
    warm_up = len
    close = functools.lru_cache(lambda self: None)

    def healthy(self):
        yield


class Asynchronous:
    async def warm_up(self): ...
    async def close(self):
        yield


class Properties:
    @property
    def close(self):
        raise AssertionError("it was run")


class Answers:
    def __getattr__(self, name):
        return lambda *_: None


class Meta(type):
    def close(cls, *_): ...
    def __enter__(cls): ...
    def __exit__(cls, *_): ...


class OfMeta(metaclass=Meta): ...


class Slots:
    __slots__ = ()

    def close(self): ...


@pytest.mark.parametrize(
    ("model", "found"),
    [
        (Plain, ["close", "warm_up", "healthy"]),
        (Decorated, ["close", "warm_up", "healthy"]),
        (Slots, ["close"]),
        (TakeSomething, []),
        (Unusual, ["close"]),
        (Asynchronous, []),
        (Properties, []),
        (Answers, []),
        (OfMeta, []),
        (lambda: len, []),
        (lambda: Plain, []),
    ],
)
def test_a_hook_is_what_a_class_defines_and_can_be_called_without_arguments(model, found):
    assert Hooks(model()).found == found


class Gives:
    def __init__(self, what):
        self.what = what
        self.left = []

    def __enter__(self):
        return self.what

    def __exit__(self, *exc):
        self.left.append(exc)


def test_a_model_that_gives_nothing_when_it_is_entered_is_told_what_to_return():
    model = Gives(None)
    with pytest.raises(Unfit) as caught:
        open_model(model)
    assert "Gives.__enter__() gave None: it must return what is to be served, such as self" in str(caught.value.error)
    assert model.left == [(None, None, None)]


class CannotBeDescribed:
    @property
    def interruptible(self):
        raise ValueError("who knows")


def test_a_model_that_was_entered_and_cannot_be_described_is_left_again():
    model = Gives(CannotBeDescribed())
    with pytest.raises(Unfit, match="model") as caught:
        open_model(model)
    assert str(caught.value.error) == "who knows"
    assert model.left == [(None, None, None)]


@pytest.mark.parametrize("interval", ["often", 0, -1, True, float("nan"), float("inf"), 86401])
def test_an_interval_is_some_seconds_and_a_day_at_most(interval):
    class Model(Plain):
        health_interval = interval

    with pytest.raises(Unfit) as caught:
        open_model(Model())
    assert f"a day at most, not {interval!r}" in str(caught.value.error)
