"""What a certificate predicts is what would be measured if the exact scores were known."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tis_ray.analysis.certificate import Certificate, certificate, top_overlap, top_size

M, N = 24, 6000
SHARES = (0.01, 0.05, 0.1, 0.25)


def noisy(
    truth_MN: np.ndarray, sd: float | np.ndarray, seed: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Scores with an independent error of this sd, and D of the same law."""
    rng = np.random.default_rng(seed)
    errors = rng.standard_normal((2, *truth_MN.shape)) * sd
    return truth_MN + errors[0], errors[1]


def certify(scores_Ms: np.ndarray, d_MN: np.ndarray, **settings: object) -> Certificate:
    sums = d_MN.sum(axis=1), np.square(d_MN).sum(axis=1)
    return certificate(scores_Ms, *sums, d_MN.shape[1], **settings)  # type: ignore[arg-type]


LAWS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "gaussian": lambda rng: rng.standard_normal((M, N)),
    "heavy tails": lambda rng: rng.standard_t(3, (M, N)),
    "one tail": lambda rng: rng.exponential(1, (M, N)),
    "two clusters": lambda rng: 4 * (rng.random((M, N)) < 0.05) + rng.normal(0, 0.5, (M, N)),
}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(
    ("ratio", "tolerance"), [(0.05, 0.03), (0.1, 0.03), (0.25, 0.03), (0.5, 0.03), (1.0, 0.1)]
)
def test_predicted_overlap_is_what_is_measured(law: str, ratio: float, tolerance: float) -> None:
    truth_MN = LAWS[law](np.random.default_rng(0))
    scores_MN, d_MN = noisy(truth_MN, ratio * truth_MN.std(axis=1, keepdims=True))
    found = certify(scores_MN, d_MN, shares=SHARES)
    for share in SHARES:
        measured = top_overlap(scores_MN, truth_MN, share)
        assert found.predicted_overlap[f"{share:g}"] == pytest.approx(measured, abs=tolerance)


@pytest.mark.parametrize("ratio", [0.1, 0.25, 0.5, 1.0])
def test_scores_that_end_abruptly_are_the_hard_case(ratio: float) -> None:
    truth_MN = np.random.default_rng(0).uniform(0, 1, (M, N))
    scores_MN, d_MN = noisy(truth_MN, ratio * truth_MN.std())
    found = certify(scores_MN, d_MN, shares=SHARES).predicted_overlap
    for share, tolerance in zip(SHARES, (0.12, 0.1, 0.06, 0.03), strict=True):
        measured = top_overlap(scores_MN, truth_MN, share)
        assert found[f"{share:g}"] == pytest.approx(measured, abs=tolerance)


def test_a_sample_of_columns_is_enough() -> None:
    truth_MN = np.random.default_rng(0).standard_normal((M, N))
    scores_MN, d_MN = noisy(truth_MN, 0.2)
    found = certify(scores_MN[:, ::4], d_MN)
    assert (found.columns, found.queries) == (N // 4, M)
    assert found.predicted_overlap["0.05"] == pytest.approx(
        top_overlap(scores_MN, truth_MN, 0.05), abs=0.03
    )


def test_queries_may_differ_in_noise_and_scale() -> None:
    """One noise for all would be far off: half of the queries have none."""
    truth_MN = np.random.default_rng(0).standard_normal((M, N)) * np.geomspace(0.1, 10, M)[:, None]
    sd_M1 = truth_MN.std(axis=1, keepdims=True) * np.where(np.arange(M) % 2, 0.5, 0)[:, None]
    scores_MN, d_MN = noisy(truth_MN, sd_M1)
    measured = top_overlap(scores_MN, truth_MN, 0.05)
    assert certify(scores_MN, d_MN).predicted_overlap["0.05"] == pytest.approx(measured, abs=0.02)


def test_halves_of_a_real_projection_certify_its_cosines() -> None:
    """Random signs in two halves: noise, and overlap, against the exact cosines."""
    rng = np.random.default_rng(2)
    common = rng.standard_normal((8, 512))
    pool_NP = rng.standard_normal((2000, 8)) @ common + 2 * rng.standard_normal((2000, 512))
    query_MP = rng.standard_normal((M, 8)) @ common + 2 * rng.standard_normal((M, 512))
    signs_PK = rng.choice([-1.0, 1.0], (512, 512)) / np.sqrt(512)

    def cosines(columns: slice) -> np.ndarray:
        query, pool = (
            x / np.linalg.norm(x, axis=1, keepdims=True)
            for x in (query_MP @ signs_PK[:, columns], pool_NP @ signs_PK[:, columns])
        )
        return query @ pool.T

    scores_MN = cosines(slice(None))
    norms = np.linalg.norm(query_MP, axis=1)[:, None] * np.linalg.norm(pool_NP, axis=1)
    truth_MN = query_MP @ pool_NP.T / norms
    found = certify(scores_MN, (cosines(slice(256)) - cosines(slice(256, 512))) / 2)
    error = np.sqrt(np.square(scores_MN - truth_MN).mean())
    within = (scores_MN - truth_MN).std(axis=1)
    assert found.noise == pytest.approx(error, rel=0.1)
    assert found.noise_within_query == pytest.approx(np.sqrt(np.square(within).mean()), rel=0.1)
    for share in (0.05, 0.1):
        measured = top_overlap(scores_MN, truth_MN, share)
        assert found.predicted_overlap[f"{share:g}"] == pytest.approx(measured, abs=0.05)


# The numbers


def test_noise_and_spread_are_standard_deviations() -> None:
    truth_MN = np.random.default_rng(0).standard_normal((M, N))
    scores_MN, d_MN = noisy(truth_MN, 0.2)
    found = certify(scores_MN + 100 * np.arange(M)[:, None], d_MN)
    assert found.noise == pytest.approx(0.2, rel=0.01)
    assert found.noise_within_query == pytest.approx(0.2, rel=0.01)
    assert found.spread == pytest.approx(np.sqrt(1.04), rel=0.01)


def test_errors_that_a_query_shares_do_not_count_within_it() -> None:
    truth_MN = np.random.default_rng(0).standard_normal((M, N))
    scores_MN, d_MN = noisy(truth_MN, 0.1)
    shared_M1 = np.random.default_rng(3).standard_normal((M, 1)) * 5
    alone, both = certify(scores_MN, d_MN), certify(scores_MN + shared_M1, d_MN + shared_M1)
    assert both.noise > 3
    assert both.noise_within_query == pytest.approx(alone.noise_within_query, rel=1e-6)
    assert both.spread == pytest.approx(alone.spread, rel=1e-6)
    assert both.predicted_overlap == pytest.approx(alone.predicted_overlap, abs=1e-3)
    only = certify(truth_MN, np.broadcast_to(shared_M1, (M, N)))
    assert only.noise_within_query < 1e-5
    assert min(only.predicted_overlap.values()) > 0.999


def test_without_noise_everything_agrees() -> None:
    scores_Ms = np.random.default_rng(0).standard_normal((M, 500)).astype(np.float32)
    scores_Ms[0] = 0.25  # ties are no noise
    scores_Ms[1, :400] = scores_Ms[1, 400]
    found = certify(scores_Ms, np.zeros((M, N)))
    assert (found.noise, found.noise_within_query) == (0, 0)
    assert set(found.predicted_overlap.values()) == {1.0}


def test_pure_noise_agrees_as_often_as_chance() -> None:
    scores_MN, d_MN = noisy(np.zeros((M, N)), 0.3)
    for share, value in certify(scores_MN, d_MN, shares=SHARES).predicted_overlap.items():
        assert value == pytest.approx(float(share), abs=0.05)
    # More noise than spread leaves nothing to know, whatever the scores are.
    certain = certify(scores_MN, 2 * d_MN, shares=SHARES).predicted_overlap
    assert certain == pytest.approx({f"{share:g}": share for share in SHARES}, rel=1e-9)


def test_more_noise_never_predicts_more_overlap() -> None:
    truth_MN = np.random.default_rng(0).standard_normal((M, 2000))
    values = [
        certify(*noisy(truth_MN, sd)).predicted_overlap["0.1"] for sd in (0, 0.1, 0.3, 1, 3, 10)
    ]
    assert values == sorted(values, reverse=True)


def test_it_is_seeded_and_does_not_depend_on_type_or_scale() -> None:
    scores_MN, d_MN = noisy(np.random.default_rng(0).standard_normal((M, 800)), 0.3)
    scores_MN = scores_MN.astype(np.float32)
    one = certify(scores_MN, d_MN, seed=5)
    assert one == certify(scores_MN, d_MN, seed=5)
    assert one != certify(scores_MN, d_MN, seed=6)
    assert one == certify(scores_MN.astype(np.float64), d_MN, seed=5)
    scaled = certify(scores_MN.astype(float) * 1024, d_MN * 1024, seed=5)
    assert scaled.predicted_overlap == one.predicted_overlap
    assert scaled.noise == pytest.approx(1024 * one.noise)


def test_it_is_json() -> None:
    found = certify(*noisy(np.random.default_rng(0).standard_normal((3, 200)), 0.3), shares=[0.2])
    assert Certificate(**json.loads(json.dumps(found.to_dict(), allow_nan=False))) == found
    assert list(found.predicted_overlap) == ["0.2"]


def test_one_candidate_is_always_on_top() -> None:
    found = certify(np.ones((2, 1)), np.full((2, 1), 0.1))
    assert found.noise == pytest.approx(0.1)
    assert (found.noise_within_query, found.spread) == (0, 0)
    assert set(found.predicted_overlap.values()) == {1.0}


# Measured overlap


def slow_top_overlap(scores_MN: np.ndarray, truth_MN: np.ndarray, share: float) -> float:
    size = top_size(share, scores_MN.shape[1])
    tops = [
        [set(np.argsort(-row, kind="stable")[:size].tolist()) for row in matrix]
        for matrix in (scores_MN, truth_MN)
    ]
    return float(np.mean([len(a & b) / size for a, b in zip(*tops, strict=True)]))


@given(st.data(), st.integers(1, 4), st.integers(1, 12), st.floats(0.01, 1))
def test_top_overlap_ranks_ties_by_lowest_index(
    data: st.DataObject, queries: int, count: int, share: float
) -> None:
    rows = st.lists(st.integers(0, 3), min_size=queries * count, max_size=queries * count)
    scores, truth = (
        np.array(data.draw(rows), dtype=np.float64).reshape(queries, count) for _ in range(2)
    )
    expected = slow_top_overlap(scores, truth, share)
    assert top_overlap(scores, truth, share) == pytest.approx(expected)
    assert top_overlap(truth, truth, share) == 1


def test_top_overlap_by_hand() -> None:
    truth = np.array([[5.0, 4, 3, 2, 1, 0], [0, 1, 2, 3, 4, 5]])
    scores = np.array([[5.0, 0, 4, 3, 2, 1], [0, 1, 2, 3, 4, 5]])
    assert top_overlap(scores, truth, 1 / 3) == 0.75  # tops {0, 2} against {0, 1}, and equal ones
    assert top_overlap(scores, truth, 1) == 1
    assert top_overlap(-truth, truth, 0.5) == 0


def test_sizes_of_the_top() -> None:
    assert [top_size(p, 1000) for p in (0.01, 0.05, 0.0001, 1)] == [10, 50, 1, 1000]
    assert top_size(0.29, 100) == 29  # 0.29 * 100 is a little less in floating point


# Errors


def test_bad_input_is_named() -> None:
    good, sums = np.ones((2, 5)), np.zeros(2)
    bad = good.copy()
    bad[1, 3] = np.nan
    with pytest.raises(ValueError, match="scores of query 1 are not finite"):
        certificate(bad, sums, sums, 5)
    with pytest.raises(ValueError, match="truth of query 1 are not finite"):
        top_overlap(good, bad, 0.5)
    with pytest.raises(ValueError, match="no score to certify"):
        certificate(np.ones((2, 0)), sums, sums, 5)
    with pytest.raises(ValueError, match="no score to certify"):
        certificate(good, sums, sums, 0)
    for share in (0, -0.1, 1.1):
        with pytest.raises(ValueError, match="above 0 and at most 1"):
            top_overlap(good, good, share)
    with pytest.raises(ValueError, match="must match"):
        top_overlap(good, good[:, :4], 0.5)


def test_errors_that_similar_candidates_share_reorder_less_and_their_differences_tell() -> None:
    """Sixty groups of fifty alike: most of an error moves a whole group, and the top is a few groups."""
    rng = np.random.default_rng(11)
    queries, groups, each = 24, 60, 50

    def grouped(across: float, within: float) -> np.ndarray:
        shared = rng.normal(0, across, (queries, groups, 1))
        own = rng.normal(0, within, (queries, groups, each))
        return (shared + own).reshape(queries, -1)

    truth = grouped(1.0, 0.05)
    error, difference = grouped(0.3, 0.02), grouped(0.3, 0.02)
    scores = truth + error
    sums = difference.sum(axis=1), np.square(difference).sum(axis=1)
    measured = top_overlap(scores, truth, 0.05)
    told = certificate(scores, *sums, groups * each, [0.05], noise_Ms=difference)
    blind = certificate(scores, *sums, groups * each, [0.05])
    assert abs(told.predicted_overlap["0.05"] - measured) < 0.05
    assert abs(told.predicted_overlap["0.05"] - measured) < abs(
        blind.predicted_overlap["0.05"] - measured
    )


def test_differences_of_independent_errors_predict_as_drawn_ones_do() -> None:
    rng = np.random.default_rng(12)
    truth = rng.standard_normal((40, 4000))
    error, difference = rng.normal(0, 0.3, (2, 40, 4000))
    sums = difference.sum(axis=1), np.square(difference).sum(axis=1)
    told = [
        certificate(truth + error, *sums, 4000, [0.05], noise_Ms=noise).predicted_overlap["0.05"]
        for noise in (difference, None)
    ]
    assert abs(told[0] - told[1]) < 0.01
    assert abs(told[0] - top_overlap(truth + error, truth, 0.05)) < 0.03
