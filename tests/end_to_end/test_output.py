"""What workers write on descriptors 1 and 2, where it goes, and what environment they run in."""

from __future__ import annotations

import ctypes
import logging
import operator
import os
import sys
import time

import anyio
import pytest

import gibbs
from gibbs._launch.output import Output
from gibbs._parent.usable_cpus import usable_cpus

pytestmark = pytest.mark.in_turn  # it is the worker's doing, and the same on every loop

CALLS = gibbs.function(operator.call)  # a model that does what it is told: `request(f, *args)` is f(*args) in a worker


def open_calls(output="stderr", workers=1, **options):
    return gibbs.open_hub(CALLS, workers=workers, name="calls", launcher=gibbs.LocalLauncher(output=output, **options))


def speak(text="hello"):
    print(f"{text} from print")
    print(f"{text} from stderr", file=sys.stderr)
    os.write(1, f"{text} from the descriptor\n".encode())
    return "spoken"


SPOKEN = ["hello from print", "hello from stderr", "hello from the descriptor"]


def speak_and_die():
    speak()
    os._exit(1)


async def tail_of(hub):
    with pytest.raises(gibbs.WorkerCrashed) as caught:
        await hub.request(speak_and_die)
    return caught.value.stderr_tail


# ----------------------------------------------------------------------------------------------------------- five places


async def test_by_default_lines_go_to_the_programs_stderr_with_the_hubs_name_and_the_seat(capsys):
    async with open_calls() as hub:
        assert await hub.request(speak) == "spoken"
        tail = await tail_of(hub)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [f"[calls/0] {line}" for line in SPOKEN * 2]
    assert tail.splitlines() == SPOKEN * 2


def say_who(barrier):
    print("I am", os.getpid())
    (barrier / str(os.getpid())).touch()
    while len(os.listdir(barrier)) < 3:
        time.sleep(0.001)


async def test_each_line_names_the_seat_that_wrote_it(capsys, tmp_path):
    async with open_calls(workers=3) as hub:
        pids = hub.statistics().pids
        async with anyio.create_task_group() as tg:
            for _ in pids:
                tg.start_soon(hub.request, say_who, tmp_path)
    seen = set(capsys.readouterr().err.splitlines())
    assert seen == {f"[calls/{seat}] I am {pid}" for seat, pid in enumerate(pids)}


async def test_log_sends_lines_to_the_logger_gibbs_with_hub_and_seat(caplog, capfd):
    caplog.set_level(logging.INFO, logger="gibbs")
    async with open_calls("log") as hub:
        await hub.request(speak)
        tail = await tail_of(hub)
    records = [record for record in caplog.records if record.levelno == logging.INFO]
    assert [record.getMessage() for record in records] == [f"[calls/0] {line}" for line in SPOKEN * 2]
    assert {(record.name, record.hub, record.seat) for record in records} == {("gibbs", "calls", 0)}
    assert tail.splitlines() == SPOKEN * 2
    assert capfd.readouterr() == ("", "")


async def test_a_percent_sign_in_a_line_is_no_format_of_the_log(caplog):
    caplog.set_level(logging.INFO, logger="gibbs")
    async with open_calls("log") as hub:
        await hub.request(print, "100 % of %s and %(name)s {0}")
    assert [record.getMessage() for record in caplog.records] == ["[calls/0] 100 % of %s and %(name)s {0}"]


async def test_inherit_shares_the_programs_descriptors_and_keeps_no_tail(capfd):
    async with open_calls("inherit") as hub:
        await hub.request(speak)
        tail = await tail_of(hub)
    out, err = capfd.readouterr()
    assert out.splitlines() == [SPOKEN[0], SPOKEN[2]] * 2
    assert err.splitlines() == [SPOKEN[1]] * 2
    assert tail == ""


async def test_discard_shows_nothing_and_keeps_the_tail(capfd):
    async with open_calls("discard") as hub:
        await hub.request(speak)
        tail = await tail_of(hub)
    assert capfd.readouterr() == ("", "")
    assert tail.splitlines() == SPOKEN * 2


async def test_a_callable_gets_each_line_with_its_seat(capfd):
    lines = []
    async with open_calls(lambda line, seat: lines.append((line, seat))) as hub:
        await hub.request(speak)
        tail = await tail_of(hub)
    assert lines == [(line, 0) for line in SPOKEN * 2]
    assert tail.splitlines() == SPOKEN * 2
    assert capfd.readouterr() == ("", "")


async def test_a_callable_that_raises_is_logged_once_and_left_out_and_nobody_else_notices(caplog):
    calls = []

    def take(line, seat):
        calls.append(line)
        raise LookupError("no place for this line")

    async with open_calls(take) as hub:
        for _ in range(5):
            assert await hub.request(speak) == "spoken"
        tail = await tail_of(hub)
    assert calls == [SPOKEN[0]]
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info[0] is LookupError
    assert tail.splitlines() == (SPOKEN * 6)[-20:]


# ------------------------------------------------------------------------------------------------------------- the bytes


async def lines_of(*request):
    lines = []
    async with open_calls(lambda line, seat: lines.append(line)) as hub:
        await hub.request(*request)
    return lines


def write(*pieces):
    for piece in pieces:
        os.write(1, piece)


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        pytest.param([b"\xff\xfe caf\xe9\n"], ["\ufffd\ufffd caf\ufffd"], id="invalid UTF-8"),
        pytest.param(["caf\u00e9 \u2603\n".encode()], ["caf\u00e9 \u2603"], id="UTF-8"),
        pytest.param([b"caf\xc3", b"\xa9\n"], ["caf\u00e9"], id="a character in two pieces"),
        pytest.param([b"a", b"b", b"c\nd", b"\n"], ["abc", "d"], id="a line in pieces"),
        pytest.param([b"no end"], ["no end"], id="a line without an end"),
        pytest.param([b"one\n\n\nfour\n"], ["one", "", "", "four"], id="empty lines"),
        pytest.param([b"one\r\ntwo\r\n"], ["one", "two"], id="ends of DOS"),
        pytest.param([b"\0\x1b[31m\n"], ["\0\x1b[31m"], id="control characters"),
    ],
)
async def test_bytes_become_lines_of_text(pieces, expected):
    assert await lines_of(write, *pieces) == expected


async def test_a_line_of_a_megabyte_comes_in_pieces_and_whole():
    lines = await lines_of(write, b"0123456789" * 100_000 + b"\nnext\n")
    assert lines.pop() == "next"
    assert "".join(lines) == "0123456789" * 100_000
    assert max(map(len, lines)) <= 8192


def write_in_c():
    libc = ctypes.CDLL(None)
    libc.puts(b"hello from C")
    libc.fflush(None)
    os.system("echo hello from a shell; echo and its stderr >&2")


async def test_what_c_code_and_subprocesses_write_is_captured_too():
    assert await lines_of(write_in_c) == ["hello from C", "hello from a shell", "and its stderr"]


class Talkative:
    def __init__(self):
        print("the model is being built")

    def __call__(self):
        print("the model is being called", end="")


async def test_what_is_written_while_the_model_is_built_and_without_an_end_is_not_lost():
    lines = []
    launcher = gibbs.LocalLauncher(output=lambda line, seat: lines.append(line))
    async with gibbs.open_hub(Talkative, workers=1, launcher=launcher) as hub:
        await hub.request()
    assert lines == ["the model is being built", "the model is being called"]


class Endless(Output):
    """Of a pipe that is never empty: what the worker forked writes on and on."""

    reads = 0

    def _read_once(self):
        self.reads += 1
        return True


async def test_who_writes_on_when_the_worker_is_gone_does_not_keep_the_hub():
    read, write = os.pipe()
    os.close(write)
    output = Endless(read, "discard", name="calls", seat=0)
    output.finish()
    assert output.reads > 1, "a pipe holds more than one piece"
    with pytest.raises(OSError):
        os.fstat(read)


async def test_the_tail_is_capped_in_lines_and_characters():
    async with open_calls("discard") as hub:
        with pytest.raises(gibbs.WorkerCrashed) as caught:
            await hub.request(write_and_die, [b"%d\n" % n for n in range(1000)])
        assert caught.value.stderr_tail.splitlines() == [str(n) for n in range(980, 1000)]
        with pytest.raises(gibbs.WorkerCrashed) as caught:
            await hub.request(write_and_die, [b"x" * 100_000, b"\nend"])
        assert caught.value.stderr_tail.endswith("xxx\nend")
        assert len(caught.value.stderr_tail) <= 8192


def write_and_die(pieces):
    write(*pieces)
    os._exit(1)


async def test_the_tail_is_of_the_worker_that_died_and_not_of_the_one_before():
    async with open_calls("discard") as hub:
        for n in range(3):
            with pytest.raises(gibbs.WorkerCrashed) as caught:
                await hub.request(write_and_die, [b"%d" % n])
            assert caught.value.stderr_tail == str(n)
            assert caught.value.incarnation == n + 1
            assert str(caught.value).endswith(f"its last lines of output:\n{n}")


# ----------------------------------------------------------------------------------------------------------- environment

THREADS = ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"]


def environment(names):
    return [os.environ.get(name) for name in names]


class SeesItsEnvironment:
    """Looks while it is built: the variables must be there before anything is imported."""

    def __init__(self, names):
        self.seen = environment(names)

    def __call__(self):
        return self.seen


@pytest.fixture(autouse=True)
def no_thread_variables(monkeypatch):
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)


async def seen_by_the_model(workers=1, names=THREADS, **options):
    launcher = gibbs.LocalLauncher(**options)
    async with gibbs.open_hub(SeesItsEnvironment, names, workers=workers, launcher=launcher) as hub:
        return await hub.request()


@pytest.mark.parametrize("workers", [1, 2, 3])
async def test_threads_auto_shares_the_usable_cpus_among_the_workers(workers):
    assert await seen_by_the_model(workers) == [str(max(1, usable_cpus() // workers))] * 4


async def test_threads_auto_leaves_alone_what_the_program_or_env_sets(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "11")
    share = str(usable_cpus())
    assert await seen_by_the_model(env={"MKL_NUM_THREADS": "12"}) == ["11", "12", share, share]


async def test_threads_none_sets_nothing():
    assert await seen_by_the_model(threads=None) == [None] * 4


async def test_env_is_put_over_the_programs_environment(monkeypatch):
    monkeypatch.setenv("GIBBS_TEST_ONE", "program")
    monkeypatch.setenv("GIBBS_TEST_TWO", "program")
    names = ["GIBBS_TEST_ONE", "GIBBS_TEST_TWO", "GIBBS_TEST_THREE"]
    env = {"GIBBS_TEST_TWO": "worker", "GIBBS_TEST_THREE": "worker"}
    assert await seen_by_the_model(names=names, env=env) == ["program", "worker", "worker"]
    assert "GIBBS_TEST_THREE" not in os.environ


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"output": "stdout"}, ValueError, "'stdout'"),
        ({"threads": 4}, ValueError, "4"),
        ({"env": {"A": 1}}, TypeError, "'A' to 1"),
    ],
)
def test_a_launcher_refuses_what_makes_no_sense(options, error, text):
    with pytest.raises(error, match=text):
        gibbs.LocalLauncher(**options)
