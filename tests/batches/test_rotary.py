"""Rows of models whose rotary factors depend on the longest row get the factors that they get alone.

The truth is a copy of a new model for each row. Gradients, training and RDS+ of these models are
compared in the zoo (tests/models/test_zoo.py).
"""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from tests.models.zoo import ORIGINAL, VOCABULARY, small_config
from tests.properties import tries
from tis_ray.batches import batch_losses, collate, own_rotary, rotary_depends_on_length
from tis_ray.evaluation import generate

STRETCHED = ["phi3, longrope", "llama, longrope", "llama, dynamic", "qwen2, dynamic"]
EXACT = 1e-6


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    """New models, which have seen nothing: to be copied."""
    torch.manual_seed(0)
    return {
        kind: AutoModelForCausalLM.from_config(small_config(kind)).eval()
        for kind in [*STRETCHED, "llama"]
    }


def row(length: int, seed: int = 0, masked_end: int = 0) -> dict[str, list[int]]:
    torch.manual_seed(seed)
    ids = torch.randint(3, VOCABULARY, (length,)).tolist()
    kept = max(2, length - masked_end)
    return {"input_ids": ids, "labels": ids[:kept] + [-100] * (length - kept)}


def loss_alone(new: Any, example: dict[str, list[int]]) -> float:
    ids, labels = (torch.tensor([example[key]]) for key in ("input_ids", "labels"))
    with torch.no_grad():
        return float(copy.deepcopy(new)(input_ids=ids, labels=labels, use_cache=False).loss)


@pytest.mark.parametrize("kind", STRETCHED)
@pytest.mark.parametrize("packed", [False, True])
@tries(20, [HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(
        st.sampled_from([2, 5, ORIGINAL - 1, ORIGINAL, ORIGINAL + 1, ORIGINAL + 2, 20, 40]),
        min_size=1,
        max_size=5,
    ),
    masked_end=st.integers(0, 3),
)
def test_a_row_has_the_loss_that_it_has_alone(
    models: dict[str, Any], kind: str, packed: bool, lengths: list[int], masked_end: int
) -> None:
    """In any company, after any other batch, and where its last tokens have no label."""
    rows = [row(length, seed, masked_end) for seed, length in enumerate(lengths)]
    with torch.no_grad():
        found = batch_losses(models[kind], collate(rows, packed=packed)).tolist()
    assert found == pytest.approx([loss_alone(models[kind], each) for each in rows], rel=EXACT)


@pytest.mark.parametrize("kind", STRETCHED)
def test_the_model_forgets_long_rows(models: dict[str, Any], kind: str) -> None:
    model, short = copy.deepcopy(models[kind]), row(ORIGINAL)
    expected = loss_alone(models[kind], short)
    with torch.no_grad():
        batch_losses(model, collate([row(60)]))
    assert loss_alone(model, short) == expected


@pytest.mark.parametrize("kind", STRETCHED)
def test_the_length_at_which_factors_change(models: dict[str, Any], kind: str) -> None:
    assert not rotary_depends_on_length(models[kind], ORIGINAL)
    assert rotary_depends_on_length(models[kind], ORIGINAL + 1)


def test_an_ordinary_model_is_left_as_it_is(models: dict[str, Any]) -> None:
    model = models["llama"]
    assert not rotary_depends_on_length(model, 10**6)
    with own_rotary(model, [3]):
        assert not any("forward" in vars(module) for module in model.modules())


@pytest.mark.parametrize("kind", STRETCHED)
@pytest.mark.parametrize("batch_size", [2, 8])
def test_answers_are_those_of_one_prompt_at_a_time(
    models: dict[str, Any], kind: str, batch_size: int
) -> None:
    """Some prompts are long from the start, and some become long while they are answered."""
    prompts = [
        row(length, seed)["input_ids"]
        for seed, length in enumerate([2, 3, 3, 7, 9, 9, ORIGINAL, ORIGINAL + 1, 20, 20, 31])
    ]
    tokenizer: Any = SimpleNamespace(
        eos_token_id=1,
        pad_token_id=2,
        decode=lambda ids, skip_special_tokens: " ".join(map(str, ids.tolist())),
    )
    new_tokens = 8
    expected = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        model = copy.deepcopy(models[kind])
        answer = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=new_tokens,
            do_sample=False,
            eos_token_id=1,
            pad_token_id=2,
        )[0, len(prompt) :].tolist()
        answer = answer[: answer.index(1)] if 1 in answer else answer
        expected.append(" ".join(map(str, answer)))
    assert len(set(expected)) > 5
    found = generate(models[kind], tokenizer, prompts, new_tokens, batch_size)
    assert [answer.text for answer in found] == expected
