"""Random score matrices for property tests: ties everywhere, and shards cut anywhere."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st


@st.composite
def tied_scores(draw: st.DrawFn) -> tuple[np.ndarray, list[int], int]:
    """Scores with few distinct values (often equal rows), cuts into 1..7 shards, a budget."""
    queries, candidates = draw(st.integers(1, 12)), draw(st.integers(1, 60))
    levels = draw(st.sampled_from([1, 2, 3, 10, 1000]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    scores_MN = rng.integers(0, levels, (queries, candidates)).astype(
        draw(st.sampled_from([np.float32, np.float64]))
    )
    if draw(st.booleans()):
        scores_MN[:] = scores_MN[0]
    if draw(st.booleans()):
        scores_MN = np.sort(scores_MN, axis=1)[:, :: draw(st.sampled_from([1, -1]))]
    scores_MN = scores_MN * draw(st.sampled_from([1.0, -1.0, 0.0, -0.0]))
    cuts = draw(st.lists(st.integers(0, candidates), max_size=6))
    budget = draw(st.one_of(st.integers(1, candidates), st.just(candidates)))
    return scores_MN, cuts, budget


@st.composite
def tied_cosines(draw: st.DrawFn) -> tuple[np.ndarray, list[int], int]:
    """The same with scores between -1 and 1, both included."""
    scores_MN, cuts, budget = draw(tied_scores())
    return (scores_MN / max(1.0, np.abs(scores_MN).max())).astype(scores_MN.dtype), cuts, budget
