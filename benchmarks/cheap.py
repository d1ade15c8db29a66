"""A representation that costs next to nothing: eight numbers from the hash of what a row says.

For what is measured around a featuriser: planner, store, driver, selectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from tis_ray.representations import Build, Features, Representation
from tis_ray.section import Section
from tis_ray.settings import FeatureType

WIDTH = 8


class CheapSettings(Section):
    """How its features are kept."""

    scoring: Literal["store", "stream"] = "store"
    """Keep the pool's features, or the scores alone."""
    dtype: FeatureType = "int8"
    """Type of stored pool features."""


class FromHashes:
    """Makes unit vectors of the 16 bytes that name a row's content."""

    def features(self, rows: list[dict[str, Any]], side: str) -> Features:
        """Return (rows, 1, 8) vectors; a row's depends on what it says alone."""
        return Features(vectors([row["content"] for row in rows])[:, None], {}, {})


def vectors(contents: list[str]) -> np.ndarray:
    """Return (rows, 8) unit vectors, float32, of hashes of 32 hexadecimal digits each."""
    named = bytes.fromhex("".join(contents))
    numbers_EK = np.frombuffer(named, np.uint16).reshape(-1, WIDTH).astype(np.float32)
    numbers_EK -= 2**15 - 0.5  # so that none is zero
    numbers_EK /= np.linalg.norm(numbers_EK, axis=1, keepdims=True)
    return numbers_EK


@dataclass(frozen=True, kw_only=True)
class _Cheap(Representation[CheapSettings]):
    def build(self, build: Build[CheapSettings]) -> FromHashes:
        return FromHashes()

    def width(self, settings: CheapSettings, hidden: int) -> int:
        return WIDTH

    def scoring(self, settings: CheapSettings) -> Literal["store", "stream"]:
        return settings.scoring


CHEAP = _Cheap(
    name="cheap",
    summary="eight numbers from a hash, to measure what is around them",
    Settings=CheapSettings,
)
