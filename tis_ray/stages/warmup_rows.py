"""The rows of a warm-up: a random share of the pool, named by what they say.

An artifact made of them is named by these rows and not by the pool, so that rows which come, go or are
excluded elsewhere in the pool train nothing anew.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tis_ray.representations import Warmup
from tis_ray.stages.context import Context
from tis_ray.stages.training_rows import sample_rows
from tis_ray.store import fingerprint
from tis_ray.store.sides import Side


@dataclass(frozen=True)
class Sample:
    """Rows of the pool: their positions among the usable ones, in the order they are trained on.

    digest: of what they say, and of how they become tokens.
    """

    positions: np.ndarray
    digest: str

    @property
    def size(self) -> int:
        """How many they are."""
        return len(self.positions)


def warmup_sample(warmup: Warmup, context: Context, pool: Side) -> Sample:
    """Return the share of the pool that a warm-up is trained on."""
    size = min(pool.usable, max(warmup.min_rows, round(warmup.share * pool.usable)))
    positions = sample_rows(pool, size, warmup.seed)
    contents = [
        content
        for shard in range(pool.shards)
        for content in pool.token_facts(shard)["content"].to_pylist()
    ]
    tokens = pool.tokens
    encoding = {k: v for k, v in tokens.inputs.items() if k not in ("rows", "dropped")}
    named = [encoding, tokens.version, [contents[place] for place in positions.tolist()]]
    return Sample(positions, fingerprint(named))
