"""The plane of a picture: the one of largest variance, and the same each time."""

from __future__ import annotations

import numpy as np
import pytest

from tis_ray.analysis.pca import principal_plane


def planted(rows: int, width: int, seed: int = 0, noise: float = 0.01) -> tuple[np.ndarray, ...]:
    """Rows on a plane somewhere in `width` dimensions, their places in it, and the plane."""
    rng = np.random.default_rng(seed)
    places_N2 = rng.standard_normal((rows, 2)) * [5.0, 2.0]
    plane_D2, _ = np.linalg.qr(rng.standard_normal((width, 2)))
    points_ND = places_N2 @ plane_D2.T + rng.standard_normal(width)
    points_ND += noise * rng.standard_normal(points_ND.shape)
    return points_ND, places_N2, plane_D2


@pytest.mark.parametrize(("rows", "width"), [(400, 30), (40, 512), (30, 30), (3, 2)])
def test_a_planted_plane_is_recovered(rows: int, width: int) -> None:
    points_ND, places_N2, _ = planted(rows, width, noise=0.001)
    found_N2, _ = principal_plane(points_ND, points_ND[:1])
    assert found_N2.shape == (rows, 2)
    centred = places_N2 - places_N2.mean(axis=0)

    def distances(at: np.ndarray) -> np.ndarray:
        return np.linalg.norm(at[:, None] - at[None], axis=2)

    np.testing.assert_allclose(distances(found_N2), distances(centred), atol=0.02)


def test_axes_are_those_of_an_exact_decomposition_where_they_stand_out() -> None:
    rng = np.random.default_rng(1)
    pool_ND = rng.standard_normal((200, 40)) * 0.7 ** np.arange(40)
    found_N2, _ = principal_plane(pool_ND, pool_ND[:1])
    left, values, _ = np.linalg.svd(pool_ND - pool_ND.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(np.abs(found_N2), np.abs(left[:, :2] * values[:2]), atol=1e-3)
    assert found_N2[:, 0].var() > found_N2[:, 1].var()


def test_nearly_all_variance_is_caught_where_no_axis_stands_out() -> None:
    rng = np.random.default_rng(1)
    pool_ND = rng.standard_normal((200, 40)) * np.linspace(4, 0.1, 40)
    found_N2, _ = principal_plane(pool_ND, pool_ND[:1])
    values = np.linalg.svd(pool_ND - pool_ND.mean(axis=0), compute_uv=False)
    assert (found_N2.astype(float) ** 2).sum() > 0.95 * (values[:2] ** 2).sum()


def test_queries_are_placed_by_the_pools_axes() -> None:
    points_ND, _, _ = planted(50, 20)
    pool_N2, query_M2 = principal_plane(points_ND, points_ND[7:9])
    np.testing.assert_allclose(query_M2, pool_N2[7:9], atol=1e-4)
    _, far = principal_plane(points_ND, points_ND[7:9] + 100)
    np.testing.assert_array_equal(principal_plane(points_ND, points_ND[7:9] + 100)[1], far)
    np.testing.assert_array_equal(principal_plane(points_ND, far @ np.zeros((2, 20)))[0], pool_N2)


def test_the_same_picture_each_time() -> None:
    points_ND, _, _ = planted(60, 25)
    first, second = (principal_plane(points_ND, points_ND[:5]) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_the_seed_of_the_range_finder_does_not_turn_the_picture() -> None:
    points_ND, _, _ = planted(300, 60, noise=0.1)
    one, other = (principal_plane(points_ND, points_ND[:1], seed=seed)[0] for seed in (0, 1))
    np.testing.assert_allclose(one, other, atol=0.01)


def test_half_precision_features_lose_nothing_but_their_own_digits() -> None:
    points_ND, _, _ = planted(300, 60, noise=0.1)
    halves_ND = points_ND.astype(np.float16)
    found, _ = principal_plane(halves_ND, halves_ND[:1])
    truth, _ = principal_plane(halves_ND.astype(np.float64), points_ND[:1])
    np.testing.assert_allclose(found, truth, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 5), (5, 1), (1, 1), (4, 3)])
def test_pools_without_two_components_lie_on_a_line_or_point(shape: tuple[int, int]) -> None:
    pool_ND = np.ones(shape)
    pool_ND[:, 0] = np.arange(shape[0])
    pool_N2, query_M2 = principal_plane(pool_ND, pool_ND[:1])
    assert pool_N2.shape == (shape[0], 2)
    assert query_M2.shape == (1, 2)
    assert np.isfinite(pool_N2).all()
    np.testing.assert_allclose(pool_N2[:, 1], 0, atol=1e-5)
