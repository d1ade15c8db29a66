"""The random baseline: a seeded permutation of the pool, whatever the scores are.

The permutation is numpy's `default_rng(seed).permutation(N)`, which `datasets.shuffle(seed)` also
uses, so budgets are nested prefixes. Candidates score 0 and no query pulled them (-1).
"""

from __future__ import annotations

import numpy as np

from tis_ray.errors import InputError
from tis_ray.selectors.ordering import Ordering
from tis_ray.selectors.protocol import Layout, Rounds
from tis_ray.selectors.spec import Selector


def coordinate(layout: Layout, budget: int, *, seed: int = 0) -> Rounds:
    """Return the first `budget` candidates of the permutation; no shard is called."""
    yield from ()
    indices = np.random.default_rng(checked_seed(seed)).permutation(layout.candidates)[:budget]
    return Ordering(indices, np.zeros(budget), np.full(budget, -1, dtype=np.int32), "random")


def checked_seed(seed: int) -> int:
    """Return the seed, or raise InputError unless it is a whole number of at least 0."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise InputError(f"seed {seed!r} is not a whole number of at least 0")
    return int(seed)


SELECTOR = Selector(
    name="random",
    summary="the baseline of every study: a seeded permutation of the pool",
    coordinate=coordinate,
)
