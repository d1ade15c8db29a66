"""A representation with vectors: how often each letter occurs in a row's text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field

from tis_ray.representations import Build, Features, Representation
from tis_ray.settings import Section


class LetterSettings(Section):
    """Settings of `letters`."""

    floor: float = Field(0.0, ge=0)
    """Added to every count."""


class Letters:
    """Counts letters."""

    def __init__(self, floor: float) -> None:
        self.floor = floor

    def features(self, rows: list[dict[str, Any]], side: str) -> Features:
        """Return unit vectors of counts (E, 1, 26)."""
        counts_EK = np.array(
            [[row["text"].lower().count(chr(97 + k)) for k in range(26)] for row in rows], float
        ).reshape(len(rows), 26)
        counts_EK += self.floor
        lengths_E = np.linalg.norm(counts_EK, axis=1)
        unusable = {int(i): "no_letter" for i in np.flatnonzero(lengths_E == 0)}
        values_EK = counts_EK / np.where(lengths_E == 0, 1, lengths_E)[:, None]
        return Features(values_EK[:, None].astype(np.float32), unusable, {})


@dataclass(frozen=True, kw_only=True)
class _Letters(Representation):
    def build(self, build: Build) -> Letters:
        return Letters(build.settings.floor)


LETTERS = _Letters(
    name="letters",
    label="Letter counts",
    version=1,
    summary="how often each letter occurs",
    Settings=LetterSettings,
    reads="text",
)
