"""A selector as a plain function: rows that many queries would choose."""

import numpy as np


def by_votes(scores_MN: np.ndarray, budget: int, *, top: int = 50) -> np.ndarray:
    """Most votes first: each query votes for its `top` best rows; ties by mean score, then index."""
    _, candidates = scores_MN.shape
    chosen_MT = np.argsort(-scores_MN, axis=1, kind="stable")[:, :top]
    votes_N = np.bincount(chosen_MT.ravel(), minlength=candidates)
    return np.lexsort((-scores_MN.mean(axis=0), -votes_N))[:budget]
