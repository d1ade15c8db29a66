"""The draws: what a method selects from when it selects anew (`settings.DrawsConfig`).

A draw is named by its number. Which rows and queries it has follows from the number and the row's
place in the pool alone, so all methods have the same, whatever they could give a score.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tis_ray.settings import DrawsConfig

VERSION = 1
"""Of how rows and queries are drawn."""


@dataclass(frozen=True)
class Draw:
    """One of the draws of a study."""

    number: int
    settings: DrawsConfig

    def kept(self, rows_N: np.ndarray) -> np.ndarray:
        """Return (N,) whether each of these pool rows is a candidate."""
        if self.settings.pool == "whole":
            return np.ones(len(rows_N), bool)
        if self.settings.pool == "halves":
            return _mixed(rows_N, self.number) >> np.uint64(63) == 0
        kept_N: np.ndarray = _mixed(rows_N, 0) % np.uint64(self.settings.count) == self.number
        return kept_N

    def chosen(self, sources: list[str]) -> np.ndarray:
        """Return the places of its queries, (M,), in order; some stand there more than once.

        sources: each query's. Each source keeps as many queries as it has.
        """
        if self.settings.queries == "whole":
            return np.arange(len(sources))
        rng = np.random.default_rng([self.number, len(sources)])
        groups = [
            np.flatnonzero([each == source for each in sources])
            for source in dict.fromkeys(sources)
        ]
        return np.sort(np.concatenate([rng.choice(group, len(group)) for group in groups]))

    @property
    def identity(self) -> dict[str, object]:
        """What decides a draw, for fingerprints."""
        found = {"number": self.number, "version": VERSION, **self.settings.model_dump(mode="json")}
        return found if self.settings.pool == "folds" else found | {"count": None}


def draws_of(settings: DrawsConfig | None) -> list[Draw]:
    """Return the draws of a study."""
    return [] if settings is None else [Draw(number, settings) for number in range(settings.count)]


def _mixed(rows_N: np.ndarray, key: int) -> np.ndarray:
    """Return 64 well-mixed bits for each row and key (the finaliser of SplitMix64, Steele et al. 2014)."""
    mixed: np.ndarray = np.array([key + 1], np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = rows_N.astype(np.uint64) * np.uint64(0xD1B54A32D192ED03) + mixed
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))
