"""LESS features are functions of the row and the checkpoint, and of nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tis_ray.batches import collate, packs
from tis_ray.errors import InputError
from tis_ray.evaluation import example_losses
from tis_ray.gradients import (
    Sketch,
    adam_direction,
    backward_per_example,
    checkpoint_seed,
    unit_rows,
)
from tis_ray.models.loading import load_model
from tis_ray.models.lora import attach_lora, with_adapter, without_wrapper
from tis_ray.representations import Features
from tis_ray.representations.less import LessSettings, SketchSettings
from tis_ray.representations.less.exact import ExactLess
from tis_ray.representations.less.features import Gradients, Less, checkpoint_weights
from tis_ray.settings import BatchConfig, LoraConfig, ModelConfig, TrainingConfig
from tis_ray.training.loop import train

SKETCH = SketchSettings(width=256, seed=5)


@pytest.fixture(scope="module")
def lab(golden_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Twelve rows, and a warm-up of two epochs on eight of them."""
    messages = json.loads((golden_dir / "less" / "tokenization.json").read_text())["messages"]
    rows = [row["max96"] for row in messages]
    rows = [row for row in rows if any(label != -100 for label in row["labels"][1:])][:12]
    model = ModelConfig(name=str(golden_dir / "less" / "base_model"))
    kept = train(
        attach_lora(load_model(model), LoraConfig(rank=4), seed=0),
        rows[:8],
        TrainingConfig(epochs=2, batch_size=3, learning_rate=1e-2),
        seed=0,
        folder=tmp_path_factory.mktemp("warmup"),
        keep_all=True,
    )
    unused = min(set(range(384)) - {token for row in rows for token in row["input_ids"]})
    return SimpleNamespace(model=model, rows=rows, kept=kept, unused=unused)


def features(
    lab: SimpleNamespace,
    side: str = "pool",
    batch: BatchConfig | None = None,
    model: ModelConfig | None = None,
    checkpoints: list[Path] | None = None,
    rows: list[dict[str, Any]] | None = None,
    **config: Any,
) -> Features:
    found = gradients(lab, batch, model, checkpoints, **config)
    return Less(found).features(rows or lab.rows, side)


def gradients(
    lab: SimpleNamespace,
    batch: BatchConfig | None = None,
    model: ModelConfig | None = None,
    checkpoints: list[Path] | None = None,
    **config: Any,
) -> Gradients:
    return Gradients(
        load_model(model or lab.model),
        LessSettings(**{"sketch": SKETCH, **config}),
        batch or BatchConfig(),
        checkpoints or [checkpoint.path for checkpoint in lab.kept],
    )


def cosine_error(one: Features, other: Features) -> float:
    products = (one.values_ECK.astype(float) * other.values_ECK).sum(axis=2)
    return float(1 - products.min())


def test_each_feature_has_length_one(lab: SimpleNamespace) -> None:
    found = features(lab)
    assert found.values_ECK.shape == (12, 2, 256)
    assert found.values_ECK.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found.values_ECK, axis=2), 1, atol=1e-6)
    assert found.unusable == {}


@pytest.mark.parametrize("examples", [1, 7, 32])
@pytest.mark.parametrize("tokens", [1, 300, 4096])
def test_features_do_not_depend_on_the_batches(
    lab: SimpleNamespace, examples: int, tokens: int
) -> None:
    found = features(lab, batch=BatchConfig(tokens=tokens, examples=examples))
    assert cosine_error(found, features(lab)) < 1e-6


@pytest.mark.parametrize("tokens", [1, 300, 4096])
@pytest.mark.parametrize("side", ["pool", "query"])
def test_packed_features_equal_padded_ones(lab: SimpleNamespace, tokens: int, side: str) -> None:
    packed = features(lab, side, batch=BatchConfig(tokens=tokens, packed=True))
    padded = features(lab, side, batch=BatchConfig(packed=False))
    assert cosine_error(packed, padded) < 1e-6
    for name in ("loss", "norm"):
        np.testing.assert_allclose(packed.columns[name], padded.columns[name], rtol=1e-5)


def test_rows_are_packed_where_that_is_said_or_faster(
    lab: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seen = []

    def spy(examples: list[Any], packed: bool) -> Any:
        seen.append(packed)
        return collate(examples, packed=packed)

    monkeypatch.setattr("tis_ray.representations.less.features.collate", spy)
    for setting, expected in ((None, False), (False, False), (True, True)):
        seen.clear()
        features(lab, batch=BatchConfig(packed=setting))
        assert set(seen) == {expected}
    base = without_wrapper(gradients(lab).model)
    assert packs(None, base, 96, "cuda")
    assert not packs(None, base, 96, "cpu")

    for error in (InputError("model X cannot be packed"), RuntimeError("no kernel image")):

        def refuse(*_: Any, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr("tis_ray.batches.packing.check_packing", refuse)
        assert not packs(None, base, 96, "cuda")
        assert f"padded: {error}" in caplog.text
        with pytest.raises(type(error)):
            packs(True, base, 96, "cpu")


def test_features_do_not_depend_on_the_other_rows_or_their_order(lab: SimpleNamespace) -> None:
    whole = features(lab)
    some = features(lab, rows=[lab.rows[9], lab.rows[2]])
    for position, row in enumerate((9, 2)):
        products = (some.values_ECK[position] * whole.values_ECK[row]).sum(axis=1)
        assert 1 - products.min() < 1e-6


@pytest.mark.parametrize("shared", [False, True])
def test_a_pool_feature_is_the_sketched_adam_step_at_its_checkpoint(
    lab: SimpleNamespace, shared: bool
) -> None:
    found = features(lab, sketch=SKETCH.model_copy(update={"shared_seed": shared}))
    for c, checkpoint in enumerate(lab.kept):
        model = with_adapter(load_model(lab.model), checkpoint.adapter, trainable=True)
        first, second = checkpoint.moments()
        sketch = Sketch(256, checkpoint_seed(5, checkpoint.epoch, shared), "rotation")
        accumulator = sketch.new(len(lab.rows))

        def sink(name: str, block: torch.Tensor) -> None:
            step = adam_direction(block, first[name], second[name])  # noqa: B023
            sketch.add(accumulator, name, step)  # noqa: B023

        losses = backward_per_example(model, collate(lab.rows), sink)
        truth = unit_rows(sketch.finish(accumulator)).numpy()
        assert 1 - (found.values_ECK[:, c] * truth).sum(axis=1).min() < 1e-6
        np.testing.assert_allclose(found.columns["loss"][:, c], losses.numpy(), rtol=1e-5)


def test_the_loss_of_each_row_at_each_checkpoint_is_told(lab: SimpleNamespace) -> None:
    found = features(lab).columns["loss"]
    for c, checkpoint in enumerate(lab.kept):
        model = with_adapter(load_model(lab.model), checkpoint.adapter)
        np.testing.assert_allclose(found[:, c], example_losses(model, lab.rows), rtol=1e-5)


def test_query_and_pool_take_their_own_directions(lab: SimpleNamespace) -> None:
    pool, query = features(lab, "pool"), features(lab, "query")
    assert cosine_error(pool, query) > 0.01
    alike = features(lab, "pool", pool_direction="sgd")
    assert np.array_equal(alike.values_ECK, query.values_ECK)
    signs = features(lab, "query", query_direction="sign")
    assert cosine_error(signs, query) > 0.01


def test_checkpoints_differ(lab: SimpleNamespace) -> None:
    shared = features(lab, sketch=SKETCH.model_copy(update={"shared_seed": True}))
    first, second = shared.values_ECK[:, 0], shared.values_ECK[:, 1]
    assert (first * second).sum(axis=1).max() < 0.9999


@pytest.fixture
def poisoned(lab: SimpleNamespace, tmp_path: Path) -> ModelConfig:
    """The model with one token's embedding not a number."""
    folder = Path(shutil.copytree(lab.model.name, tmp_path / "model"))
    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"][lab.unused] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return ModelConfig(name=str(folder))


def test_a_poisoned_row_is_reported_and_the_others_are_untouched(
    lab: SimpleNamespace, poisoned: ModelConfig
) -> None:
    rows = [dict(row) for row in lab.rows]
    rows[3] |= {"input_ids": [lab.unused, *rows[3]["input_ids"][1:]]}
    clean, found = features(lab, rows=rows), features(lab, rows=rows, model=poisoned)
    assert clean.unusable == {}
    assert found.unusable == {3: "non_finite_loss"}
    assert not found.values_ECK[3].any()
    others = [i for i in range(12) if i != 3]
    assert np.array_equal(found.values_ECK[others], clean.values_ECK[others])
    assert np.array_equal(found.columns["loss"][others], clean.columns["loss"][others])


def test_a_gradient_that_is_no_number_is_told_from_a_loss(
    lab: SimpleNamespace, tmp_path: Path
) -> None:
    spoilt = Path(shutil.copytree(lab.kept[1].path, tmp_path / "epoch-2"))
    moments = {
        name: torch.full_like(tensor, float("nan"))
        for name, tensor in load_file(spoilt / "moments.safetensors").items()
    }
    save_file(moments, spoilt / "moments.safetensors")
    found = features(lab, checkpoints=[lab.kept[0].path, spoilt])
    assert found.unusable == dict.fromkeys(range(12), "non_finite_gradient")
    assert not found.values_ECK.any()


WEIGHTS = np.array([0.7, 0.3])


def true_scores(
    lab: SimpleNamespace, queries: list[dict[str, Any]], pool: list[dict[str, Any]]
) -> np.ndarray:
    """Return weighted cosines of whole gradients, from all of them at once in float64."""
    found = gradients(lab)
    total = np.zeros((len(queries), len(pool)))
    for c, weight in enumerate(WEIGHTS):
        sides = []
        for side, rows in (("query", queries), ("pool", pool)):
            blocks: dict[str, torch.Tensor] = {}

            def work(members: list[int], side=side, rows=rows, blocks=blocks, c=c) -> None:
                found.directions([rows[i] for i in members], c, side, blocks.__setitem__)

            # One batch holds all twelve rows, in the order of their lengths.
            order: list[int] = []
            found.each_batch(rows, c, order.extend)
            found.each_batch(rows, c, work)
            flat = torch.cat([blocks[name].reshape(len(rows), -1) for name in sorted(blocks)], 1)
            flat = flat.double()[np.argsort(order)]
            sides.append((flat / flat.norm(dim=1, keepdim=True)).numpy())
        total += weight * sides[0] @ sides[1].T
    return total


@pytest.mark.parametrize("tokens", [1, 300, 4096])
def test_exact_scores_are_cosines_of_whole_gradients(lab: SimpleNamespace, tokens: int) -> None:
    queries = lab.rows[8:]
    exact = ExactLess(gradients(lab, BatchConfig(tokens=tokens)), queries, WEIGHTS)
    found = exact.scores(lab.rows)
    assert found.scores_ME.dtype == np.float32
    np.testing.assert_allclose(found.scores_ME, true_scores(lab, queries, lab.rows), atol=2e-6)
    np.testing.assert_allclose(found.columns["loss"], features(lab).columns["loss"], rtol=1e-5)
    # The sketch's norm estimates the exact one; width 256: relative error about 4%.
    assert np.abs(features(lab).columns["norm"] / found.columns["norm"] - 1).max() < 0.25


def test_exact_scores_leave_a_poisoned_row_and_a_poisoned_query_out(
    lab: SimpleNamespace, poisoned: ModelConfig
) -> None:
    rows = [dict(row) for row in lab.rows]
    rows[3] |= {"input_ids": [lab.unused, *rows[3]["input_ids"][1:]]}
    clean = ExactLess(gradients(lab), [rows[8], rows[9]], WEIGHTS).scores(rows).scores_ME
    exact = ExactLess(gradients(lab, model=poisoned), [rows[8], rows[3], rows[9]], WEIGHTS)
    found = exact.scores(rows)
    assert exact.unusable == {1: "non_finite_loss"}
    assert found.unusable == {3: "non_finite_loss"}
    assert found.scores_ME.shape == (2, 12)
    others = [i for i in range(12) if i != 3]
    np.testing.assert_allclose(found.scores_ME[:, others], clean[:, others], atol=2e-6)
    assert not found.scores_ME[:, 3].any()


def test_exact_scores_that_need_too_much_memory_are_refused(lab: SimpleNamespace) -> None:
    with pytest.raises(InputError, match=r"less\.scoring: `exact` would hold 4 queries .*exact_gb"):
        ExactLess(gradients(lab, exact_gb=1e-6), lab.rows[8:], WEIGHTS)


def test_a_batch_that_runs_out_of_memory_is_halved_and_the_result_is_the_same(
    lab: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm, queries = features(lab), lab.rows[8:]
    exact = ExactLess(gradients(lab), queries, WEIGHTS).scores(lab.rows)
    sizes = []

    def cramped(self: Gradients, examples: list[Any], *rest: Any) -> torch.Tensor:
        sizes.append(len(examples))
        # After some parameters have been handed over, as a real one would.
        losses = plain(self, examples, *rest)
        if len(examples) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return losses

    plain = Gradients.gradients
    monkeypatch.setattr(Gradients, "gradients", cramped)
    assert cosine_error(features(lab), calm) < 1e-6
    assert max(sizes) == 12
    again = ExactLess(gradients(lab), queries, WEIGHTS).scores(lab.rows)
    np.testing.assert_allclose(again.scores_ME, exact.scores_ME, atol=1e-6)


def test_paper_semantics_keep_dropout_on_and_project_densely_with_one_seed(
    lab: SimpleNamespace, tmp_path: Path
) -> None:
    paper = LessSettings(semantics="paper", sketch={"width": 64})
    assert (paper.sketch.kind, paper.sketch.shared_seed, paper.sketch.width) == (
        "rademacher",
        True,
        64,
    )
    assert paper.lora.dropout == 0.1
    kept = train(
        attach_lora(load_model(lab.model), LoraConfig(rank=4, dropout=0.3), seed=0),
        lab.rows[:8],
        TrainingConfig(epochs=1, batch_size=4, learning_rate=1e-2),
        seed=0,
        folder=tmp_path,
        keep_all=True,
    )
    given: dict[str, Any] = {"checkpoints": [kept[0].path], "sketch": paper.sketch}
    with_it = features(lab, semantics="paper", **given)
    assert cosine_error(with_it, features(lab, **given)) > 1e-3
    assert cosine_error(with_it, features(lab, semantics="paper", seed=1, **given)) > 1e-3
    # A row's mask is its own, whatever the batch: so a run can be resumed.
    batched = features(lab, semantics="paper", batch=BatchConfig(examples=1), **given)
    assert cosine_error(with_it, batched) < 1e-6


def test_checkpoint_weights_are_mean_learning_rates_and_sum_to_one() -> None:
    rates = [(1, 2.0), (1, 4.0), (2, 2.0), (2, 1.0)]
    steps = [{"epoch": epoch, "learning_rate": rate} for epoch, rate in rates]
    np.testing.assert_allclose(checkpoint_weights(steps), [3 / 4.5, 1.5 / 4.5])


def test_torchs_settings_are_as_the_host_program_left_them(lab: SimpleNamespace) -> None:
    """Threads and the precision of products are the process's; another precision is for a while."""
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    try:
        torch.set_num_threads(3)
        torch.set_float32_matmul_precision("medium")
        found = gradients(lab)
        found.products = "high"  # as on a GPU, for a base model in half precision
        seen = set()
        found.each_batch(
            lab.rows, 0, lambda members: seen.add(torch.get_float32_matmul_precision())
        )
        assert seen == {"high"}
        Less(found).features(lab.rows, "pool")
        assert torch.get_num_threads() == 3
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)
