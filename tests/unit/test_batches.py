"""Cutting into batches."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inpars.batches import chunks, slices


@given(st.lists(st.integers(), max_size=20), st.integers(1, 25))
def test_batches_are_full_but_for_the_last_and_hold_everything_in_order(items, size):
    cut = list(slices(items, size))
    assert [item for part in cut for item in part] == items
    assert [len(part) for part in cut[:-1]] == [size] * (len(cut) - 1)
    assert all(cut), "none is empty"
    assert list(chunks(iter(items), size)) == cut


@pytest.mark.parametrize("size", [1, 3])
def test_a_stream_is_read_no_further_than_its_chunk(size):
    read = []
    stream = chunks((read.append(n) or n for n in range(9)), size)
    next(stream)
    assert read == list(range(size))
