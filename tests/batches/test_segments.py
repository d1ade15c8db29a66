"""Rows laid end to end, and each example's in a block of its own."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from tis_ray.batches.segments import Segments

LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=6)


def test_which_rows_are_whose():
    segments = Segments.of([2, 1, 3])
    assert segments.lengths == (2, 1, 3)
    assert segments.cu_seqlens.tolist() == [0, 2, 3, 6]
    assert segments.cu_seqlens.dtype == torch.int32
    assert segments.examples_R.tolist() == [0, 0, 1, 2, 2, 2]
    assert segments.positions_R.tolist() == [0, 1, 0, 0, 1, 2]
    assert (segments.rows, segments.longest) == (6, 3)


@given(lengths=LENGTHS)
def test_blocks_hold_each_examples_rows_and_zeros(lengths):
    segments = Segments.of(lengths)
    rows_RD = 1 + torch.arange(2.0 * sum(lengths)).reshape(-1, 2)
    blocks_ELD = segments.by_example(rows_RD)
    assert blocks_ELD.shape == (len(lengths), max(lengths), 2)
    for block_LD, own in zip(blocks_ELD, rows_RD.split(lengths), strict=True):
        assert torch.equal(block_LD[: len(own)], own)
        assert not block_LD[len(own) :].any()
    assert torch.equal(segments.end_to_end(blocks_ELD), rows_RD)


def test_rows_of_equal_lengths_are_not_copied():
    rows_RD = torch.ones(6, 2)
    assert Segments.of([3, 3]).by_example(rows_RD).data_ptr() == rows_RD.data_ptr()
