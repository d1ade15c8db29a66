"""A selector: candidates by the mean of a power of their scores."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from tis_ray.selectors import Selector
from tis_ray.selectors.gathered import gathering
from tis_ray.settings import Section


class PowerSettings(Section):
    """Settings of `by_power`."""

    power: float = Field(1.0, gt=0)
    """What scores are raised to, their signs kept."""


def by_power(scores_MN: np.ndarray, budget: int, *, power: float = 1.0) -> np.ndarray:
    """Return the candidates with the largest mean powers."""
    means_N = (np.sign(scores_MN) * np.abs(scores_MN) ** power).mean(axis=0)
    return np.argsort(-means_N, kind="stable")[:budget]


coordinate, shard = gathering(by_power, "by_power")

BY_POWER = Selector(
    name="by_power",
    label="Power mean",
    version=1,
    summary="the mean of a power of the scores",
    Settings=PowerSettings,
    coordinate=coordinate,
    shard=shard,
)
