"""The exceptions and the frozen records: what they say, what they are, and that they survive a journey."""

import copy
import dataclasses
import pickle
import re
import traceback

import anyio
import pytest

import gibbs
from gibbs import _errors, _records
from gibbs._records import probable_cause

START_FAILED = gibbs.WorkerStartFailed(
    "Toy", 1, "exited", exit_code=3, stderr_tail="no such file\n", detail="the process exited with status 3"
)
CRASHED = gibbs.WorkerCrashed(
    "Toy",
    4711,
    2,
    5,
    signal="SIGKILL",
    stderr_tail="one\ntwo\n",
    probable_cause="often this is the kernel's out-of-memory killer",
    stack='  File "model.py", line 12, in embed',
    may_have_run=False,
)
POISON = gibbs.PoisonRequest("Toy", 4712, 2, 6, signal="SIGSEGV", stderr_tail="one\n")
POISON.crashes = (CRASHED,)
EXAMPLES = [
    gibbs.GibbsError(),
    gibbs.HubClosed("Toy", "closed"),
    gibbs.ReloadFailed("Toy", "no model came of it"),
    gibbs.HubClosed("Toy", "draining"),
    gibbs.HubClosed("Toy", "failed"),
    gibbs.HubOverloaded("Toy", 7),
    gibbs.HubOverloaded("Toy", 7, 0.5),
    gibbs.HubOverloaded("Toy", 7, needed=0.25),
    gibbs.WorkerStartFailed("Toy", 0, "timeout"),
    START_FAILED,
    gibbs.WorkerCrashed("Toy", None, 2, 1),
    CRASHED,
    gibbs.PoisonRequest("Toy", 4712, 2, 6, exit_code=1),
    POISON,
    gibbs.LeaseBroken("Toy", 2, 5, how="ended by SIGSEGV"),
    gibbs.RemoteError("SystemExit", "3", "Traceback ...", "call"),
    gibbs.MessageTooLarge("Toy", "request", 2_000_000, 1_048_576),
    gibbs.RestartsExhausted("Toy", ()),
    gibbs.RestartsExhausted("Toy", (START_FAILED, CRASHED)),
    gibbs.RecursiveStart("Toy"),
]
ERRORS = {cls for cls in vars(_errors).values() if isinstance(cls, type) and issubclass(cls, gibbs.GibbsError)}

examples = pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)


def fields(error):
    """All data, also of errors within errors."""
    return {
        name: tuple((type(one), fields(one)) for one in value) if name in ("failures", "crashes") else value
        for name, value in vars(error).items()
    }


def test_every_error_has_an_example_here():
    assert {type(error) for error in EXAMPLES} == ERRORS


# ---- the tree


def test_the_tree_is_as_it_is_drawn():
    drawn = re.findall(r"^(│   )?[├└]── (\w+) *(.*)$", _errors.__doc__, re.MULTILINE)
    assert {name for _, name, _ in drawn} == {cls.__name__ for cls in ERRORS} - {"GibbsError"}
    above = gibbs.GibbsError
    for deeper, name, text in drawn:
        also = re.match(r"also anyio\.(\w+):", text)
        cls = getattr(gibbs, name)
        base = above if deeper else gibbs.GibbsError
        assert cls.__bases__ == ((base, getattr(anyio, also[1])) if also else (base,))
        above = above if deeper else cls


@pytest.mark.parametrize("cls", sorted(ERRORS, key=lambda cls: cls.__name__))
def test_an_error_is_public_and_lives_where_users_find_it(cls):
    assert getattr(gibbs, cls.__name__) is cls
    assert cls.__module__ == "gibbs"
    assert issubclass(cls, Exception)


def test_who_knows_anyio_only_catches_what_it_knows():
    with pytest.raises(anyio.ClosedResourceError):
        raise gibbs.HubClosed("Toy", "closed")
    with pytest.raises(anyio.WouldBlock):
        raise gibbs.HubOverloaded("Toy", 3)


# ---- a journey


@examples
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_travels_with_all_its_fields(error, protocol):
    other = pickle.loads(pickle.dumps(error, protocol))
    assert type(other) is type(error)
    assert fields(other) == fields(error)
    assert str(other) == str(error)
    assert repr(other) == repr(error)


@examples
def test_a_copy_is_another_error_with_the_same_fields(error):
    for other in (copy.copy(error), copy.deepcopy(error)):
        assert other is not error
        assert (type(other), fields(other), str(other)) == (type(error), fields(error), str(error))


@examples
def test_notes_and_what_others_have_hung_on_an_error_travel_too_and_its_cause_does_not(error):
    error = copy.copy(error)
    error.add_note("seen by the gateway")
    error.request_id = "abc"
    error.__cause__ = ValueError("stays")
    other = pickle.loads(pickle.dumps(error))
    assert other.__notes__ == ["seen by the gateway"]
    assert other.request_id == "abc"
    assert other.__cause__ is None
    other.add_note("later")
    assert error.__notes__ == ["seen by the gateway"]


def test_an_error_that_a_user_derives_travels_too():
    error = pickle.loads(pickle.dumps(Derived("Toy", extra=5)))
    assert (type(error), error.name, error.extra) == (Derived, "Toy", 5)


class Derived(gibbs.RecursiveStart):
    def __init__(self, name, *, extra):
        super().__init__(name)
        self.extra = extra


# ---- in words


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (gibbs.HubClosed("Toy", "closed"), ["'Toy'", "is closed", "`async with` block has been left"]),
        (gibbs.HubClosed("Toy", "draining"), ["'Toy'", "draining", "no new requests"]),
        (gibbs.HubClosed("Toy", "failed"), ["'Toy'", "failed", "the cause says why"]),
        (gibbs.HubOverloaded("Toy", 7), ["'Toy'", "7 requests wait", "max_pending", "try again later"]),
        (gibbs.WorkerStartFailed("Toy", 0, "timeout"), ["worker 0", "'Toy'", "did not become ready: timeout"]),
        (START_FAILED, ["worker 1", "'Toy'", "did not become ready", "exited with status 3", "\nno such file"]),
        (gibbs.WorkerCrashed("Toy", None, 2, 1), ["worker 2", "'Toy'", "nobody knows how", "may have run"]),
        (gibbs.WorkerCrashed("Toy", 9, 2, 1, exit_code=0), ["worker 2", "pid 9", "status 0", "if that does no harm"]),
        (
            CRASHED,
            [
                "worker 2",
                "pid 4711",
                "SIGKILL",
                "out-of-memory",
                "never begun and can be sent again",
                "line 12, in embed",
                "two",
            ],
        ),
        (gibbs.RemoteError("SystemExit", "3", "", "call"), ["SystemExit: 3", "the model raised"]),
        (gibbs.RemoteError("EOFError", "", "", "arguments"), ["EOFError", "arguments could not be loaded"]),
        (gibbs.RemoteError("m.Odd", "no", "", "result"), ["m.Odd: no", "result could not be brought back"]),
        (
            gibbs.MessageTooLarge("Toy", "request", 9, 4),
            ["'Toy'", "request", "9 bytes", "max_message=4", "nothing was sent"],
        ),
        (gibbs.MessageTooLarge("Toy", "result", 9, 4), ["result", "the call has run", "larger max_message"]),
        (gibbs.RestartsExhausted("Toy", ()), ["'Toy'", "gave up", "RestartPolicy"]),
        (gibbs.RestartsExhausted("Toy", (START_FAILED, CRASHED)), ["'Toy'", "RestartPolicy", f"last one: {CRASHED}"]),
        (gibbs.RecursiveStart("Toy"), ["'Toy'", "a worker is importing", '`if __name__ == "__main__":`']),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_error_says_what_happened_to_whom_and_what_to_do(error, words):
    for word in words:
        assert word in str(error)
    assert not str(error).endswith(("\n", " ", ".", ":"))


@examples
def test_a_traceback_names_the_error_as_users_import_it(error):
    text = "".join(traceback.format_exception(error))
    assert text.startswith(f"gibbs.{type(error).__name__}")
    assert str(error) in text


@pytest.mark.parametrize("reason", _errors.ClosedReason.__args__)
def test_each_reason_of_a_closed_hub_has_its_sentence(reason):
    others = {str(gibbs.HubClosed("Toy", other)) for other in _errors.ClosedReason.__args__ if other != reason}
    assert str(gibbs.HubClosed("Toy", reason)) not in others


@pytest.mark.parametrize("stage", _errors.Stage.__args__)
def test_each_stage_of_a_remote_error_has_its_sentence(stage):
    others = {str(gibbs.RemoteError("E", "", "", other)) for other in _errors.Stage.__args__ if other != stage}
    assert str(gibbs.RemoteError("E", "", "", stage)) not in others


def test_a_tail_of_nothing_is_not_announced():
    error = gibbs.WorkerStartFailed("Toy", 0, "timeout", stderr_tail="\n \n")
    assert "last lines" not in str(error)


@pytest.mark.parametrize(
    ("ending", "words"),
    [
        (gibbs.Ending(how="signalled", code=9), "out-of-memory killer"),
        (gibbs.Ending(how="signalled", code=11), "native code"),
        (gibbs.Ending(how="signalled", code=6), "abort()"),
        (gibbs.Ending(how="exited", code=0), "os._exit"),
    ],
    ids=str,
)
def test_a_probable_cause_is_a_guess_in_words(ending, words):
    assert words in probable_cause(ending)


@pytest.mark.parametrize(
    "ending", [gibbs.Ending(how="signalled", code=15), gibbs.Ending(how="unknown"), gibbs.Ending(how="signalled")]
)
def test_where_nothing_is_probable_nothing_is_said(ending):
    assert probable_cause(ending) == ""


def test_a_violation_comes_before_all_guesses():
    text = probable_cause(gibbs.Ending(how="signalled", code=9), violation="it spoke of request 5")
    assert "it spoke of request 5" in text
    assert "killed by the hub" in text
    assert "out-of-memory" not in text


# ---- records

FRAME = gibbs.Frame(file="model.py", line=12, function="Model.embed")
RECORDS = [
    gibbs.Origin(launcher="local", pid=5),
    gibbs.Ending(how="exited", code=3),
    FRAME,
    gibbs.WorkerStack(seat=2, incarnation=1, pid=5, method="embed", seconds=3.0, threads=((FRAME,), (FRAME,))),
    gibbs.HubStatistics(seats={"serving": 2}, pids=(5, None), done=3),
    gibbs.Health(ready=False, reasons=("1 of 2 workers are not ready",)),
]
records = pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)


def test_every_record_has_an_example_here():
    assert {type(record) for record in RECORDS} == {
        cls for cls in vars(_records).values() if dataclasses.is_dataclass(cls)
    }


@records
def test_a_record_is_frozen_and_has_no_room_for_more(record):
    for name in [field.name for field in dataclasses.fields(record)]:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(record, name, None)
        with pytest.raises(dataclasses.FrozenInstanceError):
            delattr(record, name)
    assert not hasattr(record, "__dict__")


@records
def test_a_record_travels_and_equals_its_like(record):
    assert pickle.loads(pickle.dumps(record)) == record == dataclasses.replace(record)
    assert type(record).__module__ == "gibbs"
    assert getattr(gibbs, type(record).__name__) is type(record)


@records
def test_a_record_is_made_by_names_only(record):
    with pytest.raises(TypeError):
        type(record)("local")


@pytest.mark.parametrize(
    ("ending", "exit_code", "signal", "words"),
    [
        (gibbs.Ending(how="exited", code=3), 3, None, "exited with status 3"),
        (gibbs.Ending(how="exited", code=0), 0, None, "exited with status 0"),
        (gibbs.Ending(how="signalled", code=9), None, "SIGKILL", "was ended by SIGKILL"),
        (gibbs.Ending(how="signalled", code=50), None, "signal 50", "was ended by signal 50"),
        (gibbs.Ending(how="unknown"), None, None, "is gone, its exit status was taken by other code of this program"),
    ],
)
def test_an_ending_is_an_exit_or_a_signal_or_unknown(ending, exit_code, signal, words):
    assert (ending.exit_code, ending.signal, str(ending)) == (exit_code, signal, words)


@pytest.mark.parametrize(
    ("stack", "words"),
    [
        (gibbs.WorkerStack(seat=2, incarnation=1, pid=5), "worker 2 (pid 5), idle, does not say where it is"),
        (gibbs.WorkerStack(seat=2, incarnation=1, pid=5, threads=((),)), "worker 2 (pid 5), idle"),
        (
            gibbs.WorkerStack(
                seat=2, incarnation=1, pid=5, host="gpu1", method="embed", seconds=3.0, threads=((FRAME,),)
            ),
            "worker 2 (pid 5 on gpu1), in 'embed' for 3 seconds:\n  File \"model.py\", line 12, in Model.embed",
        ),
    ],
    ids=["silent", "idle", "busy"],
)
def test_a_stack_is_said_in_words(stack, words):
    assert str(stack) == words
    assert stack.answered == ("does not say" not in words)
