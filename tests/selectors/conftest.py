"""Golden orderings of the reference implementation, and plain versions to compare with."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tis_ray.selectors import SELECTORS, Ordering
from tis_ray.selectors.ordering import Extent
from tis_ray.selectors.protocol import Layout, answer_locally, drive

CASES = ["gaussian", "clustered", "tight", "many_queries", "single_query"]


@pytest.fixture(scope="session", params=CASES)
def golden(request: pytest.FixtureRequest, golden_dir: Path) -> dict[str, np.ndarray]:
    """Scores, the orderings made of them, and the features that the scores came from."""
    features = Path(__file__).parent / "features"
    with (
        np.load(golden_dir / "selectors" / f"{request.param}.npz") as arrays,
        np.load(features / f"{request.param}.npz") as more,
    ):
        # Checkpoints side by side, so that dot products are their weighted sums.
        blocks = np.sqrt(more["lr_weights"])[:, None, None] * more["pool_feats"]
        return {**arrays, "features": np.concatenate(blocks, axis=1).astype(np.float32)}


@pytest.fixture(scope="session")
def masked_argmax() -> Callable[[np.ndarray, int], np.ndarray]:
    """Round robin as the reference does it: an argmax over the unused candidates at each turn."""

    def round_robin(scores_MN: np.ndarray, budget: int) -> np.ndarray:
        used = np.zeros(scores_MN.shape[1], dtype=bool)
        picks = []
        for turn in range(budget):
            row = np.where(used, -np.inf, scores_MN[turn % len(scores_MN)])
            picks.append(int(np.argmax(row)))
            used[picks[-1]] = True
        return np.array(picks)

    return round_robin


@pytest.fixture(scope="session")
def select_sharded() -> Callable[..., Ordering]:
    """Selection over column shards that end before the given cuts, without a cluster."""

    def select(
        scores_MN: np.ndarray, cuts: list[int], selector: str, budget: int, **params: Any
    ) -> Ordering:
        queries, candidates = scores_MN.shape
        bounds = [0, *sorted(cuts), candidates]
        sizes = tuple(int(size) for size in np.diff(bounds))
        rule = SELECTORS.own[selector]
        shards = [rule.shard(scores_MN[:, start:stop], start) for start, stop in pairwise(bounds)]
        rounds = rule.rounds(Layout(queries, sizes, Extent.of(scores_MN)), budget, params)
        return drive(rounds, answer_locally(shards))

    return select


def assert_same(left: Ordering, right: Ordering) -> None:
    """Equal to the last byte."""
    for name in ("indices", "scores", "queries"):
        one, other = getattr(left, name), getattr(right, name)
        assert one.dtype == other.dtype
        assert one.tobytes() == other.tobytes(), name
    assert left.selector == right.selector


@pytest.fixture(scope="session")
def same() -> Callable[[Ordering, Ordering], None]:
    return assert_same
