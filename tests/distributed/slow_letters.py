"""A representation that takes its time: a study is still at it when nodes come and go."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from tis_ray.representations import Build, Features

SECONDS = 1.0
"""For each shard of the pool."""


class SlowLetters:
    """How often each of some letters is in a row."""

    reads = "text"

    def __init__(self, build: Build) -> None:
        del build

    def features(self, rows: list[dict[str, Any]], side: str) -> Features:
        """Return counts of letters (E, 1, 26) and sleep over the pool's."""
        if side == "pool":
            time.sleep(SECONDS)
        letters = "abcdefghijklmnopqrstuvwxyz"
        counts = [[row["text"].lower().count(letter) + 1.0 for letter in letters] for row in rows]
        values_EK = np.array(counts, np.float32)
        values_EK /= np.linalg.norm(values_EK, axis=1, keepdims=True)
        return Features(values_EK[:, None], unusable={}, columns={})
