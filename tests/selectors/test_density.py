from __future__ import annotations

import numpy as np
import pytest

from tis_ray.selectors import density
from tis_ray.selectors.density import densities


def unit(features: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return (features / lengths).astype(np.float32)


def plain(features: np.ndarray, sigma: float, neighbours: int) -> np.ndarray:
    similar = features.astype(np.float64) @ features.T.astype(np.float64)
    kernel = np.clip(1 - 2 * (1 - similar) / sigma**2, 0, 1)
    np.fill_diagonal(kernel, 1)
    return np.sort(kernel, axis=1)[:, -neighbours:].sum(axis=1)


@pytest.mark.parametrize("tile", [7, 64, 1024])
@pytest.mark.parametrize("neighbours", [1, 3, 40, 1000])
@pytest.mark.parametrize("noise", [0.01, 0.3, 3.0])
def test_tiles_equal_the_dense_definition(tile, neighbours, noise, monkeypatch):
    """From pools of near-duplicates, where most rows are crowded, to unrelated candidates."""
    monkeypatch.setattr(density, "TILE", tile)
    rng = np.random.default_rng(0)
    features = unit(
        rng.standard_normal((5, 10))[rng.integers(0, 5, 300)]
        + noise * rng.standard_normal((300, 10))
    )
    chosen = np.sort(rng.permutation(300)[:250])
    found = densities(features, chosen, 0.75, neighbours)
    np.testing.assert_allclose(found, plain(features[chosen], 0.75, neighbours), rtol=2e-5)


def test_a_candidate_alone_has_density_one_exactly():
    found = densities(np.eye(40, dtype=np.float32) * np.float32(1 - 1e-4), np.arange(40), 0.75, 9)
    assert found.tolist() == [1.0] * 40


def test_each_pair_of_tiles_is_made_once(monkeypatch):
    monkeypatch.setattr(density, "TILE", 10)
    fetched = []

    class Features:
        def rows(self, indices):
            fetched.append(len(indices))
            return np.eye(64, dtype=np.float32)[indices % 64]

    densities(Features(), np.arange(60), 0.75, 100)
    # Six tiles: 6 + 5 + 4 + 3 + 2 + 1 fetches of ten rows.
    assert fetched == [10] * 21
