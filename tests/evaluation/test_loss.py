"""The loss of each example is the one that transformers computes for it alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tis_ray.errors import InputError
from tis_ray.evaluation import example_losses
from tis_ray.models.loading import load_model
from tis_ray.models.lora import with_adapter
from tis_ray.settings import ModelConfig

GOLDEN = Path(__file__).parents[1] / "golden" / "less"


@pytest.fixture(scope="module")
def model() -> Any:
    base = load_model(ModelConfig(name=str(GOLDEN / "base_model")))
    return with_adapter(base, GOLDEN / "adapter")


@pytest.fixture(scope="module")
def examples() -> list[dict[str, list[int]]]:
    rows = json.loads((GOLDEN / "tokenization.json").read_text())["messages"]
    rows = [row["max96"] for row in rows]
    return [row for row in rows if any(label != -100 for label in row["labels"][1:])]


def own_losses(model: Any, examples: list[dict[str, list[int]]]) -> np.ndarray:
    with torch.no_grad():
        return np.array(
            [
                model(
                    input_ids=torch.tensor([row["input_ids"]]),
                    labels=torch.tensor([row["labels"]]),
                ).loss.item()
                for row in examples
            ]
        )


@pytest.mark.parametrize("token_budget", [1, 100, 400, 100_000])
def test_losses_are_the_models_own_at_any_token_budget(
    model: Any, examples: list[dict[str, list[int]]], token_budget: int
) -> None:
    found = example_losses(model, examples, token_budget)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, own_losses(model, examples), rtol=1e-5)


def test_a_model_without_an_adapter_has_losses_too(examples: list[dict[str, list[int]]]) -> None:
    base = load_model(ModelConfig(name=str(GOLDEN / "base_model")))
    found = example_losses(base, examples[:3])
    np.testing.assert_allclose(found, own_losses(base, examples[:3]), rtol=1e-5)


def test_several_turns_and_a_label_on_the_first_token(model: Any) -> None:
    labels = [3, -100, -100, 9, 4, -100, 5]  # the first one has nothing to predict it from
    example = {"input_ids": [3, 8, 7, 9, 4, 2, 5], "labels": labels}
    np.testing.assert_allclose(
        example_losses(model, [example]), own_losses(model, [example]), rtol=1e-5
    )


def test_dropout_is_off(model: Any, examples: list[dict[str, list[int]]]) -> None:
    model.train()
    first = example_losses(model, examples[:2])
    assert np.array_equal(first, example_losses(model, examples[:2]))
    assert not model.training


def test_an_example_without_a_label_is_refused_by_its_place(
    model: Any, examples: list[dict[str, list[int]]]
) -> None:
    empty = {"input_ids": [1, 2, 3], "labels": [-100] * 3}
    with pytest.raises(InputError, match="example 1: no label token"):
        example_losses(model, [examples[0], empty])


def test_no_examples_have_no_losses(model: Any) -> None:
    assert example_losses(model, []).shape == (0,)
