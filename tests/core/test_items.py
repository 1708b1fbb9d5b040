"""Several items in one message: what is cut is what was packed, and a body that lies about itself is refused whole."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gibbs._wire import payload
from gibbs._wire.items import OVERHEAD, NoItems, cut_items, pack_items, share_of


@given(st.lists(st.tuples(st.integers(1, 1 << 40), st.binary(max_size=300))))
def test_what_is_cut_is_what_was_packed(items):
    assert cut_items(pack_items(items)) == items


def test_one_item_costs_what_is_said():
    assert len(pack_items([(1, b"item")])) == OVERHEAD + len(b"item")


@given(st.binary(max_size=60))
def test_any_bytes_are_items_that_pack_to_just_these_bytes_or_are_refused(body):
    try:
        items = cut_items(body)
    except NoItems:
        return
    assert pack_items(items) == body


@pytest.mark.parametrize("count", [1, 1 << 20, (1 << 32) - 1])
def test_a_count_without_its_table_costs_nothing(count):
    with pytest.raises(NoItems, match="table"):
        cut_items(struct.pack("<I", count))


def test_a_run_of_no_items_is_refused():
    with pytest.raises(NoItems, match="not as long"):
        cut_items(pack_items([(0, b"")]))


class Text(str):
    """One that can be changed, and may have code of its own."""

    __slots__ = ("more",)


@pytest.mark.parametrize(
    ("item", "may"),
    [
        *[(item, True) for item in (0, -5, 1.5, True, None, "text", b"bytes", "", (1 << 63) - 1)],
        *[(item, False) for item in (1 << 63, "t" * 1024, b"b" * 1024, [], (), {}, Text("text"), bytearray(b"1"), 1j)],
    ],
    ids=lambda value: repr(value)[:12],
)
def test_what_is_small_and_cannot_change_may_share_a_payload(item, may):
    assert bool(share_of(item)) is may


@given(
    st.lists(
        st.text(max_size=1023) | st.binary(max_size=1023) | st.integers() | st.floats() | st.none() | st.booleans()
    )
)
def test_what_shares_a_payload_is_never_larger_than_was_said(items):
    items = [item for item in items if share_of(item)]
    assert len(payload.dumps(tuple(items))) <= sum(map(share_of, items)) + 64
