"""Scores as callers have them: the same ordering from every form, and masks are heard."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from tis_ray.errors import InputError
from tis_ray.selectors import select

SCORES = np.random.default_rng(1).integers(-100, 100, (4, 30)).astype(np.float32) / 16
FORMS = {
    "float64": SCORES.astype(np.float64),
    "float16": SCORES.astype(np.float16),
    "lists": SCORES.tolist(),
    "tensor": torch.from_numpy(SCORES).requires_grad_(),
    "bfloat16": torch.from_numpy(SCORES).to(torch.bfloat16),
    "masked nowhere": np.ma.MaskedArray(SCORES, np.zeros(SCORES.shape, bool)),
    "integers": (SCORES * 16).astype(np.int32),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_ordering(form):
    expected = select(SCORES if form != "bfloat16" else _rounded(), "round_robin", 12)
    found = select(FORMS[form], "round_robin", 12)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.queries, expected.queries)


def _rounded() -> np.ndarray:
    return torch.from_numpy(SCORES).to(torch.bfloat16).float().numpy()


def test_a_data_frame_is_its_values():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(SCORES, columns=[f"row {i}" for i in range(30)])
    found = select(frame, "doubly_greedy", 12)
    np.testing.assert_array_equal(found.indices, select(SCORES, "doubly_greedy", 12).indices)


@pytest.mark.parametrize("selector", ["round_robin", "doubly_greedy", "uot", "knn_uniform"])
def test_a_masked_candidate_is_never_chosen_and_counts_nowhere(selector):
    masked = np.ma.MaskedArray(SCORES, np.zeros(SCORES.shape, bool))
    best = select(SCORES, selector, 5).indices
    masked[0, best[0]] = np.ma.masked
    masked[:, best[1]] = np.ma.masked
    left = np.setdiff1d(np.arange(30), best[:2])
    found, expected = select(masked, selector, 12), select(SCORES[:, left], selector, 12)
    np.testing.assert_array_equal(found.indices, left[expected.indices])
    np.testing.assert_array_equal(found.scores, expected.scores)
    with pytest.raises(InputError, match="budget 29 exceeds the pool of 28"):
        select(masked, selector, 29)


def test_what_a_mask_makes_ambiguous_is_refused():
    masked = np.ma.masked_greater(SCORES, 5)
    with pytest.raises(InputError, match="`features` has an entry for each"):
        select(masked, "knn_kde", 3, features=np.ones((30, 2), np.float32))
    with pytest.raises(InputError, match="hides a score of every candidate"):
        select(np.ma.MaskedArray(SCORES, True), "round_robin", 3)


VECTORS = np.eye(30, dtype=np.float32)


@pytest.mark.parametrize("features", [torch.eye(30), VECTORS.tolist(), pd.DataFrame(VECTORS)])
def test_features_may_be_any_matrix(features: object) -> None:
    chosen = select(SCORES, "knn_kde", 3, features=features)
    assert (
        chosen.indices.tolist() == select(SCORES, "knn_kde", 3, features=VECTORS).indices.tolist()
    )


def test_more_queries_than_candidates_are_warned_of() -> None:
    with pytest.warns(UserWarning, match="4 candidates, 30 queries: the matrix may be transposed"):
        select(SCORES.T, "round_robin", 2)


def test_nullable_numbers_are_numbers() -> None:
    frame = pd.DataFrame(SCORES).astype("Float64")
    assert select(frame, "round_robin", 3).indices.tolist() == (
        select(SCORES, "round_robin", 3).indices.tolist()
    )


def test_ragged_lists_are_a_line() -> None:
    with pytest.raises(InputError, match="the lists differ in length"):
        select([[1.0, 2.0], [3.0]], "round_robin", 1)
