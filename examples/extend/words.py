"""A representation with scores only: words in common, without a vector for any row."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tis_ray.representations import Representation, Scorer


class Jaccard:
    """Words in common as a share of the words of either."""

    unusable: dict[int, str]

    def __init__(self, pool: Iterable[dict[str, Any]], queries: Iterable[dict[str, Any]]) -> None:
        self.pool = [_words(row) for row in pool]
        self.queries = [_words(row) for row in queries]
        self.unusable = {}

    def scores(self, start: int, stop: int) -> np.ndarray:
        """Return scores_MN (M, stop - start) float32 of some pool rows with all queries."""
        return np.array(
            [[_share(query, row) for row in self.pool[start:stop]] for query in self.queries],
            dtype=np.float32,
        )


@dataclass(frozen=True, kw_only=True)
class Words(Representation):
    """A spec of its own, since it overrides `scorer`."""

    def scorer(
        self, settings: Any, pool: Iterable[dict[str, Any]], queries: Iterable[dict[str, Any]]
    ) -> Scorer:
        """Return what scores the pool."""
        return Jaccard(pool, queries)


def _words(row: dict[str, Any]) -> frozenset[str]:
    return frozenset(word for turn in row["messages"] for word in turn["content"].lower().split())


def _share(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / max(len(one | other), 1)


WORDS = Words(
    name="words",
    label="shared words",
    version=1,
    summary="words in common as a share of the words of either",
    reads="text",
    gives="scores",
    cosines=False,
    made_of="words",
)
