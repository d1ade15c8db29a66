"""Margins, ties and near-duplicates of selected rows: how clear each choice was.

A row j of rank r was pulled by a query q, with score S_qj. Its **margin** is

    S_qj - max { S_qk : k not among the ranks 0 to r }

over all candidates k with a score: what q would have got instead, had only better-ranked rows been
there. In round robin it is never negative, and 0 is a tie. Below 0, something else than this query's
score decided: mass (UOT, KNN), a mean over queries, or a condition of the study.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

NEAR = 0.95
"""The cosine from which two rows are near-duplicates, where none is given."""

_TILE = 1024


@dataclass(frozen=True)
class ScoreFacts:
    """Ties and range of the scores of an ordering."""

    rows: int
    tied: int
    """Rows that share what they were ranked by with another selected row, or as in `tied_outside`."""
    tied_outside: int
    """Rows to which their query gives the score of the best row it left out."""
    lowest: float
    median: float
    highest: float

    def to_dict(self) -> dict[str, object]:
        """Return the fields as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class NearDuplicates:
    """For each of B rows its near-duplicates among the others."""

    counts: np.ndarray
    """(B,) others with a cosine at or above the threshold."""
    nearest: np.ndarray
    """(B,) position of the nearest other row, the first of equals; -1 where there is no other."""
    cosines: np.ndarray
    """(B,) its cosine; NaN where there is no other."""


def margins(scores_MB: np.ndarray, pulled_B: np.ndarray, outside_M: np.ndarray) -> np.ndarray:
    """Return the margin of each selected row (B,); NaN without a query or another candidate.

    scores_MB: scores of the selected rows, in the order of their ranks. pulled_B: the row of the
    matrix that pulled each, -1 for none. outside_M: each query's best score among the candidates
    that were not selected, -inf if there are none.
    """
    found_B = np.full(scores_MB.shape[1], np.nan)
    for query in np.unique(pulled_B[pulled_B >= 0]).tolist():
        mine = np.flatnonzero(pulled_B == query)
        # The best of what comes after each rank: later ones, and those that never came.
        rest = np.append(scores_MB[query, 1:], outside_M[query])
        best_after = np.maximum.accumulate(rest[::-1])[::-1]
        found_B[mine] = scores_MB[query, mine].astype(np.float64) - best_after[mine]
    found_B[np.isinf(found_B)] = np.nan
    return found_B


def score_facts(ranked_B: np.ndarray, own_B: np.ndarray, outside_B: np.ndarray) -> ScoreFacts:
    """Return ties and range of an ordering.

    ranked_B: what it ranked by. own_B: the score that its query gives each row. outside_B: the best
    that this query gives to a candidate that was not selected. NaN where no query pulled the row.
    """
    _, group_B, sizes = np.unique(ranked_B, return_inverse=True, return_counts=True)
    equal_B = own_B == outside_B
    return ScoreFacts(
        rows=len(ranked_B),
        tied=int(((sizes[group_B] > 1) | equal_B).sum()),
        tied_outside=int(equal_B.sum()),
        lowest=float(ranked_B.min()),
        median=float(np.median(ranked_B)),
        highest=float(ranked_B.max()),
    )


def near_duplicates(features_BD: np.ndarray, threshold: float = NEAR) -> NearDuplicates:
    """Return the near-duplicates of unit vectors among themselves, tile by tile.

    Takes B² D multiplications, and memory for two tiles: the features may be memory-mapped.
    """
    rows = len(features_BD)
    counts_B = np.zeros(rows, np.int64)
    nearest_B, cosines_B = np.full(rows, -1), np.full(rows, -np.inf)
    for start in range(0, rows, _TILE):
        tile = slice(start, start + _TILE)
        mine_tD = np.asarray(features_BD[tile])
        for other in range(0, rows, _TILE):
            cosines_to = mine_tD @ np.asarray(features_BD[other : other + _TILE]).T
            if other == start:
                np.fill_diagonal(cosines_to, -np.inf)
            counts_B[tile] += (cosines_to >= threshold).sum(axis=1)
            place, best = cosines_to.argmax(axis=1), cosines_to.max(axis=1)
            closer = best > cosines_B[tile]
            nearest_B[tile][closer] = other + place[closer]
            cosines_B[tile][closer] = best[closer]
    cosines_B[nearest_B < 0] = np.nan
    return NearDuplicates(counts_B, nearest_B, cosines_B)
