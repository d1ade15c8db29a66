"""Features that are looked up in files, row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tis_ray.representations.spec import Features
from tis_ray.store.given_files import GivenVectors

if TYPE_CHECKING:
    from tis_ray.data import StoredRow


class LookedUp:
    """The vectors of pool and queries in two files, scaled to length 1."""

    def __init__(self, features: str, queries: str, name: str) -> None:
        self.sides = {
            "pool": GivenVectors(features, f"given.{name}.features"),
            "query": GivenVectors(queries, f"given.{name}.queries"),
        }

    def features(self, rows: list[StoredRow], side: str) -> Features:
        """Return unit features (E, 1, D); rows without a vector, zeros and NaN are unusable."""
        vectors_ED, missing = self.sides[side].of(rows)
        unusable = dict.fromkeys(missing, "no_feature_given")
        lengths_E = np.linalg.norm(vectors_ED.astype(np.float64), axis=1)
        for place in np.flatnonzero(~np.isfinite(lengths_E)).tolist():
            unusable.setdefault(place, "non_finite_feature")
        for place in np.flatnonzero(lengths_E == 0).tolist():
            unusable.setdefault(place, "zero_feature")
        lengths_E[list(unusable)] = 1.0
        values_ED = (vectors_ED / lengths_E[:, None]).astype(np.float32)
        values_ED[list(unusable)] = 0.0
        return Features(values_ED[:, None], dict(sorted(unusable.items())), {})
