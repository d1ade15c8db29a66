"""One representation of a study's rows: what its stages left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tis_ray.representations import Representation
from tis_ray.store import Artifact
from tis_ray.store.feature_views import FeatureSet


@dataclass(frozen=True)
class Represented:
    """One representation of the study's rows.

    features: None where it has none; without a "pool" side where they are not kept.
    cascade: what a cascade kept and lost; None without one.
    """

    method: Representation
    features: FeatureSet | None
    scores: Artifact | None
    cascade: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        """The representation's name."""
        return self.method.name
