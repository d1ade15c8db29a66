"""Ranking a score matrix of one's own: what `tis-ray select --scores` does. Needs no Ray."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tis_ray.selectors import Ordering, select
from tis_ray.store import write_parquet
from tis_ray.store.score_matrix import open_scores


def select_matrix(
    path: str | os.PathLike[str],
    selector: str,
    budget: int,
    out: str | os.PathLike[str],
    **params: Any,
) -> Ordering:
    """Rank the columns of an (M, N) .npy file and write `out`/ordering.parquet atomically.

    The file is memory-mapped, so it may be larger than memory; equal inputs give equal bytes.
    Errors are those of `open_scores` and `select`.
    """
    ordering = select(open_scores(path), selector, budget, **params)
    write_parquet(Path(out) / "ordering.parquet", ordering.to_table())
    return ordering
