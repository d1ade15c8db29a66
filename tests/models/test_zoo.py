"""Every causal family of transformers gives each row what it has alone, or is refused in one line.

The truth is plain autograd through the model, one row at a time, with a new model for each row (some
remember what they have seen). Compared are losses, per-example gradients, the training step and RDS+
features, in batches of one and of several rows, padded and packed.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.models.zoo import (
    FAMILIES,
    ORIGINAL,
    VARIANTS,
    VOCABULARY,
    parameters,
    saved_model,
    small_config,
)
from tis_ray.batches import batch_losses, check_packing, collate
from tis_ray.errors import InputError
from tis_ray.gradients import check_per_example, per_example_gradients
from tis_ray.models.fitness import model_problems
from tis_ray.models.loading import load_model
from tis_ray.models.lora import attach_lora, trainable_parameters
from tis_ray.representations.rds.features import Rds
from tis_ray.settings import BatchConfig, LoraConfig, ModelConfig, TrainingConfig
from tis_ray.training.loop import train

LOSS = 1e-6
TIGHT = 2e-6
"""Largest relative error of a row's gradient or feature, in float32."""

LENGTHS = [5, ORIGINAL, ORIGINAL + 1, ORIGINAL + 2, 3, 19, 24]
WORKING = "targets that work: "

CORE = ["bloom", "cohere", "gemma2", "gpt2", "mamba", "mixtral", "opt", "phi3", "qwen3"]

REFUSED = {
    "bert, encoder": "tokens see later ones",
    "big_bird": "bert.pooler' gets input rows of shape",  # one row for each dialogue
    "cpmant": "tokens see later ones",
    "prophetnet": "gives its output head rows of shape",  # several predictions for each token
    "reformer": "passes no gradient",  # its backward pass is its own
    "xlm": "tokens see later ones",
    "xlnet": "tokens see later ones",
}
"""What is refused, and the words that say why."""

NO_DECODER = {"llama4", "llama4_text"}
"""Models that RDS+ refuses, because they do not say which part is the decoder."""

ROUNDING = {
    "gemma4": 4e-5,
    "gemma4_text": 4e-5,
    "gemma4_unified": 4e-5,
    "gemma4_unified_text": 4e-5,
    "kimi_linear": 5e-6,
    "lfm3": 5e-6,
    "minimax_m3_vl_text": 5e-6,
}
"""Models whose gradients lose more digits in float32 than others, one row at a time as well: Gemma 4's
are then 1.6e-5 from those in float64, where batches are within 1e-7 of single rows."""

NOT_SMALL = {
    "has parts for images or sound that its config does not make small": """blt dots3_note emu3 fuyu
        gemma3n git got_ocr2 mllama moss_transcribe_diarize musicgen musicgen_melody phi4_multimodal
        qwen4_exp""",
    "helps another model to guess tokens": "gemma4_assistant gemma4_unified_assistant",
    "its config has sizes that cannot be given or that fit no others": """cohere_compass_text dbrx
        dots3_note_text longcat_flash roc_bert zamba""",
}
"""Families that are not tried, by the reason."""

SKIPPED = {family for families in NOT_SMALL.values() for family in families.split()}
KINDS = [
    pytest.param(kind, marks=() if kind in CORE or kind in VARIANTS else pytest.mark.slow)
    for kind in [*FAMILIES, *VARIANTS]
    if kind not in SKIPPED
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_a_row_gets_what_it_has_alone(kind: str, tmp_path: Path) -> None:
    assert parameters(small_config(kind)) < 4e6
    model = saved_model(kind, tmp_path / "model")
    if kind in REFUSED:
        assert REFUSED[kind] in refusal(model)
        return
    found, truth = Found(model, tmp_path), Truth(model)
    rows = random_rows(LENGTHS)
    error = ROUNDING.get(kind, TIGHT)
    losses_E, gradients_EP = truth.of(rows)
    if kind in NO_DECODER:
        with pytest.raises(InputError, match="rds needs a causal language model with a decoder"):
            found.features(rows)
    else:
        assert relative(found.features(rows), truth.features(rows)) <= error
    for packed in (False, True) if found.packs() else (False,):
        assert relative(found.losses(rows, packed), losses_E) <= LOSS
        assert relative(found.gradients(rows, packed), gradients_EP) <= error
        assert relative(found.step(rows, packed), truth.step(rows)) <= error


def refusal(model: ModelConfig) -> str:
    """Return the one line that refuses a model, before its weights are read or as they are."""
    problems = model_problems(model, max(LENGTHS), adapters(model), per_example=True)
    if not problems:
        with pytest.raises(InputError) as error:
            check_per_example(adapted_model(model))
        problems = [str(error.value)]
    (line,) = problems
    assert "\n" not in line
    return line


def adapters(model: ModelConfig) -> LoraConfig:
    """Return adapters on every linear layer, or else on those that the refusal of these names."""
    lora = LoraConfig(rank=4, targets="all-linear")
    problems = model_problems(model, max(LENGTHS), lora, per_example=True)
    if problems and WORKING in problems[0]:
        names = problems[0].partition(WORKING)[2].split(", ")
        lora = lora.model_copy(update={"targets": names})
    return lora


def adapted_model(model: ModelConfig) -> Any:
    """Load a model and give it adapters that are not zero."""
    adapted = attach_lora(load_model(model), adapters(model), seed=0)
    torch.manual_seed(1)
    for name, parameter in trainable_parameters(adapted).items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return adapted


class Truth:
    """Autograd, one row at a time, each through a copy of the model that has seen nothing."""

    def __init__(self, model: ModelConfig) -> None:
        self.new, self.base = adapted_model(model), load_model(model)

    def of(self, rows: list[dict[str, list[int]]]) -> tuple[torch.Tensor, ...]:
        """Return the rows' losses (E,) and gradients (E, P)."""
        losses, gradients = zip(*(self._backward(row) for row in rows), strict=True)
        return torch.stack(losses), torch.stack(gradients)

    def features(self, rows: list[dict[str, list[int]]]) -> torch.Tensor:
        """Return the rows' RDS+ features (E, K)."""
        return torch.stack([self._feature(row) for row in rows])

    def _backward(
        self, row: dict[str, list[int]], training: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        model = copy.deepcopy(self.new).train(training)
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor(row["labels"])
        logits = model(input_ids=ids, use_cache=False).logits[0]
        loss = functional.cross_entropy(logits[:-1].float(), labels[1:])
        loss.backward()
        gradients = {name: p.grad for name, p in trainable_parameters(model).items()}
        return loss.detach(), flat(gradients, model)

    @torch.no_grad()
    def _feature(self, row: dict[str, list[int]]) -> torch.Tensor:
        base, ids = copy.deepcopy(self.base), torch.tensor([row["input_ids"]])
        hidden_TK = base.base_model(input_ids=ids, use_cache=False, return_dict=True)[0][0]
        return functional.normalize(torch.arange(1.0, len(hidden_TK) + 1) @ hidden_TK, dim=0)

    def step(self, rows: list[dict[str, list[int]]]) -> torch.Tensor:
        """Return the gradient of the mean over the tokens of all rows, (1, P), in training mode."""
        counts_E = torch.tensor([sum(y != -100 for y in row["labels"][1:]) for row in rows])
        gradients = [self._backward(row, training=True)[1] for row in rows]
        return ((counts_E / counts_E.sum()) @ torch.stack(gradients))[None]


class Found:
    """The same, by what this project uses."""

    def __init__(self, model: ModelConfig, folder: Path) -> None:
        self.model, self.folder = model, folder
        self.adapted = adapted_model(model)
        self.base = self.adapted.get_base_model()

    def packs(self) -> bool:
        """Return whether rows can be packed; if not, one line says why."""
        try:
            check_packing(self.base, max(LENGTHS), training=True)
        except InputError as error:
            reason = str(error)
        else:
            return True
        assert "cannot be packed: it " in reason
        assert "\n" not in reason
        return False

    def losses(self, rows: list[dict[str, list[int]]], packed: bool) -> torch.Tensor:
        """Return losses (E,): of the first row alone, and of the others together."""
        batches = rows[:1], rows[1:]
        with torch.no_grad():
            parts = [batch_losses(self.base, collate(part, packed=packed)) for part in batches]
        return torch.cat(parts)

    def gradients(self, rows: list[dict[str, list[int]]], packed: bool) -> torch.Tensor:
        """Return gradients (E, P), some of single rows and some of several."""
        return per_example_gradients(self.adapted, rows, batch_size=3, packed=packed)

    def step(self, rows: list[dict[str, list[int]]], packed: bool) -> torch.Tensor:
        """Return the gradient of one training step on all rows, (1, P), from Adam's first moment."""
        config = TrainingConfig(
            epochs=1, batch_size=len(rows), max_grad_norm=1e9, micro_tokens=40, packed=packed
        )
        model = adapted_model(self.model)
        (kept,) = train(model, rows, config, seed=0, folder=self.folder / f"step-{packed}")
        return flat(kept.moments()[0], model)[None] / 0.1  # m = (1 - 0.9) g

    def features(self, rows: list[dict[str, list[int]]]) -> torch.Tensor:
        """Return RDS+ features (E, K)."""
        rds = Rds(self.model, BatchConfig(tokens=50), "cpu")
        return torch.from_numpy(rds.features(rows, "pool").values_ECK[:, 0])


def flat(tensors: dict[str, Any], model: Any) -> torch.Tensor:
    """Lay the adapters' tensors end to end, (P,); None is zero."""
    parameters = trainable_parameters(model).items()
    pieces = [(name, p, tensors.get(name)) for name, p in parameters]
    return torch.cat([(torch.zeros_like(p) if t is None else t).flatten() for _, p, t in pieces])


def random_rows(lengths: list[int]) -> list[dict[str, list[int]]]:
    """Return rows of these lengths; the last token of every other one is trained."""
    rng = np.random.default_rng(0)
    rows = []
    for place, length in enumerate(lengths):
        ids = rng.integers(3, VOCABULARY, length)
        labels = np.where(rng.random(length) < 0.6, ids, -100)
        labels[-1] = ids[-1] if place % 2 else -100
        labels[1] = ids[1]
        rows.append({"input_ids": ids.tolist(), "labels": labels.tolist()})
    return rows


def relative(found: torch.Tensor, truth: torch.Tensor) -> float:
    """Return the largest relative error of a row."""
    found, truth = (x.double().reshape(len(truth), -1) for x in (found, truth))
    errors_E = (found - truth).norm(dim=1) / truth.norm(dim=1)
    return float(errors_E.max())
