"""Ranking a score matrix of one's own: what `tis-ray select --scores` does. Needs no Ray.

Of a bare matrix the candidates are its columns. Where `tis-ray score` made it, what lies beside it says
which rows of the pool and of the query set these are, and the ordering speaks of them.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from tis_ray.errors import InputError
from tis_ray.selectors import Ordering, select
from tis_ray.storage import Place, place
from tis_ray.store import read_npy, read_parquet, write_parquet
from tis_ray.store.matrix_files import split_name
from tis_ray.store.score_matrix import open_scores


def select_matrix(
    path: str | os.PathLike[str],
    selector: str,
    budget: int,
    out: str | os.PathLike[str],
    say: Callable[[str], None] = lambda line: None,
    **params: Any,
) -> Ordering:
    """Rank the columns of an (M, N) matrix and write `out`/ordering.parquet atomically.

    Its `index` is a column of the matrix or, where `tis-ray score` made the matrix, a row of the pool, with
    id, source, file and line beside it as in a study's ordering. An .npy is memory-mapped, so it may be
    larger than memory; equal inputs give equal bytes. Errors are those of `open_scores` and `select`.
    """
    scores_MN = open_scores(path)
    lines = described(scores_MN)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # `lines` say it
            ordering = select(scores_MN, selector, budget, **params)
    except InputError as error:
        raise InputError(f"{error}; {'; '.join(lines)}") from None
    for line in lines:
        say(line)
    folder = split_name(path)[0].parent
    table = ordering.to_table()
    if (columns := _rows(folder / "columns.npy", scores_MN.shape[1])) is not None:
        queries = _rows(folder / "queries.npy", scores_MN.shape[0])
        table = _named(table, folder, columns, queries)
    write_parquet(place(out) / "ordering.parquet", table)
    return ordering


def described(scores_MN: np.ndarray) -> list[str]:
    """Return what a matrix is taken for, in words: its size, what is odd about it, what is left out."""
    queries, candidates = scores_MN.shape
    lines = [f"{candidates:,} candidates, {queries:,} queries"]
    if queries > candidates:
        lines.append(
            "more queries than candidates, so the matrix may be transposed: its rows are queries, its "
            "columns candidates"
        )
    if isinstance(scores_MN, np.ma.MaskedArray):
        hidden = int(np.ma.getmaskarray(scores_MN).any(axis=0).sum())
        lines.append(f"{hidden:,} candidates have a masked score and are left out")
    return lines


def _rows(file: Place, count: int) -> np.ndarray | None:
    """Return the row numbers beside a matrix, if there are any, for all of its columns or rows."""
    if not file.is_file():
        return None
    numbers = read_npy(file)
    return numbers if numbers.shape == (count,) else None


def _named(
    table: pa.Table, folder: Place, columns: np.ndarray, queries: np.ndarray | None
) -> pa.Table:
    """Return an ordering that speaks of pool and query rows, with what is known of them."""
    places, pulled = table["index"].to_numpy(), table["query"].to_numpy()
    table = table.set_column(0, "index", pa.array(columns[places], pa.int64()))
    known: dict[str, pa.ChunkedArray] = {}
    if (folder / "columns.parquet").is_file():
        rows = read_parquet(folder / "columns.parquet").take(pa.array(places))
        known = {name: rows[name] for name in ("id", "source", "file", "line")}
    if queries is not None:
        numbers = np.where(pulled < 0, -1, queries[np.maximum(pulled, 0)])
        table = table.set_column(3, "query", pa.array(numbers, pa.int32()))
        if (folder / "queries.parquet").is_file():
            ids = read_parquet(folder / "queries.parquet")["id"].to_pylist()
            names = [ids[query] if query >= 0 else None for query in pulled.tolist()]
            known["query_id"] = pa.chunked_array([pa.array(names, pa.string())])
    for name in ("id", "source", "query_id", "file", "line"):
        if name in known:
            table = table.append_column(name, known[name])
    return table
