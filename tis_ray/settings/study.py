"""The sections of a study that belong to none of its methods."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from tis_ray.section import Section, Seed
from tis_ray.settings.data import TaskConfig
from tis_ray.settings.grid import Axes, placed, points
from tis_ray.settings.model import LoraConfig, TrainingConfig


class OverlapConfig(Section):
    """The overlap guard: finds pool rows that repeat query or test rows, before anything is selected."""

    test: Literal["drop", "keep"] = "drop"
    """What happens to pool rows that repeat a test row: dropped ones go to the quarantine."""
    query: Literal["drop", "keep"] = "keep"
    """The same for pool rows that repeat a query. They are reported either way."""
    ngram: int = Field(8, ge=5)
    """Words in a run. A row overlaps if it has, in such runs, half of a target's words."""
    threshold: float = Field(0.5, gt=0, le=1)
    """The share of a target's words that makes an overlap."""
    embedding: float | None = Field(None, gt=0, le=1)
    """Cosine (of `embed.model`) from which rows overlap, such as 0.95; null compares no embeddings,
    which would read the whole pool with the encoder."""
    also: list[TaskConfig] = []
    """Query and test rows of other tasks that the pool is not to repeat either. The studies of `tasks`
    have each other's here, so that all of them select from one pool."""


def _ids(value: object) -> object:
    """Read numbers as ids; what else is no text (`yes`, which YAML reads as true) is refused later."""
    if not isinstance(value, list | tuple):
        return value
    return [str(name) if type(name) in (int, float) else name for name in value]


def _amounts(values: dict[str, float]) -> dict[str, float]:
    for source, amount in values.items():
        if amount < 0 or (amount > 1 and amount != int(amount)):
            raise ValueError(
                f"{source}: found {amount:g}; give a whole amount, or a share below 1 of the budget"
            )
    return values


Amounts = Annotated[dict[str, float], AfterValidator(_amounts)]


Weights = dict[str, Annotated[float, Field(gt=0)]]


class ConstraintsConfig(Section):
    """Conditions on every subset, random ones too. Caps and quotas count in the budget's unit."""

    include: Annotated[list[str] | str, BeforeValidator(_ids)] = []
    """Ids of pool rows that every subset must have, or a file with one id a line."""
    exclude: Annotated[list[str] | str, BeforeValidator(_ids)] = []
    """Ids of pool rows that are not to be used for anything, or a file with one id a line."""
    cap: Amounts = {}
    """Most of a budget that a source may have: `{flan: 0.3, code: 200}`; `*` is every other source."""
    quota: Amounts = {}
    """Least of a budget that a source must have, in the same form."""
    radius: float | None = Field(None, gt=0, le=2)
    """Leave out rows whose cosine with a better-ranked one, in the representation's features, is
    1 - radius or more (0.05 is a good start). Random subsets have no features, and no radius."""
    query_weights: Weights = {}
    """Weight of a query, by its id or its source; 1 if it is not named. Queries of weight 2 pull twice
    as much."""
    targets: Weights = {}
    """Several target tasks at once: each query source and its share of the budget. Each task selects
    by itself, and they take turns. Empty: all queries are one task."""


class QuantilesConfig(Section):
    """The paper's distance quantiles: does training on nearer rows help more? Round robin orders the
    whole pool, and a model is trained on the beginning of each part of it."""

    bins: int = Field(10, ge=2)
    """Parts of equal size."""
    rows: int = Field(500, ge=1)
    """First rows of each that are trained on."""
    focus: bool = False
    """Cut the first part again into as many."""


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


class ComputeConfig(Section):
    """How the work is laid over the machine or cluster. Changes speed, not results."""

    address: str | None = None
    """Ray cluster to join; null uses RAY_ADDRESS when it is set, else starts Ray on this machine."""
    actors: int | None = Field(None, ge=1)
    """Actors of a stage; null takes as many as the cluster has room for."""
    gpus_per_actor: float | None = Field(None, ge=0)
    """GPUs of each actor; null takes one when the cluster has any."""
    max_failures: int = Field(3, ge=0)
    """How often a training run is restarted after a worker is lost."""


class TrackingConfig(Section):
    """MLflow."""

    enabled: bool = True
    """Record the study in MLflow."""
    uri: str | None = None
    """Tracking server or database; null is a SQLite file beside the runs."""
    experiment: str = "tis-ray"
    """Experiment name."""
