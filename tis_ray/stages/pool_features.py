"""The pool's features by column of the scores, as selectors and the near-duplicate radius read them."""

from __future__ import annotations

import numpy as np

from tis_ray.store.feature_views import FeatureSet, SideFeatures


class PoolFeatures(SideFeatures):
    """The pool's, by column of the scores or by row of the pool."""

    def __init__(
        self, features: FeatureSet, columns_N: np.ndarray, kept_N: np.ndarray | None = None
    ) -> None:
        super().__init__(features, "pool")
        self.columns_N = columns_N
        self.places_N = None if kept_N is None else np.flatnonzero(kept_N)

    def __len__(self) -> int:
        return super().__len__() if self.places_N is None else len(self.places_N)

    def rows(self, indices: np.ndarray) -> np.ndarray:
        """Return (n, C * K) unit vectors of these columns of the scores."""
        return super().rows(indices if self.places_N is None else self.places_N[indices])

    @property
    def identity(self) -> str:
        """What names the features."""
        return self.features.artifact.fingerprint

    def of_rows(self, rows: np.ndarray) -> np.ndarray:
        """Return the same for rows of the pool."""
        return self.rows(np.searchsorted(self.columns_N, rows))
