"""Batches: a plan that depends on lengths alone, and padded arrays that lose nothing."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tis_ray.batches import collate, needed_length, plan_batches
from tis_ray.errors import InputError


@given(
    lengths=st.lists(st.integers(1, 60), max_size=50),
    batch_size=st.none() | st.integers(1, 9),
    token_budget=st.integers(1, 300),
)
def test_a_plan_holds_every_index_once_within_its_limits(lengths, batch_size, token_budget):
    plan = plan_batches(lengths, batch_size, token_budget)
    assert sorted(index for batch in plan for index in batch) == list(range(len(lengths)))
    for batch in plan:
        assert batch
        longest = max(lengths[index] for index in batch)
        assert len(batch) == 1 or longest * len(batch) <= token_budget
        assert batch_size is None or len(batch) <= batch_size
    order = [(lengths[index], index) for batch in plan for index in batch]
    assert order == sorted(order)
    assert plan == plan_batches(tuple(lengths), batch_size, token_budget)


@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=50),
    batch_size=st.none() | st.integers(1, 9),
    token_budget=st.integers(1, 300),
)
def test_a_packed_plan_has_no_padding_to_pay_for(lengths, batch_size, token_budget):
    plan = plan_batches(lengths, batch_size, token_budget, packed=True)
    order = [(lengths[index], index) for batch in plan for index in batch]
    assert order == sorted(zip(lengths, range(len(lengths)), strict=True))
    for batch, following in zip(plan, [*plan[1:], None], strict=True):
        total = sum(lengths[index] for index in batch)
        assert len(batch) == 1 or total <= token_budget
        assert batch_size is None or len(batch) <= batch_size
        if following is not None:  # one more would not have fitted
            assert total + lengths[following[0]] > token_budget or len(batch) == batch_size
    assert len(plan) <= len(plan_batches(lengths, batch_size, token_budget))


def test_a_plan_is_filled_greedily():
    assert plan_batches([3, 1, 2, 3, 9], token_budget=6) == [[1, 2], [0, 3], [4]]
    assert plan_batches([5, 5, 5], batch_size=2) == [[0, 1], [2]]
    assert plan_batches([3, 1, 2, 3, 9], token_budget=6, packed=True) == [[1, 2, 0], [3], [4]]


@pytest.mark.parametrize(
    ("lengths", "options", "message"),
    [
        ([1], {"batch_size": 0}, "batch_size is 0"),
        ([1], {"token_budget": 0}, "token_budget is 0"),
        ([4, 0], {}, "example 1 has length 0"),
    ],
)
def test_impossible_plans_are_refused(lengths, options, message):
    with pytest.raises(InputError, match=message):
        plan_batches(lengths, **options)


def test_collate_shifts_labels_and_drops_what_no_loss_sees():
    batch = collate(
        [
            {"input_ids": [4, 5, 6, 7, 8], "labels": [-100, -100, 6, 7, -100]},
            {"input_ids": [9, 3], "labels": [9, 3]},
        ]
    )
    assert batch.input_ids.tolist() == [[4, 5, 6], [9, 9, 9]]
    assert batch.targets.tolist() == [[-100, 6, 7], [3, -100, -100]]
    assert batch.label_counts.tolist() == [2, 1]
    assert batch.to("cpu").input_ids.dtype == torch.int64


def test_collate_packs_examples_end_to_end():
    examples = [
        {"input_ids": [4, 5, 6, 7, 8], "labels": [-100, -100, 6, 7, -100]},
        {"input_ids": [9, 3], "labels": [9, 3]},
        {"input_ids": [1, 2, 3], "labels": [-100, 2, 3]},
    ]
    batch = collate(examples, packed=True)
    assert batch.inputs["input_ids"].tolist() == [[4, 5, 6, 9, 1, 2]]
    assert batch.inputs["position_ids"].tolist() == [[0, 1, 2, 0, 0, 1]]
    assert batch.targets.tolist() == [[-100, 6, 7, 3, 2, 3]]
    assert batch.segments.cu_seqlens.tolist() == [0, 3, 4, 6]
    assert batch.label_counts.tolist() == [2, 1, 2]
    assert batch.label_counts.dtype == torch.int64
    assert batch.label_segments.lengths == (2, 1, 2)
    assert batch.examples == collate(examples).examples == 3
    assert batch.to("cpu").segments.lengths == (3, 1, 2)
    assert list(collate(examples).inputs) == ["input_ids"]
    assert collate(examples).label_segments is None


def test_collate_takes_a_pad_token():
    batch = collate([{"input_ids": [1, 2], "labels": [1, 2]}] * 1, pad_id=0)
    assert batch.input_ids.tolist() == [[1]]
    mixed = [{"input_ids": [1, 2], "labels": [1, 2]}, {"input_ids": [3, 4, 5], "labels": [3, 4, 5]}]
    assert collate(mixed, pad_id=0).input_ids.tolist() == [[1, 0], [3, 4]]


@pytest.mark.parametrize(
    ("example", "message"),
    [
        ({"input_ids": [], "labels": []}, "no label token"),
        ({"input_ids": [1], "labels": [1]}, "no label token"),
        ({"input_ids": [1, 2], "labels": [-100, -100]}, "no label token"),
        ({"input_ids": [1, 2], "labels": [2]}, "2 input_ids but 1 labels"),
    ],
)
def test_unusable_examples_are_named(example, message):
    good = {"input_ids": [1, 2], "labels": [-100, 2]}
    with pytest.raises(InputError, match=f"example 1: {message}"):
        collate([good, example])
    with pytest.raises(InputError, match=f"example 6: {message}"):
        needed_length(example, 6)


def test_an_empty_batch_is_refused():
    with pytest.raises(InputError, match="give at least one"):
        collate([])
