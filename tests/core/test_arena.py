"""Memory that is shared for what is large: sealed, lent by letter, and free when nobody looks at it any more."""

import errno
import fcntl
import gc
import os
import pickle
import sys
from contextlib import contextmanager
from pickle import PickleBuffer

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gibbs._wire import letter, payload
from gibbs._wire.arena import Arena, create_arena
from gibbs._wire.borrower import Borrower
from gibbs._wire.lender import Lender, Parcel
from gibbs._wire.letter import Forged, Opened, read_table, write_aside
from gibbs._wire.slots import SMALLEST

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memfds are Linux's")

SIZE = 16 * SMALLEST
LIMIT = float("inf")
LARGE = numpy.arange(SMALLEST / 8)


@contextmanager
def shared(limit=LIMIT):
    """Both ends of an arena, each with a mapping of its own as in two processes."""
    arena = Arena(create_arena(SIZE))
    other = Arena(os.dup(arena.fd))
    try:
        yield Lender(arena, limit), Borrower(other, limit)
    finally:
        arena.close()
        other.close()


def there_and_back(lender, borrower, value, number=1):
    parcel = lender.pack(value)
    assert type(parcel) is Parcel
    return parcel, letter.loads(borrower.open(number, parcel.body))


# ------------------------------------------------------------------------------------------------------------- memory


@pytest.mark.parametrize("size", [0, SIZE // 2, SIZE * 2])
def test_nobody_can_make_it_larger_or_smaller(size):
    arena = Arena(create_arena(SIZE))
    try:
        with pytest.raises(PermissionError):
            os.ftruncate(arena.fd, size)
        with pytest.raises(PermissionError):
            fcntl.fcntl(arena.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    finally:
        arena.close()


def test_it_is_closed_when_a_program_is_executed():
    arena = Arena(create_arena(SIZE))
    assert not os.get_inheritable(arena.fd)
    arena.close()


def test_it_takes_memory_only_where_it_was_written():
    with shared() as (lender, _):
        fd = lender._arena.fd
        assert os.fstat(fd).st_blocks == 0
        parcel = lender.pack(LARGE)
        assert 0 < os.fstat(fd).st_blocks * 512 <= 2 * SMALLEST
        del parcel


def test_a_view_outlives_the_arena():
    with shared() as (lender, borrower):
        _, array = there_and_back(lender, borrower, LARGE)
    gc.collect()
    array[0] = 7
    assert array[0] == 7
    assert (array[1:] == LARGE[1:]).all()


def test_memory_that_cannot_be_had_is_an_error_before_anything_is_written(monkeypatch):
    def none_left(*_):
        raise OSError(errno.ENOSPC, "no memory")

    with shared() as (lender, _):
        monkeypatch.setattr(os, "posix_fallocate", none_left)
        body = lender.pack(LARGE)
        assert type(body) is bytes
        assert (payload.loads(body) == LARGE).all()
        assert lender.held == 0


def test_memory_is_asked_for_once(monkeypatch):
    asked = []
    monkeypatch.setattr(os, "posix_fallocate", lambda *args: asked.append(args))
    with shared() as (lender, _):
        for _ in range(3):
            lender.pack(numpy.arange(SMALLEST / 8 + 3))
    assert len(asked) == 1


def test_a_descriptor_that_leads_elsewhere_by_now_is_not_touched(tmp_path):
    with shared() as (lender, _):
        with (tmp_path / "file").open("wb") as file:
            os.dup2(file.fileno(), lender._arena.fd)
        assert type(lender.pack(LARGE)) is bytes
        assert os.path.getsize(tmp_path / "file") == 0


# ------------------------------------------------------------------------------------------------------------ lending


def test_a_slot_lives_as_long_as_an_array_that_was_made_of_it():
    """Not as long as the memoryview that the unpickler was given: that one dies at once."""
    with shared() as (lender, borrower):
        _, array = there_and_back(lender, borrower, LARGE)
        gc.collect()
        assert borrower.returned() == []
        part = array[10:20].reshape(2, 5)
        del array
        assert borrower.returned() == []
        del part
        assert borrower.returned() == [1]
        assert borrower.returned() == []


@pytest.mark.parametrize("look", [memoryview, PickleBuffer, lambda it: memoryview(it).cast("B").cast("d")])
def test_whatever_looks_at_a_slot_keeps_it(look):
    with shared() as (lender, borrower):
        parcel = lender.pack(PickleBuffer(LARGE))
        view = look(letter.loads(borrower.open(1, parcel.body)))
        gc.collect()
        assert borrower.returned() == []
        del view
        assert borrower.returned() == [1]


def test_a_letter_is_told_when_its_last_view_is_gone():
    with shared() as (lender, borrower):
        _, (one, other) = there_and_back(lender, borrower, [LARGE, LARGE + 1])
        del one
        assert borrower.returned() == []
        del other
        assert borrower.returned() == [1]


def test_a_letter_that_is_never_read_is_let_go_with_it():
    with shared() as (lender, borrower):
        parcel = lender.pack(LARGE)
        opened = borrower.open(1, parcel.body)
        assert type(opened) is Opened
        del opened
        assert borrower.returned() == [1]


def test_a_slot_is_free_when_nobody_holds_its_parcel():
    with shared() as (lender, _):
        parcel = lender.pack([LARGE, LARGE + 1])
        assert lender.held == 2 * SMALLEST
        del parcel
        assert lender.held == 0


def test_what_is_changed_after_packing_is_not_seen():
    with shared() as (lender, borrower):
        mine = LARGE.copy()
        parcel = lender.pack(mine)
        mine[:] = 0
        assert (letter.loads(borrower.open(1, parcel.body)) == LARGE).all()


def test_what_comes_out_can_be_written():
    with shared() as (lender, borrower):
        _, array = there_and_back(lender, borrower, LARGE)
        assert array.flags.writeable


def test_what_could_not_be_written_before_cannot_be_after():
    with shared() as (lender, borrower):
        fixed = LARGE.copy()
        fixed.flags.writeable = False
        _, array = there_and_back(lender, borrower, fixed)
        assert array.flags.writeable == pickle.loads(pickle.dumps(fixed, 5)).flags.writeable


@pytest.mark.parametrize("value", [b"bytes" * SMALLEST, LARGE[:-1], LARGE.reshape(-1, 2)[:, 0], "text", None])
def test_what_is_small_or_in_pieces_stays_in_the_pickle(value):
    with shared() as (lender, _):
        body = lender.pack(value)
        assert type(body) is bytes
        assert lender.held == 0
        assert numpy.array_equal(letter.loads(body), value)


def test_when_all_is_lent_the_rest_stays_in_the_pickle():
    with shared() as (lender, borrower):
        held = [there_and_back(lender, borrower, LARGE + n, n) for n in range(SIZE // SMALLEST)]
        assert lender.held == SIZE
        body = lender.pack(LARGE)
        assert type(body) is bytes
        assert (letter.loads(body) == LARGE).all()
        assert all((array == LARGE + n).all() for n, (_, array) in enumerate(held))


def test_one_letter_may_lie_in_both_places():
    with shared() as (lender, borrower):
        values = [LARGE + n for n in range(SIZE // SMALLEST + 3)]
        _, arrays = there_and_back(lender, borrower, values)
        assert all((one == other).all() for one, other in zip(values, arrays, strict=True))


def test_a_reader_who_cannot_see_the_arena_gets_it_in_one_piece():
    with shared() as (lender, _):
        parcel = lender.pack({"a": LARGE, "b": [LARGE + 1]})
        body = parcel.in_one_piece()
        del parcel
        copy = letter.loads(body)
        assert lender.held == 0
        assert (copy["a"] == LARGE).all()
        assert (copy["b"][0] == LARGE + 1).all()
        assert copy["a"].flags.writeable


class Unwilling:
    def __reduce__(self):
        raise RuntimeError("never")


def test_what_cannot_be_pickled_leaves_nothing_lent():
    with shared() as (lender, _):
        with pytest.raises(RuntimeError, match="never"):
            lender.pack([LARGE, Unwilling()])
        assert lender.held == 0


def test_what_is_pickled_by_value_leaves_nothing_lent():
    with shared() as (lender, _):
        body = lender.pack([LARGE, lambda: LARGE])
        assert body[0] != payload.PLAIN
        assert lender.held == 0
        assert (letter.loads(body)[0] == LARGE).all()


class Asks:
    """An object that packs another while it is packed."""

    def __init__(self, lender):
        self.lender = lender

    def __reduce__(self):
        self.parcel = self.lender.pack(LARGE + 1)
        return str, ("asked",)


def test_what_packs_while_it_is_packed_does_not_mix_the_two():
    with shared() as (lender, borrower):
        asks = Asks(lender)
        _, (array, text, last) = there_and_back(lender, borrower, [LARGE, asks, LARGE + 2])
        assert text == "asked"
        assert (array == LARGE).all()
        assert (last == LARGE + 2).all()
        assert type(asks.parcel) is bytes
        assert (letter.loads(asks.parcel) == LARGE + 1).all()


def test_what_is_longer_than_the_limit_is_measured_and_not_copied():
    with shared(limit=3 * SMALLEST) as (lender, _):
        parcel = lender.pack([LARGE] + [LARGE + n for n in range(5)])
        assert len(parcel) > 6 * SMALLEST
        assert lender.held == 0


def test_the_length_of_a_parcel_is_that_of_all_of_it():
    with shared() as (lender, _):
        pickled = len(pickle.dumps([LARGE, LARGE + 1], 5))
        assert pickled - 100 < len(lender.pack([LARGE, LARGE + 1])) < pickled + 100


# ------------------------------------------------------------------------------------------------------------- tables


@given(offset=st.integers(0, (1 << 64) - 1), length=st.integers(0, (1 << 64) - 1))
def test_no_table_leads_beyond_the_arena(offset, length):
    body = write_aside(b"", [(offset, length)])
    if 0 < length and offset + length <= SIZE:
        assert read_table(body, SIZE, LIMIT) == [(offset, length)]
    else:
        with pytest.raises(Forged):
            read_table(body, SIZE, LIMIT)


@given(rest=st.binary(max_size=100))
def test_whatever_says_that_it_is_a_letter_is_one_or_forged(rest):
    try:
        places = read_table(bytes((letter.ASIDE,)) + rest, SIZE, LIMIT)
    except Forged:
        return
    assert all(0 < length and offset + length <= SIZE for offset, length in places)


def test_a_letter_that_speaks_of_too_much_is_forged():
    with pytest.raises(Forged, match="more than may be sent"):
        read_table(write_aside(b"", [(0, SIZE)] * 3), SIZE, 2 * SIZE)


def test_of_a_forged_letter_nothing_is_borrowed():
    with shared() as (_, borrower):
        with pytest.raises(Forged):
            borrower.open(1, write_aside(b"", [(0, SMALLEST), (0, SIZE + 1)]))
        assert borrower.returned() == []


def test_a_letter_that_comes_twice_is_forged():
    with shared() as (lender, borrower):
        parcel, array = there_and_back(lender, borrower, LARGE)
        with pytest.raises(Forged):
            borrower.open(1, parcel.body)
        del array
        assert borrower.returned() == [1]
