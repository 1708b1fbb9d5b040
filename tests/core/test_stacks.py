"""Text of `faulthandler`, or of who pretends to be it: what is made of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gibbs
from gibbs._parent.stacks import place_of, threads_in

MODEL = '  File "/app/model.py", line 3 in run\n'
CALL = '  File "/app/model.py", line 9 in __call__\n'
OURS = (
    '  File "/site/gibbs/_worker/service.py", line 150 in answer\n'
    '  File "/site/gibbs/_worker/serve.py", line 140 in live\n'
    '  File "/site/gibbs/_worker/serve.py", line 120 in converse\n'
    '  File "/site/gibbs/worker.py", line 80 in main\n'
    '  File "<string>", line 1 in <module>\n'
)
THREAD, CURRENT = "Thread 0x7f (most recent call first):\n", "Current thread 0x7e [main] (most recent call first):\n"


def lines(text):
    return [[f"{frame.line} {frame.function}" for frame in thread] for thread in threads_in(text)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("Fatal Python error: Aborted\n", []),
        (MODEL, []),  # of no thread
        (THREAD, [[]]),
        (THREAD + OURS, [[]]),
        (THREAD + MODEL + CALL + OURS, [["9 __call__", "3 run"]]),
        (THREAD + MODEL + "  ...\n", [["3 run"]]),
        (THREAD + '  File "/site/gibbs/_model.py", line 5 in cancelled\n' + CALL + OURS, [["9 __call__"]]),
        (THREAD + MODEL + OURS + '  File "/ray/worker.py", line 7 in main_loop\n', [["3 run"]]),
        (THREAD + CALL + OURS + THREAD + OURS + THREAD + MODEL, [["9 __call__"], ["3 run"]]),
        (THREAD + MODEL + "\n" + CURRENT + CALL + OURS, [["9 __call__"], ["3 run"]]),
        (THREAD + '  File "m.py", line ' + "9" * 5000 + " in run\n" + MODEL, [["3 run"]]),
        (THREAD + '  File "/src/gibbs/app.py", line 3 in run\n', [["3 run"]]),
    ],
)
def test_what_a_worker_says_is_the_models_own_calls(text, found):
    assert lines(text) == found


def test_the_place_of_call_is_that_of_the_first_thread():
    assert place_of(()) == place_of(((),)) == ""
    assert place_of(threads_in(THREAD + MODEL + CALL)) == "/app/model.py:3 in run"


@pytest.mark.parametrize(
    "library", ["/usr/lib/python3.11/re/__init__.py", "/app/.venv/lib/python3.13/site-packages/torch/nn.py"]
)
def test_in_a_library_the_place_is_also_where_it_was_called_from(library):
    frames = [
        gibbs.Frame(file="/app/model.py", line=3, function="Model.embed"),
        gibbs.Frame(file=library, line=171, function="fullmatch"),
    ]
    stack = gibbs.WorkerStack(seat=0, incarnation=1, pid=1, threads=(tuple(frames),))
    assert stack.place == f"{library}:171 in fullmatch, called from /app/model.py:3 in Model.embed"
    alone = gibbs.WorkerStack(seat=0, incarnation=1, pid=1, threads=(tuple(frames[1:]),))
    assert alone.place == f"{library}:171 in fullmatch"


@given(st.lists(st.sampled_from([MODEL, CALL, OURS, THREAD, CURRENT, "\n", "  ...\n"]) | st.text()).map("".join))
def test_no_text_is_more_than_text(text):
    assert all(isinstance(frame, gibbs.Frame) for thread in threads_in(text) for frame in thread)
