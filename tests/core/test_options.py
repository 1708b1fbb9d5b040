"""What makes no sense is refused at once, by its name and value, and nothing has been started. What makes sense stays as it was said."""

import functools
import inspect
import math
from contextlib import asynccontextmanager
from dataclasses import FrozenInstanceError
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gibbs
from gibbs._calls import Calls, Endpoint
from gibbs._factory import check_factory, name_of
from gibbs._options import UNSET, CallOptions
from gibbs.abc import Traits

HUGE = 10**400  # an int that is no float


class Recorder:
    """A launcher that starts nothing and tells whether it was asked to."""

    traits = Traits(same_host=True, kill_is_certain=True)

    def __init__(self):
        self.sessions = 0

    @asynccontextmanager
    async def session(self):
        self.sessions += 1
        raise ConnectionError("as far as it goes")
        yield


class Model:
    def __init__(self, *args):
        self.args = args

    def __call__(self, x):
        return x


def refuse(error, factory=Model, /, **options):
    """Open, be refused before the `async with`, and nothing was started. Returns the message."""
    launcher = Recorder()
    options = {"workers": 2, "launcher": launcher, **options}
    with pytest.raises(error) as caught:
        gibbs.open_hub(factory, **options)
    assert type(caught.value) is error
    assert launcher.sessions == 0
    return str(caught.value)


async def test_what_makes_sense_gets_as_far_as_the_launcher():
    launcher = Recorder()
    with pytest.raises(ConnectionError):
        async with gibbs.open_hub(Model, workers=2, launcher=launcher):
            pass
    assert launcher.sessions == 1


async def test_a_factory_that_cannot_be_pickled_starts_nothing():
    launcher = Recorder()
    with pytest.raises(TypeError, match="pickle"):
        async with gibbs.open_hub(Model, (n for n in range(3)), workers=2, launcher=launcher):
            pass
    assert launcher.sessions == 0


# ---- numbers

WHOLE = {"workers": 1, "ready": 0, "spares": 0, "start_concurrency": 1, "max_pending": 0, "max_message": 1 << 20}
SECONDS = {"start_timeout": 0, "close_timeout": 0, "cancel_grace": 0}
NUMBERS = WHOLE | SECONDS


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [True, False, "3", b"3", [3], 3j, Fraction(3), math])
def test_what_is_no_number_is_refused(name, value):
    message = refuse(TypeError, **{name: value})
    assert name in message
    assert repr(value) in message


@pytest.mark.parametrize("name", sorted(NUMBERS.keys() - {"start_concurrency"}))
def test_none_is_no_number(name):
    assert f"{name} must be" in refuse(TypeError, **{name: None})


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("below", [1, 5, HUGE])
def test_what_is_too_small_is_refused(name, below):
    value = NUMBERS[name] - below
    message = refuse(ValueError, **{name: value})
    assert name in message
    assert repr(value) in message


@pytest.mark.parametrize("name", [*SECONDS, "max_pending", "max_message"])
@pytest.mark.parametrize("value", [math.nan, -math.inf, -0.5])
def test_nan_and_what_is_negative_are_refused(name, value):
    message = refuse(ValueError, **{name: value})
    assert name in message
    assert repr(value) in message


@pytest.mark.parametrize("name", ["workers", "ready", "start_concurrency"])
@pytest.mark.parametrize("value", [2.0, 0.5, math.inf, math.nan])
def test_a_number_of_workers_is_an_int(name, value):
    message = refuse(TypeError, **{name: value})
    assert name in message
    assert repr(value) in message


@pytest.mark.parametrize("name", SECONDS)
def test_an_int_that_no_clock_can_add_is_refused(name):
    assert name in refuse(ValueError, **{name: HUGE})


@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf, "10", True])
def test_a_call_is_slow_after_some_time_or_never(value):
    kind = TypeError if value is True or isinstance(value, str) else ValueError
    assert "slow_call must be a number of seconds > 0" in refuse(kind, slow_call=value)


def test_a_start_must_be_given_some_time():
    assert "start_timeout must be a number of seconds > 0, not 0" in refuse(ValueError, start_timeout=0)


def test_a_close_cannot_wait_for_ever():
    assert "close_timeout must be a number of seconds ≥ 0, not inf" in refuse(ValueError, close_timeout=math.inf)


def test_half_a_place_in_the_queue_is_none():
    assert "max_pending must be a whole number ≥ 0 or math.inf, not 1.5" in refuse(ValueError, max_pending=1.5)


def test_a_message_must_have_room_for_words():
    expected = "max_message must be a whole number of bytes ≥ 1048576 or math.inf, not 1000"
    assert expected in refuse(ValueError, max_message=1000)


@pytest.mark.parametrize("value", ["safe", gibbs.Safe, [Model], True])
def test_results_are_trusted_or_safe(value):
    assert f"results must be None or a gibbs.Safe, not {value!r}" in refuse(TypeError, results=value)


@pytest.mark.parametrize("value", [3, HUGE])
def test_more_ready_workers_than_workers_are_refused(value):
    message = refuse(ValueError, workers=2, ready=value)
    assert "workers=2" in message
    assert repr(value) in message


@pytest.mark.parametrize("value", ["ALL", "most", ""])
def test_all_is_the_only_word_for_ready(value):
    assert f'ready must be "all" or a number of workers, not {value!r}' in refuse(TypeError, ready=value)


@pytest.mark.parametrize(
    "options",
    [
        {"ready": "all"},
        {"ready": 0},
        {"ready": 2},
        {"start_timeout": math.inf},
        {"start_timeout": 1e-9},
        {"start_timeout": 10**9},
        {"start_concurrency": None},
        {"start_concurrency": 1},
        {"start_concurrency": 99},
        {"close_timeout": 0},
        {"close_timeout": 1e300},
        {"max_pending": 0},
        {"max_pending": 3.0},
        {"max_pending": math.inf},
        {"max_message": 1 << 20},
        {"max_message": math.inf},
        {"results": None},
        {"results": gibbs.Safe()},
        {"results": gibbs.Safe(allow=[Model])},
        {"cancel_grace": 0},
        {"cancel_grace": math.inf},
        {"on_cancel": None},
        {"on_cancel": "finish"},
        {"abandon_on_cancel": False},
        {"name": ""},
        {"name": "my hub"},
        {"restarts": gibbs.RestartPolicy(max_failures=math.inf)},
    ],
    ids=str,
)
async def test_what_makes_sense_is_taken(options):
    launcher = Recorder()
    with pytest.raises(ConnectionError):
        async with gibbs.open_hub(Model, workers=2, launcher=launcher, **options):
            pass


# ---- the others


@pytest.mark.parametrize("value", [5, b"hub", Model])
def test_a_name_is_a_string(value):
    assert f"name must be a string, not {value!r}" in refuse(TypeError, name=value)


@pytest.mark.parametrize(
    "value", ["local", 5, Model(), gibbs.LocalLauncher, Recorder], ids=["text", "number", "model", "class", "own class"]
)
def test_a_launcher_is_an_object_with_a_session(value):
    message = refuse(TypeError, launcher=value)
    assert "launcher must be a gibbs.abc.Launcher" in message
    assert repr(value) in message


@pytest.mark.parametrize("value", [5, None, "never", gibbs.RestartPolicy, {"max_failures": 3}], ids=repr)
def test_restarts_is_a_policy(value):
    message = refuse(TypeError, restarts=value)
    assert "restarts must be a gibbs.RestartPolicy" in message
    assert repr(value) in message


BAD_ON_CANCEL = ["Interrupt", "", "abandon", True, 0, ["kill"], object]
BAD_ABANDON = [None, 0, 1, "yes", []]


@pytest.mark.parametrize("value", BAD_ON_CANCEL, ids=repr)
def test_on_cancel_is_one_of_three_words_or_none(value):
    message = refuse(ValueError, on_cancel=value)
    assert "on_cancel must be 'interrupt', 'kill', 'finish' or None" in message
    assert repr(value) in message


@pytest.mark.parametrize("value", BAD_ABANDON, ids=repr)
def test_abandon_on_cancel_is_a_bool(value):
    assert f"abandon_on_cancel must be True or False, not {value!r}" in refuse(TypeError, abandon_on_cancel=value)


def test_the_number_of_workers_is_the_users_decision():
    with pytest.raises(TypeError, match="workers"):
        gibbs.open_hub(Model)


def test_a_misspelt_option_is_refused():
    assert "worker_count" in refuse(TypeError, worker_count=3)


def test_each_option_is_looked_at_here():
    """Fails when `open_hub` learns a new one."""
    looked_at = {
        *NUMBERS,
        "name",
        "launcher",
        "restarts",
        "results",
        "on_cancel",
        "abandon_on_cancel",
        "propagate",
        "logs",
        "observers",
        "slow_call",
        "order",
        "record_crashes",
        "shed",
    }
    parameters = inspect.signature(gibbs.open_hub).parameters.values()
    assert {p.name for p in parameters if p.kind is p.KEYWORD_ONLY} == looked_at


# ---- the factory


async def async_factory():
    return Model()


async def async_generator_factory():
    yield Model()


class AsyncModel:
    async def __call__(self, x):
        return x


class AsyncGeneratorModel:
    async def __call__(self, x):
        yield x


class InheritsAsync(AsyncModel):
    pass


class AsyncFactoryObject:
    async def __call__(self):
        return Model()


class HasFunc:
    """No partial, though it has an attribute of that name."""

    func = async_factory

    def __call__(self, x):
        return x


@pytest.mark.parametrize(
    "value", [5, None, "Model", Model.__name__, object(), [Model]], ids=str.split("5 None name __name__ object list")
)
def test_a_factory_that_cannot_be_called_is_refused(value):
    message = refuse(TypeError, value)
    assert "the factory must be callable" in message
    assert repr(value) in message


def test_an_instance_in_the_place_of_its_class_is_refused_if_it_cannot_be_called():
    class Finished:
        def embed(self, text):
            return text

    assert "such as the model's class" in refuse(TypeError, Finished())


@pytest.mark.parametrize(
    "factory",
    [
        async_factory,
        async_generator_factory,
        functools.partial(async_factory),
        functools.partial(functools.partial(async_factory)),
        AsyncFactoryObject(),
        AsyncFactoryObject().__call__,
        functools.partial(AsyncFactoryObject()),
    ],
    ids=name_of,
)
def test_an_async_factory_is_refused(factory):
    message = refuse(TypeError, factory)
    assert "is async: a worker builds its model in a plain call" in message
    assert name_of(factory) in message


@pytest.mark.parametrize(
    "factory", [AsyncModel, AsyncGeneratorModel, InheritsAsync, functools.partial(AsyncModel, 1)], ids=name_of
)
def test_an_async_model_is_refused_with_the_reason(factory):
    message = refuse(TypeError, factory)
    assert f"{name_of(factory)}.__call__ is async: a worker runs plain functions" in message


@pytest.mark.parametrize(
    "factory",
    [
        Model,
        functools.partial(Model, 3),
        lambda: Model(),
        Model(),  # an object that is called to build a model: unusual, and no mistake
        gibbs.function(len),
        HasFunc,
        dict,
        functools.partial,
    ],
    ids=name_of,
)
def test_whatever_can_be_called_may_be_a_factory(factory):
    check_factory(factory)


@pytest.mark.parametrize(
    ("factory", "name"),
    [
        (Model, "Model"),
        (functools.partial(functools.partial(Model, 1), 2), "Model"),
        (async_factory, "async_factory"),
        (Model(), "Model"),
        (gibbs.function(len), "len"),
        (HasFunc, "HasFunc"),
        (Model.__init__, "Model.__init__"),
    ],
)
def test_a_hub_is_called_as_its_factory(factory, name):
    assert name_of(factory) == name


# ---- how a call is made

changes = st.fixed_dictionaries(
    {},
    optional={
        "on_cancel": st.sampled_from([None, "interrupt", "kill", "finish"]),
        "abandon_on_cancel": st.booleans(),
        "priority": st.integers(-9, 9),
        "retries": st.integers(0, 9),
        "retry_uncertain": st.booleans(),
        "key": st.none() | st.text() | st.binary() | st.integers(),
        "max_wait": st.just(math.inf) | st.floats(0, 1e6),
        "buffer": st.integers(1, 999),
    },
)
AS_EVER = {
    "on_cancel": None,
    "abandon_on_cancel": True,
    "priority": 0,
    "retries": 0,
    "retry_uncertain": False,
    "key": None,
    "max_wait": math.inf,
    "buffer": 128,
}


def options_of(changes):
    return {**dict.fromkeys(AS_EVER, UNSET), **changes}


@given(some=st.lists(changes, max_size=6))
def test_of_one_option_the_later_setting_wins_and_what_was_not_named_stays(some):
    options, expected = CallOptions(), dict(AS_EVER)
    for change in some:
        options = options.using(**options_of(change))
        expected |= change
    assert options == CallOptions(**expected)
    assert options.terms == CallOptions(**expected).terms


@given(first=changes, second=changes, start=changes)
def test_options_that_differ_commute(first, second, start):
    options = CallOptions(**start)
    second = {name: value for name, value in second.items() if name not in first}
    one_way = options.using(**options_of(first)).using(**options_of(second))
    assert one_way == options.using(**options_of(second)).using(**options_of(first))
    assert one_way == options.using(**options_of(first | second))


@given(start=changes, change=changes)
def test_a_view_with_other_options_leaves_the_first_as_it_was(start, change):
    desk = object()
    for view in (Calls(desk, CallOptions(**start)), Endpoint(desk, CallOptions(**start), "embed")):
        other = view.using(**change)
        assert view._options == CallOptions(**start)
        assert other._options == CallOptions(**{**start, **change})
        assert other._desk is desk
        assert other is not view
    assert other._name == "embed"


@given(change=changes)
def test_using_and_method_commute(change):
    calls = Calls(object(), CallOptions())
    one, other = calls.using(**change).method("embed"), calls.method("embed").using(**change)
    assert (one._desk, one._options, one._name) == (other._desk, other._options, other._name)


@pytest.mark.parametrize("view", [Calls(object(), CallOptions()), Endpoint(object(), CallOptions(), "embed")])
def test_a_view_refuses_what_open_hub_refuses(view):
    for value in BAD_ON_CANCEL:
        with pytest.raises(ValueError) as caught:
            view.using(on_cancel=value)
        assert repr(value) in str(caught.value)
    for value in BAD_ABANDON:
        with pytest.raises(TypeError) as caught:
            view.using(abandon_on_cancel=value)
        assert repr(value) in str(caught.value)
    with pytest.raises(TypeError):
        view.using(urgency=3)


def test_options_cannot_be_changed_in_place():
    with pytest.raises(FrozenInstanceError):
        CallOptions().on_cancel = "kill"
