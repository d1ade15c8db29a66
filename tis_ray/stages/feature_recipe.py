"""The recipe of one representation's features: settings, model, checkpoints, and the feature space.

It is what featurising needs; what comes out of it is in `rows_to_scores`. The space is the readable
list of everything that decides what a row's feature is. Stores are named by its fingerprint, so
features of different spaces never meet by accident; two that are compared on purpose are checked
field by field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tis_ray.config import Config
from tis_ray.data import Template, template_identity
from tis_ray.errors import InputError
from tis_ray.models.loading import model_identity
from tis_ray.representations import Build, Features, Featuriser, Representation
from tis_ray.settings import ModelConfig
from tis_ray.stages.context import Context
from tis_ray.stages.given_checkpoints import untrained_checkpoints
from tis_ray.stages.warmup import trained_checkpoints
from tis_ray.storage import Place
from tis_ray.store.codec import VERSION as CODEC_VERSION
from tis_ray.store.sides import Side


@dataclass(frozen=True)
class Recipe:
    """How to make one representation's features; small, and picklable into every actor.

    space: what decides a feature, for the store. weights_C: of the checkpoints, summing to 1.
    """

    method: Representation
    of: Build
    template: Template
    space: Mapping[str, object]
    weights_C: np.ndarray

    @property
    def name(self) -> str:
        """The representation's name."""
        return self.method.name

    @property
    def dtype(self) -> str:
        """Type of stored pool features."""
        return self.method.dtype(self.of.settings)

    def build(self) -> Featuriser:
        """Load what turns rows into features."""
        self.method.require_same_code()
        featuriser = self.method.build(self.of)
        return featuriser if self.method.code is None else _Checked(featuriser, self.name)


class _Checked:
    """A featuriser from outside the package, whose every answer is checked."""

    def __init__(self, featuriser: Featuriser, name: str) -> None:
        self.featuriser, self.name = featuriser, name

    def features(self, rows: list[dict[str, Any]], side: str) -> Features:
        """Return the features of rows; InputError where they are not what `Features` promises."""
        features = self.featuriser.features(rows, side)
        if not isinstance(features, Features):
            raise InputError(
                f"{self.name}: features() returned a {type(features).__name__}; return "
                "tis_ray.representations.Features"
            )
        return features.checked(len(rows), self.name)


def reading_model(method: Representation, config: Config) -> ModelConfig:
    """Return the model that reads the rows: the one that is fine-tuned, or a proxy."""
    return method.model(config.settings_of(method)) or config.model


def make_recipe(method: Representation, context: Context, pool: Side) -> Recipe:
    """Return the recipe of one representation; its warm-up is trained first, if it has one."""
    config = context.config
    settings, model = config.settings_of(method), reading_model(method, config)
    space: dict[str, object] = {
        "representation": method.name,
        "version": method.version,
        "dtype": method.dtype(settings),
        "codec": CODEC_VERSION,
        "template": template_identity(config.data.template),
        "max_length": config.data.max_length,
        "model": model_identity(model),
        **method.space(settings),
    }
    if method.code is not None:
        space["code"] = vars(method.code)
    weights_C = np.ones(1)
    folders: tuple[Place, ...] = ()
    warmup = method.warmup(settings)
    if warmup is not None:
        made = trained_checkpoints if warmup.trains else untrained_checkpoints
        epochs = made(warmup, context, model, pool)
        folders = tuple(checkpoint.path for checkpoint in epochs)
        if len(epochs) > 1:  # a single one has the whole weight, whatever it was trained with
            weights_C = method.weights(epochs[-1].steps())
        space["checkpoint"] = {
            f"{checkpoint.epoch}": checkpoint.identity() for checkpoint in epochs
        }
    of = Build(settings, model, config.batch, context.cluster.device, folders)
    return Recipe(method, of, config.data.template, space, weights_C)
