"""Margins, ties and near-duplicates: by hand, and against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.properties import tries
from tis_ray.analysis import margins as margins_module
from tis_ray.analysis.margins import margins, near_duplicates, score_facts
from tis_ray.selectors import select

# Two queries, six candidates; candidates 0, 1, 2 and 4 were selected, in this order.
SCORES = np.array([[0.9, 0.1, 0.5, 0.5, 0.7, 0.2], [0.0, 0.8, 0.3, 0.6, 0.6, 0.1]], np.float32)
PICKED = np.array([0, 1, 2, 4])
PULLED = np.array([0, 1, 0, 1])
OUTSIDE = np.array([0.5, 0.6], np.float32)  # both queries' best among candidates 3 and 5


def test_margins_by_hand() -> None:
    found = margins(SCORES[:, PICKED], PULLED, OUTSIDE)
    # Candidate 0 over 4, which came later; 1 over 3 or 4; 2 below 4: not its query's best; 4 = 3.
    assert found == pytest.approx([0.2, 0.2, -0.2, 0.0], abs=1e-6)


def test_no_query_and_no_other_candidate_have_no_margin() -> None:
    scores = np.array([[0.5, 0.4]], np.float32)
    found = margins(scores, np.array([0, 0]), np.array([-np.inf], np.float32))
    assert found[0] == pytest.approx(0.1, abs=1e-6)
    assert math.isnan(found[1])
    assert np.isnan(margins(scores, np.array([-1, -1]), np.array([0.1]))).all()


@given(st.data())
def test_margins_are_those_of_a_plain_loop(data: st.DataObject) -> None:
    queries, candidates = data.draw(st.integers(1, 4)), data.draw(st.integers(2, 12))
    levels = data.draw(st.sampled_from([3, 1000]))  # heavy ties, or none
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    scores_MN = (rng.integers(0, levels, (queries, candidates)) / levels).astype(np.float32)
    budget = data.draw(st.integers(1, candidates))
    picked = rng.permutation(candidates)[:budget]
    pulled = rng.integers(-1, queries, budget)
    left = np.setdiff1d(np.arange(candidates), picked)
    outside = scores_MN[:, left].max(axis=1, initial=-np.inf)
    found = margins(scores_MN[:, picked], pulled, outside)
    for rank, (row, query) in enumerate(zip(picked, pulled, strict=True)):
        rest = np.setdiff1d(np.arange(candidates), picked[: rank + 1])
        if query < 0 or not len(rest):
            assert math.isnan(found[rank])
        else:
            expected = float(scores_MN[query, row]) - float(scores_MN[query, rest].max())
            assert found[rank] == pytest.approx(expected, abs=1e-7)


@tries(30)
@given(st.integers(0, 10**6), st.integers(1, 30))
def test_round_robin_never_passes_over_its_query_s_best(seed: int, budget: int) -> None:
    scores_MN = np.random.default_rng(seed).integers(0, 9, (3, 30)).astype(np.float32)
    ordering = select(scores_MN, "round_robin", budget)
    left = np.setdiff1d(np.arange(30), ordering.indices)
    outside = scores_MN[:, left].max(axis=1, initial=-np.inf)
    found = margins(scores_MN[:, ordering.indices], ordering.queries, outside)
    assert (found[~np.isnan(found)] >= 0).all()


def test_ties_and_range_by_hand() -> None:
    own = SCORES[PULLED, PICKED]  # 0.9, 0.8, 0.5, 0.6
    found = score_facts(own, own, OUTSIDE[PULLED])
    # Rows 2 and 3: their queries give 0.5 and 0.6 to candidate 3 too, which was left out.
    assert (found.rows, found.tied, found.tied_outside) == (4, 2, 2)
    assert [found.lowest, found.median, found.highest] == pytest.approx([0.5, 0.7, 0.9])
    masses = np.array([0.25, 0.25, 0.25, 0.1])  # the last one ties with a row left out
    assert score_facts(masses, own, OUTSIDE[PULLED]).tied == 4
    nobody = np.full(4, np.nan)
    assert score_facts(masses, nobody, nobody).to_dict()["tied"] == 3


def unit(rows: int, width: int, seed: int) -> np.ndarray:
    found = np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.mark.parametrize("tile", [1, 4, 100])
def test_near_duplicates_are_those_of_a_plain_loop(
    tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(margins_module, "_TILE", tile)
    features = unit(11, 3, seed=0)
    features[7] = features[2]
    found = near_duplicates(features, 0.8)
    cosines = features @ features.T
    np.fill_diagonal(cosines, -2)
    assert found.counts.tolist() == (cosines >= 0.8).sum(axis=1).tolist()
    assert (found.nearest[2], found.nearest[7]) == (7, 2)
    assert cosines[np.arange(11), found.nearest] == pytest.approx(cosines.max(axis=1), abs=1e-6)
    assert found.cosines == pytest.approx(cosines.max(axis=1), abs=1e-6)


def test_a_row_alone_has_no_kin() -> None:
    found = near_duplicates(unit(1, 4, seed=0))
    assert (found.counts.tolist(), found.nearest.tolist()) == ([0], [-1])
    assert math.isnan(found.cosines[0])
