"""Sections on training: a training run, its learning-rate warm-up, fine-tuning, and a search for its settings."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from tis_ray.section import Section, Seed
from tis_ray.settings.grid import Axes, placed, points
from tis_ray.settings.model import LoraConfig


class TrainingConfig(Section):
    """One training run: AdamW, linear schedule, mean loss over the batch's response tokens."""

    epochs: int = Field(2, ge=1)
    """Passes over the rows."""
    learning_rate: float = Field(2e-5, ge=1e-37)
    """Peak learning rate. No smaller than float32 can hold: nothing would move."""
    batch_size: int = Field(128, ge=1)
    """Examples per optimizer step, over all workers."""
    warmup_ratio: float = Field(0.03, ge=0, le=1)
    """Share of the steps in which the learning rate rises from zero."""
    weight_decay: float = Field(0.0, ge=0)
    """AdamW weight decay."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients are clipped to this norm."""
    micro_tokens: int = Field(4096, ge=1)
    """Tokens (with padding) in one forward pass; bounds memory, not the result."""
    packed: bool | None = None
    """Lay a pass's examples end to end instead of padding them; null: packed on a GPU (unless the
    model cannot be), padded on a CPU. The result is the same."""


class FinetuneConfig(TrainingConfig):
    """Fine-tuning on a subset."""

    method: Literal["lora", "full"] = "lora"
    """`lora` trains adapters; `full` trains every weight, as the paper does."""
    lora: LoraConfig = LoraConfig()
    """The adapters of `lora`."""
    workers: int = Field(1, ge=0)
    """Ray Train workers for each run; 0 trains inside the trial (Ray Train's local mode)."""
    shard: bool = False
    """Cut weights, gradients and optimizer state of a `full` run over its workers (FSDP), for a model
    that one device does not hold. Otherwise each worker has a copy."""
    save: bool = True
    """Keep each trained model, a PEFT or transformers folder beside its results."""

    @model_validator(mode="after")
    def _shardable(self) -> FinetuneConfig:
        if self.shard and (self.method != "full" or self.workers < 2):
            raise ValueError(
                f"shard is for `method: full` and 2 or more workers; found `method: {self.method}` "
                f"and {self.workers}"
            )
        return self


class SearchConfig(Section):
    """Fine-tuning settings found by ASHA before the cells are trained, the same for all of them: query
    loss after each epoch on random rows decides. The epochs are those of `finetune`."""

    over: Axes = Field(min_length=1)
    """Settings of `finetune` and what to try, `{learning_rate: [1.0e-3, 2.0e-3], lora.rank: [4, 8]}`."""
    trials: int | None = Field(None, ge=1)
    """Try so many of the combinations, drawn at random; null tries all."""
    rows: int | None = Field(None, ge=1)
    """Random pool rows that each trial is trained on; null is the largest budget, where that is in rows."""
    reduction: int = Field(3, ge=2)
    """Of the trials that have come equally far, the best 1/reduction go on."""
    first_epochs: int = Field(1, ge=1)
    """Epochs before the first are stopped."""
    seed: Seed = 0
    """Seed of the rows, of the combinations drawn, and of training."""

    @field_validator("over")
    @classmethod
    def _searchable(cls, over: Axes) -> Axes:
        fixed = {"epochs", "method", "workers", "shard", "save", "packed", "micro_tokens"}
        for key in over:
            if key in fixed:
                raise ValueError(f"{key} cannot be searched for; leave it out")
        for point in points(over):
            FinetuneConfig.model_validate(placed({}, point))
        return over
