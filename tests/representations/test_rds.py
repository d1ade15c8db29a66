"""RDS+ features are functions of the row and the model, and of nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from tests.properties import tries
from tis_ray.errors import InputError
from tis_ray.models.loading import load_model
from tis_ray.representations import Features
from tis_ray.representations.rds.features import Rds
from tis_ray.settings import BatchConfig, ModelConfig


@pytest.fixture(scope="module")
def lab(golden_dir: Path) -> SimpleNamespace:
    """The golden rows, the base model, and its features of them."""
    folder = golden_dir / "less"
    messages = json.loads((folder / "tokenization.json").read_text())["messages"]
    with np.load(folder / "less.npz") as arrays:
        index = arrays["example_index"]
    rows = [messages[i]["max96"] for i in index]
    model = ModelConfig(name=str(folder / "base_model"))
    rds = Rds(model, BatchConfig(), "cpu")
    used = {token for row in rows for token in row["input_ids"]}
    unused = sorted(set(range(rds.decoder.config.vocab_size)) - used)
    whole = rds.features(rows, "pool")
    return SimpleNamespace(rows=rows, model=model, unused=unused, rds=rds, whole=whole)


@pytest.fixture(scope="module")
def adapted(golden_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelConfig:
    """The model behind the golden features: the base model with its adapter merged in."""
    folder = tmp_path_factory.mktemp("adapted")
    base = AutoModelForCausalLM.from_pretrained(golden_dir / "less" / "base_model")
    model = PeftModel.from_pretrained(base, golden_dir / "less" / "adapter")
    model.merge_and_unload().save_pretrained(folder)
    return ModelConfig(name=str(folder))


def features(lab: SimpleNamespace, model: ModelConfig | None = None, **batch: Any) -> Features:
    return Rds(model or lab.model, BatchConfig(**batch), "cpu").features(lab.rows, "pool")


def largest_error(found: Features, truth: Features) -> float:
    return float(np.abs(found.values_ECK - truth.values_ECK).max())


@contextmanager
def decoder_output(rds: Rds, change: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """Change the hidden states on their way to the pooling."""

    def hook(_module: Any, _args: Any, output: Any) -> Any:
        output["last_hidden_state"] = change(output["last_hidden_state"])
        return output

    handle = rds.decoder.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@pytest.mark.parametrize("examples", [1, 8])
def test_features_are_those_of_the_reference(
    lab: SimpleNamespace, adapted: ModelConfig, golden_dir: Path, examples: int
) -> None:
    found = features(lab, model=adapted, examples=examples)
    with np.load(golden_dir / "less" / "less.npz") as arrays:
        truth = arrays["rds_weighted_mean"]
    assert np.abs(found.values_ECK[:, 0] - truth).max() < 1e-6
    assert found.unusable == {}


def test_a_feature_is_the_weighted_mean_of_the_last_hidden_states(lab: SimpleNamespace) -> None:
    model = load_model(lab.model)
    for row, found in zip(lab.rows, lab.whole.values_ECK[:, 0], strict=True):
        output = model(torch.tensor([row["input_ids"]]), output_hidden_states=True)
        hidden_TK = output.hidden_states[-1][0].double()
        weights_T = torch.arange(1, len(hidden_TK) + 1).double()
        mean_K = (weights_T / weights_T.sum()) @ hidden_TK
        assert np.abs(found - (mean_K / mean_K.norm()).numpy()).max() < 1e-6


def test_each_feature_has_length_one_and_both_sides_are_alike(lab: SimpleNamespace) -> None:
    assert lab.whole.values_ECK.shape == (16, 1, 48)
    assert lab.whole.values_ECK.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(lab.whole.values_ECK, axis=2), 1, atol=1e-6)
    query = lab.rds.features(lab.rows, "query")
    assert np.array_equal(query.values_ECK, lab.whole.values_ECK)


@tries(25)
@given(
    order=st.lists(st.integers(0, 15), min_size=1, unique=True),
    examples=st.none() | st.integers(1, 16),
    tokens=st.sampled_from([1, 40, 150, 4096]),
)
def test_features_do_not_depend_on_batches_order_or_padding(
    lab: SimpleNamespace, order: list[int], examples: int | None, tokens: int
) -> None:
    rds = Rds.__new__(Rds)
    rds.__dict__ = lab.rds.__dict__ | {"batch": BatchConfig(examples=examples, tokens=tokens)}
    found = rds.features([lab.rows[row] for row in order], "pool")
    assert np.abs(found.values_ECK - lab.whole.values_ECK[order]).max() < 1e-6


def test_hidden_states_of_padding_are_never_read(lab: SimpleNamespace) -> None:
    lengths = sorted(len(row["input_ids"]) for row in lab.rows)

    def spoil(hidden_ETK: torch.Tensor) -> torch.Tensor:
        assert len(hidden_ETK) == 16  # one batch, the shortest row first
        for hidden_TK, length in zip(hidden_ETK, lengths, strict=True):
            hidden_TK[length:] = float("nan")
        return hidden_ETK

    with decoder_output(lab.rds, spoil):
        found = lab.rds.features(lab.rows, "pool")
    assert found.unusable == {}
    assert np.array_equal(found.values_ECK, lab.whole.values_ECK)


def test_a_poisoned_row_is_reported_and_the_others_are_untouched(
    lab: SimpleNamespace, tmp_path: Path
) -> None:
    """All tokens that the rows do not use are not numbers, and those are all that could pad them."""
    folder = Path(shutil.copytree(lab.model.name, tmp_path / "model"))
    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"][lab.unused] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    poisoned = Rds(ModelConfig(name=str(folder)), BatchConfig(), "cpu")
    rows = [dict(row) for row in lab.rows]
    rows[3]["input_ids"] = [*rows[3]["input_ids"][:-1], lab.unused[0]]
    clean, found = lab.rds.features(rows, "pool"), poisoned.features(rows, "pool")
    assert clean.unusable == {}
    assert found.unusable == {3: "non_finite_hidden_state"}
    assert not found.values_ECK[3].any()
    others = [row for row in range(16) if row != 3]
    assert np.array_equal(found.values_ECK[others], clean.values_ECK[others])


def test_a_row_without_a_direction_is_reported(lab: SimpleNamespace) -> None:
    with decoder_output(lab.rds, torch.zeros_like):
        found = lab.rds.features(lab.rows[:2], "pool")
    assert found.unusable == {0: "zero_hidden_state", 1: "zero_hidden_state"}
    assert not found.values_ECK.any()


def test_a_model_in_bfloat16_is_pooled_in_float32(lab: SimpleNamespace) -> None:
    half = ModelConfig(name=lab.model.name, dtype="bfloat16")
    found = features(lab, model=half, examples=1)
    assert found.unusable == {}
    assert found.values_ECK.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found.values_ECK, axis=2), 1, atol=1e-6)
    assert (found.values_ECK * lab.whole.values_ECK).sum(axis=2).min() > 0.999
    decoder = load_model(half).base_model
    for row, vector in zip(lab.rows, found.values_ECK[:, 0], strict=True):
        hidden_TK = decoder(torch.tensor([row["input_ids"]])).last_hidden_state[0]
        assert hidden_TK.dtype == torch.bfloat16
        sum_K = torch.arange(1, len(hidden_TK) + 1).double() @ hidden_TK.double()
        assert np.abs(vector - (sum_K / sum_K.norm()).numpy()).max() < 1e-6


def test_a_batch_that_does_not_fit_is_halved(lab: SimpleNamespace) -> None:
    sizes = []

    def full(hidden_ETK: torch.Tensor) -> torch.Tensor:
        sizes.append(len(hidden_ETK))
        if len(hidden_ETK) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return hidden_ETK

    with decoder_output(lab.rds, full):
        found = lab.rds.features(lab.rows, "pool")
    assert sizes == [16, 8, 4, 4, 8, 4, 4]
    assert largest_error(found, lab.whole) < 1e-6


def test_a_shard_may_have_no_row_at_all(lab: SimpleNamespace) -> None:
    found = lab.rds.features([], "pool")
    assert found.values_ECK.shape == (0, 1, 48)
    assert found.unusable == {}


def test_a_model_without_a_head_is_refused(
    lab: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = load_model(lab.model).base_model
    monkeypatch.setattr(
        "tis_ray.representations.rds.features.load_model", lambda model, device: decoder
    )
    with pytest.raises(InputError, match="model LlamaModel is not one"):
        Rds(lab.model, BatchConfig(), "cpu")
