"""The spec of RDS+: position-weighted hidden states (Ivison et al. 2025; paper section 3)."""

from __future__ import annotations

from dataclasses import dataclass

from tis_ray.representations.spec import Build, Featuriser, Representation
from tis_ray.section import Section
from tis_ray.settings.model import FeatureType, ModelConfig


class RdsSettings(Section):
    """RDS+: position-weighted mean of the last hidden states (Ivison et al. 2025; paper section 3)."""

    model: ModelConfig | None = None
    """Model that reads the rows, if it is not the one that is fine-tuned."""
    dtype: FeatureType = "float16"
    """Type of stored pool features."""


@dataclass(frozen=True, kw_only=True)
class _Rds(Representation[RdsSettings]):
    def build(self, build: Build[RdsSettings]) -> Featuriser:
        from tis_ray.representations.rds.features import Rds

        return Rds(build.model, build.batch, build.device)

    def width(self, settings: RdsSettings, hidden: int) -> int:
        return hidden


REPRESENTATION = _Rds(
    name="rds",
    label="RDS+",
    version=2,
    summary="position-weighted mean of the base model's last hidden states",
    Settings=RdsSettings,
)
