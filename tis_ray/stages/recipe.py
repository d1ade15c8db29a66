"""What a representation is made of: its settings, its model's checkpoints, and its feature space.

The space is the readable list of everything that decides what a row's feature is. Stores are named
by its fingerprint, so features of different spaces never meet by accident; two that are compared on
purpose are checked field by field.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tis_ray.config import BatchConfig, Config, EmbedConfig, LessConfig, ModelConfig, RdsConfig
from tis_ray.errors import InputError
from tis_ray.gradients import DROPOUT_VERSION
from tis_ray.gradients.sketch import VERSION as SKETCH_VERSION
from tis_ray.models.checkpoints import Checkpoint, checkpoints
from tis_ray.models.loading import model_identity
from tis_ray.representations import Representation
from tis_ray.stages.cluster import Cluster
from tis_ray.stages.log import RunLog
from tis_ray.stages.tokens import Side
from tis_ray.stages.train import warm_up, warmup_artifact
from tis_ray.store.codec import VERSION as CODEC_VERSION

if TYPE_CHECKING:
    from tis_ray.representations.less import Gradients


@dataclass(frozen=True)
class Recipe:
    """How to make one representation's features; small, and picklable into every actor.

    space: what decides a feature, for the store. weights_C: of the checkpoints, summing to 1.
    """

    name: str
    settings: LessConfig | RdsConfig | EmbedConfig
    model: ModelConfig
    template: str
    batch: BatchConfig
    device: str
    space: dict[str, Any]
    weights_C: np.ndarray
    checkpoints: tuple[Path, ...] = ()

    @property
    def dtype(self) -> str:
        """Type of stored pool features."""
        return self.settings.dtype

    @property
    def has_halves(self) -> bool:
        """Whether features are sketches, whose two halves tell the noise of their scores."""
        return self.name == "less"

    @property
    def needs_text(self) -> bool:
        """Whether features are made of the text, and not of its tokens."""
        return self.name == "embed"

    def gradients(self) -> Gradients:
        """Load the model at its warm-up checkpoints."""
        from tis_ray.representations.less import Gradients

        assert isinstance(self.settings, LessConfig)
        return Gradients(self.model, self.settings, self.batch, self.checkpoints, self.device)

    def build(self) -> Representation:
        """Load what turns rows into features."""
        if isinstance(self.settings, EmbedConfig):
            from tis_ray.representations.embed import Embed

            return Embed(self.settings, self.batch.threads, self.device)
        if isinstance(self.settings, RdsConfig):
            from tis_ray.representations.rds import Rds

            return Rds(self.model, self.batch, self.device)
        from tis_ray.representations.less import Less

        return Less(self.gradients())


def representation_model(name: str, config: Config) -> ModelConfig | None:
    """Return the model that reads the rows if it is not the one that is fine-tuned (a proxy)."""
    return {"less": config.less.model, "rds": config.rds.model}.get(name)


def make_recipe(name: str, config: Config, pool: Side, cluster: Cluster, log: RunLog) -> Recipe:
    """Return the recipe of one representation; LESS trains its warm-up first, if need be."""
    model = representation_model(name, config) or config.model
    settings: LessConfig | RdsConfig | EmbedConfig = getattr(config, name)
    space: dict[str, Any] = {
        "representation": name,
        "dtype": settings.dtype,
        "codec": CODEC_VERSION,
        "template": config.data.template,
        "max_length": config.data.max_length,
        "model": model_identity(model),
    }
    weights_C = np.ones(1)
    folders: tuple[Path, ...] = ()
    if isinstance(settings, LessConfig):
        found = _warmup_checkpoints(config, model, pool, cluster, log)
        folders = tuple(checkpoint.path for checkpoint in found)
        from tis_ray.representations.less import checkpoint_weights

        weights_C = checkpoint_weights(found[-1].steps())
        directions = {"pool": settings.pool_direction, "query": settings.query_direction}
        space |= {
            "direction": directions,
            "dropout": [DROPOUT_VERSION, settings.seed] if settings.semantics == "paper" else None,
            "sketch": {"version": SKETCH_VERSION, **settings.sketch.model_dump(mode="json")},
            "checkpoint": {f"{checkpoint.epoch}": checkpoint.identity() for checkpoint in found},
        }
    elif isinstance(settings, EmbedConfig):
        from tis_ray.representations.embed import encoder_identity

        space |= {"encoder": encoder_identity(settings), "query_prefix": settings.query_prefix}
    return Recipe(
        name=name,
        settings=settings,
        model=model,
        template=config.data.template,
        batch=config.batch,
        device=cluster.device,
        space=space,
        weights_C=weights_C,
        checkpoints=folders,
    )


def _warmup_checkpoints(
    config: Config, model: ModelConfig, pool: Side, cluster: Cluster, log: RunLog
) -> list[Checkpoint]:
    given = config.less.warmup.checkpoints
    if given is not None:
        found = checkpoints(Path(given).expanduser())
        if not found:
            raise InputError(
                f"less.warmup.checkpoints: {given} holds no `epoch-*` checkpoint; give the folder of "
                "a warm-up, `warmup-*` among the artifacts of an earlier run"
            )
        return found
    artifact = warmup_artifact(config, model, pool)
    reused, note = artifact.complete, ""
    if not reused:
        found = checkpoints(artifact.path)
        if found:
            note = f"continued after epoch {found[-1].epoch}"
        warm_up(artifact, config, model, pool, cluster, log)
    log.made("warm-up", artifact, reused, note)
    return checkpoints(artifact.path)
