"""What gibbs.Safe opens, what it refuses, and that nothing of what it refuses has run."""

from __future__ import annotations

import abc
import collections
import contextlib
import copyreg
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
from typing import ClassVar

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gibbs
from gibbs._wire import payload, plain, safe
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
        numpy.zeros(2, numpy.dtype([("a", "i1"), ("b", "<i4")], align=True)),
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
        named("datetime", "date"),
        named("builtins", "Ellipsis"),
    ],
)
def test_no_state_can_be_given_to_a_class_or_a_function(target, state):
    body = Forged(target, state, b"b").body
    with pytest.raises((pickle.UnpicklingError, TypeError, AttributeError)):
        loads(body, names_of([Picture, runs_in_the_hub]))
    for one in (Picture, runs_in_the_hub, plain.array, plain.by_name, safe._Maker, datetime.date, Ellipsis):
        assert not hasattr(one, "admin")


def test_an_instance_of_an_allowed_class_gets_its_state():
    body = Forged(named(__name__, "Picture"), b")\x81", STATE, b"b").body
    assert loads(body, names_of([Picture])).admin is True
    assert not hasattr(Picture, "admin")


@pytest.mark.parametrize("name", ["__class__", "__dict__", "__doc__"])
@pytest.mark.parametrize("slots", [False, True])
def test_of_such_an_instance_what_is_not_data_cannot_be_set(name, slots):
    state = state_of_slots(name) if slots else b"}\x8c" + bytes([len(name)]) + name.encode() + b"\x88s"
    body = Forged(named(__name__, "Picture"), b")\x81", state, b"b").body
    with pytest.raises(pickle.UnpicklingError, match="not for it to set"):
        loads(body, names_of([Picture]))


def test_the_members_of_an_allowed_enum_cannot_be_changed():
    member = named(__name__, "Colour") + b"\x8c\x03red\x85R"
    assert loads(Forged(member).body, names_of([Colour])) is Colour.RED
    with pytest.raises(pickle.UnpicklingError, match="sets attributes"):
        loads(Forged(member, b"}\x8c\x07_value_\x8c\x05otherss"[:-1], b"b").body, names_of([Colour]))
    assert Colour.RED.value == "red"


class Keeps:
    kept: ClassVar[list[object]] = []

    @classmethod
    def append(cls, item):
        cls.kept.append(item)

    @classmethod
    def extend(cls, items):
        cls.kept.extend(items)

    @classmethod
    def add(cls, item):
        cls.kept.append(item)

    update = extend

    @classmethod
    def __setitem__(cls, key, item):
        cls.kept.append(item)


@pytest.mark.parametrize("step", [b"Na", b"(Ne", b"NNs", b"(NNu", b"(N\x90"])
def test_nothing_is_put_into_what_the_body_did_not_make(step):
    with pytest.raises(pickle.UnpicklingError, match="puts items into"):
        loads(Forged(named(__name__, "Keeps"), step).body, names_of([Keeps]))
    assert not Keeps.kept


def test_what_the_body_has_made_is_not_called():
    body = Forged(named(__name__, "Picture"), b")\x81", b")R").body
    with pytest.raises(pickle.UnpicklingError, match="the body calls 'Picture'"):
        loads(body, names_of([Picture]))


def test_codes_of_the_extension_registry_are_refused():
    copyreg.add_extension("os", "getpid", 240)
    try:
        assert pickle.loads(b"\x80\x05\x82\xf0.") is os.getpid  # and from now on nobody is asked
        with pytest.raises(pickle.UnpicklingError, match="no worker's pickler"):
            loads(b"\x80\x05\x82\xf0)R.", names_of([Picture]))
    finally:
        copyreg.remove_extension("os", "getpid", 240)


@pytest.mark.parametrize(
    "body",
    [b"cos\ngetpid\n)R", b"(ios\ngetpid\n", b"P1\n", b"NQ", b"\x97", b"Nr\xff\xff\xff\x01", b"Np1\n", b"N2", b"I1\n"],
)
def test_steps_that_no_worker_takes_are_refused(body):
    with pytest.raises(pickle.UnpicklingError, match="no worker's pickler"):
        loads(Forged(body).body, names_of([Picture]))


def test_a_byte_array_is_not_made_larger_than_what_came():
    with pytest.raises(pickle.UnpicklingError, match="more bytes than it has"):
        loads(Forged(b"\x96" + (1 << 40).to_bytes(8, "little")).body, NOTHING_ALLOWED)


DEEP = b")" + b"\x85" * 300_000  # ((((...))))
WIDE = b")" + b"".join(b"\x94h" + bytes([n]) + b"\x86" for n in range(60))  # a pair of the pair before, twice


@pytest.mark.parametrize("tuples", [DEEP, WIDE], ids=["deep", "wide"])
@pytest.mark.parametrize("around", [b"\x8f(%b\x90", b"(%b\x91", b"}%bNs", b"%b"])
def test_tuples_whose_hash_would_end_or_stop_the_program_are_refused(tuples, around):
    with pytest.raises(pickle.UnpicklingError, match="nests tuples too deeply"):
        loads(Forged(around.replace(b"%b", tuples)).body, NOTHING_ALLOWED)


def test_tuples_as_data_have_them_come_through():
    value = {(1, (2, (3, "x"))): [tuple(range(10_000))] * 5}
    assert back(value) == value


@pytest.mark.parametrize(
    "call",
    [
        (fraction, "1e1000000000", 1),
        (fraction, "1e3000000", None),
        (fraction, 1, decimal.Decimal("1e99")),
        (fraction, 1 << 200_000, 3),
        (plain.decimal, 3),
        (plain.decimal, "zzz"),
        (plain.slice_, slice(1), None, None),
        (plain.complex_, "1", 2.0),
        (plain.uuid, "x"),
        (plain.address, 4, "127.0.0.1"),
        (array, "<f8", [1], b"x" * 8),
        (array, "<f8", (True,), b"x" * 8),
        (array, "<f8", (1,), bytearray(8)),
        (array, ["a"], (1,), b"x" * 8),
        (array, [("a", 3)], (1,), b"x" * 8),
        (array, [("a", "<f8", (1.5,))], (1,), b"x" * 8),
        (array, [("a", [("b", "<f8")] * 20_000)], (1,), b"x" * 8),
        (scalar, [("a", "<i4")], numpy.zeros(1, [("a", "<i4")])[0]),
        (scalar, "x" * 2_000, b"x"),
    ],
    ids=lambda call: call[0].__name__,
)
def test_a_maker_takes_numbers_text_and_bytes_and_nothing_else(call):
    maker, *arguments = call
    with pytest.raises((TypeError, ValueError, ArithmeticError)) as caught:
        maker(*arguments)
    assert len(str(caught.value)) < 1_000
    assert not any(decimal.getcontext().flags.values())


@pytest.mark.parametrize("name", ["n" * 250_000, ("a",) * 1_000])
def test_what_is_refused_is_told_in_few_words(name):
    with pytest.raises((pickle.UnpicklingError, TypeError)) as caught:
        loads(pickle.dumps(Calls(by_name, "module", name), 5), names_of([Picture]))
    assert len(str(caught.value)) < 1_000


@pytest.mark.parametrize(
    "name", [("builtins", "eval"), ("datetime", "date"), (plain.__name__, "array"), (__name__, "Colour")]
)
@pytest.mark.parametrize("allow", [[], [Picture]])
def test_the_stand_in_for_a_name_leads_to_what_the_user_allowed_and_to_nothing_else(name, allow):
    with pytest.raises(pickle.UnpicklingError, match=f"{name[1]}, which is not allowed"):
        loads(pickle.dumps(Calls(by_name, *name), 5), names_of(allow))
    with pytest.raises(TypeError):
        by_name(*name)


@pytest.mark.parametrize("metaclass", [type, abc.ABCMeta])
def test_a_class_of_main_may_have_any_metaclass(metaclass):
    there, here = (metaclass("Result", (Picture,), {"__module__": "__main__"}) for _ in range(2))
    assert type(back(there(7), here)) is here


def test_an_enum_and_a_function_of_main_can_be_allowed():
    there, here = (enum.Enum("Colour", {"RED": "red"}, module="__main__") for _ in range(2))
    assert back(there.RED, here) is here.RED
    there, here = (types.FunctionType((lambda: None).__code__, {"__name__": "__main__"}, "f") for _ in range(2))
    for function in (there, here):
        function.__module__, function.__qualname__ = "__main__", "f"
    assert back(there, here) is here


def test_a_pickle_of_words_that_are_none_is_told_in_words():
    good = ["Name", "message", "traceback", "call", "where", ["note"], None]
    assert load_failure(payload.dumps(tuple(good))).stage == "call"
    for index, wrong in [(0, 3), (1, ["x"]), (2, 5), (3, []), (3, "nowhere"), (4, None), (5, [3]), (5, None)]:
        words = [*good]
        words[index] = wrong
        told = load_failure(payload.dumps(tuple(words)), trusted=False)
        assert isinstance(told, RemoteFailure)
        assert told.stage == "result"
        assert str(gibbs.RemoteError(told.type_name, told.message, told.traceback, told.stage))


def test_words_of_a_worker_that_does_not_cap_them_are_capped_here():
    told = load_failure(
        payload.dumps(("N" * 10_000, "m" * 10**6, "t" * 10**6, "call", "where", [], None)), trusted=False
    )
    assert len(told.type_name) < 1_000
    assert len(told.message) < 10_000
    assert len(told.traceback) < 70_000


def test_a_body_that_was_pickled_by_value_is_refused_unread():
    body = payload.dumps(lambda: 1)
    assert body[0] != payload.PLAIN
    with pytest.raises(pickle.UnpicklingError, match="by value"):
        loads(body, NOTHING_ALLOWED)


@given(st.binary(max_size=60))
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
