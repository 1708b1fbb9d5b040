"""A crash record: what a worker was asked when it died, as one file that says by itself what it is.

Knows the form: a first line, a line of facts as JSON, the recipe, the request. Must never open the last two: they are pickles. Promises that
what is no such record is refused in words.
"""

from __future__ import annotations

import json
from struct import Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FIRST_LINE = b"gibbs crash record 1\n"
_LENGTHS = Struct("<QQ")


class NoRecord(Exception):
    """These bytes are none, or not all of one."""


def write_record(facts: dict[str, Any], recipe: bytes, request: bytes) -> bytes:
    """All of it."""
    return b"".join(
        (FIRST_LINE, json.dumps(facts).encode(), b"\n", _LENGTHS.pack(len(recipe), len(request)), recipe, request)
    )


def read_record(data: bytes) -> tuple[dict[str, Any], bytes, bytes]:
    """The facts, the recipe and the request. Raises NoRecord."""
    if not data.startswith(FIRST_LINE):
        raise NoRecord("it does not begin as a crash record does")
    line, _, rest = data[len(FIRST_LINE) :].partition(b"\n")
    try:
        facts = json.loads(line)
    except ValueError as error:
        raise NoRecord("what it should say of itself cannot be read") from error
    if len(rest) < _LENGTHS.size:
        raise NoRecord("it is not whole")
    recipe, request = _LENGTHS.unpack_from(rest)
    if not isinstance(facts, dict) or len(rest) != _LENGTHS.size + recipe + request:
        raise NoRecord("it is not whole")
    return facts, rest[_LENGTHS.size : _LENGTHS.size + recipe], rest[_LENGTHS.size + recipe :]
