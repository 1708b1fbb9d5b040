"""Tracebacks as the model's code made them."""

from __future__ import annotations

import os

_HERE = os.path.dirname(__file__) + os.sep


def without_our_frames(error: BaseException) -> BaseException:
    """The exception as the model's own code raised it: its traceback begins there, if it ever came to that code."""
    inner = error.__traceback__
    while inner is not None and inner.tb_frame.f_code.co_filename.startswith(_HERE):
        inner = inner.tb_next
    return error if inner is None else error.with_traceback(inner)
