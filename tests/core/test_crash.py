"""The form of a crash record: what was written is read, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gibbs._wire.crash import NoRecord, read_record, write_record

facts = st.dictionaries(st.text(), st.none() | st.integers() | st.text() | st.booleans())


@given(facts, st.binary(), st.binary())
def test_what_was_written_is_read(facts, recipe, request):
    assert read_record(write_record(facts, recipe, request)) == (facts, recipe, request)


@given(facts, st.binary(), st.binary(), st.data())
def test_a_part_of_one_is_none(facts, recipe, request, data):
    record = write_record(facts, recipe, request)
    with pytest.raises(NoRecord):
        read_record(record[: data.draw(st.integers(0, len(record) - 1))])


@given(st.binary())
def test_other_bytes_are_none(data):
    # The second: Hypothesis reads the code, and begins as a record does.
    with pytest.raises(NoRecord, match=r"does not begin|cannot be read"):
        read_record(data)


def test_one_with_more_behind_it_is_none():
    with pytest.raises(NoRecord, match="not whole"):
        read_record(write_record({}, b"recipe", b"request") + b"!")
