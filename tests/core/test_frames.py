"""Bytes in, messages out, however the bytes were cut, and whatever somebody did to them."""

import struct
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gibbs._wire.frames import HEADER_SIZE, FrameError, FrameReader, encode, encode_header
from gibbs._wire.messages import TO_HUB, TO_WORKER

KINDS = frozenset({2, 16, 200})
BIGGEST_ID = (1 << 64) - 1

messages = st.tuples(
    st.sampled_from(sorted(KINDS)),
    st.integers(0, 1000) | st.integers(0, BIGGEST_ID),
    st.binary(max_size=40) | st.integers(0, 5000).map(bytes),
)


def joined(some):
    return b"".join(encode(*message) for message in some)


def cut(data, places):
    """`data` in pieces, some of them perhaps empty."""
    borders = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(borders)]


@given(some=st.lists(messages, max_size=8), places=st.lists(st.integers(0, 10**6), max_size=20))
def test_however_the_bytes_are_cut_the_messages_are_the_same(some, places):
    reader = FrameReader(KINDS)
    got = [message for piece in cut(joined(some), places) for message in reader.feed(piece)]
    assert got == some
    assert not reader._buffer


@given(some=st.lists(messages, min_size=1, max_size=3))
def test_byte_by_byte_a_message_comes_with_its_last_byte_and_not_before(some):
    reader = FrameReader(KINDS)
    for message in some:
        *head, last = [bytes([byte]) for byte in encode(*message)]
        for byte in head:
            assert reader.feed(byte) == []
            assert reader._buffer
        assert reader.feed(last) == [message]
        assert not reader._buffer


@given(message=messages)
def test_a_header_alone_and_its_body_behind_it_are_the_same_bytes(message):
    kind, link_id, body = message
    assert encode_header(kind, link_id, len(body)) + body == encode(*message)
    assert len(encode(*message)) == HEADER_SIZE + len(body)


@given(some=st.lists(messages, min_size=1, max_size=4), data=st.data())
def test_whatever_is_done_to_the_bytes_there_are_messages_or_more_is_wanted_or_it_is_a_frame_error(some, data):
    stream = bytearray(joined(some))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, max(0, len(stream) - 1)))
        how = data.draw(st.sampled_from(["change", "cut", "insert", "end"]))
        if how == "change" and stream:
            stream[at] ^= data.draw(st.integers(1, 255))
        elif how == "cut":
            del stream[at : at + data.draw(st.integers(1, 30))]
        elif how == "insert":
            stream[at:at] = data.draw(st.binary(min_size=1, max_size=30))
        elif how == "end":
            del stream[at:]
    places = data.draw(st.lists(st.integers(0, 10**6), max_size=5))
    assert_harmless(bytes(stream), cut(bytes(stream), places))
    assert_harmless(bytes(stream), cut(bytes(stream), places), limit=data.draw(st.integers(0, 100)))


@given(pieces=st.lists(st.binary(max_size=80), max_size=8))
def test_garbage_is_harmless(pieces):
    assert_harmless(b"".join(pieces), pieces)


def test_a_body_that_is_promised_and_taken_in_is_held_once_and_handed_out_once():
    length, piece = 1 << 22, 1 << 16
    reader = FrameReader(KINDS, limit=length)
    tracemalloc.start()
    try:
        assert reader.feed(encode_header(2, 1, length)) == []
        assert tracemalloc.get_traced_memory()[1] < piece, "it takes the header's word"
        got = [message for _ in range(length // piece) for message in reader.feed(bytes(piece))]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert got == [(2, 1, bytes(length))]
    assert peak < 2.5 * length  # the buffer may have some air


@pytest.mark.parametrize("limit", [4, 40])
def test_each_byte_of_a_stream_may_have_any_value(limit):
    stream = joined([(2, 1, b"body"), (200, 2, b"")])
    for at in range(len(stream)):
        for value in range(256):
            changed = stream[:at] + bytes([value]) + stream[at + 1 :]
            assert_harmless(changed, [changed], limit=limit)


def read(reader, pieces, *, limit):
    """What came out, and whether it ended in an error."""
    got = []
    try:
        for piece in pieces:
            got += reader.feed(piece)
            if reader.broken is None:
                assert sum(map(len, reader._buffer)) < HEADER_SIZE + limit, "more is kept than one message may have"
    except FrameError:
        assert reader.broken is not None
    return got, reader.broken is not None


def assert_harmless(stream, pieces, *, limit=10_000):
    reader = FrameReader(KINDS, limit=limit)
    got, broken = read(reader, pieces, limit=limit)
    for kind, link_id, body in got:
        assert kind in KINDS
        assert 0 <= link_id <= BIGGEST_ID
        assert type(body) is bytes
        assert len(body) <= limit
    assert stream.startswith(joined(got)), "nothing is made up, and nothing is skipped"
    if not broken:
        assert (not reader._buffer) == (joined(got) == stream)
    assert read(FrameReader(KINDS, limit=limit), [stream], limit=limit) == (got, broken), "it depends on the cuts"


@pytest.mark.parametrize("at", range(4))
def test_a_change_of_magic_version_or_kind_is_an_error_and_not_another_message(at):
    for change in range(1, 256):
        header = bytearray(encode(16, 5, b"body"))
        header[at] ^= change
        if at == 3 and header[at] in KINDS:
            continue
        with pytest.raises(FrameError):
            FrameReader(KINDS).feed(bytes(header))


@pytest.mark.parametrize(
    ("mine", "theirs"), [(TO_HUB, TO_WORKER), (TO_WORKER, TO_HUB)], ids=["the hub's", "the worker's"]
)
def test_a_message_of_the_wrong_direction_is_refused(mine, theirs):
    assert not mine & theirs
    for kind in range(256):
        message = encode(kind, 1, b"body")
        if kind in mine:
            assert FrameReader(mine).feed(message) == [(kind, 1, b"body")]
        else:
            with pytest.raises(FrameError):
                FrameReader(mine).feed(message)


def test_a_wrong_header_is_an_error_before_its_body_has_come():
    with pytest.raises(FrameError):
        FrameReader(TO_HUB).feed(encode_header(2, 1, 10**9))


@pytest.mark.parametrize("length", [1 << 30, 1 << 39, 1 << 63, BIGGEST_ID])
def test_nothing_is_allocated_on_the_word_of_a_header(length):
    reader = FrameReader(KINDS)
    tracemalloc.start()
    try:
        assert reader.feed(encode_header(2, 1, length)) == []
        for _ in range(16):
            assert reader.feed(b"x" * 1024) == []
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 256 * 1024
    assert reader._buffer


@pytest.mark.parametrize("length", [1001, (1 << 63) - 1, 1 << 63, BIGGEST_ID])
def test_a_header_that_claims_more_than_the_limit_is_an_error_at_once(length):
    with pytest.raises(FrameError):
        FrameReader(KINDS, limit=1000).feed(encode_header(2, 1, length))


def test_a_message_of_just_the_limit_is_taken():
    assert FrameReader(KINDS, limit=4).feed(encode(2, 1, b"body")) == [(2, 1, b"body")]


@given(garbage=st.binary(max_size=200))
def test_an_error_names_the_bytes_and_is_not_as_long_as_they_are(garbage):
    with pytest.raises(FrameError) as caught:
        FrameReader(KINDS).feed(b"X" * HEADER_SIZE + garbage)
    assert "XXXX" in str(caught.value)
    assert len(str(caught.value)) < 40 + 4 * HEADER_SIZE


def test_what_was_handed_out_does_not_change_with_what_comes_later():
    reader = FrameReader(KINDS)
    piece = bytearray(encode(2, 1, b"first"))
    ((_, _, body),) = reader.feed(piece)
    piece[:] = b"\xff" * len(piece)
    reader.feed(encode(2, 2, b"other"))
    assert body == b"first"


def test_a_reader_takes_any_bytes_like_object():
    message = encode(2, 1, b"body")
    for kind in (bytes, bytearray, memoryview):
        assert FrameReader(KINDS).feed(kind(message)) == [(2, 1, b"body")]


@pytest.mark.parametrize(("kind", "link_id"), [(-1, 1), (256, 1), (2, -1), (2, 1 << 64)])
def test_what_no_header_can_say_is_not_written(kind, link_id):
    with pytest.raises((KeyError, struct.error)):
        encode(kind, link_id)


def test_many_messages_in_one_piece_are_read_without_copying_the_rest_again_and_again():
    some = [(2, number, b"x" * 100) for number in range(20_000)]
    assert FrameReader(KINDS).feed(joined(some)) == some


@given(some=st.lists(messages, min_size=1, max_size=4), garbage=st.binary(max_size=200), later=st.binary(max_size=40))
def test_messages_that_were_whole_before_garbage_in_the_same_piece_come_first_and_then_the_error(some, garbage, later):
    reader = FrameReader(KINDS)
    assert reader.broken is None
    assert reader.feed(joined(some) + b"X" * HEADER_SIZE + garbage) == some
    first, kept = reader.broken, [*reader._buffer]
    assert isinstance(first, FrameError)
    for _ in range(2):
        with pytest.raises(FrameError, match="XXXX") as caught:
            reader.feed(later)
        assert caught.value is reader.broken is first
    assert reader._buffer == kept, "what comes after it is not collected"


def test_after_an_error_no_message_follows():
    reader = FrameReader(KINDS)
    with pytest.raises(FrameError):
        reader.feed(b"X" * HEADER_SIZE)
    with pytest.raises(FrameError):
        reader.feed(encode(2, 1, b"body"))
