"""The spec of LESS: similarity of gradients (Xia et al. 2024; paper section 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from tis_ray.representations.spec import (
    Build,
    Cascade,
    ExactScorer,
    Featuriser,
    GivenFolder,
    Representation,
    Warmup,
)
from tis_ray.section import Section, Seed
from tis_ray.settings.model import FeatureType, LoraConfig, ModelConfig
from tis_ray.settings.training import TrainingConfig

if TYPE_CHECKING:
    from tis_ray.data import StoredRow


class WarmupSettings(TrainingConfig):
    """LESS's warm-up, which trains the adapters whose gradients are the features."""

    epochs: int = Field(4, ge=0)
    """Passes over the rows; one checkpoint is kept for each. 0, or `warmup: none`, trains nothing: the
    one checkpoint is the model with adapters as they begin."""
    checkpoints: str | None = None
    """Folder of checkpoints to use instead of training: an earlier warm-up (`warmup-*` in the artifacts),
    or the output folder of a `Trainer` of transformers or TRL (`checkpoint-*`). Rows that already have
    features at those checkpoints keep them: this is how a pool grows cheaply."""
    share: float = Field(0.05, gt=0, le=1)
    """Share of the pool to train on, or to estimate Adam's moments from."""
    min_rows: int = Field(64, ge=1)
    """Use at least this many rows (or the whole pool if it is smaller)."""


class SketchSettings(Section):
    """The random projection of gradients."""

    width: int = Field(8192, ge=2)
    """Numbers kept for each example and checkpoint (K)."""
    kind: Literal["rotation", "rademacher"] = "rotation"
    """`rotation`: hashed signs and block rotations, one pass. `rademacher`: dense, as in the paper."""
    seed: Seed = 0
    """Root seed of the projection."""
    shared_seed: bool = False
    """Use one projection for all checkpoints, as the paper does."""

    @model_validator(mode="after")
    def _power_of_two(self) -> SketchSettings:
        if self.kind == "rotation" and (self.width < 4 or self.width & (self.width - 1)):
            raise ValueError(
                f"a rotation sketch needs a power of two, at least 4; found {self.width}"
            )
        return self


Direction = Literal["adam", "sgd", "sign"]


class CascadeSettings(Section):
    """A cheap representation keeps the best part of the pool; LESS ranks only that part."""

    by: str = "embed"
    """The cheap representation; round robin over its scores decides what is kept."""
    keep: float = Field(0.2, gt=0, lt=1)
    """Share of the pool that is kept."""
    sample: int = Field(256, ge=0)
    """Rows drawn from the whole pool that LESS ranks too, to measure what the cascade loses."""


class LessSettings(Section):
    """LESS: gradients of a LoRA warm-up (Xia et al. 2024; paper section 3)."""

    model: ModelConfig | None = None
    """Model whose gradients are taken, if it is not the one that is fine-tuned (proxy features)."""
    semantics: Literal["default", "paper"] = "default"
    """`paper` follows the paper's code: adapter dropout (0.1) stays on while features are made, here
    with a mask fixed by the row; the sketch is dense, and the same for all checkpoints."""
    lora: LoraConfig = LoraConfig()
    """Adapters of the warm-up."""
    warmup: WarmupSettings = WarmupSettings()
    """The warm-up training; `none` goes without."""
    adapter: str | None = None
    """A LoRA adapter of yours to use instead of a warm-up: a PEFT folder, the one checkpoint. Adam's
    moments are read from an `optimizer.pt` in it, or else estimated from a share of the pool."""
    pool_direction: Direction = "adam"
    """What stands for a pool row: the Adam direction, the plain gradient, or its sign."""
    query_direction: Direction = "sgd"
    """What stands for a query: one of the same."""
    sketch: SketchSettings = SketchSettings()
    """The random projection."""
    scoring: Literal["store", "stream", "exact"] = "store"
    """`store` keeps the pool's features, so that new queries cost only their own. `stream` keeps only
    scores. So does `exact`, without any projection: the gold standard for few queries."""
    exact_gb: float = Field(4.0, gt=0)
    """Most memory an actor may spend on the queries' gradients when scoring is `exact`."""
    dtype: Literal[FeatureType, "int4", "int2"] = "float16"
    """Type of stored pool features. Below 8 bits they are rotated first; queries stay float32."""
    cascade: CascadeSettings | None = None
    """Rank only the part of the pool that a cheap representation keeps; null ranks all of it."""
    seed: Seed = 0
    """Seed of the warm-up: its sample, its adapters and its batches."""

    @property
    def needs_moments(self) -> bool:
        """Whether a side is represented by Adam's direction."""
        return "adam" in (self.pool_direction, self.query_direction)

    @field_validator("warmup", mode="before")
    @classmethod
    def _no_warmup(cls, value: object) -> object:
        return {"epochs": 0} if value is None or value == "none" else value

    @model_validator(mode="after")
    def _one_origin(self) -> LessSettings:
        if self.adapter is not None and self.warmup.checkpoints is not None:
            raise ValueError("both adapter and warmup.checkpoints are given; keep one")
        return self

    @model_validator(mode="before")
    @classmethod
    def _paper_defaults(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("semantics") != "paper":
            return values
        sections: dict[str, dict[str, object]] = {
            "sketch": {"kind": "rademacher", "shared_seed": True},
            "lora": {"dropout": 0.1},
        }
        given = {name: values.get(name) or {} for name in sections}
        if not all(isinstance(section, dict) for section in given.values()):
            return values
        return {**values, **{name: sections[name] | given[name] for name in sections}}


@dataclass(frozen=True, kw_only=True)
class _Less(Representation[LessSettings]):
    def build(self, build: Build[LessSettings]) -> Featuriser:
        from tis_ray.representations.less.features import Less, gradients

        return Less(gradients(build))

    def exact(
        self, build: Build[LessSettings], queries: list[StoredRow], weights_C: np.ndarray
    ) -> ExactScorer:
        from tis_ray.representations.less.exact import ExactLess
        from tis_ray.representations.less.features import gradients

        return ExactLess(gradients(build), queries, weights_C)

    def space(self, settings: LessSettings) -> dict[str, object]:
        from tis_ray.gradients.dropout import DROPOUT_VERSION
        from tis_ray.gradients.sketch import VERSION as SKETCH_VERSION

        # The settings of the warm-up need not be here: its checkpoints identify the store too.
        dropout = [DROPOUT_VERSION, settings.seed] if settings.semantics == "paper" else None
        return {
            "direction": {"pool": settings.pool_direction, "query": settings.query_direction},
            "dropout": dropout,
            "sketch": {"version": SKETCH_VERSION, **settings.sketch.model_dump(mode="json")},
        }

    def width(self, settings: LessSettings, hidden: int) -> int:
        return settings.sketch.width

    def scoring(self, settings: LessSettings) -> Literal["store", "stream", "exact"]:
        return settings.scoring

    def cascade(self, settings: LessSettings) -> Cascade | None:
        cascade = settings.cascade
        if cascade is None:
            return None
        return Cascade(cascade.by, cascade.keep, cascade.sample, settings.seed, "less.cascade")

    def warmup(self, settings: LessSettings) -> Warmup:
        training, path, folder = settings.warmup, settings.warmup.checkpoints, settings.adapter
        return Warmup(
            lora=settings.lora,
            training=training,
            share=training.share,
            min_rows=training.min_rows,
            seed=settings.seed,
            moments=settings.needs_moments,
            checkpoints=_given(path, "less.warmup.checkpoints"),
            adapter=_given(folder, "less.adapter"),
            section="less",
        )

    def weights(self, steps: list[dict[str, float]]) -> np.ndarray:
        from tis_ray.representations.less.features import checkpoint_weights

        return checkpoint_weights(steps)


def _given(path: str | None, field: str) -> GivenFolder | None:
    return None if path is None else GivenFolder(path, field)


REPRESENTATION = _Less(
    name="less",
    label="LESS",
    version=3,  # 3: beside a bfloat16 base, adapters multiply in bfloat16
    summary="gradients at the checkpoints of a LoRA warm-up, sketched",
    Settings=LessSettings,
    halves=True,
    prior=True,
    speed_only=frozenset({"exact_gb"}),
)
