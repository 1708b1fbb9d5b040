"""What gibbs.Safe opens, what it refuses, and that nothing of what it refuses has run."""

from __future__ import annotations

import collections
import contextlib
import datetime
import decimal
import enum
import fractions
import ipaddress
import os
import pickle
import types
import uuid
from dataclasses import dataclass

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gibbs
from gibbs._wire import payload, plain
from gibbs._wire.failure import RemoteFailure, dump_failure, load_failure
from gibbs._wire.plain import array, by_name, dumps, fraction, scalar
from gibbs._wire.safe import loads, names_of

NOTHING_ALLOWED = names_of([])
RAN = []


@dataclass
class Picture:
    width: int
    pixels: object = None

    class Inner:
        pass


class Colour(enum.Enum):
    RED = "red"


class Point(collections.namedtuple("Point", "x y")):
    pass


class Calls:
    """Pickles as a call of any function."""

    def __init__(self, f, *args):
        self.call = f, args

    def __reduce__(self):
        return self.call


def runs_in_the_hub(*args):
    RAN.append(args)


def back(value, *allow):
    return loads(dumps(value), names_of(allow))


plain_data = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.complex_numbers(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
        | st.frozensets(st.integers(), max_size=3)
    ),
    max_leaves=20,
)


@given(plain_data)
def test_plain_data_come_through_as_they_are(value):
    assert back(value) == value


@pytest.mark.parametrize(
    "value",
    [
        bytearray(b"text"),
        {1, 2},
        slice(1, 2, 3),
        ...,
        collections.OrderedDict(a=1),
        datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.UTC),
        datetime.timedelta(days=3),
        datetime.time(1, 2),
        decimal.Decimal("1.5"),
        fractions.Fraction(1, 3),
        uuid.UUID(int=7),
        ipaddress.ip_address("127.0.0.2"),
        ipaddress.ip_address("::1"),
    ],
    ids=repr,
)
def test_the_vocabulary_comes_through_as_it_is(value):
    copy = back([value])[0]
    assert copy == value
    assert type(copy) is type(value)


@pytest.mark.parametrize(
    "value",
    [
        numpy.arange(6.0).reshape(2, 3),
        numpy.asfortranarray(numpy.arange(6).reshape(2, 3)),
        numpy.arange(10)[::3],
        numpy.empty((0, 5), "f4"),
        numpy.array(3.5),
        numpy.array(["abc", "d"]),
        numpy.array(["2026-11-24"], "datetime64[ns]"),
        numpy.array([(1, 2.0)], [("a", "i4"), ("b", "f8", (2,))]),
        numpy.array([True, False]),
        numpy.array([1 + 2j], "c8"),
    ],
    ids=lambda value: f"{value.dtype}-{value.shape}",
)
def test_a_numpy_array_comes_through_with_its_kind_and_shape_and_can_be_written(value):
    copy = back(value)
    assert copy.dtype == value.dtype
    assert copy.shape == value.shape
    assert (copy == value).all()
    assert copy.flags.writeable


@pytest.mark.parametrize("value", [numpy.float32(1.5), numpy.int64(7), numpy.bool_(True), numpy.str_("abc")])
def test_a_numpy_scalar_comes_through(value):
    assert back(value) == value
    assert type(back(value)) is type(value)


def test_an_array_of_objects_is_refused_since_these_may_be_anything():
    with pytest.raises(pickle.UnpicklingError, match="not allowed"):
        back(numpy.array([object()]))
    with pytest.raises(ValueError, match="objects"):
        array("|O", (1,), b"\0" * 8)
    with pytest.raises(ValueError, match="objects"):
        scalar([("a", "|O")], b"\0" * 8)


@pytest.mark.parametrize("forged", [("<f8", (3,), b"\0" * 8), ("<f8", (1,), b"\0" * 7), ("<f8", (1 << 60,), b"\0" * 8)])
def test_an_array_whose_bytes_do_not_fit_is_an_error(forged):
    with pytest.raises(ValueError):
        array(*forged)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (Calls(runs_in_the_hub, 1), "runs_in_the_hub"),
        (Calls(os.system, "true"), "system"),
        (Calls(eval, "1"), "eval"),
        (Calls(getattr, (), "__class__"), "getattr"),
        (Calls(__import__, "os"), "__import__"),
        (Calls(exec, ""), "exec"),
        (os.system, "system"),
        (Picture(1), "Picture"),
        (Colour.RED, "Colour"),
        (object(), "object"),
        (ValueError("x"), "ValueError"),
        (range(10**12), "range"),
        (types.SimpleNamespace(a=1), "SimpleNamespace"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_allowed_is_refused_by_name_and_nothing_of_it_has_run(value, name):
    RAN.clear()
    with pytest.raises(pickle.UnpicklingError, match=rf"{name}, which is not allowed.*gibbs\.Safe"):
        back({"deep": [value]})
    assert not RAN


def test_a_name_is_never_imported_on_a_workers_word(tmp_path, monkeypatch):
    (tmp_path / "planted.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(pickle.UnpicklingError, match=r"planted\.attribute"):
        loads(b"\x80\x05\x8c\x07planted\x8c\tattribute\x93.", NOTHING_ALLOWED)


@pytest.mark.parametrize(
    "value",
    [Picture(3, numpy.arange(3)), Colour.RED, Point(1, 2), Picture, runs_in_the_hub],
    ids=lambda value: type(value).__name__,
)
def test_what_is_allowed_comes_through_as_the_very_class(value):
    copy = back(value, Picture, Colour, Point, runs_in_the_hub)
    assert repr(copy) == repr(value)
    assert type(copy) is type(value)


def test_allowing_a_class_does_not_allow_what_is_in_it():
    with pytest.raises(pickle.UnpicklingError, match="Inner"):
        back(Picture.Inner(), Picture)


def test_a_class_of_the_main_module_is_found_by_its_name_in_the_hubs_own_table(monkeypatch):
    there = type("Result", (Picture,), {"__module__": "__main__"})  # as cloudpickle made it in a worker
    here = type("Result", (Picture,), {"__module__": "__main__"})
    copy = back(there(7), here)
    assert type(copy) is here
    assert copy.width == 7
    with pytest.raises(pickle.UnpicklingError, match=r"__main__\.Result"):
        back(there(7))


class Forged:
    """Pickles as the pieces of a pickle that no pickler writes."""

    def __init__(self, *pieces):
        self.body = b"\x80\x05" + b"".join(pieces) + b"."


def named(module, name):
    return b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name)) + b"\x93"


STATE = b"}\x8c\x05admin\x88s"  # {"admin": True}


def state_of_slots(name):
    return b"N}\x8c" + bytes([len(name)]) + name.encode() + b"\x88s\x86"  # (None, {name: True})


@pytest.mark.parametrize("state", [STATE, state_of_slots("admin")], ids=["dict", "slots"])
@pytest.mark.parametrize(
    "target",
    [
        named(__name__, "Picture"),
        named(__name__, "runs_in_the_hub"),
        named("gibbs._wire.plain", "array"),
        named("gibbs._wire.plain", "by_name"),
        named("decimal", "Decimal"),
        named("collections", "OrderedDict"),
    ],
)
def test_no_state_can_be_given_to_a_class_or_a_function(target, state):
    body = Forged(target, state, b"b").body
    with pytest.raises((pickle.UnpicklingError, TypeError, AttributeError)):
        loads(body, names_of([Picture, runs_in_the_hub]))
    assert callable(loads(pickle.dumps(array, 5), NOTHING_ALLOWED))
    for one in (Picture, runs_in_the_hub, plain.array, plain.by_name, plain._Maker, decimal.Decimal):
        assert not hasattr(one, "admin")


def test_the_defaults_of_a_maker_cannot_be_set():
    for name in ("__defaults__", "__kwdefaults__", "__code__", "__func__", "__self__"):
        body = Forged(named("gibbs._wire.plain", "array"), state_of_slots(name), b"b").body
        with pytest.raises((TypeError, AttributeError)):
            loads(body, NOTHING_ALLOWED)
    assert array.__defaults__ is None


def test_an_instance_of_an_allowed_class_gets_its_state():
    body = Forged(named(__name__, "Picture"), b")\x81", STATE, b"b").body
    assert loads(body, names_of([Picture])).admin is True
    assert not hasattr(Picture, "admin")


def test_a_fraction_cannot_be_made_from_text():
    with pytest.raises(TypeError):
        fraction("1e1000000000", 1)


@pytest.mark.parametrize("name", [("builtins", "complex"), ("builtins", "eval"), (plain.__name__, "array")])
@pytest.mark.parametrize("allow", [[], [Picture]])
def test_the_stand_in_for_a_name_leads_to_what_the_user_allowed_and_else_no_further_than_a_name(name, allow):
    body = pickle.dumps(Calls(by_name, *name), 5)
    if name == ("builtins", "eval"):
        with pytest.raises(pickle.UnpicklingError, match="eval, which is not allowed"):
            loads(body, names_of(allow))
    else:
        assert callable(loads(body, names_of(allow)))


def test_a_body_that_was_pickled_by_value_is_refused_unread():
    body = payload.dumps(lambda: 1)
    assert body[0] != payload.PLAIN
    with pytest.raises(pickle.UnpicklingError, match="by value"):
        loads(body, NOTHING_ALLOWED)


@given(st.binary(max_size=60).filter(lambda body: not {ord("r"), 0x96} & {*body}))  # these two say how much to allocate
def test_garbage_is_data_or_an_error_and_never_a_call(garbage):
    RAN.clear()
    with contextlib.suppress(Exception):
        loads(b"\x80\x05" + garbage, NOTHING_ALLOWED)
    assert not RAN


def test_of_an_exception_only_the_words_are_read():
    body = dump_failure(Boom("no", 3), stage="call", where="a worker")
    RAN.clear()
    told = load_failure(body, trusted=False)
    assert isinstance(told, RemoteFailure)
    assert told.type_name.endswith("Boom")
    assert "no" in told.message
    assert "Boom" in told.traceback
    assert not RAN
    assert isinstance(load_failure(body), Boom)
    assert RAN


def test_even_of_a_trusted_worker_the_words_of_a_failure_run_nothing():
    RAN.clear()
    told = load_failure(payload.dumps(("Name", Calls(runs_in_the_hub), "", "call", "", [], None)))
    assert isinstance(told, RemoteFailure)
    assert "not allowed" in told.message
    assert not RAN


class Boom(Exception):
    def __reduce__(self):
        return rebuilt, self.args


def rebuilt(*args):
    RAN.append(args)
    return Boom(*args)


@pytest.mark.parametrize("allow", ["Picture", Picture, 3, None, [3], ["Picture"], [Picture(1)], [None]])
def test_what_cannot_be_allowed_is_refused_at_once(allow):
    with pytest.raises(TypeError, match="allow"):
        gibbs.Safe(allow=allow)


def test_a_list_of_allowed_classes_may_change_later_without_effect():
    allow = [Picture]
    safe = gibbs.Safe(allow=allow)
    allow.append(Colour)
    assert safe.allow == (Picture,)
