"""Text of `faulthandler`, or of who pretends to be it: what is made of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gibbs
from gibbs._parent.stacks import innermost, threads_in

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


def test_the_innermost_call_is_that_of_the_first_thread():
    assert innermost(()) is innermost(((),)) is None
    assert innermost(threads_in(THREAD + MODEL + CALL)) == gibbs.Frame(file="/app/model.py", line=3, function="run")


@given(st.lists(st.sampled_from([MODEL, CALL, OURS, THREAD, CURRENT, "\n", "  ...\n"]) | st.text()).map("".join))
def test_no_text_is_more_than_text(text):
    assert all(isinstance(frame, gibbs.Frame) for thread in threads_in(text) for frame in thread)
