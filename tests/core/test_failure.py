"""Exceptions between worker and caller. Both sides are played in this process, except where `__main__` matters."""

import asyncio
import errno
import json
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import types
import urllib.error
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gibbs
from gibbs._wire import failure
from gibbs._wire.failure import RemoteFailure, describe_failure, dump_failure, is_safe_to_raise, load_failure

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(gibbs.__file__).parents[1])}
WHERE = "worker 2 of 'Model' (pid 123)"


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:  # noqa: BLE001 - that is the point
        return caught


def sent(error: BaseException, stage: str = "call") -> BaseException | RemoteFailure:
    return load_failure(dump_failure(raised(error), stage=stage, where=WHERE))


class TwoArguments(Exception):
    def __init__(self, code, text):
        super().__init__(f"{text} ({code})")
        self.code = code


class KeywordOnly(Exception):
    def __init__(self, *, code):
        super().__init__(code)
        self.code = code


class ChangingArguments(Exception):
    def __init__(self, code):
        super().__init__(f"code {code}")


class WithLock(Exception):
    def __init__(self, text):
        super().__init__(text)
        self.lock = threading.Lock()
        self.kept = [1]


class LockInArguments(Exception):
    pass


class BadStr(Exception):
    def __str__(self):
        raise ValueError("no text")


class ExitingStr(Exception):
    def __str__(self):
        sys.exit(3)


class BadRepr:
    def __repr__(self):
        raise ValueError("no repr")


class Plain:
    """Equal to nothing but itself, and its repr is an address."""


class BadReduce(Exception):
    def __reduce__(self):
        raise RuntimeError("not me")


class ExitingReduce(Exception):
    def __reduce__(self):
        sys.exit(3)


class ExitingOnLoad(Exception):
    def __reduce__(self):
        return sys.exit, (3,)


class BecomesInterrupt(Exception):
    def __reduce__(self):
        return KeyboardInterrupt, ()


class BecomesText(Exception):
    def __reduce__(self):
        return str, ("text",)


class Singleton(Exception):
    def __reduce__(self):
        return "SINGLETON"


SINGLETON = Singleton("one")


class DiskError(OSError):
    def __init__(self, path, *, code):
        super().__init__(code, "disk", path)
        self.path = path


class Frozen(Exception):
    def __setattr__(self, name, value):
        raise AttributeError("frozen")


class Falsy(Exception):
    def __init__(self, *, code):
        super().__init__(code)

    def __bool__(self):
        raise RuntimeError("neither")


class OwnGroup(ExceptionGroup):
    def __new__(cls, code, errors):
        return super().__new__(cls, f"code {code}", errors)

    def __init__(self, code, errors):
        self.code = code


class OwnBase(BaseException):
    pass


class ErrorAndInterrupt(Exception, KeyboardInterrupt):
    pass


class CancelledLike(Exception, asyncio.CancelledError):
    pass


class CarriesCause(Exception):
    """Its own pickling brings the cause along, as tblib makes every exception do."""

    def __reduce__(self):
        return type(self), self.args, {"cause": self.__cause__}

    def __setstate__(self, state):
        self.__cause__ = state["cause"]


class Meta(type):
    def __getattribute__(cls, name):
        if name in ("__qualname__", "__module__", "__name__"):
            raise SystemExit(4)
        return super().__getattribute__(name)


class LyingClass(Exception, metaclass=Meta):
    pass


def test_an_ordinary_error_arrives_as_itself():
    error = sent(ValueError("bad", 3))
    assert type(error) is ValueError
    assert error.args == ("bad", 3)


def test_the_note_tells_where_and_has_the_remote_traceback():
    (note,) = sent(ValueError("bad")).__notes__
    assert WHERE in note
    assert "Traceback (most recent call last)" in note
    assert "ValueError: bad" in note
    assert "in raised" in note


def test_own_notes_stay_before_the_remote_one():
    error = ValueError("bad")
    error.add_note("mine")
    assert sent(error).__notes__[0] == "mine"
    assert len(sent(error).__notes__) == 2


def test_notes_stay_with_an_error_that_travels_in_parts():
    error = TwoArguments(3, "bad")
    error.add_note("mine")
    assert sent(error).__notes__[0] == "mine"


def test_each_load_gives_a_fresh_object():
    body = dump_failure(ValueError("bad"), stage="call", where=WHERE)
    first, second = load_failure(body), load_failure(body)
    assert first is not second
    assert len(second.__notes__) == 1


def test_a_singleton_gives_fresh_objects_too():
    error = sent(SINGLETON)
    assert type(error) is Singleton
    assert error is not SINGLETON
    assert not hasattr(SINGLETON, "__notes__")


@pytest.mark.parametrize(
    "error",
    [
        TwoArguments(3, "bad"),
        KeywordOnly(code=3),
        ChangingArguments(3),
        Falsy(code=3),
        BadReduce("bad"),
        ExitingReduce("bad"),
        ExitingOnLoad("bad"),
        BecomesInterrupt("bad"),
        BecomesText("bad"),
        Frozen("bad"),
        RecursionError("deep"),
        MemoryError(),
        TimeoutError("late"),
        EOFError(),
        BrokenPipeError(errno.EPIPE, "broken"),
        FileNotFoundError(2, "no file", "a.txt"),
        UnicodeDecodeError("utf8", b"\xff", 0, 1, "bad byte"),
        SyntaxError("bad", ("a.py", 3, 4, "x y")),
        ModuleNotFoundError("no m", name="m", path="p"),
        KeyError("k"),
        ValueError(float("nan")),
        ValueError("with", Plain()),
        ValueError([Plain()]),
        ValueError("\ud800 surrogate"),
        Exception(),
        urllib.error.HTTPError("u", 404, "missing", {}, None),
        json.JSONDecodeError("bad", "{", 1),
    ],
    ids=lambda error: type(error).__name__,
)
def test_it_arrives_as_itself_with_its_text(error):
    arrived = sent(error)
    assert type(arrived) is type(error)
    assert failure._text(arrived) == failure._text(error)
    assert len(arrived.args) == len(error.args)


def test_attributes_arrive_with_an_error_of_two_arguments():
    assert sent(TwoArguments(3, "bad")).code == 3


def test_an_error_that_holds_a_lock_arrives_without_the_lock():
    error = sent(WithLock("bad"))
    assert type(error) is WithLock
    assert error.kept == [1]
    assert not hasattr(error, "lock")


def test_what_a_builtin_keeps_outside_its_arguments_arrives():
    error = sent(DiskError("/data", code=errno.EIO))
    assert type(error) is DiskError
    assert (error.errno, error.filename, error.path) == (errno.EIO, "/data", "/data")


def test_the_errno_of_a_broken_pipe_arrives():
    assert sent(BrokenPipeError(errno.EPIPE, "broken")).errno == errno.EPIPE


def test_a_lock_in_the_arguments_is_told_in_words():
    remote = sent(LockInArguments(threading.Lock()))
    assert isinstance(remote, RemoteFailure)
    assert remote.type_name.endswith("LockInArguments")
    assert "lock" in remote.message
    assert remote.stage == "call"


def test_an_error_of_a_local_class_arrives_as_itself():
    class Local(Exception):
        pass

    assert type(sent(Local("bad"))) is Local


def test_a_local_class_that_cannot_travel_is_told_in_words():
    lock = threading.Lock()

    class Local(Exception):
        def held(self):
            return lock

    remote = sent(Local("bad"))
    assert isinstance(remote, RemoteFailure)
    assert remote.message == "bad"


def test_an_error_whose_text_cannot_be_had_arrives():
    assert type(sent(BadStr())) is BadStr
    assert type(sent(ValueError(BadRepr()))) is ValueError


def test_an_error_whose_text_exits_is_told_in_words():
    remote = sent(ExitingStr())
    assert isinstance(remote, RemoteFailure)
    assert remote.message == "<exception str() failed>"
    assert remote.type_name.endswith("ExitingStr")


def test_an_interrupt_of_the_writing_still_gives_an_answer(monkeypatch):
    def interrupted(error):
        raise OwnBase

    monkeypatch.setattr(failure, "_travelling", interrupted)
    remote = sent(ValueError("bad"))
    assert isinstance(remote, RemoteFailure)
    assert remote.type_name == "ValueError"


def test_a_class_that_does_not_give_its_name_is_told_in_words():
    body = dump_failure(LyingClass("bad"), stage="call", where=WHERE)
    assert load_failure(body).type_name == "<unknown>"


@pytest.mark.parametrize(
    "error",
    [
        KeyboardInterrupt(),
        SystemExit(1),
        GeneratorExit(),
        StopIteration(3),
        StopAsyncIteration(),
        asyncio.CancelledError(),
        OwnBase("mine"),
        ErrorAndInterrupt(),
        CancelledLike(),
        BaseExceptionGroup("some", [ValueError(), KeyboardInterrupt()]),
        BaseExceptionGroup("deep", [ExceptionGroup("a", [ValueError()]), BaseExceptionGroup("b", [SystemExit()])]),
        ExceptionGroup("stop", [StopIteration()]),
    ],
    ids=repr,
)
def test_what_would_steer_a_task_is_told_in_words(error):
    assert not is_safe_to_raise(error)
    remote = sent(error)
    assert isinstance(remote, RemoteFailure)
    assert remote.type_name.endswith(type(error).__qualname__)
    assert "Traceback" in remote.traceback


def test_trios_cancellation_is_told_in_words():
    trio = pytest.importorskip("trio")
    assert not is_safe_to_raise(trio.Cancelled._create(source="explicit", reason=None, source_task=None))


def test_a_group_of_ordinary_errors_arrives_as_itself():
    error = sent(ExceptionGroup("two", [ValueError("a"), ExceptionGroup("inner", [KeyError("b")])]))
    assert type(error) is ExceptionGroup
    assert repr(error.exceptions[0]) == "ValueError('a')"
    assert repr(error.exceptions[1].exceptions) == "(KeyError('b'),)"


def test_a_group_arrives_with_members_that_travel_in_parts():
    error = sent(ExceptionGroup("two", [TwoArguments(3, "bad"), ExceptionGroup("in", [WithLock("x"), ValueError()])]))
    assert type(error) is ExceptionGroup
    assert error.exceptions[0].code == 3
    assert type(error.exceptions[1].exceptions[0]) is WithLock


def test_a_group_class_with_its_own_constructor_arrives():
    error = sent(OwnGroup(3, [ValueError("a")]))
    assert type(error) is OwnGroup
    assert (error.message, error.code, repr(error.exceptions)) == ("code 3", 3, "(ValueError('a'),)")


def test_a_group_with_one_member_that_cannot_travel_is_told_in_words():
    assert isinstance(sent(ExceptionGroup("one", [LockInArguments(threading.Lock())])), RemoteFailure)


def test_causes_are_shown_in_the_note_and_do_not_arrive():
    error = ValueError("bad")
    error.__cause__ = KeyboardInterrupt("the cause")
    arrived = sent(error)
    assert type(arrived) is ValueError
    assert arrived.__cause__ is None
    assert "KeyboardInterrupt: the cause" in arrived.__notes__[-1]
    assert "direct cause" in arrived.__notes__[-1]


def test_an_unsafe_cause_that_travels_with_its_error_is_left_behind():
    error = CarriesCause("bad")
    error.__cause__ = KeyboardInterrupt()
    arrived = sent(error)
    assert type(arrived) is CarriesCause
    assert arrived.__cause__ is None


def test_a_safe_cause_that_travels_with_its_error_arrives():
    error = CarriesCause("bad")
    error.__cause__ = KeyError("why")
    assert repr(sent(error).__cause__) == "KeyError('why')"


def test_causes_in_a_circle_end():
    one, two = ValueError("one"), KeyError("two")
    one.__cause__, two.__cause__ = two, one
    assert is_safe_to_raise(one)
    two.__context__ = GeneratorExit()
    assert not is_safe_to_raise(one)


def test_what_is_no_exception_is_not_safe_to_raise():
    assert not is_safe_to_raise("text")


@pytest.mark.parametrize("stage", ["arguments", "result"])
def test_what_is_not_the_calls_own_error_is_told_in_words(stage):
    remote = sent(ValueError("bad"), stage=stage)
    assert isinstance(remote, RemoteFailure)
    assert (remote.type_name, remote.message, remote.stage) == ("ValueError", "bad", stage)


def test_endless_recursion_arrives_as_itself():
    def deeper():
        deeper()

    try:
        deeper()
    except RecursionError as error:
        arrived = load_failure(dump_failure(error, stage="call", where=WHERE))
    assert type(arrived) is RecursionError
    assert len(arrived.__notes__[-1]) < 10_000


def test_long_texts_are_capped_in_their_middle():
    remote = describe_failure(raised(ValueError("a" * 100_000 + "b" * 100_000)), stage="call")
    assert len(remote.message) < 9_000
    assert len(remote.traceback) < 65_000
    assert remote.message.startswith("aaa")
    assert remote.traceback.endswith("bbb\n")


def test_a_message_of_another_string_type_becomes_a_plain_string():
    class Loud(str):
        def __getitem__(self, _):
            raise RuntimeError

    class Shouting(Exception):
        def __str__(self):
            return Loud("hey")

    remote = describe_failure(Shouting(), stage="call")
    assert type(remote.message) is str
    assert remote.message == "hey"


def test_odd_notes_do_no_harm():
    error = ValueError("bad")
    error.__notes__ = [3, "mine", None]
    assert sent(error).__notes__[:-1] == ["mine"]
    error.__notes__ = 5
    assert len(sent(error).__notes__) == 1


def test_a_class_that_the_parent_does_not_have_is_told_in_words(monkeypatch):
    module = types.ModuleType("only_in_the_worker")
    exec("class Elsewhere(Exception): pass", module.__dict__)
    monkeypatch.setitem(sys.modules, "only_in_the_worker", module)
    body = dump_failure(raised(module.Elsewhere("bad")), stage="call", where=WHERE)
    assert type(load_failure(body)) is module.Elsewhere
    monkeypatch.delitem(sys.modules, "only_in_the_worker")
    remote = load_failure(body)
    assert isinstance(remote, RemoteFailure)
    assert (remote.type_name, remote.message) == ("only_in_the_worker.Elsewhere", "bad")


class Elsewhere(Exception):
    """Its pickle calls `rebuild`, which the tests change between the worker's side and the parent's."""

    def __reduce__(self):
        return rebuild, self.args


how = {"rebuild": Elsewhere}


def rebuild(*args):
    return how["rebuild"](*args)


@pytest.mark.parametrize("other", [lambda _: KeyboardInterrupt(), sys.exit, lambda _: "text", lambda _: None])
def test_an_error_that_turns_unsafe_in_the_parent_is_told_in_words(monkeypatch, other):
    body = dump_failure(Elsewhere("bad"), stage="call", where=WHERE)
    assert type(load_failure(body)) is Elsewhere
    monkeypatch.setitem(how, "rebuild", other)
    assert load_failure(body).message == "bad"


@pytest.mark.parametrize("body", [b"", b"garbage", pickle.dumps(3)])
def test_bytes_that_are_no_failure_become_words(body):
    assert isinstance(load_failure(body), RemoteFailure)


def test_a_remote_failure_shows_what_it_is():
    assert repr(RemoteFailure("m.E", "bad", "", "call")) == "<RemoteFailure in the call: m.E: bad>"


def test_fastapis_http_exception_arrives_as_itself():
    fastapi = pytest.importorskip("fastapi")
    error = sent(fastapi.HTTPException(status_code=404))
    assert type(error) is fastapi.HTTPException
    assert error.status_code == 404


def test_httpxs_status_error_arrives_as_itself():
    httpx = pytest.importorskip("httpx")
    request = httpx.Request("GET", "http://test")
    error = sent(httpx.HTTPStatusError("bad", request=request, response=httpx.Response(503, request=request)))
    assert type(error) is httpx.HTTPStatusError
    assert error.response.status_code == 503


def test_pydantics_validation_error_arrives_as_itself():
    pydantic = pytest.importorskip("pydantic")
    with pytest.raises(pydantic.ValidationError) as caught:
        pydantic.TypeAdapter(int).validate_python("x")
    assert str(sent(caught.value)) == str(caught.value)


def test_a_numpy_array_in_the_arguments_does_no_harm():
    numpy = pytest.importorskip("numpy")
    assert type(sent(ValueError("bad", numpy.zeros(3)))) is ValueError


CLASSES = [ValueError, TwoArguments, WithLock, BadStr, ExitingReduce, ExitingOnLoad, KeyError, OSError, BadReduce]
arguments = st.none() | st.integers() | st.floats() | st.text() | st.binary() | st.builds(Plain) | st.builds(BadRepr)
errors = st.recursive(
    st.builds(lambda cls, args: BaseException.__new__(cls, *args) if cls is not OSError else OSError(*args),
              st.sampled_from([*CLASSES, KeyboardInterrupt, StopIteration]), st.lists(arguments, max_size=3)),
    lambda inner: st.builds(BaseExceptionGroup, st.text(), st.lists(inner, min_size=1, max_size=3)),
    max_leaves=5,
)  # fmt: skip


@given(errors, st.sampled_from(["arguments", "call", "result"]))
def test_whatever_is_sent_arrives_safe_to_raise(error, stage):
    arrived = load_failure(dump_failure(error, stage=stage, where=WHERE))
    if isinstance(arrived, RemoteFailure):
        assert arrived.stage == stage
    else:
        assert stage == "call"
        assert type(arrived) is type(error)
        assert is_safe_to_raise(arrived)


def test_an_error_of_main_is_caught_by_its_class(tmp_path):
    script = tmp_path / "program.py"
    script.write_text(
        textwrap.dedent(
            """
            import subprocess, sys
            from gibbs._wire import payload, failure

            CHILD = '''if True:
                import sys
                from gibbs._wire import payload, failure
                function, args = payload.loads(sys.stdin.buffer.read())
                try:
                    function(*args)
                except Exception as error:
                    sys.stdout.buffer.write(failure.dump_failure(error, stage="call", where="the child"))
            '''

            class Boom(Exception):
                def __init__(self, code, text):
                    super().__init__(text)
                    self.code = code

            def fail(code):
                raise ExceptionGroup("some", [Boom(code, "bad")])

            body = payload.dumps((fail, (7,)))
            done = subprocess.run([sys.executable, "-c", CHILD], input=body, capture_output=True, check=True)
            try:
                raise failure.load_failure(done.stdout)
            except* Boom as group:
                (boom,) = group.exceptions
                assert boom.code == 7 and str(boom) == "bad"
            else:
                raise SystemExit("not caught")
            """
        )
    )
    done = subprocess.run([sys.executable, script], env=ENVIRONMENT, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
