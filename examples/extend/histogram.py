"""A representation with vectors: which tokens a row is made of."""

from typing import Any

import numpy as np

from tis_ray.representations import Build, Features
from tis_ray.settings import Section


class HistogramSettings(Section):
    """What a study may set under `settings: {histogram: ...}`."""

    width: int = 512
    """Numbers in a vector; tokens share them by their id modulo this."""


class Histogram:
    """Counts of tokens, square roots taken, as a unit vector."""

    version = 1
    Settings = HistogramSettings

    def __init__(self, build: Build) -> None:
        """Load what is needed: once in each process. `build` has settings, model, batch, device."""
        self.width = build.settings.width

    def features(self, rows: list[dict[str, Any]], side: str) -> Features:
        """Return unit vectors (E, 1, K), the middle axis being checkpoints."""
        values_EK = np.zeros((len(rows), self.width), dtype=np.float32)
        for values_K, row in zip(values_EK, rows, strict=True):
            np.add.at(values_K, np.asarray(row["input_ids"]) % self.width, 1)
        values_EK = np.sqrt(values_EK)
        values_EK /= np.linalg.norm(values_EK, axis=1, keepdims=True)
        return Features(values_EK[:, None], unusable={}, columns={})
