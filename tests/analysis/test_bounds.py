"""The terms of theorem 6.2: a metric, a dimension, rates that draws follow, a bound that holds."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from tests.properties import tries
from tis_ray.analysis.bounds import (
    bound_terms,
    chord_cost,
    effective_dimension,
    participation_ratio,
    sampling_term,
)
from tis_ray.analysis.distances import Wasserstein, cosine_cost, wasserstein


def unit(count: int, width: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((count, width))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def rotated(rows: np.ndarray, width: int) -> np.ndarray:
    """The same points in a random subspace of a wider space."""
    basis, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((width, rows.shape[1])))
    return rows @ basis.T


def swiss_roll(count: int) -> np.ndarray:
    turn, height = np.random.default_rng(0).random((2, count))
    angle = 1.5 * math.pi * (1 + 2 * turn)
    return np.stack([angle * np.cos(angle), 21 * height, angle * np.sin(angle)], axis=1)


def test_the_chord_is_the_distance_of_unit_vectors() -> None:
    query, subset = unit(5, 4), unit(6, 4, seed=1)
    assert chord_cost(query @ subset.T) == pytest.approx(cdist(query, subset))


def test_one_minus_cosine_breaks_the_triangle_that_the_chord_keeps() -> None:
    """At 0°, 45° and 90°, the way over the middle is shorter than the straight one."""
    angles = np.radians([0, 45, 90])
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    for cost, holds in ((cosine_cost, False), (chord_cost, True)):
        c = cost(rows @ rows.T)
        assert (c[0, 2] <= c[0, 1] + c[1, 2]) == holds


@tries(40)
@given(st.integers(0, 10**6), st.tuples(*[st.integers(1, 8)] * 3))
def test_chords_give_a_w1_with_the_triangle_inequality(
    seed: int, sizes: tuple[int, int, int]
) -> None:
    a, b, c = (unit(size, 3, seed + i) for i, size in enumerate(sizes))
    ab, bc, ac = (wasserstein(chord_cost(x @ y.T)).value for x, y in ((a, b), (b, c), (a, c)))
    assert ac <= ab + bc + 1e-9


MANIFOLDS: dict[str, tuple[int, Callable[[], np.ndarray]]] = {
    "circle": (1, lambda: rotated(unit(800, 2), 20)),
    "sphere": (2, lambda: rotated(unit(800, 3), 20)),
    "swiss roll": (2, lambda: swiss_roll(800)),
    "cube": (3, lambda: rotated(np.random.default_rng(0).random((800, 3)), 20)),
    "5-sphere": (5, lambda: rotated(unit(800, 6), 20)),
}


@pytest.mark.parametrize("neighbours", [2, 10])
@pytest.mark.parametrize("name", MANIFOLDS)
def test_intrinsic_dimension_of_known_manifolds(name: str, neighbours: int) -> None:
    truth, points = MANIFOLDS[name]
    found = effective_dimension(points(), neighbours=neighbours)
    assert found.intrinsic == pytest.approx(truth, rel=0.12)
    assert (found.rows, found.neighbours) == (800, neighbours)


def test_high_dimensions_are_underestimated() -> None:
    """2,000 points cannot fill 30 dimensions; the docstring says so."""
    found = effective_dimension(np.random.default_rng(0).standard_normal((2000, 30)))
    assert found.intrinsic is not None
    assert 18 < found.intrinsic < 24
    assert found.participation == pytest.approx(30, rel=0.05)


def test_intrinsic_dimension_worked_by_hand() -> None:
    """At 0, 1 and 3: the second neighbour is 3, 2 and 3/2 times as far as the first."""
    found = effective_dimension(np.array([[0.0], [1.0], [3.0]]), neighbours=2)
    assert found.intrinsic == pytest.approx(3 / math.log(3 * 2 * 1.5))


def test_intrinsic_dimension_sees_neither_scale_nor_place_nor_order_nor_copies() -> None:
    rows = np.random.default_rng(0).random((120, 3))
    first = effective_dimension(rows).intrinsic
    moved = rotated(7 * rows + 1, 9)[::-1]
    assert effective_dimension(moved).intrinsic == pytest.approx(first)
    assert effective_dimension(np.vstack([rows, rows])).intrinsic == pytest.approx(first)


def test_a_seeded_draw_of_the_rows() -> None:
    rows = np.random.default_rng(0).random((400, 2))
    found = [effective_dimension(rows, rows=100, seed=seed) for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]
    assert found[0].rows == 100


def test_points_equally_far_have_no_dimension() -> None:
    found = effective_dimension(np.eye(8), neighbours=3)
    assert found.intrinsic is None
    assert found.participation == pytest.approx(7)
    json.dumps(asdict(found), allow_nan=False)


def test_participation_ratio_counts_directions() -> None:
    cross = np.vstack([np.eye(4), -np.eye(4)])
    assert participation_ratio(cross) == pytest.approx(4)
    assert participation_ratio(cross * [3, 1, 0, 0]) == pytest.approx((9 + 1) ** 2 / (81 + 1))
    assert participation_ratio(np.full((5, 3), 0.1)) == 0
    tall = np.random.default_rng(0).standard_normal((9, 4))
    wide = np.hstack([tall, np.zeros((9, 20))])
    assert participation_ratio(wide) == pytest.approx(participation_ratio(tall))


def test_sampling_term() -> None:
    assert sampling_term(1000, 3) == pytest.approx(0.1)
    assert sampling_term(100, 1) == sampling_term(100, 2) == pytest.approx(0.1)
    assert sampling_term(1, 50) == 1


def test_draws_come_near_their_pool_at_the_rate_of_their_dimension() -> None:
    """Points of a cube in 20 features: eight times the draws halve the distance, as d = 3 says."""
    pool = rotated(np.random.default_rng(0).random((800, 3)), 20)
    dimension = effective_dimension(pool).intrinsic
    assert dimension is not None
    rng = np.random.default_rng(1)

    def mean_distance(budget: int) -> float:
        draws = (pool[rng.integers(0, 800, budget)] for _ in range(4))
        return float(np.mean([wasserstein(cdist(pool, draw)).value for draw in draws]))

    measured = mean_distance(160) / mean_distance(20)
    predicted = sampling_term(160, dimension) / sampling_term(20, dimension)
    assert measured == pytest.approx(predicted, rel=0.1)


def test_terms_and_their_sum() -> None:
    pool, subset = Wasserstein(0.5, 0.6, "sinkhorn", 0.01), Wasserstein(0.2, 0.2, "network simplex")
    terms = bound_terms(pool, subset, budget=1000, dimension=3.0, delta=0.1)
    assert terms.sampling == pytest.approx(0.2)
    assert terms.deviation == pytest.approx(2 * math.sqrt(math.log(10) / 2000))
    assert terms.total() == pytest.approx(terms.sampling + terms.deviation + 0.8)
    assert terms.total(3.0) == pytest.approx(terms.total() + 2 * terms.sampling)
    assert json.loads(json.dumps(terms.to_dict(), allow_nan=False)) == terms.to_dict()


def test_the_bound_holds_for_a_strongly_convex_loss() -> None:
    """Loss |θ - z|² / 2 has μ = G = 1: trained models are means, no farther apart than the terms."""
    pool, query = unit(300, 6), unit(10, 6, seed=1) + np.eye(6)[0]
    query /= np.linalg.norm(query, axis=1, keepdims=True)
    scores_MN = query @ pool.T
    dimension = effective_dimension(pool).intrinsic
    assert dimension is not None
    for budget in (5, 20, 80):
        chosen = np.argsort(-scores_MN.max(axis=0))[:budget]
        terms = bound_terms(
            wasserstein(chord_cost(scores_MN)),
            wasserstein(chord_cost(scores_MN[:, chosen])),
            budget=budget,
            dimension=dimension,
        )
        for seed in range(20):
            drawn = np.random.default_rng(seed).integers(0, 300, budget)
            apart = np.linalg.norm(pool[drawn].mean(axis=0) - pool[chosen].mean(axis=0))
            assert apart <= terms.total()


def test_bad_inputs() -> None:
    exact = Wasserstein(0.1, 0.1, "network simplex")
    for budget, dimension in ((0, 3.0), (5, 0.0), (5, math.nan)):
        with pytest.raises(ValueError, match="must be above 0"):
            sampling_term(budget, dimension)
    for wrong in ({"delta": 0.0}, {"delta": 1.0}, {"diameter": 0.0}):
        with pytest.raises(ValueError, match="delta"):
            bound_terms(exact, exact, budget=5, dimension=3.0, **wrong)
    for neighbours in (1, 4):
        with pytest.raises(ValueError, match="4 distinct rows"):
            effective_dimension(np.eye(4).repeat(2, axis=0), neighbours=neighbours)
    with pytest.raises(ValueError, match="finite"):
        effective_dimension(np.array([[1.0], [np.nan], [3.0], [4.0]]), neighbours=2)


@pytest.mark.parametrize("neighbours", [2, 3, 10, 40])
def test_the_dimension_is_that_of_whole_sorts(neighbours: int) -> None:
    """Whatever a processor's own way to part an array leaves in it."""
    points = np.random.default_rng(neighbours).normal(size=(300, 4))
    distances = np.linalg.norm(points[:, None] - points, axis=-1)
    nearest = np.sort(distances, axis=1)[:, 1 : neighbours + 1]
    expected = 1 / np.log(nearest[:, -1:] / nearest[:, :-1]).mean()
    found = effective_dimension(points, neighbours=neighbours).intrinsic
    assert found == pytest.approx(expected, rel=1e-12)
