"""The random subsets of a study, as its cells train them: the baseline for a trainer of one's own.

Random is no ordering artifact: a seed draws it from the usable rows, under the study's constraints.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pyarrow as pa

from tis_ray.config import Config
from tis_ray.finished.subset import Ordered
from tis_ray.methods import RANDOM
from tis_ray.selectors.constraints import Filled
from tis_ray.stages.constrain import Constrainer, random_fill
from tis_ray.stages.ordering_artifact import ordering_table
from tis_ray.storage import Place
from tis_ray.store import Artifact, read_manifest
from tis_ray.store.sides import Side


@dataclass(frozen=True)
class RandomDraw(Ordered):
    """What a seed draws from the pool that `beside`, an ordering of the same study, ranks."""

    seed: int
    config: Config
    beside: Ordered

    @cached_property
    def table(self) -> pa.Table:
        """The rows of the largest budget, in the order of the draw."""
        rows, _ = self._drawn
        nothing = [None] * len(rows)
        return ordering_table(
            self._pool, rows, nothing, np.full(len(rows), -1, np.int32), nothing, RANDOM
        )

    @cached_property
    def budgets(self) -> dict[int, int]:
        """How many of the rows each budget of the study has."""
        return {each.budget: each.rows for each in self._drawn[1]}

    def rows_of(self, side: Literal["pool", "query"]) -> Place:
        """Return the folder of the rows that it is drawn from; no query pulled any."""
        return self.beside.rows_of(side)

    @cached_property
    def fingerprint(self) -> str:
        """What names the draw: the ordering that it stands beside, and the seed."""
        return f"{self.beside.fingerprint}, {RANDOM}, seed {self.seed}"

    @cached_property
    def _drawn(self) -> tuple[np.ndarray, list[Filled]]:
        return random_fill(Constrainer(self.config, self._pool), self.seed)

    @cached_property
    def _pool(self) -> Side:
        rows, tokens = (_reopened(folder) for folder in (self.rows_of("pool"), self.tokens_of_pool))
        shards = len(list(tokens.path.glob("tokens-*.parquet")))
        return Side("pool", rows, tokens, shards)

    @property
    def tokens_of_pool(self) -> Place:
        """The folder of the pool's tokens."""
        return self.beside.tokens_of_pool


def random_draws(config: Config, beside: Ordered) -> dict[str, Ordered]:
    """Return the study's random subsets by name, one for each seed."""
    names = {f"{RANDOM}-seed-{seed}": seed for seed in config.seed}
    return {
        name: RandomDraw(name, beside.folder, beside.unit, seed, config, beside)
        for name, seed in names.items()
    }


def _reopened(folder: Place) -> Artifact:
    manifest = read_manifest(folder)
    return Artifact(folder.parent, manifest.stage, manifest.inputs, manifest.version)
