"""Scores are weighted sums of cosines over checkpoints; the halves of a sketch tell their noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tis_ray.errors import InputError
from tis_ray.representations.similarity import QuerySide
from tis_ray.store.feature_views import combine


@given(
    seed=st.integers(0, 2**31),
    checkpoints=st.integers(1, 5),
    half_width=st.integers(1, 9),
    halves=st.booleans(),
)
def test_scores_are_weighted_sums_over_checkpoints(seed, checkpoints, half_width, halves):
    rng = np.random.default_rng(seed)
    pool = rng.standard_normal((7, checkpoints, 2 * half_width)).astype(np.float32)
    query = rng.standard_normal((3, checkpoints, 2 * half_width)).astype(np.float32)
    weights = rng.random(checkpoints)
    truth = np.einsum("c,mck,nck->mn", weights, query.astype(float), pool.astype(float))
    found = QuerySide(query, weights, halves).score(pool)
    assert found.scores_ME.dtype == np.float32
    np.testing.assert_allclose(found.scores_ME, truth, rtol=1e-4, atol=1e-4)
    assert (found.noise_ME is not None) == halves


@given(seed=st.integers(0, 2**31))
def test_noise_is_half_the_difference_of_the_halves_cosines(seed):
    rng = np.random.default_rng(seed)
    pool, query = rng.standard_normal((2, 5, 2, 8)).astype(np.float32)
    weights = np.array([0.7, 0.3])
    expected = np.zeros((5, 5))
    for c, weight in enumerate(weights):
        cosines = []
        lengths = np.linalg.norm(query[:, c], axis=1)[:, None] * np.linalg.norm(pool[:, c], axis=1)
        for half in (slice(0, 4), slice(4, 8)):
            q, p = query[:, c, half].astype(float), pool[:, c, half].astype(float)
            norms = np.linalg.norm(q, axis=1)[:, None] * np.linalg.norm(p, axis=1)
            cosines.append(q @ p.T / norms * lengths)
        expected += weight * (cosines[0] - cosines[1]) / 2
    found = QuerySide(query, weights, halves=True).score(pool).noise_ME
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_products_of_combined_features_are_the_scores():
    rng = np.random.default_rng(0)
    pool, query = rng.standard_normal((2, 5, 3, 8)).astype(np.float32)
    weights = np.array([0.5, 0.3, 0.2])
    scores = QuerySide(query, weights, halves=False).score(pool).scores_ME
    np.testing.assert_allclose(
        combine(query, weights) @ combine(pool, weights).T, scores, atol=1e-5
    )


def test_rows_without_a_feature_score_zero():
    query, pool = np.ones((1, 2, 4), np.float32), np.zeros((3, 2, 4), np.float32)
    found = QuerySide(query, np.array([0.3, 0.7]), halves=True).score(pool)
    assert not found.scores_ME.any()
    assert not found.noise_ME.any()


def test_sides_of_different_widths_are_refused() -> None:
    queries = QuerySide(np.ones((2, 1, 4), np.float32), np.ones(1), halves=False)
    with pytest.raises(InputError, match=r"shape \(1, 3\).*queries \(1, 4\)"):
        queries.score(np.ones((5, 1, 3), np.float32))
